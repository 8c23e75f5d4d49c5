"""A worker's machine: namespaces of its own, a small disk, a power switch and a clock."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from benchmarks.chaos.disk import Disk
from benchmarks.fleet.wires import Cable
from benchmarks.up import other_clock, until

DISK_MB: Final = 400
_KINDS: Final = ("--mount", "--uts", "--pid", "--net")


class Machine:
    """A machine that sees no other one's disk.

    ahead_s: its clock, as of the next start of its worker. code: a folder whose packages its worker
    runs in place of those that are installed, as of its next start.
    """

    def __init__(
        self, name: str, number: int, root: Path, env: dict[str, str], hidden: list[Path]
    ) -> None:
        """Keep the arguments; nothing is there yet. hidden: what is no disk of this machine."""
        self.name, self.cable = name, Cable(name, number)
        self.ahead_s, self.code = 0, ""
        self._root, self._env, self._hidden = root, env, hidden
        self._kernel: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self.disk: Disk | None = None

    def __enter__(self) -> "Machine":
        """Have its network and its disk."""
        self.cable.lay()
        self.disk = Disk(self.home, size_mb=DISK_MB)
        return self

    def __exit__(self, *_: object) -> None:
        """Have it gone."""
        self.kill()
        self.cable.remove()
        assert self.disk is not None
        logs = self.home / "logs"
        if logs.is_dir():
            shutil.copytree(logs, self._root / f"{self.name}-logs")
        self.disk.close()

    @property
    def home(self) -> Path:
        """The worker's home, and all of this machine's disk."""
        return self._root / self.name

    @property
    def log(self) -> Path:
        """What its worker says."""
        return self._root / f"{self.name}.log"

    @property
    def worker_log(self) -> Path:
        """What Prefect's worker says."""
        return self.home / "logs" / "shows-worker.log"

    def _boot(self) -> None:
        hidden = "; ".join(f"mount -t tmpfs none {each}" for each in self._hidden) or "true"
        up = self._root / f"{self.name}.up"
        up.unlink(missing_ok=True)
        # The first process takes in what others leave behind, as an init does.
        script = f"hostname {self.name}; {hidden}; touch {up}; while :; do sleep 1; done"
        inside = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._kernel = subprocess.Popen(
            ["ip", "netns", "exec", self.cable.space, *inside, "sh", "-c", script]
        )
        until(up.exists, what=f"machine {self.name}", within_s=30)

    def start(self) -> None:
        """Start its worker, as a service manager does; boot first where the power was off."""
        if self._kernel is None:
            self._boot()
        assert self._kernel is not None
        first = _child_of(self._kernel.pid)
        ways = ["nsenter", f"--target={first}", *_KINDS, "sh", "-c"]
        env = self._env | {"SHOWMOOD_HOME": str(self.home)}
        path = [self.code] if self.code else []
        if self.ahead_s:
            told = other_clock(self._root / f"{self.name}-clock", ahead_s=self.ahead_s)
            path.append(told.pop("PYTHONPATH"))
            env |= told
        if path:
            env["PYTHONPATH"] = ":".join(path)
        command = f"cd {self.home}; exec {sys.executable} -m flows.cli worker --pool shows"
        with self.log.open("ab") as sink:
            self._worker = subprocess.Popen([*ways, command], env=env, stdout=sink, stderr=sink)

    @property
    def runs(self) -> bool:
        """Tell whether its worker runs."""
        return self._worker is not None and self._worker.poll() is None

    def kill(self) -> None:
        """Cut its power."""
        if self._kernel is not None:
            self._kernel.kill()  # and, with it, all that runs in it
            self._kernel.wait()
            self._kernel = None
        if self._worker is not None:
            self._worker.wait()
            self._worker = None

    def stop(self, within_s: float) -> None:
        """Ask its worker to end, and wait; the machine goes on."""
        assert self._worker is not None
        os.kill(_child_of(self._worker.pid), signal.SIGTERM)
        self._worker.wait(within_s)
        self._worker = None

    def has_run(self, run: str) -> bool:
        """Tell whether a process of a run is alive on this machine."""
        told, home = f"PREFECT__FLOW_RUN_ID={run}".encode(), f"SHOWMOOD_HOME={self.home}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            try:
                variables = (place / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if told in variables and home in variables:
                return True
        return False


def _child_of(pid: int) -> int:
    place = Path(f"/proc/{pid}/task/{pid}/children")
    return int(until(lambda: place.read_text().split(), what=f"a child of {pid}", within_s=10)[0])


def pause(seconds: float) -> None:
    """Let a trouble last so long."""
    threading.Event().wait(seconds)
