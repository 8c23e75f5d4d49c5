"""Queries of playlists that what they list needs, too; and data: URLs."""

import pytest

from flows.capture.net.data_urls import data_of
from flows.capture.net.playlist_queries import PlaylistQueries
from flows.capture.playlists.playlist import Part
from flows.capture.playlists.signing import with_query
from flows.capture.segment import NoStream, SourceUnreachable

BASE = "http://cdn.test"


class Server:
    """Refuses what does not have the token."""

    def __init__(self, status: int, *, wants: str = "") -> None:
        self.status, self.wants = status, wants
        self.asked: list[str] = []

    def __call__(self, url: str) -> str:
        self.asked.append(url.removeprefix(BASE))
        if self.wants in url and "token=" not in url:
            raise SourceUnreachable("no", status=self.status)
        return url


def known(*urls: str) -> PlaylistQueries:
    queries = PlaylistQueries()
    for url in urls:
        queries.note(f"{BASE}{url}")
    return queries


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_request_is_repeated_with_the_playlists_parameters_once(status: int) -> None:
    queries, server = known("/master.m3u8?token=1&a=2", "/live.m3u8?a=3"), Server(status)
    for n in range(2):
        queries.fetch(f"{BASE}/{n}.ts?n={n}", server)
    assert server.asked == ["/0.ts?n=0", "/0.ts?n=0&token=1&a=3", "/1.ts?n=1&token=1&a=3"]


def test_what_has_them_and_what_does_not_need_them_is_fetched_once() -> None:
    queries, server = known("/live.m3u8?token=1"), Server(404, wants="gone")
    queries.fetch(f"{BASE}/0.ts", server)
    queries.fetch(f"{BASE}/1.ts?token=9", server)
    with pytest.raises(SourceUnreachable):
        queries.fetch(f"{BASE}/gone.ts", server)  # other segments came without it
    queries.fetch("http://other.test/1.ts", lambda url: server.asked.append(url))
    assert server.asked == ["/0.ts", "/1.ts?token=9", "/gone.ts", "http://other.test/1.ts"]


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("http://a/0.ts", "http://a/0.ts?token=1"),
        ("http://a/0.ts?n=2#t", "http://a/0.ts?n=2&token=1#t"),
        ("http://a/0.ts?token=0&n=2", "http://a/0.ts?n=2&token=1"),
        ("data:,key", "data:,key"),
    ],
)
def test_a_parameter_is_added_once(url: str, signed: str) -> None:
    assert with_query(url, "token=1") == signed


@pytest.mark.parametrize("url", ["data:,a%20b", "data:text/plain;base64,YSBi"])
def test_a_data_url_contains_its_bytes(url: str) -> None:
    assert data_of(Part(url=url), max_bytes=3) == b"a b"
    assert data_of(Part(url=url, offset=1, length=1), max_bytes=3) == b" "
    with pytest.raises(NoStream):
        data_of(Part(url=url), max_bytes=2)


@pytest.mark.parametrize("url", ["data:", "data:;base64,a"])
def test_a_broken_data_url_is_no_stream(url: str) -> None:
    with pytest.raises(NoStream):
        data_of(Part(url=url), max_bytes=9)
