"""Supervision of workers, and their shows if a worker cannot be restarted."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import psutil
import pytest

from flows.errors import StackError
from flows.stack.processes import child as child_module
from flows.stack.processes.child import Child
from flows.stack.workers import worker as worker_module
from flows.stack.workers.worker import serve

RUN = "a-run-of-this-test"


def test_shows_of_other_workers_survive_a_worker_that_keeps_crashing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., Any]
) -> None:
    """Without a handover they would be killed with their worker, and lose data."""
    monkeypatch.setattr(worker_module, "TEND_S", 0.01)
    monkeypatch.setattr(child_module, "TRIES", 1)
    starts = "import os, subprocess, sys\n"
    starts += "show = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(99)'],"
    starts += f" env=os.environ | {{'PREFECT__FLOW_RUN_ID': {RUN!r}}}, stdout=2)\n"
    starts += "print(show.pid, flush=True); show.wait()"
    log = tmp_path / "steady.log"
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    steady = Child("steady", [sys.executable, "-S", "-c", starts], env, log)
    failing = Child(
        "failing", [sys.executable, "-S", "-c", "raise SystemExit(3)"], env, tmp_path / "failing"
    )
    show: psutil.Process | None = None
    said: list[str] = []
    try:
        until(lambda: log.read_text().endswith("\n"), what="the show")
        show = psutil.Process(int(log.read_text()))
        with pytest.raises(StackError, match="failing ended with status 3"):
            serve(
                [steady, failing],
                {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
                threading.Event(),
                health=str,
                echo=said.append,
                drain_s=0.0,
            )
        assert any(RUN in each for each in said), "it is offered to others"
        steady.stop()
        failing.stop()
        assert steady.process.poll() is not None
        assert show.is_running()
        assert show.status() != psutil.STATUS_ZOMBIE
    finally:
        steady.stop()
        with suppress(psutil.Error):
            if show is not None:
                show.send_signal(SIGKILL)
