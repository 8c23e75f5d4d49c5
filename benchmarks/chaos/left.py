"""Checks for leftovers of a stopped stack: processes, locks, files."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Final

import psutil

from benchmarks.up import Up

_UNFINISHED: Final = ("*.tmp", "*.part", "*.damaged", "ffmpeg.pid", "*.gone")


def locks_held(up: Up) -> list[str]:
    """Return the advisory locks in the database, a line each."""
    sql = (
        "SELECT coalesce(a.application_name, '?') AS who FROM pg_locks l LEFT JOIN"
        " pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
    )
    return [f"an advisory lock of {row.who} is held" for row in up.rows(sql)]


def left_behind(up: Up, cluster: Path, *, ours: int) -> list[str]:
    """Return the leftovers of a stopped stack, a line each. ours: a process to ignore."""
    home = up.home
    wrong = [f"a process is left: {_line(each)}" for each in up.processes() if each.pid != ours]
    for process in psutil.process_iter():
        if str(home) in _line(process) and process.pid != ours and process not in up.processes():
            wrong.append(f"a process is left: {_line(process)}")
    locks = [cluster.parent / "start.lock", cluster.parent / "in-use"]
    locks += [*home.glob("recordings/.*.lock"), *home.glob("recordings/.*.watched")]
    wrong += [f"{path.name} is locked" for path in locks if path.exists() and not _is_free(path)]
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", up.port)) == 0:
            wrong.append(f"port {up.port} is open")
    if (cluster / "postmaster.pid").exists():
        wrong.append("the database's postmaster.pid is left")
    places = (home / "recordings", home / "clips", home / "tmp", cluster.parent)
    for place in places:
        for pattern in _UNFINISHED:
            wrong += [f"{path.relative_to(place.parent)} is left" for path in place.rglob(pattern)]
    wrong += [f"a socket is left: {p}" for p in cluster.parent.rglob("*") if p.is_socket()]
    return wrong


def _is_free(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
