"""Which variant is taken, and which other one when that fails or stands still."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from benchmarks.capture.live_stream import live_stream
from flows.capture.hls import feed
from flows.capture.hls.feed import Feed
from flows.capture.hls.pieces import Pieces, key_in
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Part
from flows.capture.segment import CaptureError, NoStream, SourceUnreachable
from flows.capture.stream import Stream
from flows.demo.server import HttpServer, Reply

HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
LIVE = HEAD + "#EXTINF:2,\n0.ts\n"
HTML = "<html>a page</html>"


def master(*urls: str, size: str = "64x48") -> str:
    tag = f"#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION={size}\n"
    return "#EXTM3U\n" + "".join(f"{tag}{url}\n" for url in urls)


@dataclass
class Site:
    """Answers with texts or statuses by path."""

    answers: dict[str, str | int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    base: str = ""

    def reply(self, target: str) -> Reply:
        self.asked.append(target)
        found = self.answers.get(target.partition("?")[0], 404)
        if isinstance(found, int):
            return Reply(status=found)
        return Reply(body=found.replace("BASE", self.base).encode())


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(feed, "_ASK_AGAIN_S", 0.0)
    made = Site()
    server = HttpServer(made.reply, host="127.0.0.1", port=0, log=lambda _: None)
    server.start()
    made.base = f"http://127.0.0.1:{server.port}"
    yield made
    server.stop()


@pytest.fixture
def fetcher(policy: AddressPolicy) -> Iterator[Fetcher]:
    with Fetcher(policy) as made:
        yield made


def found_at(site: Site, path: str, master_path: str = "/master.m3u8") -> Stream:
    """What yt-dlp finds: a variant, and the master playlist that it is from."""
    url = f"{site.base}{path}"
    return replace(live_stream(url, url), master_url=f"{site.base}{master_path}")


@pytest.mark.parametrize("found", ["/a.m3u8", "/master.m3u8"], ids=["yt-dlp's", "ours"])
@pytest.mark.parametrize("answer", [404, 403, 500, HTML, "", "nobody"])
def test_a_variant_that_does_not_come_is_replaced_by_another(
    answer: str | int, found: str, site: Site, fetcher: Fetcher
) -> None:
    first = "http://127.0.0.1:1/a.m3u8" if answer == "nobody" else "a.m3u8"
    site.answers = {"/a.m3u8": answer, "/b.m3u8": LIVE, "/master.m3u8": master(first, "b.m3u8")}
    made = Feed(found_at(site, found), fetcher)
    playlist = made.load()
    if answer == "":  # not begun yet
        assert not playlist.entries
    else:
        assert made.url == f"{site.base}/b.m3u8"
        assert len(playlist.entries) == 1


def test_the_error_of_the_best_variant_is_raised_where_none_comes(
    site: Site, fetcher: Fetcher
) -> None:
    site.answers = {"/a.m3u8": 500, "/b.m3u8": 404, "/master.m3u8": master("a.m3u8", "b.m3u8")}
    with pytest.raises(SourceUnreachable) as caught:
        Feed(found_at(site, "/a.m3u8"), fetcher).load()
    assert caught.value.status == 500


ENDED = LIVE + "#EXT-X-ENDLIST\n"
STOPS = {
    # what the old playlist answers, and how often it must before the master playlist is asked
    "400": (400, 1),
    "404": (404, 1),
    "410": (410, 1),
    "500": (500, 2),
    "a page": (HTML, 2),
    "nothing": ("", 1),
    "no segments": (HEAD, 1),
    "an end": (ENDED, 1),
    "the same": (LIVE, 1),
}


@pytest.mark.parametrize(("answer", "times"), STOPS.values(), ids=STOPS)
def test_a_session_that_stops_is_found_again_by_the_master_playlist(
    answer: str | int,
    times: int,
    site: Site,
    fetcher: Fetcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site.answers = {"/1.m3u8": LIVE, "/2.m3u8": LIVE, "/master.m3u8": master("1.m3u8")}
    made = Feed(found_at(site, "/1.m3u8"), fetcher)
    made.load()
    made.load()
    site.answers |= {"/1.m3u8": answer, "/master.m3u8": master("2.m3u8")}
    monkeypatch.setattr(feed, "_STANDS_STEPS", 0.0)
    for _ in range(times - 1):
        with pytest.raises(CaptureError):
            made.load()
    assert len(made.load().entries) == 1
    assert made.url == f"{site.base}/2.m3u8"


def test_the_master_playlist_of_a_show_that_has_ended_is_asked_ever_more_rarely(
    site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_ASK_AGAIN_S", 60.0)
    site.answers = {"/1.m3u8": ENDED, "/master.m3u8": master("1.m3u8")}
    made = Feed(found_at(site, "/1.m3u8"), fetcher)
    for _ in range(4):
        assert made.load().ended
    assert site.asked.count("/master.m3u8") == 1


@pytest.mark.parametrize("answer", [500, HTML])
def test_a_variant_that_fails_for_a_moment_is_not_exchanged_for_another_size(
    answer: str | int, site: Site, fetcher: Fetcher
) -> None:
    both = master("1.m3u8") + master("2.m3u8", size="32x24").partition("\n")[2]
    site.answers = {"/1.m3u8": LIVE, "/2.m3u8": LIVE, "/master.m3u8": both}
    made = Feed(found_at(site, "/1.m3u8"), fetcher)
    made.load()
    site.answers["/1.m3u8"] = answer
    for _ in range(3):
        with pytest.raises((SourceUnreachable, NoStream)):
            made.load()
    site.answers["/master.m3u8"] = master("1.m3u8", "2.m3u8")  # its twin
    made.load()
    assert made.url == f"{site.base}/2.m3u8"


def test_a_variant_whose_segments_do_not_come_is_left_for_its_twin(
    site: Site, fetcher: Fetcher
) -> None:
    both = master("1.m3u8", "2.m3u8") + master("3.m3u8", size="32x24").partition("\n")[2]
    site.answers = {"/1.m3u8": LIVE, "/2.m3u8": LIVE, "/3.m3u8": LIVE, "/master.m3u8": both}
    made = Feed(found_at(site, "/1.m3u8"), fetcher)
    made.load()
    assert made.leave()
    assert made.url == f"{site.base}/2.m3u8"
    assert not made.leave()
    made.load()
    assert made.url == f"{site.base}/2.m3u8"


def test_a_master_playlist_that_becomes_the_media_playlist_is_followed(
    site: Site, fetcher: Fetcher
) -> None:
    site.answers = {"/1.m3u8": LIVE, "/live.m3u8": master("1.m3u8")}
    made = Feed(found_at(site, "/1.m3u8", "/live.m3u8"), fetcher)
    made.load()
    site.answers = {"/live.m3u8": LIVE}
    assert len(made.load().entries) == 1
    assert made.url == f"{site.base}/live.m3u8"


def test_a_server_that_wants_a_pause_is_not_asked_elsewhere(site: Site, fetcher: Fetcher) -> None:
    site.answers = {"/1.m3u8": 429, "/master.m3u8": master("1.m3u8", "2.m3u8"), "/2.m3u8": LIVE}
    with pytest.raises(SourceUnreachable):
        Feed(found_at(site, "/1.m3u8"), fetcher).load()
    assert site.asked == ["/1.m3u8"]


def test_variables_and_queries_of_the_master_playlist_reach_the_variant(
    site: Site, fetcher: Fetcher
) -> None:
    define = '#EXT-X-DEFINE:NAME="d",VALUE="dir"\n'
    site.answers = {
        "/master.m3u8": master("1.m3u8").replace("#EXTM3U\n", f"#EXTM3U\n{define}"),
        "/1.m3u8": LIVE.replace("0.ts", "{$d}/0.ts").replace(
            HEAD, f'{HEAD}#EXT-X-DEFINE:IMPORT="d"\n'
        ),
    }
    stream = found_at(site, "/1.m3u8")
    loaded = fetcher.load(stream.master_url)
    found = Feed(replace(stream, master=loaded), fetcher).load()
    assert found.entries[0].url == f"{site.base}/dir/0.ts"


KEY = bytes(range(1, 17))


@pytest.mark.parametrize(
    "answer",
    [
        KEY,
        KEY + b"\n",
        KEY.hex().encode(),
        KEY.hex().upper().encode() + b"\r\n",
        b"AQIDBAUGBwgJCgsMDQ4PEA==",
    ],
    ids=["as it is", "and a line's end", "hexadecimal", "the same in capitals", "base64"],
)
def test_a_key_is_found_in_its_servers_answer(answer: bytes) -> None:
    assert key_in(answer) == KEY


@pytest.mark.parametrize(
    "answer", [b"", b"short", b"<html>not allowed</html>", bytes(17), bytes(32)]
)
def test_another_answer_is_no_key(answer: bytes) -> None:
    assert key_in(answer) is None


def test_a_picture_before_an_initialisation_section_is_left_out(
    site: Site, fetcher: Fetcher
) -> None:
    site.answers["/init.mp4"] = "a picture....\0\0\0\x08ftypisom"
    found = Pieces(fetcher).init(Part(url=f"{site.base}/init.mp4"))
    assert found == b"\0\0\0\x08ftypisom"
