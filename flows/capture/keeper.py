"""Runs one tool and ends it when its watcher asks (SIGUSR1) or has ended in any way.

SIGUSR2 ends it at once.

Started as a bare script: `python -I -S keeper.py WATCHER_PID SECOND_TERM_S GRACE_S DOOR TOOL ...`.
It imports nothing of the project, so that it starts at once and stays small. The tool gets SIGTERM,
so that it can finish its file; a second one, for reads that only then return; and SIGKILL. Should
the keeper itself be killed, the kernel kills the tool (Linux).

DOOR is empty, or "FD:tcp:PORT", "FD:udp:PORT" (Linux): then the tool has a network of its own with
nothing in it but a loopback, and a socket bound to that port there is sent over the Unix socket FD
to whoever is to answer on it. Where the kernel refuses that, nothing is sent and nothing is run.
"""

import ctypes
import os
import signal
import sys
import time
from typing import Final

_POLL_S: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


def _enclose(door: str) -> None:
    """Leave the network for one of our own, and hand out the only door to it; raises OSError."""
    import fcntl
    import socket
    import struct

    fd, kind, port = door.split(":")
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    with socket.socket(fileno=int(fd)) as handed:
        if libc.unshare(_CLONE_NEWNET) != 0:
            # Only root may, but everybody is root in a user namespace of their own.
            if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "no namespace")
            maps = {"setgroups": "deny", "uid_map": f"{uid} {uid} 1", "gid_map": f"{gid} {gid} 1"}
            for name, text in maps.items():
                with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                    file.write(text)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        form = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, form) as inner:
            inner.bind(("127.0.0.1", int(port)))
            if kind == "tcp":
                inner.listen(64)
            socket.send_fds(handed, [b"1"], [inner.fileno()])
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _become(tool: list[str], parent: int, door: str) -> None:
    if door:
        try:
            _enclose(door)
        except (OSError, OverflowError):
            os._exit(1)
    # After that: the kernel forgets it with each change of credentials.
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
    door = arguments[3]
    tool = os.fork()
    if tool == 0:
        _become(arguments[4:], keeper, door)
    if door:
        os.close(int(door.partition(":")[0]))
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
