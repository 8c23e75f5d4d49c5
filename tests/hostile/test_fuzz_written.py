"""Manifests rewritten for ffmpeg have only our names and numbers, for any input."""

import contextlib
import re
from collections.abc import Callable
from xml.sax.saxutils import quoteattr

from hypothesis import strategies as st

from flows.capture.proxy.manifest import rename_playlist
from flows.capture.proxy.mpd import rename_mpd
from flows.capture.proxy.rtsp_replies import Replies
from flows.capture.segment import CaptureError
from tests.hostile.test_fuzz import DATE, NUMBER, PLAYLIST, URL, read

Fuzz = Callable[..., None]

LINE = re.compile(
    r"#EXTM3U|#EXT-X-VERSION:7|#EXT-X-TARGETDURATION:\d+|#EXT-X-MEDIA-SEQUENCE:\d+"
    r'|#EXT-X-DISCONTINUITY|#EXT-X-ENDLIST|#EXT-X-MAP:URI="NAME"|#EXTINF:\d+\.\d{6},'
    r"|NAME",
    re.ASCII,
)
VALUE = re.compile(
    r"NAME|[0-9T:.Z+-]+|P[0-9.YMDTHS]+|dynamic|static|video|audio|-?\d+(/\d+)?", re.ASCII
)


def test_a_playlist_that_is_written_anew_holds_nothing_else(fuzz: Fuzz) -> None:
    def check(text: str) -> None:
        found = read(text)
        with contextlib.suppress(CaptureError):
            if found is not None:
                written = rename_playlist(found, init=lambda _: "NAME", media=lambda _: "NAME")
                assert all(LINE.fullmatch(line) for line in written.decode().split("\n")[:-1])

    fuzz(PLAYLIST, check, n=40)


TEMPLATE = st.one_of(
    URL, st.sampled_from(["$Number$.m4s", "$Number%05d$-$Time$", "$RepresentationID$", "$$", "$"])
)
ANY = st.one_of(TEMPLATE, NUMBER, DATE, st.sampled_from(["PT5S", "video/mp4", "0-99", "dynamic"]))


def element(name: str, *inside: st.SearchStrategy[str], **values: object) -> st.SearchStrategy[str]:
    keys = list(values)
    return st.builds(
        lambda given, parts: (
            f"<{name} "
            + " ".join(f"{k}={quoteattr(str(v))}" for k, v in zip(keys, given, strict=True))
            + f">{''.join(parts)}</{name}>"
        ),
        st.tuples(
            *(v if isinstance(v, st.SearchStrategy) else st.just(v) for v in values.values())
        ),
        st.tuples(*inside),
    )


BASE = st.one_of(st.just(""), URL.map(lambda url: f"<BaseURL><![CDATA[{url}]]></BaseURL>"))
TIMELINE = element("SegmentTimeline", element("S", t=ANY, d=ANY, r=ANY))
SEGMENTS = st.one_of(
    st.just(""),
    element("SegmentTemplate", TIMELINE, media=TEMPLATE, initialization=TEMPLATE, duration=ANY),
    element(
        "SegmentList",
        element("Initialization", sourceURL=ANY, range=ANY),
        element("SegmentURL", media=ANY, mediaRange=ANY, index=ANY),
        duration=ANY,
    ),
)
MANIFEST = element(
    "MPD",
    BASE,
    element(
        "Period",
        BASE,
        SEGMENTS,
        element(
            "AdaptationSet",
            BASE,
            SEGMENTS,
            element("Representation", BASE, SEGMENTS, id=ANY, bandwidth=ANY, frameRate=ANY),
            contentType="video",
            lang=ANY,
        ),
        start=ANY,
        duration=ANY,
    ),
    type=ANY,
    publishTime=ANY,
    minimumUpdatePeriod=ANY,
)


def check_manifest(text: str) -> None:
    with contextlib.suppress(CaptureError):
        written, _ = rename_mpd(
            text.encode(errors="replace"),
            "https://cdn.example/live.mpd",
            name=lambda _: "NAME",
            name_of_many=lambda *_: "NAME",
        )
        _, _, elements = written.decode().partition("?>")
        assert all(map(VALUE.fullmatch, re.findall(r'="([^"]*)"', elements)))
        assert not re.search(r">[^<\s]", elements)


def test_a_manifest_that_is_written_anew_holds_nothing_else(fuzz: Fuzz) -> None:
    fuzz(MANIFEST, check_manifest)


def test_digits_of_other_scripts_are_not_written_to_a_manifest() -> None:
    segments = '<SegmentList duration="٢"><SegmentURL media="a"/></SegmentList>'
    video = f'<Representation id="1">{segments}</Representation>'
    check_manifest(
        f'<MPD><Period><AdaptationSet contentType="video">{video}</AdaptationSet></Period></MPD>'
    )


def test_no_reply_of_rtsp_leads_elsewhere(fuzz: Fuzz) -> None:
    words = b"RTSP/1.0 ,200,302, OK,\r\n,\n,\r,: ,Location: rtsp://x/,Content-Length: ,0,5,CSeq"
    part = st.sampled_from([*words.split(b","), b"$\0\0\5", b"abcde", b"REDIRECT", b" ", b"\0"])

    def check(parts: list[bytes]) -> None:
        replies = Replies("x")
        with contextlib.suppress(CaptureError):
            passed = b"".join(map(replies.feed, parts))
            # As read by a client with correct framing: status 200, no Location.
            while passed:
                if passed.startswith(b"$"):
                    passed = passed[4 + int.from_bytes(passed[2:4], "big") :]
                    continue
                head, _, passed = passed.partition(b"\r\n\r\n")
                assert head.startswith(b"RTSP/1.0 ")
                assert not head.startswith(b"RTSP/1.0 3")
                assert b"Location" not in head
                size = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                passed = passed[int(size[1]) if size else 0 :]

    fuzz(st.lists(part, max_size=20), check)
