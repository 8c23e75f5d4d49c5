import io
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Part
from flows.capture.segment import CaptureError, NoStream, SourceUnreachable, UnsafeURL
from flows.demo.server import HttpServer, Reply


@pytest.fixture
def server() -> Iterator[HttpServer]:
    body = b"0123456789" * 100
    made = HttpServer(lambda _: Reply(body=body), host="127.0.0.1", port=0, log=lambda _: None)
    made.start()
    yield made
    made.stop()


def test_a_name_is_looked_up_once_and_what_was_allowed_is_connected_to(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
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
    policy = AddressPolicy(allow_origins=((ip_address("127.0.0.1"), server.port),))
    url = f"http://rebinding.example:{server.port}/x"
    with Fetcher(policy) as fetcher:
        assert len(fetcher.get(url, max_bytes=2000).body) == 1000
    assert asked == ["rebinding.example"]
    with Fetcher(policy) as fetcher, pytest.raises(UnsafeURL, match=r"127\.0\.0\.2"):
        fetcher.get(url, max_bytes=2000)


def test_one_internal_address_among_public_ones_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_up(host, port, *args, **kwargs):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("93.184.215.14", "10.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with Fetcher(AddressPolicy()) as fetcher, pytest.raises(UnsafeURL, match=r"10\.0\.0\.1"):
        fetcher.get("http://mixed.example/", max_bytes=10)


def test_a_body_over_the_limit_is_refused_and_a_head_is_cut(
    server: HttpServer, policy: AddressPolicy
) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    with Fetcher(policy) as fetcher:
        assert fetcher.get(url, max_bytes=10, head_only=True).body == b"0123456789"
        with pytest.raises(NoStream, match="larger than 10 bytes"):
            fetcher.get(url, max_bytes=10)
        with pytest.raises(NoStream, match="larger than 10 bytes"):
            fetcher.download(Part(url=url), io.BytesIO(), max_bytes=10)


def test_a_byte_range_is_cut_from_the_whole_if_the_server_ignores_ranges(
    server: HttpServer, policy: AddressPolicy
) -> None:
    url, into = f"http://127.0.0.1:{server.port}/", io.BytesIO()
    with Fetcher(policy) as fetcher:
        assert fetcher.download(Part(url=url, offset=15, length=7), into, max_bytes=99) == 7
        assert into.getvalue() == b"5678901"
        with pytest.raises(SourceUnreachable, match="only 10 of 50 bytes"):
            fetcher.download(Part(url=url, offset=990, length=50), io.BytesIO(), max_bytes=99)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://10.0.0.1/x", "10.0.0.1 is an internal address"),
        ("//169.254.169.254/x", "internal"),
        ("http://[::ffff:10.0.0.1]/x", "internal"),
        ("file:///etc/passwd", "begins with http"),
        ("http://user:secret@127.0.0.1/x", "leave user name"),
        ("http://xn--a/", "Codepoint .* not allowed"),
        (f"http://{'a' * 70}.example/", "no such host"),
        ("/again", "more than 5 redirects"),
    ],
)
def test_a_redirect_is_followed_only_to_an_allowed_address(
    policy: AddressPolicy, location: str, says: str
) -> None:
    reply = Reply(status=302, location=location)
    server = HttpServer(lambda _: reply, host="127.0.0.1", port=0, log=lambda _: None)
    server.start()
    try:
        with Fetcher(policy) as fetcher, pytest.raises(CaptureError, match=says) as caught:
            fetcher.get(f"http://127.0.0.1:{server.port}/", max_bytes=10)
    finally:
        server.stop()
    assert "secret" not in str(caught.value)
