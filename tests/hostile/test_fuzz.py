"""Fuzz tests: random inputs give a result, or one of our errors.

A fixed set of inputs runs with the other tests; `make fuzz` runs random ones for longer.
"""

import contextlib
import gzip
import io
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks.capture.live_stream import live_stream
from flows.capture.headers import Headers
from flows.capture.hls.engine import HlsRun
from flows.capture.hls.listing import Listing
from flows.capture.net.address import STREAM_SCHEMES, AddressPolicy, read_host
from flows.capture.net.decoding import decode
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import MAX_ENTRIES, Playlist, parse_playlist
from flows.capture.playlists.tags import attributes_of
from flows.capture.recorded.recording import Recording
from flows.capture.redaction import clean, shorten
from flows.capture.segment import CaptureError, NoStream, UnsafeURL


def segment() -> bytes:
    """Return half a second of MPEG-TS."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for n in range(5):
            picture = np.full((64, 64, 3), 20 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file.getvalue()


Fuzz = Callable[..., None]
TEXT = st.text(max_size=40)
NUMBER = st.one_of(
    st.integers(-3, 10**22).map(str),
    st.floats().map(str),
    st.sampled_from(["0", "2", "2.000", "1e9", "9" * 400, "0x10", "-0", ".", "2.", "\u0662"]),
)
DATE = st.one_of(
    st.datetimes().map(lambda date: date.isoformat()),
    st.sampled_from(["2026-11-22T12:00:00Z", "9999-12-31T23:59:59.999Z", "0001-01-01T00:00+23:59"]),
)
HOST = st.one_of(
    st.sampled_from(
        [
            "a.example",
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "017700000001",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[fe80::1%25lo]",
            "\uff11\uff12\uff17.0.0.1",
            "1\u30022\u30023\u30024",
            "xn--a",
            "xn--" + "a" * 70,
            "a" * 64 + ".example",
            "stra\xdfe.example",
            "\u0430.example",
            "",
        ]
    ),
    TEXT,
)
PART = st.one_of(
    TEXT, st.sampled_from(["/", "//", "..", "?", "#", "@", ":", "%", "%00", "\\", ";"])
)
URL = st.one_of(
    st.builds(
        lambda scheme, user, host, port, path: f"{scheme}://{user}{host}{port}/{''.join(path)}",
        st.sampled_from(["http", "https", "HTTP", "ftp", "rtmp", "file", "httpproxy", ""]),
        st.sampled_from(["", "", "", "u@", "u:p@", "@"]),
        HOST,
        st.one_of(st.just(""), NUMBER.map(lambda port: f":{port}")),
        st.lists(PART, max_size=4),
    ),
    st.lists(PART, max_size=6).map("".join),
)
VALUE = st.one_of(
    TEXT,
    NUMBER,
    DATE,
    URL,
    st.lists(
        st.builds(
            lambda name, value, form: form.format(name, value),
            st.sampled_from(["URI", "METHOD", "IV", "BYTERANGE", "BANDWIDTH", "RESOLUTION", "X"]),
            st.one_of(URL, NUMBER, st.sampled_from(["AES-128", "NONE", "1280x720", "10@5", "0xf"])),
            st.sampled_from(['{}="{}"', "{}={}", '{}="{}', "{}", "={1}", " {} = {} "]),
        ),
        max_size=5,
    ).map(",".join),
)
TAG = st.sampled_from(
    [
        "#EXTINF",
        "#EXT-X-BYTERANGE",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-ENDLIST",
        "#EXT-X-GAP",
        "#EXT-X-KEY",
        "#EXT-X-MAP",
        "#EXT-X-MEDIA-SEQUENCE",
        "#EXT-X-PROGRAM-DATE-TIME",
        "#EXT-X-STREAM-INF",
        "#EXT-X-TARGETDURATION",
        "#EXT",
        "#",
    ]
)
LINE = st.one_of(st.builds("{}:{}".format, TAG, VALUE), TAG, URL, TEXT)
PLAYLIST = st.builds(
    lambda begin, lines, end: begin + end.join(lines),
    st.sampled_from(["#EXTM3U\n", "\ufeff#EXTM3U\r\n", "#EXTM3U", " #EXTM3U\n", ""]),
    st.lists(LINE, max_size=20),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)


def read(text: str) -> Playlist | None:
    try:
        return parse_playlist(text, "https://cdn.example/live/index.m3u8?token=1")
    except NoStream:
        return None


def test_a_playlist_is_read_or_none(fuzz: Fuzz) -> None:
    def check(text: str) -> None:
        found = read(text)
        if found is None:
            return
        assert len(found.entries) + len(found.offers) <= MAX_ENTRIES
        assert 0 <= found.target_s <= 600
        for entry in found.entries:
            assert 0 <= entry.duration_s <= 600
            assert entry.end is None or entry.end.utcoffset() == timedelta(0)
            assert entry.sequence.to_bytes(16, "big")
        with contextlib.suppress(UnsafeURL):
            AddressPolicy().check_unresolved(found.urls)

    fuzz(PLAYLIST, check)


def test_attributes_are_those_that_stand_there(fuzz: Fuzz) -> None:
    def check(pairs: dict[str, str]) -> None:
        assert attributes_of(",".join(f'{k}="{v}"' for k, v in pairs.items())) == pairs

    name = st.text("ABCXYZ019-", min_size=1, max_size=8)
    value = st.text(max_size=20).filter(lambda text: '"' not in text and text == text.strip())
    fuzz(st.dictionaries(name, value, max_size=6), check)


def test_what_is_new_is_listed_once_however_a_source_counts(tmp_path: Path, fuzz: Fuzz) -> None:
    def check(texts: list[str]) -> None:
        listing = Listing(Recording(tmp_path / "rec", channel="demo", broadcast=1))
        for text in texts:
            found = read(text)
            if found is None or not found.entries:
                continue
            new = listing.find_new(found.entries)
            assert len(set(map(id, new))) == len(new)
            assert all(any(entry is each for each in found.entries) for entry in new)
            if new:
                listing.advance(found.entries, new)
                listing.recorded(new[-1])
                listing.save()

    dated = st.builds(
        lambda first, n, date: (
            f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
            + (f"#EXT-X-PROGRAM-DATE-TIME:{date}\n" if date else "")
            + "".join(f"#EXTINF:2,\n{k}.ts\n" for k in range(n))
        ),
        st.integers(0, 2**64),
        st.integers(0, 5),
        st.one_of(st.none(), DATE),
    )
    fuzz(st.lists(st.one_of(dated, PLAYLIST), max_size=6), check, n=40)


def test_a_url_is_read_or_refused(fuzz: Fuzz) -> None:
    policy = AddressPolicy()
    headers = Headers([("Cookie", "SECRET"), ("Referer", "https://a/b")], made_for="https://a/")

    def check(url: str) -> None:
        shown = shorten(url)
        assert len(shown) <= 120
        assert shown.isprintable() or not shown
        try:
            host, port = read_host(url, schemes=STREAM_SCHEMES)
            policy.check_unresolved([url])
        except UnsafeURL:
            return
        assert host
        assert shorten(shown) == shown
        assert port is None or 0 <= port < 65536
        assert "SECRET" not in str(headers.of(url)) or host == "a"
        with contextlib.suppress(httpx.InvalidURL, UnicodeError):
            httpx.Client(trust_env=False).build_request("GET", url)

    fuzz(URL, check)


def test_no_secret_of_a_url_is_shown(fuzz: Fuzz) -> None:
    word = st.text("abcXYZ019._-~", max_size=10)
    hidden = st.builds("{}SECRET{}".format, word, word)
    url = st.one_of(
        st.builds("https://{}:{}@{}/{}".format, word, hidden, st.just("a.example"), word),
        st.builds("https://a.example/{}?{}={}".format, word, word, hidden),
        st.builds("https://a.example/token/{}/{}.ts".format, hidden, word),
        st.builds("https://a.example/{}/{}={}/a.ts".format, word, word, hidden),
    )
    around = st.sampled_from(["{}", "'{}'", "({}), then", "at {}: HTTP status 403", "x\n{}\ny"])

    def check(url_and_around: tuple[str, str]) -> None:
        url, around = url_and_around
        text = around.format(url)
        assert "SECRET" not in shorten(url)
        assert "SECRET" not in clean(text)
        assert clean(clean(text)) == clean(text)

    fuzz(st.tuples(url, around), check)


def test_a_text_of_others_is_cleaned(fuzz: Fuzz) -> None:
    def check(text: str) -> None:
        if not any(each in text for each in "<>`"):  # normalised to other characters
            assert clean(clean(text)) == clean(text)
        assert len(clean(text)) <= max(len(text) + 200, 4004)

    fuzz(st.lists(st.one_of(TEXT, URL, PART), max_size=8).map(" ".join), check)


def test_what_is_encoded_comes_or_is_refused(fuzz: Fuzz) -> None:
    def check(parts_and_encoding: tuple[list[bytes], str]) -> None:
        parts, encoding = parts_and_encoding
        with contextlib.suppress(CaptureError):
            for part in decode(parts, encoding, url="http://a/"):
                assert len(part) <= 64 * 1024

    part = st.one_of(st.binary(max_size=50), st.binary(max_size=50).map(gzip.compress))
    encoding = st.one_of(st.sampled_from(["gzip", "x-gzip, ,", "GZIP", "br", "gzip,br"]), TEXT)
    fuzz(st.tuples(st.lists(part, max_size=4), encoding), check)


FIELD = st.one_of(
    st.builds(
        "{}: {}".format,
        st.sampled_from(
            [
                "Content-Length",
                "Transfer-Encoding",
                "Content-Encoding",
                "Content-Type",
                "Set-Cookie",
                "Set-Cookie2",
                "Connection",
                "Keep-Alive",
            ]
        ),
        st.one_of(
            NUMBER,
            TEXT,
            st.sampled_from(["chunked", "gzip", "close", "a=b; Expires=x; Domain=.1", 'a="b', "="]),
        ),
    ),
    st.builds("Location: {}".format, URL),
    TEXT,
)
ANSWER = st.builds(
    lambda status, fields, body: (
        "\r\n".join([status, *fields, "", ""]).encode("utf-8", "surrogatepass") + body
    ),
    st.sampled_from(
        [
            "HTTP/1.1 200 OK",
            "HTTP/1.0 200",
            "HTTP/1.1 206 x",
            "HTTP/1.1 302 x",
            "HTTP/1.1 304 x",
            "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK",
            "HTTP/1.1 101 x",
            "HTTP/9 999",
            "",
        ]
    ),
    st.lists(FIELD, max_size=6),
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"5\r\n#EXTM\r\n0\r\n\r\n", b"fffffffffffffffff\r\n", b"-1\r\n\r\n"]),
        st.just(gzip.compress(b"#EXTM3U\n")),
    ),
)


@pytest.fixture
def answering(site: Callable[..., Any]) -> tuple[str, list[bytes]]:
    """The URL of a site, and a list with its answer."""
    answers = [b""]
    made = site({"": lambda _: [answers[0]]})
    return made.url, answers


def test_an_answer_is_read_or_an_error(
    answering: tuple[str, list[bytes]], fuzz: Fuzz, until: Callable[..., Any]
) -> None:
    url, answers = answering
    policy = AddressPolicy.of([url.removeprefix("http://").rstrip("/")])
    before = threading.active_count()

    def check(answer: bytes) -> None:
        answers[0] = answer
        with Fetcher(policy, timeout_s=2.0, request_s=4.0) as fetcher:
            for _ in range(2):
                with contextlib.suppress(CaptureError):
                    fetcher.get_playlist(url)

    fuzz(ANSWER, check, n=50)
    until(lambda: threading.active_count() <= before + 4, what="the end of their threads")


def test_a_run_continues_for_any_playlist(
    tmp_path: Path, site: Callable[..., Any], fuzz: Fuzz
) -> None:
    made = site({})
    policy = AddressPolicy.of([made.url.removeprefix("http://").rstrip("/")])
    stream = live_stream(made.url, made.url)
    numbers, media = iter(range(10**9)), segment()

    def check(texts: list[str]) -> None:
        recording = Recording(tmp_path / str(next(numbers)), channel="demo", broadcast=1)
        made.answers.clear()
        made.answers[""] = answered(media)
        with Fetcher(policy, timeout_s=2.0, request_s=4.0) as fetcher:
            run = HlsRun(stream, recording, fetcher, ended_after_s=0.0)
            with contextlib.suppress(CaptureError):
                for text in texts:
                    made.answers["/"] = answered(text.encode(errors="replace"))
                    run._load_at = 0.0
                    run.poll()
                    run.poll()
            run.finish()

    seconds = st.sampled_from(["0", "0.5", "2", "599.9"])
    entry = st.builds(
        "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{},\n{}.ts".format, DATE, seconds, st.integers(0, 9)
    )
    listed = st.builds(
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{}\n{}\n".format,
        st.integers(0, 20),
        st.lists(st.one_of(entry, LINE), max_size=5).map("\n".join),
    )
    fuzz(st.lists(st.one_of(listed, listed, PLAYLIST), min_size=1, max_size=5), check, n=25)


def answered(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
