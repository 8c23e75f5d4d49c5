import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from benchmarks.up import until
from flows.capture import processes as process
from flows.capture.processes import end_stale, find_ffmpeg, spawn, stop
from flows.capture.segment import CaptureFailed

# Prints its pid, then waits for a signal, or (stubborn) for two.
TOOL = r"""
import os, signal, sys
asked = 0
def ask(*_):
    global asked
    asked += 1
    os.write(1, b"asked\n")
    if asked >= int(sys.argv[1]):
        sys.exit(7)
signal.signal(signal.SIGTERM, ask)
os.write(1, f"{os.getpid()}\n".encode())
while True:
    signal.pause()
"""

OWNER = """
import sys
from pathlib import Path
from flows.capture.processes import spawn
here = Path(sys.argv[1])
process = spawn([sys.executable, "-c", sys.argv[2], "1"], log=here / "log", pid_file=here / "pid")
print("started", flush=True)
process.wait()
"""


def has_namespaces() -> bool:
    """Whether the kernel allows a network namespace for this user's processes."""
    unshare = shutil.which("unshare")
    tried = ([], ["--user"]) if unshare else ()
    return any(
        subprocess.run([unshare, *more, "--net", "true"], capture_output=True).returncode == 0
        for more in tried
    )


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SECOND_TERM_S", 0.6)
    monkeypatch.setattr(process, "GRACE_S", 1.8)


def wait_for_words(log: Path, n: int = 1) -> list[str]:
    """Wait for the tool's first output, and return it."""

    def words() -> list[str]:
        said = log.read_text().split() if log.exists() else []
        return said if len(said) >= n else []

    return until(words, what=f"{n} words in {log}")


def wait_until_gone(pid: int) -> None:
    until(lambda: process._birth(pid) is None, what=f"the end of process {pid}")


def start(here: Path, *, terms: int) -> tuple[subprocess.Popen[bytes], int]:
    tool = [sys.executable, "-c", TOOL, str(terms)]
    child = spawn(tool, log=here / "log", pid_file=here / "pid")
    return child, int(wait_for_words(here / "log")[0])


@pytest.mark.parametrize(
    ("terms", "second_s", "grace_s", "status"),
    [(1, 60.0, 120.0, 7), (2, 1.0, 60.0, 7), (99, 1.0, 2.5, 128 + signal.SIGKILL)],
    ids=["asked once", "asked twice", "killed"],
)
def test_a_tool_gets_two_signals_and_is_then_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    terms: int,
    second_s: float,
    grace_s: float,
    status: int,
) -> None:
    monkeypatch.setattr(process, "SECOND_TERM_S", second_s)
    monkeypatch.setattr(process, "GRACE_S", grace_s)
    child, pid = start(tmp_path, terms=terms)
    assert stop(child) == status
    wait_until_gone(pid)
    assert wait_for_words(tmp_path / "log").count("asked") == min(terms, 2)


def test_a_tool_can_be_ended_at_once(tmp_path: Path) -> None:
    child, pid = start(tmp_path, terms=1)
    assert stop(child, at_once=True) == 128 + signal.SIGKILL
    wait_until_gone(pid)
    assert "asked" not in wait_for_words(tmp_path / "log")


def test_a_tool_that_ended_by_itself_has_its_status(tmp_path: Path) -> None:
    tool = [sys.executable, "-c", "import sys; sys.exit(3)"]
    child = spawn(tool, log=tmp_path / "log", pid_file=tmp_path / "pid")
    assert child.wait() == 3
    assert stop(child) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
def test_a_tool_dies_with_its_keeper(tmp_path: Path) -> None:
    child, pid = start(tmp_path, terms=1)
    child.kill()
    child.wait()
    wait_until_gone(pid)


def test_a_tool_is_terminated_when_its_watcher_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), TOOL]) as owner:
        pid = int(wait_for_words(tmp_path / "log")[0])
        owner.kill()
    assert wait_for_words(tmp_path / "log", 2)[1] == "asked"
    wait_until_gone(pid)


def test_processes_of_a_dead_watcher_are_ended(tmp_path: Path) -> None:
    # A stopped keeper has not noticed yet that its watcher is dead.
    command = [sys.executable, "-c", OWNER, str(tmp_path), TOOL]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"started\n"
        pid = int(wait_for_words(tmp_path / "log")[0])
        keeper = json.loads((tmp_path / "pid").read_text())["pid"]
        os.kill(keeper, signal.SIGSTOP)
        owner.kill()
    assert end_stale(tmp_path / "pid")
    wait_until_gone(pid)
    assert not (tmp_path / "pid").exists()
    assert not end_stale(tmp_path / "pid")


def test_a_living_watcher_is_not_disturbed(tmp_path: Path) -> None:
    child, _ = start(tmp_path, terms=1)
    with pytest.raises(CaptureFailed, match="is recording"):
        end_stale(tmp_path / "pid")
    assert child.poll() is None
    stop(child)


def test_another_process_with_the_same_pid_is_not_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        record = {"pid": other.pid, "born": "1", "owner": other.pid, "owner_born": "1"}
        (tmp_path / "pid").write_text(json.dumps(record))
        assert not end_stale(tmp_path / "pid")
        assert other.poll() is None


@pytest.mark.parametrize("text", ["", "no json", "{}", "[]", '{"pid": "x"}'])
def test_an_invalid_pid_file_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert not end_stale(tmp_path / "pid")


def test_a_missing_ffmpeg_is_a_clear_error() -> None:
    with pytest.raises(CaptureFailed, match="/nowhere/ffmpeg"):
        find_ffmpeg("/nowhere/ffmpeg")
    assert Path(find_ffmpeg()).is_file()
    assert find_ffmpeg(find_ffmpeg()) == find_ffmpeg()


class Endpoint:
    """One of our ports that a tool can reach."""

    kind: Literal["tcp"] = "tcp"

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def move(self, inner: socket.socket) -> None:
        self.listener.close()
        self.listener = inner


REACHES = r"""
import socket, sys
for port in map(int, sys.argv[1:]):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
        print("reached", flush=True)
    except OSError:
        print("refused", flush=True)
"""


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def reaches(here: Path, endpoint: Endpoint, *ports: int) -> list[str]:
    tool = [sys.executable, "-c", REACHES, *map(str, ports)]
    child = spawn(tool, log=here / "log", pid_file=here / "pid", endpoint=endpoint)
    assert child.wait(60) == 0
    endpoint.listener.close()
    return (here / "log").read_text().split()


@pytest.mark.skipif(not has_namespaces(), reason="the kernel gives no network of its own")
def test_a_tool_reaches_only_its_port(tmp_path: Path, elsewhere: socket.socket) -> None:
    endpoint = Endpoint()
    assert reaches(tmp_path, endpoint, endpoint.port, elsewhere.getsockname()[1]) == [
        "reached",
        "refused",
    ]
    assert process.can_isolate


def test_a_tool_runs_without_a_network_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "can_isolate", True)
    endpoint = Endpoint()
    number, endpoint.port = endpoint.port, 99_999  # The keeper can open no such door.
    assert reaches(tmp_path, endpoint, number) == ["reached"]
    assert not process.can_isolate
