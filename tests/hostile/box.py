"""Calls functions with input of a hostile server, in a child with bounded memory and time.

Run as a program: it imports everything, forks a child for each line of JSON on
stdin, and writes the outcome to stdout. The memory of a child's descendants is bounded too.
"""

import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

MB = 1024 * 1024


def ask_in_child(order: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome (a result, or an error with its class), memory and CPU time.

    order: call (module:function of this folder), arguments, grow_mb (further address space),
    within_s.
    """
    module, _, name = order["call"].partition(":")
    call = getattr(importlib.import_module(module), name)
    began = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        run_bounded(call, order, writing)
    os.close(writing)
    written = read_until(reading, began + order["within_s"])
    with_whole_group(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    os.close(reading)
    base_mb, _, said = written.partition(" ")
    if not said:
        late = time.monotonic() - began >= order["within_s"]
        said = "no end" if late else f"died of {os.waitstatus_to_exitcode(status)}"
    return {
        "said": said,
        "grew_mb": max(0.0, used.ru_maxrss / 1024 - float(base_mb or 0)),
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": time.monotonic() - began,
    }


def run_bounded(call: Any, order: dict[str, Any], writing: int) -> None:
    """Call it, write the outcome, and exit; leftover processes are killed afterwards."""
    base_mb = rss_mb()
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = taken + order["grow_mb"] * MB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        said = f"{call(*order['arguments'])}"
    except MemoryError:
        said = "MemoryError"
    except BaseException as e:  # noqa: BLE001 - whatever it is, it is the answer
        said = f"{type(e).__name__}: {e}"
    os.write(writing, f"{base_mb:.1f} {said[:8000]}".encode(errors="backslashreplace"))
    os._exit(0)


def read_until(reading: int, end: float) -> str:
    """Return the output of a child, or nothing after a timeout or its death."""
    ready, _, _ = select.select([reading], [], [], max(0.0, end - time.monotonic()))
    return os.read(reading, 64 * 1024).decode(errors="replace") if ready else ""


def with_whole_group(child: int, number: int) -> None:
    """Send a signal to a child and its descendants."""
    try:
        os.killpg(child, number)
    except ProcessLookupError:
        os.kill(child, number)


def rss_mb() -> float:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MB


def main() -> None:
    """Serve orders until stdin ends."""
    sys.path.insert(0, str(Path(__file__).parent))
    for line in sys.stdin:
        print(json.dumps(ask_in_child(json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
