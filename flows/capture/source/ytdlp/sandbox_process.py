"""The process behind `sandbox`: forks a child with limits for each request.

It imports the answering module once, and parses no untrusted input. Each child reads one question
from its socket and writes one answer. A child and its process group are killed when the requester
closes the other end of its pipe, or ends.
"""

import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

Answer = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a question and returns its answer, both fit for JSON."""

_PR_SET_PDEATHSIG: Final = 1
_FILE_BYTES: Final = 64 << 20
_OPEN_FILES: Final = 256


def serve(control: socket.socket, module: str, memory_bytes: int, cpu_s: int) -> None:
    """Serve requests by a module's `answer`, after its `prepare`, until `control` is closed.

    Each message brings two descriptors: the child's socket, and the pipe whose end kills it.
    memory_bytes: RLIMIT_DATA of each process, which does not count reserved address space.
    """
    answering = importlib.import_module(module)
    answering.prepare()
    answer: Answer = answering.answer
    kernel = ctypes.CDLL(None) if sys.platform == "linux" else None
    poll = select.poll()
    poll.register(control, select.POLLIN)
    children: dict[int, int] = {}  # pid by pipe
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                poll.unregister(ready)
                _end(children.pop(ready), ready)
                continue
            message, given, _, _ = socket.recv_fds(control, 1, 2)
            if not message:
                for leash, child in children.items():
                    _end(child, leash)
                return
            asked, leash = given
            child = os.fork()
            if child == 0:
                _bound(kernel, memory_bytes, cpu_s)
                os.dup2(os.open(os.devnull, os.O_RDONLY), control.fileno())
                _answer_one(asked, answer)
            os.close(asked)
            children[leash] = child
            poll.register(leash, 0)  # POLLHUP is always reported


def _bound(kernel: ctypes.CDLL | None, memory_bytes: int, cpu_s: int) -> None:
    os.setpgid(0, 0)
    if kernel is not None:
        kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for kind, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _answer_one(asked: int, answer: Answer) -> None:
    """Answer and exit; without an answer if no memory is left."""
    status = 1
    try:
        with socket.socket(fileno=asked) as client:
            parts = iter(lambda: client.recv(1 << 16), b"")
            client.sendall(json.dumps(answer(json.loads(b"".join(parts)))).encode())
            client.shutdown(socket.SHUT_RDWR)  # a plugin's own children may keep it open
            status = 0
    finally:
        os._exit(status)


def _end(child: int, leash: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)  # not reaped yet, so the pid is not reused
        except ProcessLookupError:
            continue
        break
    os.waitpid(child, 0)
    os.close(leash)
