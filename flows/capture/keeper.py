"""Runs one tool and ends it when its watcher asks (SIGUSR1) or is gone, however it went.

SIGUSR2 ends it at once.

Started as a bare script: `python -I -S keeper.py WATCHER_PID SECOND_TERM_S GRACE_S TOOL ...`. It
imports nothing of the project, so that it starts at once and stays small. The tool gets SIGTERM,
so that it can finish its file; a second one, for reads that only then return; and SIGKILL. Should
the keeper itself be killed, the kernel kills the tool (Linux).
"""

import ctypes
import os
import signal
import sys
import time
from typing import Final

_POLL_S: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1


def _become(tool: list[str], parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    os.execv(tool[0], tool)


def main(arguments: list[str]) -> int:
    """Run the tool and return its exit status, as a shell counts it."""
    watcher, second_term_s, grace_s = int(arguments[0]), float(arguments[1]), float(arguments[2])
    asked = hurry = False

    def ask(number: int, _: object) -> None:
        nonlocal asked, hurry
        asked, hurry = True, hurry or number == signal.SIGUSR2

    signal.signal(signal.SIGUSR1, ask)
    signal.signal(signal.SIGUSR2, ask)
    # What is sent to the whole process group reaches the tool without us. (A handler, and not
    # SIG_IGN: the tool would inherit that.)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    keeper = os.getpid()
    tool = os.fork()
    if tool == 0:
        _become(arguments[3:], keeper)
    steps = [(0.0, signal.SIGTERM), (second_term_s, signal.SIGTERM), (grace_s, signal.SIGKILL)]
    asked_at = 0.0
    while True:
        pid, status = os.waitpid(tool, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if asked_at == 0.0 and (asked or os.getppid() != watcher):
            asked_at = time.monotonic()
        if hurry:
            os.kill(tool, signal.SIGKILL)
        elif asked_at and steps and time.monotonic() - asked_at >= steps[0][0]:
            os.kill(tool, steps.pop(0)[1])
        time.sleep(_POLL_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
