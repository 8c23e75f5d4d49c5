"""A site's headers go only to their origin."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from flows.capture.headers import Headers
from flows.capture.net.address import AddressPolicy
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.server import HttpServer, Reply, Request

SECRETS = (("Cookie", "SECRET"), ("Authorization", "SECRET"), ("X-Token", "SECRET"))
OTHERS = (("User-Agent", "browser"), ("Referer", "https://site.example/page?token=SECRET"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nHost: inner"),
        ("X-A", "b\0"),
        ("X-A", "\u00fc"),
        ("X-A", "\ud800"),
        ("X-A", 20_000 * "b"),
        ("X A", "b"),
        ("X-\u00fc", "b"),
        ("", "b"),
    ],
)
def test_an_invalid_header_is_not_sent(name: str, value: str) -> None:
    headers = Headers([(name, value), ("X-B", "c")], made_for="https://a.example/")
    assert headers.of("https://a.example/") == {"X-B": "c"}


def test_a_malformed_referer_is_sent_only_to_its_own_origin() -> None:
    headers = Headers([("Referer", "http://[")], made_for="https://a.example/")
    assert headers.of("https://a.example/") == {"Referer": "http://["}
    assert headers.of("https://b.example/") == {}


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("https://a.example/other", True),
        ("https://A.example:443/", True),
        ("http://a.example/", False),
        ("https://a.example:8443/", False),
        ("https://b.a.example/", False),
        ("https://example/", False),
    ],
)
def test_an_origin_is_a_scheme_a_host_and_a_port(url: str, known: bool) -> None:
    sent = Headers(SECRETS + OTHERS, made_for="https://a.example/live.m3u8").of(url)
    assert sent["User-Agent"] == "browser"
    assert ("SECRET" in str(sent)) is known
    assert set(SECRETS) <= set(sent.items()) or not known


def test_a_referrer_is_cut_to_its_origin_and_not_sent_in_clear() -> None:
    headers = Headers(OTHERS, made_for="https://a.example/")
    assert headers.of("https://b.example/")["Referer"] == "https://site.example/"
    assert "Referer" not in headers.of("http://b.example/")


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[HttpServer, list[Request]]]]:
    with ExitStack() as stack:

        def make(reply: Callable[[str], Reply]) -> tuple[HttpServer, list[Request]]:
            requests: list[Request] = []
            server = HttpServer(reply, host="127.0.0.1", port=0, log=requests.append)
            server.start()
            stack.callback(server.stop)
            return server, requests

        yield make


@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
def test_other_servers_of_a_playlist_do_not_get_its_headers(
    engine: str,
    serve: Callable[..., tuple[HttpServer, list[Request]]],
    origin: LiveOrigin,
    stream_of: Callable[[LiveOrigin], Stream],
    policy: AddressPolicy,
    tmp_path: Path,
) -> None:
    """The site's playlist is behind a redirect, and lists segments of another server."""

    def moved(path: str) -> Reply:
        if path == "/live.m3u8":
            return Reply(status=302, location="/moved.m3u8")
        listed = origin._reply("/live.m3u8").body.decode().splitlines()
        lines = [x if x.startswith("#") else f"http://localhost:{port}/{x}" for x in listed]
        return Reply(body="\n".join(lines).encode(), content_type="application/x-mpegurl")

    port = origin._server.port
    site, asked = serve(moved)
    url = f"http://127.0.0.1:{site.port}/live.m3u8"
    stream = replace(stream_of(origin), page_url=url, url=url, headers=SECRETS + OTHERS[:1])
    capture = Capture(
        url,
        directory=tmp_path,
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=stream,
        segment_s=0.5,
        engine=engine,
    )
    with capture:
        assert capture.get(60.0) is not None, capture.last_error
    assert {request.path for request in asked} == {"/live.m3u8", "/moved.m3u8"}
    assert all(request.headers["cookie"] == "SECRET" for request in asked)
    assert all(request.headers["user-agent"] == "browser" for request in asked)
    assert origin.requests
    assert "SECRET" not in str([request.headers for request in origin.requests])
    assert all(request.headers["user-agent"] == "browser" for request in origin.requests)
