"""A worker's machine: its own namespaces, a small disk, a power switch and a clock."""

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
from benchmarks.other_clock import other_clock
from benchmarks.up import until

DISK_MB: Final = 400
STARTED: Final = "started!"
"""What Prefect's worker says then; the server takes one that has just ended for it."""

_KINDS: Final = ("--mount", "--uts", "--pid", "--net")


class Machine:
    """A machine without access to other machines' disks.

    ahead_s: its clock offset, from the next start of its worker. code: a folder whose packages
    replace the installed ones, from the next start of its worker.
    """

    def __init__(
        self, name: str, number: int, root: Path, env: dict[str, str], hidden: list[Path]
    ) -> None:
        """Store the arguments. hidden: paths that this machine must not see."""
        self.name, self.cable = name, Cable(name, number)
        self.ahead_s, self.code = 0, ""
        self._root, self._env, self._hidden = root, env, hidden
        self._kernel: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._n_started = 0
        self.disk: Disk | None = None

    def __enter__(self) -> "Machine":
        """Create its network and its disk."""
        self.cable.lay()
        self.disk = Disk(self.home, size_mb=DISK_MB)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.kill()
        self.cable.remove()
        assert self.disk is not None
        logs = self.home / "logs"
        if logs.is_dir():
            shutil.copytree(logs, self._root / f"{self.name}-logs")
        self.disk.close()

    @property
    def home(self) -> Path:
        """The worker's home, which is the whole disk of this machine."""
        return self._root / self.name

    @property
    def log(self) -> Path:
        """Path of its worker's log."""
        return self._root / f"{self.name}.log"

    @property
    def worker_log(self) -> Path:
        """Path of the log of Prefect's worker."""
        return self.home / "logs" / "shows-worker.log"

    def _boot(self) -> None:
        hidden = "; ".join(f"mount -t tmpfs none {each}" for each in self._hidden) or "true"
        up = self._root / f"{self.name}.up"
        up.unlink(missing_ok=True)
        # The first process reaps orphans, like init.
        script = f"hostname {self.name}; {hidden}; touch {up}; while :; do sleep 1; done"
        inside = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._kernel = subprocess.Popen(
            ["ip", "netns", "exec", self.cable.space, *inside, "sh", "-c", script]
        )
        until(up.exists, what=f"machine {self.name}", within_s=30)

    def start(self) -> None:
        """Start its worker, like a service manager; boot first if the power was off."""
        if self._kernel is None:
            self._boot()
        assert self._kernel is not None
        first = _child_of(self._kernel.pid)
        ways = ["nsenter", f"--target={first}", *_KINDS, "sh", "-c"]
        env = self._env | {"SHOWMOOD_HOME": str(self.home)}
        if self.code:
            env["PYTHONPATH"] = self.code
        if self.ahead_s:
            env |= other_clock(self._root / f"{self.name}-clock", ahead_s=self.ahead_s)
        self._n_started = self._said_started()
        command = f"cd {self.home}; exec {sys.executable} -m flows.cli worker --pool shows"
        with self.log.open("ab") as sink:
            self._worker = subprocess.Popen([*ways, command], env=env, stdout=sink, stderr=sink)

    def _said_started(self) -> int:
        return self.worker_log.read_text().count(STARTED) if self.worker_log.exists() else 0

    @property
    def serves(self) -> bool:
        """Tell whether its worker has begun to ask for runs since it was started."""
        return self._said_started() > self._n_started

    @property
    def runs(self) -> bool:
        """Return whether its worker is running."""
        return self._worker is not None and self._worker.poll() is None

    def kill(self) -> None:
        """Switch its power off."""
        if self._kernel is not None:
            self._kernel.kill()  # and with it all its processes
            self._kernel.wait()
            self._kernel = None
        if self._worker is not None:
            self._worker.wait()
            self._worker = None

    def stop(self, within_s: float) -> None:
        """Stop its worker, and wait; the machine keeps running."""
        assert self._worker is not None
        os.kill(_child_of(self._worker.pid), signal.SIGTERM)
        self._worker.wait(within_s)
        self._worker = None

    def has_run(self, run: str) -> bool:
        """Return whether this machine has a process of a run."""
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
    """Wait for the length of a fault."""
    threading.Event().wait(seconds)
