"""A hostile site, canaries that nothing may reach, and a box for the client.

`stand` combines them: a site serves something, a function in the box fetches it, and the outcome,
the memory, and that no canary was touched are checked. The functions are in
`asked.py`.
"""

import contextlib
import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

Answer = bytes | Callable[[bytes], Iterable[bytes]]
"""Raw bytes of an answer, or a function that yields them for a request's head, maybe endlessly."""

_IDLE_S = 30.0


class _Listener:
    """Accepts on loopback, one thread a connection, until it is closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing:
                client.close()
                return
            client.settimeout(_IDLE_S)
            with self._lock:
                self._open.add(client)
            self.accepted()
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.serve(client)
        with self._lock:
            self._open.discard(client)
        client.close()

    def accepted(self) -> None:
        """Count a connection."""

    def serve(self, client: socket.socket) -> None:
        """Answer on it."""

    def close(self) -> None:
        self._closing = True
        with self._lock:
            for client in self._open:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join()
        self._listener.close()


def read_head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(65536)
        if not more:
            return b""
        head += more
    return head


class Site(_Listener):
    """Serves raw bytes by path; "" stands for any other path. Supports keep-alive."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.asked: list[bytes] = []
        """The head of each request."""
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def serve(self, client: socket.socket) -> None:
        while head := read_head(client):
            self.asked.append(head)
            path = head.split(b" ")[1].decode("latin-1").partition("?")[0]
            answer = self.answers.get(path, self.answers.get("", b""))
            for part in [answer] if isinstance(answer, bytes) else answer(head):
                client.sendall(part)
            if b"content-length" not in (answer if isinstance(answer, bytes) else b"").lower():
                return


class Canary(_Listener):
    """A server that nothing may reach: counts connections (TCP) and datagrams (UDP, same port).

    Answers HTTP requests like an internal service.
    """

    def __init__(self) -> None:
        self._n_heard = 0
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            super().__init__()
            try:
                self._udp.bind(("127.0.0.1", self.port))
                return
            except OSError:  # that UDP port is in use: take another pair
                super().close()

    def accepted(self) -> None:
        self._n_heard += 1

    def serve(self, client: socket.socket) -> None:
        if read_head(client):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ninner")

    def heard(self) -> int:
        """Return the number of contacts since the last call."""
        n_datagrams = 0
        while select.select([self._udp], [], [], 0)[0]:
            self._udp.recv(65536)
            n_datagrams += 1
        # Connections are accepted in order: once this one is, all before it are counted.
        with socket.create_connection(("127.0.0.1", self.port)) as own:
            own.sendall(b"GET / HTTP/1.1\r\n\r\n")
            own.recv(1)
        n, self._n_heard = self._n_heard - 1 + n_datagrams, 0
        return n

    def close(self) -> None:
        super().close()
        self._udp.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome in the box ("no end": timeout), and its cost.

    grew_mb: growth of the largest process, of which some 10 MB are shared
    libraries.
    """

    said: str
    grew_mb: float
    cpu_s: float
    wall_s: float


class Box:
    """Calls functions of `asked.py`, or of another file here, each in a bounded child."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("box.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(
        self, call: str, *arguments: object, grow_mb: int = 512, within_s: float = 60.0
    ) -> Outcome:
        """Return the outcome of a call ("segment", "asked:segment") with a memory limit."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        order = {
            "call": call if ":" in call else f"asked:{call}",
            "arguments": arguments,
            "grow_mb": grow_mb,
            "within_s": within_s,
        }
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        return Outcome(**json.loads(stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.close()


@pytest.fixture(scope="session")
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    made.close()


@pytest.fixture
def site() -> Iterator[Callable[[Mapping[str, Answer]], Site]]:
    with contextlib.ExitStack() as stack:

        def make(answers: Mapping[str, Answer]) -> Site:
            made = Site(answers)
            stack.callback(made.close)
            return made

        yield make


Stand = Callable[..., Outcome]


@pytest.fixture
def stand(
    request: pytest.FixtureRequest,
    box: Box,
    canary: Canary,
    site: Callable[[Mapping[str, Answer]], Site],
) -> Stand:
    """Serve, call, and check: `stand(serves, asks, says)`.

    serves: an answer to every path, or answers by path ("" any other); in bytes, CANARY stands for
    the canary's host and port. asks: function to call in the box, with the site's URL and
    `arguments`. says: pattern for the start of the outcome. most_mb: memory limit; most_s: limit of
    CPU time.
    """

    def check(
        serves: Answer | Mapping[str, Answer],
        asks: str,
        says: str,
        *arguments: object,
        most_mb: float = 64.0,
        most_s: float = 10.0,
        within_s: float = 60.0,
    ) -> Outcome:
        inner = f"127.0.0.1:{canary.port}".encode()
        answers = serves if isinstance(serves, Mapping) else {"": serves}
        site_made = site(
            {
                path: answer.replace(b"CANARY", inner) if isinstance(answer, bytes) else answer
                for path, answer in answers.items()
            }
        )
        canary.heard()
        outcome = box.ask(asks, site_made.url, *arguments, within_s=within_s)
        request.node.user_properties.append(("hostile", (request.node.name, outcome.grew_mb)))
        assert re.match(says, outcome.said, re.DOTALL), outcome
        assert outcome.grew_mb <= most_mb, outcome
        assert outcome.cpu_s <= most_s, outcome
        assert canary.heard() == 0, outcome
        return outcome

    return check


FUZZ_S = float(os.environ.get("FUZZ_S", "0"))
"""Seconds for each fuzz test (`make fuzz`)."""


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`fuzz(strategy, check)`: check 80 fixed values, or random ones for FUZZ_S."""

    def run(strategy: SearchStrategy[Any], check: Callable[[Any], None], *, n: int = 80) -> None:
        limits = settings(
            max_examples=1000 if FUZZ_S else n,
            deadline=None,
            database=None,
            derandomize=not FUZZ_S,
            suppress_health_check=list(HealthCheck),
        )
        checked = limits(given(strategy)(check))
        before, end = peak_mb(), time.monotonic() + FUZZ_S
        while True:
            checked()
            if time.monotonic() >= end:
                break
        request.node.user_properties.append(("hostile", (request.node.name, peak_mb() - before)))

    return run
