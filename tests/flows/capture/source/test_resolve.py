import gzip
import socketserver
import threading
from pathlib import Path

import pytest

from benchmarks.origin.site import START, KindIE
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.segment import CaptureError, NoStream, NotLive, SourceUnreachable, UnsafeURL
from flows.capture.source.resolve import resolve
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault
from flows.demo.server import HttpServer, Reply


def of(base: str, kind: str, policy: AddressPolicy):
    return resolve(f"{base}/show/{kind}", policy=policy, extractors=[KindIE])


def test_a_live_playlist_is_its_own_stream(
    origin: LiveOrigin, policy: AddressPolicy, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = resolve(origin.url, policy=policy)
    assert (stream.url, stream.protocol) == (origin.url, "hls")
    assert (stream.live, stream.live_status) == (True, "is_live")
    assert stream.title == "live"
    assert capfd.readouterr() == ("", "")


def test_a_page_leads_to_the_player_in_it(origin: LiveOrigin, policy: AddressPolicy) -> None:
    stream = resolve(origin.page_url, policy=policy)
    assert (stream.page_url, stream.url) == (origin.page_url, origin.url)
    assert dict(stream.headers)["Referer"] == origin.page_url


def test_the_largest_picture_up_to_720_lines_is_taken(
    origin: LiveOrigin, policy: AddressPolicy
) -> None:
    stream = of(origin.base_url, "live", policy)
    assert stream.url.endswith("v=720")
    assert (stream.source_id, stream.title) == ("id-live", "live")
    assert stream.expires_at is not None
    assert stream.expires_at.timestamp() == START


def test_a_show_that_is_announced_says_when(origin: LiveOrigin, policy: AddressPolicy) -> None:
    with pytest.raises(
        NotLive, match="not begun; it is announced for 2026-11-22 18:00 UTC"
    ) as caught:
        of(origin.base_url, "is_upcoming", policy)
    assert caught.value.starts_at is not None
    assert caught.value.starts_at.timestamp() == START


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        ("was_live", NotLive, "has ended"),
        ("post_live", NotLive, "has ended"),
        ("offline", NotLive, "not on air now"),
        ("forbidden", NoStream, "for members only"),
        ("not_live", NoStream, "no stream here"),
        ("inward", UnsafeURL, "10.0.0.1 is an internal address"),
        ("file", UnsafeURL, "http"),
    ],
)
def test_an_unwatchable_page_is_a_one_line_error(
    origin: LiveOrigin, policy: AddressPolicy, kind: str, error: type[CaptureError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        of(origin.base_url, kind, policy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("page", [False, True], ids=["playlist", "page"])
def test_a_show_that_has_ended_is_not_live(
    origin: LiveOrigin, policy: AddressPolicy, page: bool
) -> None:
    origin.end()
    with pytest.raises(NotLive, match="not on air now"):
        resolve(origin.page_url if page else origin.url, policy=policy)


@pytest.mark.parametrize("status", [401, 403, 451])
def test_a_refusing_site_is_unreachable(
    status: int, origin: LiveOrigin, policy: AddressPolicy
) -> None:
    origin.inject(Fault(status=status))
    with pytest.raises(SourceUnreachable, match=rf"status {status}; if .* in sources\.toml"):
        resolve(origin.url, policy=policy)


def test_an_unavailable_site_is_unreachable(origin: LiveOrigin, policy: AddressPolicy) -> None:
    origin.stop()
    with pytest.raises(SourceUnreachable, match="refused"):
        resolve(origin.url, policy=policy)


@pytest.fixture
def serve():
    """Serve one answer to all requests; they are recorded in `serve.requests`."""
    servers: list[HttpServer] = []

    def make(body: bytes, content_type: str) -> HttpServer:
        reply = Reply(body=body, content_type=content_type)
        server = HttpServer(lambda _: reply, host="127.0.0.1", port=0, log=make.requests.append)
        server.start()
        servers.append(server)
        return server

    make.requests = []
    yield make
    for server in servers:
        server.stop()


def test_a_page_without_a_video_is_no_stream(policy: AddressPolicy, serve) -> None:
    server = serve(b"<html><body>Hello</body></html>", "text/html")
    with pytest.raises(NoStream, match="no video on this page"):
        resolve(f"http://127.0.0.1:{server.port}/", policy=policy)


def test_a_file_is_not_live(policy: AddressPolicy, serve, pieces: Path) -> None:
    server = serve((pieces / "piece-00000.ts").read_bytes(), "video/mp4")
    with pytest.raises(NotLive, match="recorded video"):
        resolve(f"http://127.0.0.1:{server.port}/clip.mp4", policy=policy)


def test_a_refused_address_gets_no_request(serve) -> None:
    server = serve(b"", "text/html")
    with pytest.raises(UnsafeURL):
        resolve(f"http://127.0.0.1:{server.port}/", policy=AddressPolicy())
    assert serve.requests == []


def test_a_page_cannot_lead_to_an_internal_address(policy: AddressPolicy, serve) -> None:
    page = b'<html><body><video src="http://169.254.1.1/live.m3u8"></video></body></html>'
    server = serve(page, "text/html")
    with pytest.raises(UnsafeURL, match=r"169\.254\.1\.1"):
        resolve(f"http://127.0.0.1:{server.port}/", policy=policy)


# -- playlists that yt-dlp does not read, or reads otherwise

HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
LIVE = HEAD + "#EXTINF:2,\n0.ts\n"
VARIANT = "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=64x48\n"


@pytest.mark.parametrize(
    ("body", "n"),
    [
        pytest.param(b"", 0, id="nothing yet"),
        pytest.param(b"#EXTM3U\n", 0, id="no segment yet"),
        pytest.param(b"\xef\xbb\xbf" + LIVE.encode(), 1, id="a byte order mark"),
        pytest.param(gzip.compress(LIVE.encode()), 1, id="gzip without a word"),
        pytest.param(LIVE.lower().replace("#extm3u", "#EXTM3U").encode(), 1, id="small letters"),
    ],
)
def test_a_playlist_is_read_by_us_where_yt_dlp_finds_nothing(
    policy: AddressPolicy, serve, body: bytes, n: int
) -> None:
    server = serve(body, "application/vnd.apple.mpegurl")
    url = f"http://127.0.0.1:{server.port}/show.m3u8"
    stream = resolve(url, policy=policy)
    assert (stream.url, stream.protocol, stream.source_id) == (url, "hls", "show")
    assert stream.loaded is not None
    with Fetcher(policy) as fetcher:
        assert len(fetcher.read_playlist(stream.loaded).entries) == n


def test_a_master_playlist_with_variables_and_one_whose_best_variant_is_gone_are_read(
    site, policy: AddressPolicy
) -> None:
    define = '#EXT-X-DEFINE:NAME="d",VALUE="dir"\n'
    answers = {
        "/variables.m3u8": f"#EXTM3U\n{define}{VARIANT}{{$d}}/live.m3u8\n",
        "/gone.m3u8": f"#EXTM3U\n{VARIANT}http://show.invalid/a.m3u8\n{VARIANT}dir/live.m3u8\n",
        "/dir/live.m3u8": LIVE,
    }
    site.answer = lambda asked: answers.get(asked.path, "").encode() or 404
    for path in ("/variables.m3u8", "/gone.m3u8"):
        stream = resolve(f"{site.base}{path}", policy=policy)
        assert stream.loaded is not None
        assert stream.loaded.url == f"{site.base}/dir/live.m3u8"


# -- videos without a playlist


@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        ("Content-Type: video/mp2t", b"G" + bytes(600), None),
        ("Content-Type: video/x-flv", b"FLV\1\5" + bytes(600), None),
        ("Content-Type: video/mp2t\r\nLast-Modified: now", b"G" + bytes(600), "recorded video"),
        ("Content-Type: audio/mpeg", b"\xff\xfb\x90" + bytes(600), "only sound"),
        ("Content-Type: application/json", b'{"a": 1}', "no video, but application/json; give"),
        ("Content-Type: text/html\r\nContent-Length: 0", b"", "no video, but text/html; give"),
    ],
    ids=["MPEG-TS", "FLV", "a file", "audio", "JSON", "an empty page"],
)
def test_a_video_without_a_length_is_live(
    policy: AddressPolicy, head: str, body: bytes, says: str | None
) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/channel"
        try:
            if says is None:
                stream = resolve(url, policy=policy)
                assert (stream.url, stream.protocol, stream.live) == (url, "http", True)
            else:
                with pytest.raises(CaptureError, match=says):
                    resolve(url, policy=policy)
        finally:
            server.shutdown()
            thread.join()
