"""Recording of other streams than HLS with ffmpeg: dates, and the choice of streams."""

import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.capture.live_stream import live_stream
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.processes import find_ffmpeg
from flows.capture.proxy import relay as relay_module
from flows.capture.proxy.mpd import rename_mpd
from flows.capture.proxy.relay import Relay
from flows.capture.quality import Quality
from flows.capture.segment import Segment
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.demo.server import HttpServer, Reply

N = 120
LIVE = timedelta(seconds=8)
"""Time since the start of the manifest's show."""

MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="{begins}"
  minimumUpdatePeriod="PT30S" minBufferTime="PT1S" profiles="urn:mpeg:dash:profile:isoff-live:2011">
  <Period start="{start}"><AdaptationSet contentType="video" mimeType="video/mp4">
    <SegmentTemplate timescale="1000" duration="1000" startNumber="1"
      presentationTimeOffset="{offset}"
      initialization="$RepresentationID$/init.m4s" media="$RepresentationID$/$Number$.m4s"/>
    <Representation id="large" codecs="avc1.42c00c" bandwidth="900000" width="1280" height="720"/>
    <Representation id="small" codecs="avc1.42c00c" bandwidth="90000" width="640" height="360"/>
  </AdaptationSet></Period>
</MPD>"""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of DASH in segments of a second, and a file with two video streams."""
    folder = tmp_path_factory.mktemp("media")
    picture = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10"]
    coded = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "10"]
    dash = ["-f", "dash", "-seg_duration", "1", "-init_seg_name", "init.m4s"]
    dash += ["-media_seg_name", "$Number$.m4s", str(folder / "live.mpd")]
    black = ["-f", "lavfi", "-i", "color=black:s=32x24:r=10"]
    for command in (
        [*picture, "-t", str(N), *coded, *dash],
        [*black, *picture, "-t", "2", "-map", "0", "-map", "1", *coded, str(folder / "two.ts")],
    ):
        full = [find_ffmpeg(), "-v", "error", *command]
        subprocess.run(full, check=True, stdin=subprocess.DEVNULL)
    return folder


@pytest.fixture
def served(media: Path) -> Iterator[tuple[str, list[str], dict[str, bytes]]]:
    """A server's address, its requests, and answers other than files."""
    asked: list[str] = []
    more: dict[str, bytes] = {}

    def reply(path: str) -> Reply:
        name = path.rpartition("/")[2]
        body = more.get(path) or ((media / name).read_bytes() if (media / name).exists() else None)
        return Reply(status=404) if body is None else Reply(body=body)

    server = HttpServer(
        reply, host="127.0.0.1", port=0, log=lambda request: asked.append(request.path)
    )
    server.start()
    yield f"http://127.0.0.1:{server.port}", asked, more
    server.stop()


@pytest.fixture
def record(policy: AddressPolicy, tmp_path: Path) -> Callable[..., Segment]:
    """Records the first segment of an address."""

    def first(url: str, protocol: str, **options: object) -> Segment:
        stream = Stream(
            page_url=url,
            url=url,
            protocol=protocol,
            live=True,
            live_status="is_live",
            source_id="live",
            title="live",
        )
        capture = Capture(
            url,
            directory=tmp_path / "rec",
            channel="demo",
            broadcast=1,
            policy=policy,
            stream=stream,
            segment_s=0.5,
            **options,
        )
        with capture:
            event = capture.get(60.0)
        assert isinstance(event, Segment), capture.last_error
        return event

    return first


def test_live_dash_is_dated_by_its_manifest_and_respects_the_quality(served, record) -> None:
    base, asked, more = served
    begins = datetime.now(UTC).replace(microsecond=0) - LIVE
    said = f"{begins:%Y-%m-%dT%H:%M:%SZ}"
    more["/live.mpd"] = MPD.format(begins=said, start="PT0S", offset=0).encode()
    segment = record(f"{base}/live.mpd", "other", quality=Quality(height_px=480))
    media = [path for path in asked if re.search(r"/\d+\.m4s", path)]
    number = int(media[0].rpartition("/")[2].partition(".")[0])
    assert {path.split("/")[1] for path in media} == {"small"}
    assert not segment.start_is_estimated
    assert segment.start == begins + timedelta(seconds=number - 1)


@pytest.mark.parametrize(
    ("begins", "period", "first", "origins"),
    [
        pytest.param("2026-11-29T12:00:00Z", "PT0S", 0, ["12:00:00"], id="plain"),
        pytest.param("2026-11-29T12:00:00", "PT1M", 90_000, ["11:59:30"], id="an offset"),
        pytest.param("1970-01-01T00:00:00Z", "P20786DT1H", 0, ["01:00:00"], id="since 1970"),
        pytest.param("", "PT0S", 0, [], id="nothing"),
        pytest.param("soon", "PT0S", 0, [], id="no date"),
        pytest.param("2026-11-29T12:00:00Z", "P9999999999D", 0, [], id="absurd"),
        pytest.param("2026-11-29T12:00:00Z", "PT0S", 10**17, [], id="an absurd offset"),
    ],
)
def test_air_time_of_timestamp_zero_by_a_manifest(
    begins: str, period: str, first: int, origins: list[str]
) -> None:
    body = MPD.format(begins=begins, start=period, offset=first).encode()
    _, found = rename_mpd(
        body, "https://cdn.example/a.mpd", name=lambda _: "N", name_of_many=lambda *_: "N"
    )
    assert [f"{each:%H:%M:%S}" for each in found] == origins


@pytest.mark.parametrize(
    ("quality", "bandwidth"),
    [(Quality(height_px=360), 90_000), (Quality(), 900_000), (Quality(height_px=None), 900_000)],
    ids=["360p", "720p", "verbatim"],
)
def test_a_manifest_is_reduced_to_the_wanted_size(quality: Quality, bandwidth: int) -> None:
    body = MPD.format(begins="", start="PT0S", offset=0).encode()
    written, _ = rename_mpd(
        body,
        "https://cdn.example/a.mpd",
        name=lambda _: "N",
        name_of_many=lambda *_: "N",
        quality=quality,
    )
    assert re.findall(rb'bandwidth="(\d+)"', written) == [str(bandwidth).encode()]


def test_ffmpeg_records_the_largest_of_several_video_streams(served, record) -> None:
    base, _, _ = served
    segment = record(f"{base}/two.ts", "http")
    assert (segment.width_px, segment.height_px) == (64, 48)


def answered(relay: Relay, url: str) -> bytes:
    """What ffmpeg gets from the relay."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Thread(
            target=lambda: ours.sendall(f"GET {url} HTTP/1.1\r\n\r\n".encode())
        ).start()
        head = theirs.recv(4096)
        found = b""

        def read() -> None:
            nonlocal found
            while more := ours.recv(65536):
                found += more

        reader = threading.Thread(target=read)
        reader.start()
        try:
            relay.serve(head, theirs)
        finally:
            theirs.shutdown(socket.SHUT_RDWR)
            reader.join()
        return found


def test_a_segment_that_is_not_there_yet_is_waited_for_where_ffmpeg_would_skip_it(
    policy: AddressPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_LONG_PAUSES_S", 48 * (0.01,))
    asked: list[str] = []
    manifest = MPD.format(begins="2026-11-29T12:00:00Z", start="PT0S", offset=0)

    def reply(path: str) -> Reply:
        if path == "/live.mpd":
            return Reply(body=manifest.encode())
        asked.append(path)
        return Reply(body=b"\0\0\0\x08moof") if len(asked) > 9 else Reply(status=404)

    server = HttpServer(reply, host="127.0.0.1", port=0, log=lambda _: None)
    server.start()
    url = f"http://127.0.0.1:{server.port}/live.mpd"
    relay = Relay(replace(live_stream(url, url), protocol="other"), policy)
    try:
        template = re.search(r'media="([^"]+)"', answered(relay, relay.url).decode())
        assert template is not None
        assert answered(relay, template[1].replace("$Number$", "7")).endswith(b"moof")
        assert asked == ["/large/7.m4s"] * 10
    finally:
        relay.close()
        server.stop()


def test_a_key_that_changes_at_its_address_is_fetched_again(policy: AddressPolicy) -> None:
    keys = [bytes(16), bytes(range(16))]
    packet = b"G" + bytes(187)

    def sealed(n: int) -> bytes:
        encryptor = Cipher(algorithms.AES128(keys[n]), modes.CBC(n.to_bytes(16, "big"))).encryptor()
        return encryptor.update(4 * packet)

    answers = {
        "/live.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI=key\n"
        "#EXTINF:2,\n0.ts\n#EXTINF:2,\n1.ts\n",
        "/key": keys[0],
        "/0.ts": sealed(0),
        "/1.ts": sealed(1),
    }

    def reply(path: str) -> Reply:
        found = answers[path]
        return Reply(body=found.encode() if isinstance(found, str) else found)

    server = HttpServer(reply, host="127.0.0.1", port=0, log=lambda _: None)
    server.start()
    url = f"http://127.0.0.1:{server.port}/live.m3u8"
    stream = live_stream(url, url)
    with Fetcher(policy) as fetcher:
        relay = Relay(stream, policy, fetcher.get_playlist(url).entries[0])
    try:
        names = re.findall(r"^http.*", answered(relay, relay.url).decode(), re.MULTILINE)
        assert answered(relay, names[0]).endswith(packet)
        answers["/key"] = keys[1]
        assert answered(relay, names[1]).endswith(packet)
        assert not relay.unreadable
    finally:
        relay.close()
        server.stop()
