"""Recorded content cannot make ffmpeg open other addresses. Each case is a line in a table.

Tests only the first protection, without the network namespace (`recorded.py`).
"""

import gzip
import subprocess
from collections.abc import Callable, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from flows.capture.processes import find_ffmpeg

Stand = Callable[..., Any]
Record = Callable[..., None]

HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
INWARDS = "(UnsafeURL|NoStream|CaptureFailed|SourceUnreachable): "
KEY = bytes(range(16))


def reply(body: bytes | str, *headers: str, status: str = "200 OK") -> bytes:
    body = body.encode() if isinstance(body, str) else body
    # Placeholder for the canary's address.
    n_bytes = len(body.replace(b"CANARY", b"127.0.0.1:40000"))
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {n_bytes}", "", ""]
    return "\r\n".join(lines).encode() + body


def listing(*lines: str) -> str:
    """A playlist with one segment."""
    return HEAD + "\n".join([*lines, "#EXTINF:1,", "s.ts", ""])


def sealed(text: str) -> bytes:
    padded = text.encode() + (16 - len(text) % 16) * bytes([16 - len(text) % 16])
    encryptor = Cipher(algorithms.AES128(KEY), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


@pytest.fixture
def record(stand: Stand, canary: Any, media: Path) -> Callable[..., None]:
    """Record what is served, and check the outcome; CANARY is replaced by the canary's address.

    The playlist is harmless at the first request, and hostile and ended from then on; for "hls_on"
    the first one's segment is there, and the next one's follows it. Where a
    segment is expected it does not end: a request may time out on a busy machine, and is repeated.
    """

    def check(serves: Mapping[str, bytes], asks: str, says: str = INWARDS) -> None:
        inner = f"127.0.0.1:{canary.port}".encode()
        patient = says.startswith("a segment")
        end = b"" if patient or asks == "hls_on" else b"#EXT-X-ENDLIST\n"
        answers: dict[str, Any] = {k: v.replace(b"CANARY", inner) for k, v in serves.items()}
        if asks.startswith("hls"):
            head, _, body = answers["/live.m3u8"].partition(b"\r\n\r\n")
            if asks == "hls_on":
                body = body.replace(HEAD.encode(), (HEAD + "#EXT-X-MEDIA-SEQUENCE:1\n").encode())
            if body.startswith(b"#EXTM3U"):
                answers["/live.m3u8"] = reply(body + end, status=head[9:12].decode() + " OK")
            answers["/first.ts"] = reply((media / "first.ts").read_bytes())
            first = listing().replace("s.ts", "first.ts") if asks == "hls_on" else listing()
            playlists = chain([reply(first)], repeat(answers["/live.m3u8"]))
            answers["/live.m3u8"] = lambda _: [next(playlists)]
        starts = 3 if patient else 1
        stand(answers, f"recorded:{asks}", says, starts, most_mb=400, most_s=20)

    return check


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of a test picture: as MPEG-TS, FLV, and DASH; and two pictures of it."""
    folder = tmp_path_factory.mktemp("media")
    source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-t", "3", "-g", "5"]
    command = [find_ffmpeg(), "-v", "error", *source, "-c:v", "libx264"]
    for name in ("s.ts", "s.flv"):
        subprocess.run([*command, str(folder / name)], check=True, stdin=subprocess.DEVNULL)
    first = ["-c:v", "libx264", "-frames:v", "2", str(folder / "first.ts")]
    subprocess.run([*command, *first], check=True, stdin=subprocess.DEVNULL)
    dash = ["-f", "dash", "-seg_duration", "0.5", str(folder / "live.mpd")]
    subprocess.run([*command, *dash], check=True, stdin=subprocess.DEVNULL)
    return folder


def files(folder: Path) -> Mapping[str, bytes]:
    return {f"/{path.name}": reply(path.read_bytes()) for path in folder.iterdir()}


def test_a_playlist_a_manifest_and_a_file_are_recorded(record: Record, media: Path) -> None:
    """Control: the cases below fail for their own reason."""
    served = {**files(media), "/live.m3u8": reply(listing())}
    served["/live"] = reply((media / "s.flv").read_bytes())
    for asks in ("hls", "dash", "endless"):
        record(served, asks, "a segment of 64x48")


NESTED = HEAD + "#EXTINF:1,\nhttpproxy://CANARY/s.ts\n#EXTINF:1,\nhttp://CANARY/s.ts\n"
PLAYLISTS: dict[str, str | bytes] = {
    "a segment": listing().replace("s.ts", "http://CANARY/s.ts"),
    "httpproxy": listing().replace("s.ts", "httpproxy://CANARY/s.ts"),
    "httpsomething": listing().replace("s.ts", "crypto+httpproxy://CANARY/s.ts"),
    "tcp": listing().replace("s.ts", "tcp://CANARY/s.ts"),
    "a key, not quoted": listing("#EXT-X-KEY:METHOD=AES-128,URI=httpproxy://CANARY/k"),
    "a key": listing('#EXT-X-KEY:METHOD=AES-128,URI="http://CANARY/k"'),
    "a map, not quoted": listing("#EXT-X-MAP:URI=httpproxy://CANARY/m"),
    "a variant": HEAD + "#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://CANARY/v.m3u8\n",
}
"""Refused in the playlist."""

IGNORED: dict[str, str] = {
    "a session key": "#EXT-X-SESSION-KEY:METHOD=AES-128,URI=http://CANARY/k",
    "a part": '#EXT-X-PART:DURATION=1,URI="httpproxy://CANARY/p"',
    "a hint": '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="http://CANARY/h"',
    "sound": '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI=httpproxy://CANARY/a',
    "sound nowhere": '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="b",NAME="a",URI="http://[CANARY/a"',
    "frames": "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=http://CANARY/i",
    "a report": '#EXT-X-RENDITION-REPORT:URI="http://CANARY/r"',
}
"""Never passed on: the other segment is recorded."""


@pytest.mark.parametrize("playlist", [pytest.param(v, id=k) for k, v in PLAYLISTS.items()])
def test_no_playlist_leads_inwards(record: Record, playlist: str) -> None:
    served = {"/live.m3u8": reply(playlist), "": reply("", status="404 No")}
    record(served, "hls_on", "UnsafeURL: ")


def test_a_key_for_samples_is_not_fetched(stand: Stand) -> None:
    playlist = listing("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=http://CANARY/k")
    says = "NotWatchable: .* encrypted by SAMPLE-AES"
    stand({"/live.m3u8": reply(playlist)}, "recorded:hls", says, 1, most_mb=400, most_s=20)


def test_what_a_playlist_says_beside_its_segments_leads_nowhere(
    record: Record, media: Path
) -> None:
    served = {**files(media), "/live.m3u8": reply(listing(*IGNORED.values()))}
    record(served, "hls", "a segment")


DISGUISES: dict[str, bytes] = {
    "206": reply(NESTED, status="206 Partial"),
    "bom": reply(b"\xef\xbb\xbf" + NESTED.encode()),
    "utf-16": reply(NESTED.encode("utf-16")),
    "id3": reply(b"ID3\x04\x00\x00\x00\x00\x00\x00" + NESTED.encode()),
    "spaces": reply(b" \n" + NESTED.encode()),
    "text/html": reply(NESTED, "Content-Type: text/html"),
}
"""Playlists that are not recognised by their first bytes."""


@pytest.mark.parametrize("answer", [pytest.param(v, id=k) for k, v in DISGUISES.items()])
@pytest.mark.parametrize("asks", ["hls", "endless"])
def test_no_disguise_gets_a_playlist_past(record: Record, asks: str, answer: bytes) -> None:
    record({"/live.m3u8": answer, "/live": answer, "": reply("", status="404 No")}, asks)


SEGMENTS: dict[str, Mapping[str, bytes]] = {
    "a playlist": {"/s.ts": reply(NESTED)},
    "a playlist after ID3": {"/s.ts": reply(b"ID3\x04\0\0\0\0\0\0" + NESTED.encode())},
    "a playlist in two": {
        "/live.m3u8": reply(listing("#EXTINF:1,", "a.ts")),
        "/a.ts": reply("#EXT"),
        "/s.ts": reply(NESTED[4:]),
    },
    "a playlist within": {
        "/live.m3u8": reply(listing("#EXT-X-BYTERANGE:300@188")),
        "/s.ts": reply(b"G" * 188 + NESTED.encode().ljust(300)),
    },
    "a manifest": {"/s.ts": reply("<MPD type='dynamic' profiles='urn:mpeg:dash:profile:x'/>")},
    "concat": {"/s.ts": reply("ffconcat version 1.0\nfile 'http://CANARY/a.ts'\n")},
    "sdp": {"/s.ts": reply("v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 33\n")},
    "moved": {
        "/s.ts": b"HTTP/1.1 302 Found\r\nLocation: http://CANARY/\r\nContent-Length: 0\r\n\r\n"
    },
}


@pytest.mark.parametrize("answers", [pytest.param(v, id=k) for k, v in SEGMENTS.items()])
def test_no_segment_leads_inwards(record: Record, answers: Mapping[str, bytes]) -> None:
    record({"/live.m3u8": reply(listing()), **answers}, "hls")


def test_neither_gzip_nor_a_cipher_gets_a_playlist_past(record: Record, canary: Any) -> None:
    nested = NESTED.replace("CANARY", f"127.0.0.1:{canary.port}")
    zipped = reply(gzip.compress(nested.encode()), "Content-Encoding: gzip")
    for asks in ("hls", "endless"):
        record({"/live.m3u8": zipped, "/live": zipped}, asks)
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x{bytes(16).hex()}'
    served = {
        "/live.m3u8": reply(listing(key)),
        "/k": reply(KEY),
        "/s.ts": reply(sealed(nested)),
    }
    record(served, "hls")


def mpd(inside: str = "", *, base: str = "", template: str = "", before: str = "") -> bytes:
    """A manifest; inside: content of the representation, instead of a template."""
    template = template or 'initialization="init.m4s" media="$Number$.m4s"'
    inside = inside or f'<SegmentTemplate timescale="1" duration="1" {template}/>'
    return reply(
        f'<?xml version="1.0"?>{before}'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" '
        f'mediaPresentationDuration="PT5S">{base}<Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="v" bandwidth="1">{inside}</Representation>'
        "</AdaptationSet></Period></MPD>"
    )


LIST = (
    '<SegmentList duration="1"><Initialization sourceURL="{}"/><SegmentURL media="{}"/>'
    "</SegmentList>"
)
MANIFESTS: dict[str, bytes] = {
    "a base": mpd(base="<BaseURL>http://CANARY/</BaseURL>"),
    "httpproxy": mpd(base="<BaseURL>httpproxy://CANARY/</BaseURL>"),
    "a base within": mpd(
        "<BaseURL>httpproxy://CANARY/</BaseURL>"
        '<SegmentTemplate duration="1" initialization="i.mp4" media="$Number$.mp4"/>'
    ),
    "a template": mpd(template='media="http://CANARY/$Number$.m4s"'),
    "a template's init": mpd(template='initialization="httpproxy://CANARY/" media="$Number$.m4s"'),
    "a list": mpd(LIST.format("i.mp4", "http://CANARY/s.mp4")),
    "a list's init": mpd(LIST.format("httpproxy://CANARY/i", "s.mp4")),
    "an entity": mpd(
        base="<BaseURL>&a;</BaseURL>", before='<!DOCTYPE MPD [<!ENTITY a "http://CANARY/">]>'
    ),
    "an outer entity": mpd(before='<!DOCTYPE MPD SYSTEM "http://CANARY/dtd">'),
    "a bomb": mpd(
        base="<BaseURL>&b;</BaseURL>",
        before='<!DOCTYPE MPD [<!ENTITY a "0123456789"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ),
    "a link": mpd(base='<Period xlink:href="http://CANARY/p.xml" xlink:actuate="onLoad"/>'),
    "another place": mpd(base="<Location>http://CANARY/live.mpd</Location>"),
    "a style": mpd(before='<?xml-stylesheet href="http://CANARY/s.xsl"?>'),
    "depth": mpd(base="<a>" * 100 + "</a>" * 100),
    "no xml": reply("<MPD"),
    "a playlist": reply(NESTED),
    "concat": reply(
        "ffconcat version 1.0\nfile http://CANARY/a.ts\nfile httpproxy://CANARY/a.ts\n"
    ),
    "sdp": reply("v=0\ns=-\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 33\n"),
    "moved": b"HTTP/1.1 302 Found\r\nLocation: http://CANARY/\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", [pytest.param(v, id=k) for k, v in MANIFESTS.items()])
def test_no_manifest_leads_inwards(record: Record, answer: bytes) -> None:
    record({"/live.mpd": answer, "": reply("", status="404 No")}, "dash")


@pytest.mark.parametrize("of", ["httpproxy", "a list's init", "an outer entity", "concat", "sdp"])
def test_no_file_without_end_leads_inwards(record: Record, of: str) -> None:
    record({"/live": MANIFESTS[of], "": reply("", status="404 No")}, "endless")


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(mpd(base="<BaseURL>httpproxy://CANARY/</BaseURL>"), id="a manifest"),
        pytest.param(mpd(before="<!--ftyp-->"), id="a manifest after what looks like a box"),
        pytest.param(reply(NESTED), id="a playlist"),
        pytest.param(reply(b"\x1a\x45\xdf\xa3" + mpd()), id="a manifest after EBML"),
    ],
)
def test_no_segment_of_a_manifest_leads_inwards(record: Record, segment: bytes) -> None:
    first, comment, rest = segment.partition(b"<!--ftyp-->")
    if comment:  # at the front, in place of a box's size and name
        segment = first.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + comment + rest
    record({"/live.mpd": mpd(), "": segment}, "dash")
