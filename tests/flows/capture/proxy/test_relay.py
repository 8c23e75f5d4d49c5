"""Relaying streams to ffmpeg under our names, from a TLS server."""

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flows.capture.headers import Headers
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import parse_playlist
from flows.capture.proxy.guard import Guard
from flows.capture.proxy.numbers import Numbers
from flows.capture.proxy.patience import Patience
from flows.capture.proxy.relay import Relay
from flows.capture.segment import Segment, SourceUnreachable
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin

TOKEN = "?token=SECRET"


class Secure:
    """Serves an origin's show over TLS, with a token and a cookie as authentication."""

    def __init__(self, origin: LiveOrigin, pem: Path) -> None:
        self.stalling = threading.Event()
        self.refused: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if f"?{query}" != TOKEN or self.headers["Cookie"] != "SECRET":
                    outer.refused.append(self.path)
                    self.send_error(403)
                    return
                reply = origin._reply(path)
                body = reply.body
                if path.endswith(".m3u8"):
                    lines = body.decode().splitlines()
                    body = "\n".join(x if x.startswith("#") else x + TOKEN for x in lines).encode()
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                half = len(body) // 2
                for part in (body[:half], body[half:]):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                    if path == "/live.m3u8" and outer.stalling.is_set():
                        self.connection.recv(1)
                        return
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False  # so that server_close() joins them
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}/live.m3u8{TOKEN}"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def secure(origin: LiveOrigin, certificate: Path) -> Iterator[Secure]:
    made = Secure(origin, certificate)
    yield made
    made.stop()


@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
def test_a_signed_stream_over_tls_is_recorded(
    engine: str,
    secure: Secure,
    origin: LiveOrigin,
    stream_of: Callable[[LiveOrigin], Stream],
    policy: AddressPolicy,
    tmp_path: Path,
) -> None:
    capture = Capture(
        secure.url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=replace(stream_of(origin), url=secure.url, headers=(("Cookie", "SECRET"),)),
        segment_s=0.5,
        engine=engine,
    )
    with capture:
        for _ in range(3):
            assert isinstance(capture.get(60.0), Segment), capture.last_error
    assert secure.refused == []


def ask(guard: Guard, url: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", guard.port), 30)
    user = urlsplit(guard.url).netloc.rpartition("@")[0].encode()
    known = f"Proxy-Authorization: Basic {b64encode(user).decode()}"
    connection.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n{known}\r\n\r\n".encode())
    return connection


def relay_for(url: str, policy: AddressPolicy, cookie: str = "SECRET") -> Relay:
    return Relay(stream_at(url, cookie), policy)


def stream_at(url: str, cookie: str = "SECRET") -> Stream:
    return Stream(
        page_url=url,
        url=url,
        protocol="hls",
        live=True,
        live_status=None,
        source_id="",
        title="",
        headers=(("Cookie", cookie),),
    )


def test_all_addresses_of_a_playlist_are_replaced(secure: Secure, policy: AddressPolicy) -> None:
    headers = Headers([("Cookie", "SECRET")], made_for=secure.url)
    with Fetcher(policy, headers=headers) as fetcher:
        first, *_ = fetcher.get_playlist(secure.url).entries
    relay = Relay(stream_at(secure.url), policy, begin=first)
    with Guard(policy, through=relay) as guard, ask(guard, relay.url) as connection:
        said = b""
        while more := connection.recv(65536):
            said += more
    listed = [line for line in said.decode().splitlines() if line.startswith("http")]
    assert len(listed) >= 3
    assert "SECRET" not in said.decode()
    entries = [relay.entry(line) for line in listed]
    assert all(entry is not None and entry.url.endswith("token=SECRET") for entry in entries)
    assert all(line.endswith(".ts") for line in listed)


def test_an_unknown_address_is_not_found(secure: Secure, policy: AddressPolicy) -> None:
    relay = relay_for(secure.url, policy)
    with (
        Guard(policy, through=relay) as guard,
        ask(guard, relay.url.replace("/0", "/77")) as connection,
    ):
        assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")


def test_a_stalled_tls_connection_does_not_delay_the_end(
    secure: Secure, policy: AddressPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.capture.net.fetch.MAX_SECONDS", 3600.0)
    secure.stalling.set()
    relay = relay_for(secure.url, policy)
    guard = Guard(policy, through=relay).open()
    with ask(guard, relay.url) as connection:
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        closing = threading.Thread(target=guard.close, daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param(b"", b"HTTP/1.1 502 ", id="nothing"),
        pytest.param(b"\xff\xfe\0", b"HTTP/1.1 502 ", id="no HTTP"),
        pytest.param(b"HTTP/1.1 20", b"HTTP/1.1 502 ", id="half a status"),
        pytest.param(b"HTTP/1.1 2\xb2 OK\r\n\r\n", b"HTTP/1.1 502 ", id="an odd status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + 70_000 * b"x", b"HTTP/1.1 502 ", id="long"),
        pytest.param(CHUNKED, b"HTTP/1.1 502 ", id="cut before the first chunk"),
        pytest.param(CHUNKED + b"-5\r\n", b"HTTP/1.1 502 ", id="a negative chunk"),
        pytest.param(CHUNKED + b"zz\r\n", b"HTTP/1.1 502 ", id="no chunk"),
        pytest.param(CHUNKED + b"20\r\n#EXTM3U\n", b"HTTP/1.1 502 ", id="cut in a playlist"),
        pytest.param(CHUNKED + b"20\r\nmedia000", b"HTTP/1.1 502 ", id="cut in media"),
        pytest.param(
            b"HTTP/1.1 302 OK\r\nLocation: http://[::1\r\n\r\n", b"HTTP/1.1 502 ", id="a bad way"
        ),
    ],
)
def test_a_broken_answer_is_reported_at_any_position(
    policy: AddressPolicy, said: bytes, answer: bytes
) -> None:
    """An unhandled exception in the proxy's thread fails the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = relay_for(f"http://127.0.0.1:{listener.getsockname()[1]}/x", policy)
        with Guard(policy, through=relay) as guard, ask(guard, relay.url) as client:
            server, _ = listener.accept()
            with server:
                server.recv(65536)
                server.sendall(said)
            assert client.recv(65536).startswith(answer)


@pytest.mark.parametrize("n_new", [0, 1, 3])
def test_segments_under_other_names_and_numbers_are_known_by_their_dates(n_new: int) -> None:
    counted = Numbers()
    for first, number, name in ((0, 5, "a"), (n_new, 700, "b")):
        lines = [
            f"#EXT-X-PROGRAM-DATE-TIME:2026-11-22T12:00:{2 * n:02}Z\n#EXTINF:2,\n{name}{n}.ts"
            for n in range(first, first + 4)
        ]
        text = "\n".join(["#EXTM3U", f"#EXT-X-MEDIA-SEQUENCE:{number}", *lines])
        playlist = parse_playlist(text, "http://a.test/live.m3u8")
        called = counted.of(playlist)
    assert [called[entry] for entry in playlist.entries] == [5 + n_new + n for n in range(4)]


@pytest.mark.parametrize(
    "numbers", [[5, 6, 7, 8], [5, 18, 21, 24], [5, 2, 1, 0], [0, 0, 0, 0]], ids=str
)
def test_ffmpeg_gets_consecutive_segment_numbers(numbers: list[int]) -> None:
    counted = Numbers()
    given = []
    for first, number in enumerate(numbers):
        names = "".join(f"#EXTINF:2,\n{n}.ts\n" for n in range(first, first + 4))
        text = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{number}\n{names}"
        playlist = parse_playlist(text, "http://a.test/live.m3u8")
        called = counted.of(playlist)
        given.append([called[entry] for entry in playlist.entries])
    begin = numbers[0]
    assert given == [list(range(begin + n, begin + n + 4)) for n in range(4)]


def test_all_after_the_first_segment_is_listed_if_each_playlist_begins_at_0() -> None:
    """As ffmpeg's playlists of one file (`single_file`) do: numbers say nothing there."""
    counted: Numbers | None = None
    for first in range(8):
        lines = [
            f"#EXTINF:1,\n#EXT-X-BYTERANGE:9@{9 * n}\nlive.ts" for n in range(first, first + 4)
        ]
        text = "\n".join(["#EXTM3U", "#EXT-X-MEDIA-SEQUENCE:0", *lines])
        playlist = parse_playlist(text, "http://a.test/live.m3u8")
        counted = counted or Numbers(begin=playlist.entries[-1])
        listed = [entry.media.offset // 9 for entry in counted.of(playlist)]
        assert listed == list(range(max(3, first), first + 4))


MEDIA = bytes([0x47]) + bytes(187)
LISTED = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n#EXT-X-BYTERANGE:188@0\nlive.ts\n"


@pytest.mark.parametrize("late", [416, 404, MEDIA[:100]], ids=["416", "404", "half"])
def test_a_segment_that_is_listed_before_it_is_there_is_waited_for(
    late: int | bytes, site, policy: AddressPolicy
) -> None:
    answers = iter([late, late])
    site.answer = lambda asked: LISTED if "m3u8" in asked.path else next(answers, MEDIA)
    relay = relay_for(f"{site.base}/live.m3u8", policy)
    with Guard(policy, through=relay) as guard:
        name = next(line for line in read(guard, relay.url).splitlines() if b"http" in line)
        assert read(guard, name.decode()).endswith(MEDIA)
    assert [asked.path for asked in site.asked] == ["/live.m3u8", *3 * ["/live.ts"]]


def test_segments_that_stay_away_are_waited_for_once(site, policy: AddressPolicy) -> None:
    patience = Patience(threading.Event(), pauses_s=(0.0, 0.0))
    site.answer = lambda asked: 404
    with Fetcher(policy) as fetcher:
        for n_asked in (3, 4):
            with pytest.raises(SourceUnreachable):
                patience.wait_for(lambda: fetcher.get(f"{site.base}/x", max_bytes=9).body)
            assert len(site.asked) == n_asked
        site.answer = lambda asked: b"x"
        patience.wait_for(lambda: fetcher.get(f"{site.base}/x", max_bytes=9).body)
        site.answer = lambda asked: (b"", [("Retry-After", "60")], 404)
        with pytest.raises(SourceUnreachable):
            patience.wait_for(lambda: fetcher.get(f"{site.base}/x", max_bytes=9).body)
        assert len(site.asked) == 6


def read(guard: Guard, url: str) -> bytes:
    with ask(guard, url) as connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))
