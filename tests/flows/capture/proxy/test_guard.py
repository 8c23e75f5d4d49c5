"""ffmpeg and yt-dlp can only fetch from allowed addresses, for any page or playlist."""

import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.capture.live_stream import live_stream
from flows.capture.net.address import AddressPolicy
from flows.capture.proxy import guard as guard_module
from flows.capture.proxy import port
from flows.capture.proxy.guard import Guard
from flows.capture.proxy.relay import Relay
from flows.capture.segment import UnsafeURL
from flows.capture.source.resolve import resolve
from flows.capture.supervisor.capture import Capture
from flows.demo.server import HttpServer, Reply, Request

HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nvariant.m3u8\n"


@dataclass
class Site:
    """A server with answers by path."""

    files: dict[str, Reply] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> list[str]:
        return [request.path for request in self.requests]


@pytest.fixture
def serve() -> Iterator[Callable[[], Site]]:
    servers = []

    def make() -> Site:
        site = Site()
        server = HttpServer(
            lambda path: site.files.get(path, Reply(status=404)),
            host="127.0.0.1",
            port=0,
            log=site.requests.append,
        )
        server.start()
        servers.append(server)
        site.port = server.port
        return site

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def outer(serve: Callable[[], Site]) -> Site:
    """An allowed server."""
    return serve()


@pytest.fixture
def inner(serve: Callable[[], Site]) -> Site:
    """A forbidden server."""
    site = serve()
    site.files["/secret"] = Reply(body=b"secret")
    return site


@pytest.fixture
def only_outer(outer: Site) -> AddressPolicy:
    return AddressPolicy(allow_origins=((ip_address("127.0.0.1"), outer.port),))


def known(guard: Guard, request: bytes) -> bytes:
    """Return a request with the secret of the guard's child."""
    user = urlsplit(guard.url).netloc.rpartition("@")[0].encode()
    line, end, rest = request.partition(b"\r\n")
    return line + end + b"Proxy-Authorization: Basic " + b64encode(user) + end + rest


def ask(guard: Guard, request: bytes, then: bytes = b"") -> bytes:
    """Send a request to the guard, and another after its answer; return all received bytes."""
    with socket.create_connection(("127.0.0.1", guard.port), timeout=60) as connection:
        connection.sendall(known(guard, request))
        said = b""
        if then:
            said = connection.recv(4096)
            connection.sendall(then)
        while more := connection.recv(4096):
            said += more
        return said


def test_a_request_and_a_tunnel_reach_what_is_allowed(
    outer: Site, only_outer: AddressPolicy
) -> None:
    outer.files["/a"] = Reply(body=b"hello")
    with Guard(only_outer) as guard:
        said = ask(guard, f"GET {outer.base}/a?b=c HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.endswith(b"\r\n\r\nhello")
        request = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        said = ask(guard, f"CONNECT 127.0.0.1:{outer.port} HTTP/1.1\r\n\r\n".encode(), request)
        assert said.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 ")
        assert said.endswith(b"\r\n\r\nhello")
        guard.check()
    assert outer.asked == ["/a", "/a"]


@pytest.mark.parametrize(
    "request_line",
    [
        "GET {inner}/secret HTTP/1.1",
        "POST {inner}/secret HTTP/1.1",
        "CONNECT 127.0.0.1:{port} HTTP/1.1",
        "CONNECT 10.0.0.1:443 HTTP/1.1",
        "CONNECT [::ffff:10.0.0.1]:443 HTTP/1.1",
        "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1",
        "GET http://user:secret@93.184.215.14/ HTTP/1.1",
        "GET http://0x7f000001:{port}/secret HTTP/1.1",
    ],
)
def test_a_request_to_an_internal_address_is_refused_and_remembered(
    inner: Site, only_outer: AddressPolicy, request_line: str
) -> None:
    line = request_line.format(inner=inner.base, port=inner.port)
    with Guard(only_outer) as guard:
        said = ask(guard, f"{line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 403 ")
        with pytest.raises(UnsafeURL):
            guard.check()
    assert inner.asked == []


@pytest.mark.parametrize(
    ("port", "named", "allowed", "answer"),
    [
        (443, (), "", 502),
        (25, (), "", 403),
        (8443, (), "", 403),
        (8443, (8443,), "", 502),
        (8443, (), "192.0.2.1:8443", 502),
        (8443, (), "192.0.2.0/24", 502),
        (8443, (), "192.0.2.1:8444", 403),
    ],
)
def test_a_tunnel_leads_to_443_and_to_ports_that_were_named(
    port: int,
    named: tuple[int, ...],
    allowed: str,
    answer: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(address, port, **options):
        raise ConnectionRefusedError

    def look_up(host, port, *args, **kwargs):
        number = "192.0.2.1" if allowed.startswith("192.0.2") else "93.184.215.14"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port))]

    policy = AddressPolicy.of(filter(None, [allowed]))
    with Guard(policy, ports=named) as guard:
        address = ("127.0.0.1", guard.port)
        with (
            socket.create_connection(address, timeout=60) as connection,
            monkeypatch.context() as patch,
        ):
            # No external connections in tests.
            patch.setattr(socket, "getaddrinfo", look_up)
            patch.setattr(guard_module, "connect", refuse)
            request = f"CONNECT site.example:{port} HTTP/1.1\r\n\r\n".encode()
            connection.sendall(known(guard, request))
            said = connection.recv(4096)
        assert said.startswith(f"HTTP/1.1 {answer} ".encode())
        assert (guard.refused is None) is (answer != 403)


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "hello", "GET ftp://a/ HTTP/1.1", ""])
def test_a_malformed_proxy_request_is_refused(only_outer: AddressPolicy, line: str) -> None:
    with Guard(only_outer) as guard:
        assert ask(guard, f"{line}\r\n\r\n".encode()).startswith(b"HTTP/1.1 502 ")


def test_a_name_is_looked_up_once_and_what_was_allowed_is_connected_to(
    outer: Site, only_outer: AddressPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host != "rebinding.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        # The second resolution gives another address, to detect repeated look-ups.
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    outer.files["/a"] = Reply(body=b"hello")
    with Guard(only_outer) as guard:
        url = f"http://rebinding.example:{outer.port}/a"
        said = ask(guard, f"GET {url} HTTP/1.1\r\nHost: rebinding.example\r\n\r\n".encode())
        assert said.endswith(b"hello")
    assert asked == ["rebinding.example"]


@pytest.mark.parametrize("to", ["{inner}/secret", "https://10.0.0.1/"], ids=["http", "https"])
def test_yt_dlp_does_not_follow_a_redirect_to_an_internal_address(
    outer: Site, inner: Site, only_outer: AddressPolicy, to: str
) -> None:
    outer.files["/page"] = Reply(status=302, location=to.format(inner=inner.base))
    with pytest.raises(UnsafeURL, match="internal address"):
        resolve(f"{outer.base}/page", policy=only_outer)
    assert inner.asked == []


def text(body: str) -> Reply:
    return Reply(body=body.encode(), content_type="application/vnd.apple.mpegurl")


@pytest.mark.parametrize(
    ("playlist", "variant"),
    [
        pytest.param(MASTER, "{inner}/secret\n", id="segment of a variant"),
        pytest.param(MASTER, "https://10.0.0.1/secret.ts\n", id="https"),
        pytest.param(HEAD + "#EXTINF:1,\nmoved.ts\n", "", id="segment that redirects"),
        pytest.param(MASTER, "moved.ts\n", id="segment of a variant that redirects"),
    ],
)
def test_ffmpeg_does_not_follow_a_playlist_to_an_internal_address(
    outer: Site,
    inner: Site,
    only_outer: AddressPolicy,
    tmp_path: Path,
    playlist: str,
    variant: str,
) -> None:
    listed = variant.format(inner=inner.base)
    outer.files = {
        "/live.m3u8": text(playlist),
        "/variant.m3u8": text(f"{HEAD}#EXTINF:1,\n{listed}"),
        "/moved.ts": Reply(status=302, location=f"{inner.base}/secret"),
    }
    refused(outer, only_outer, tmp_path)
    assert inner.asked == []


@pytest.mark.parametrize("tag", ["KEY:METHOD=AES-128,", "MAP:"])
def test_ffmpeg_fetches_no_key_or_map_from_an_internal_address(
    outer: Site, inner: Site, only_outer: AddressPolicy, tmp_path: Path, pieces: Path, tag: str
) -> None:
    outer.files = {
        "/live.m3u8": text(MASTER),
        "/variant.m3u8": text(
            f'{HEAD}#EXT-X-{tag}URI="{inner.base}/secret"\n#EXTINF:1,\npiece.ts\n'
        ),
        "/piece.ts": Reply(body=(pieces / "piece-00000.ts").read_bytes()),
    }
    refused(outer, only_outer, tmp_path)
    assert inner.asked == []


def refused(outer: Site, policy: AddressPolicy, directory: Path) -> None:
    """Record from `outer` with ffmpeg until it is refused."""
    url = f"{outer.base}/live.m3u8"
    stream = live_stream(url, url)
    capture = Capture(
        url,
        directory=directory / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=stream,
        engine="ffmpeg",
    )
    with capture, pytest.raises(UnsafeURL, match="internal address") as caught:
        list(capture)
    assert "\n" not in str(caught.value)
    assert not list((directory / "rec").glob("*.ts"))


def test_a_guard_is_closed_even_with_open_connections(
    outer: Site, only_outer: AddressPolicy
) -> None:
    outer.files["/slow"] = Reply(body=b"x", keep_bytes=0, stall=lambda: None)
    guard = Guard(only_outer).open()
    address = ("127.0.0.1", guard.port)
    with (
        socket.create_connection(address) as silent,
        socket.create_connection(address) as tunnel,
    ):
        request = f"CONNECT 127.0.0.1:{outer.port} HTTP/1.1\r\n\r\n".encode()
        tunnel.sendall(known(guard, request))
        assert tunnel.recv(4096).startswith(b"HTTP/1.1 200 ")
        guard.close()
        assert tunnel.recv(1) == b""
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    "said",
    ["", "Proxy-Authorization: Basic {wrong}\r\n", "Proxy-Authorization: Bearer {right}\r\n"],
    ids=["nothing", "another", "otherwise"],
)
def test_requests_without_the_secret_are_refused(
    outer: Site, only_outer: AddressPolicy, said: str
) -> None:
    with Guard(only_outer) as guard:
        right = b64encode(urlsplit(guard.url).netloc.rpartition("@")[0].encode()).decode()
        said = said.format(right=right, wrong=b64encode(b"capture:guessed").decode())
        for line in (f"GET {outer.base}/a HTTP/1.1", f"CONNECT 127.0.0.1:{outer.port} HTTP/1.1"):
            with socket.create_connection(("127.0.0.1", guard.port), timeout=60) as connection:
                connection.sendall(f"{line}\r\n{said}\r\n".encode())
                assert connection.recv(4096).startswith(b"HTTP/1.1 407 ")
                assert connection.recv(4096) == b""
        assert guard.unreachable is None
    assert outer.asked == []


def test_a_relay_serves_only_its_own_names(outer: Site, only_outer: AddressPolicy) -> None:
    relay = Relay(live_stream(f"{outer.base}/a", f"{outer.base}/a"), only_outer)
    with Guard(only_outer, through=relay) as guard:
        for line in (f"GET {outer.base}/a HTTP/1.1", f"CONNECT 127.0.0.1:{outer.port} HTTP/1.1"):
            assert ask(guard, f"{line}\r\n\r\n".encode()).startswith(b"HTTP/1.1 404 ")
    assert outer.asked == []


def test_the_number_of_connections_is_limited(
    only_outer: AddressPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "MAX_CONNECTIONS", 2)
    with Guard(only_outer) as guard, ExitStack() as stack:
        *_, third = [
            stack.enter_context(socket.create_connection(("127.0.0.1", guard.port), timeout=60))
            for _ in range(3)
        ]
        assert third.recv(1) == b""


def test_waiting_for_a_request_is_limited(
    only_outer: AddressPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "HEAD_S", 0.1)
    monkeypatch.setattr(port, "_LOOK_S", 0.02)
    with (
        Guard(only_outer) as guard,
        socket.create_connection(("127.0.0.1", guard.port), timeout=60) as connection,
    ):
        connection.sendall(b"GET ")
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n1;x=",
        b"HTTP/1.1 200 OK\r\nA: ",
    ],
    ids=["early hints", "a chunk's extension", "a header"],
)
def test_an_endless_answer_is_cut_at_its_time_limit(
    only_outer: AddressPolicy, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "REQUEST_S", 0.3)
    monkeypatch.setattr(port, "_LOOK_S", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        policy = AddressPolicy(allow_origins=((ip_address("127.0.0.1"), number),))

        def drip() -> None:
            server, _ = listener.accept()
            with server, suppress(OSError):
                server.sendall(said)
                while True:
                    server.sendall(said[:20] if said.endswith(b"\n\r\n") else b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        with Guard(policy) as guard, suppress(ConnectionResetError):
            ask(guard, f"GET http://127.0.0.1:{number}/ HTTP/1.1\r\n\r\n".encode())
        dripping.join(60)
        assert not dripping.is_alive()
