"""Supervises one tool: ends it on SIGUSR1, and when the watching process has ended in any way.

SIGUSR2 kills it at once.

Run as a script: `python -I -S keeper.py WATCHER_PID SECOND_TERM_S GRACE_S ENDPOINT TOOL ...`.
It imports nothing of the project, so that it starts fast and stays small. The tool gets SIGTERM, so
that it can finish its file; a second SIGTERM, which interrupts its reads; and SIGKILL. If the
keeper itself is killed, the kernel kills the tool (Linux).

ENDPOINT is empty, or "FD:tcp:PORT" or "FD:udp:PORT" (Linux): then the tool runs in a network
namespace with only a loopback interface. A socket bound to PORT in there is sent over the Unix
socket FD, to the process that serves it. If the kernel refuses the namespace, nothing is run.
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


def _isolate_network(endpoint: str) -> None:
    """Enter a new network namespace, and send out a socket bound in it; raises OSError."""
    import fcntl
    import socket
    import struct

    fd, kind, port = endpoint.split(":")
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    with socket.socket(fileno=int(fd)) as handed:
        if libc.unshare(_CLONE_NEWNET) != 0:
            # Only root may; in a new user namespace every user is root.
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


def _become(tool: list[str], parent: int, endpoint: str) -> None:
    if endpoint:
        try:
            _isolate_network(endpoint)
        except (OSError, OverflowError):
            os._exit(1)
    # After _isolate_network: the kernel clears it when credentials change.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    os.execv(tool[0], tool)


def main(arguments: list[str]) -> int:
    """Run the tool and return its exit status; 128 + n after signal n, as in a shell."""
    watcher, second_term_s, grace_s = int(arguments[0]), float(arguments[1]), float(arguments[2])
    stopping = kill_now = False

    def stop(number: int, _: object) -> None:
        nonlocal stopping, kill_now
        stopping, kill_now = True, kill_now or number == signal.SIGUSR2

    signal.signal(signal.SIGUSR1, stop)
    signal.signal(signal.SIGUSR2, stop)
    # A signal to the process group reaches the tool directly. (A handler, not SIG_IGN: the tool
    # would inherit that.)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    keeper = os.getpid()
    endpoint = arguments[3]
    tool = os.fork()
    if tool == 0:
        _become(arguments[4:], keeper, endpoint)
    if endpoint:
        os.close(int(endpoint.partition(":")[0]))
    steps = [(0.0, signal.SIGTERM), (second_term_s, signal.SIGTERM), (grace_s, signal.SIGKILL)]
    stopped_at = 0.0
    while True:
        pid, status = os.waitpid(tool, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if stopped_at == 0.0 and (stopping or os.getppid() != watcher):
            stopped_at = time.monotonic()
        if kill_now:
            os.kill(tool, signal.SIGKILL)
        elif stopped_at and steps and time.monotonic() - stopped_at >= steps[0][0]:
            os.kill(tool, steps.pop(0)[1])
        time.sleep(_POLL_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
