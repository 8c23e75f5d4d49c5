"""A site that serves what a test says, by path, and remembers what it was asked."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request: its path, with the query, and its headers by lower-case name."""

    path: str
    headers: dict[str, str]


Answer = bytes | int | tuple[bytes, tuple[tuple[str, str], ...]]
"""A body, a status, or a body and headers; Location makes it a redirect."""


@dataclass
class Site:
    """answer: what to say to a request; it may raise nothing."""

    answer: Callable[[Asked], Answer] = lambda asked: 404
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    timeout = 20

    def do_GET(self) -> None:
        site: Site = self.server.site
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path=self.path, headers=headers)
        site.asked.append(asked)
        answer = site.answer(asked)
        status, body, more = 200, b"", ()
        if isinstance(answer, int):
            status = answer
        elif isinstance(answer, tuple):
            body, more = answer
        else:
            body = answer
        status = 302 if any(name == "Location" for name, _ in more) else status
        self.send_response(status)
        for name, value in more:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = False  # closing it waits for what it answers
    server.site = Site(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.site
    server.shutdown()
    server.server_close()
    thread.join()
