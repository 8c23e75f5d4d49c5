"""The HLS engine with a source whose playlists are written by the test."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from benchmarks.capture.live_stream import live_stream
from emotion.media.video import read_frames
from flows.capture.hls import pending
from flows.capture.hls.engine import HlsRun
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.recording import Recording
from flows.capture.segment import CaptureError, Gap, NoStream, NotLive, Segment, UnsafeURL
from flows.demo.server import HttpServer, Reply, Request

PATIENCE_S = 60.0
PIECE = timedelta(seconds=0.5)
MS = timedelta(milliseconds=1)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n"


@dataclass
class Source:
    """Serves files by path, without support for byte ranges."""

    files: dict[str, bytes | Reply] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    base: str = ""

    def reply(self, path: str) -> Reply:
        found = self.files.get(path, Reply(status=404))
        return found if isinstance(found, Reply) else Reply(body=found)

    def publish(self, text: str, path: str = "/live.m3u8") -> None:
        self.files[path] = text.encode()

    @property
    def asked(self) -> list[str]:
        return [request.path for request in self.requests]


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    server = HttpServer(made.reply, host="127.0.0.1", port=0, log=made.requests.append)
    server.start()
    made.base = f"http://127.0.0.1:{server.port}"
    yield made
    server.stop()


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "rec", channel="demo", broadcast=1)


@pytest.fixture
def start(source: Source, recording: Recording, policy: AddressPolicy) -> Iterator[Callable]:
    fetchers = []

    def make(url: str = "", into: Recording = recording, ended_after_s: float = 0.0) -> HlsRun:
        fetchers.append(Fetcher(policy))
        at = url or f"{source.base}/live.m3u8"
        stream = live_stream(at, at)
        return HlsRun(stream, into, fetchers[-1], ended_after_s=ended_after_s, time_shifted=True)

    yield make
    for fetcher in fetchers:
        fetcher.close()


def take(run: HlsRun, n: int) -> list[Segment | Gap]:
    """Poll until there are `n` segments."""
    events: list[Segment | Gap] = []
    deadline = time.monotonic() + PATIENCE_S
    while sum(isinstance(event, Segment) for event in events) < n:
        assert time.monotonic() < deadline, run.error_text
        events += run.poll()
    return events


def make_parts(pieces: Path, into: Path, *options: str) -> str:
    """Cut the clip again without encoding; return the playlist."""
    listed = into / "list.txt"
    listed.write_text("".join(f"file '{path}'\n" for path in sorted(pieces.glob("*.ts"))))
    command = [find_ffmpeg(), "-v", "error", "-f", "concat", "-safe", "0", "-i", str(listed)]
    command += [
        "-c",
        "copy",
        "-an",
        "-f",
        "hls",
        "-hls_time",
        "0.4",
        "-hls_list_size",
        "0",
        *options,
    ]
    subprocess.run([*command, str(into / "parts.m3u8")], check=True, stdin=subprocess.DEVNULL)
    return (into / "parts.m3u8").read_text()


def entries_in(playlist: str) -> list[str]:
    """The lines of each segment, without the header of the playlist."""
    body = playlist[playlist.index("#EXTINF") :].replace("#EXT-X-ENDLIST\n", "")
    return re.findall(r"#EXTINF[^#]*(?:#EXT-X-BYTERANGE[^\n]*\n[^#]*)?", body)


def dated(first: int) -> str:
    date = (NOON + first * PIECE).isoformat()
    return f"#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-PROGRAM-DATE-TIME:{date}\n"


@pytest.mark.parametrize("single_file", [False, True], ids=["files", "byte ranges"])
def test_fmp4_is_recorded_so_that_each_file_can_be_opened(
    source: Source, start, pieces: Path, tmp_path: Path, single_file: bool
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    options = ["-hls_segment_type", "fmp4", "-hls_flags", "single_file"][: 4 if single_file else 2]
    playlist = make_parts(pieces, made, *options)
    source.files = {f"/{path.name}": path.read_bytes() for path in made.iterdir()}
    [init] = re.findall(r"#EXT-X-MAP:[^\n]*\n", playlist)
    entries = entries_in(playlist)
    assert len(entries) >= 5
    run = start()
    source.publish(HEAD + dated(0) + init + entries[0])
    events = take(run, 1)
    source.publish(HEAD + dated(0) + init + "".join(entries[:5]))
    events += take(run, 4)
    run.finish()
    lengths = [float(s) for s in re.findall(r"#EXTINF:([\d.]+)", playlist)]
    starts = [NOON + timedelta(seconds=sum(lengths[:n])) for n in range(5)]
    # Its lengths differ from those by timestamps, 0.58 s and 0.5 s.
    assert all(abs(e.start - at) <= 100 * MS for e, at in zip(events, starts, strict=True))
    frames = [read_frames(event.path, fps=24, longest_side_px=320) for event in events]
    assert [len(frame) for frame in frames] == [12] * 5
    assert source.asked.count("/init.mp4") <= 1
    assert frames_played(tmp_path / "rec") == 60


def seal(data: bytes, key: bytes, iv: bytes) -> bytes:
    """Encrypt a file according to RFC 8216, 4.3.2.4."""
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES128(key), modes.CBC(iv)).encryptor()
    return cipher.update(padder.update(data) + padder.finalize()) + cipher.finalize()


@pytest.mark.parametrize(
    ("sealed_init", "map_first"),
    [(False, True), (False, False), (True, False)],
    ids=["map, key", "key, plain map", "key, map"],
)
def test_aes_128_of_fmp4_is_decrypted(
    source: Source, start, pieces: Path, tmp_path: Path, sealed_init: bool, map_first: bool
) -> None:
    made, key, iv = tmp_path / "made", bytes(range(16)), b"\1" * 16
    made.mkdir()
    playlist = make_parts(pieces, made, "-hls_segment_type", "fmp4")
    for path in made.iterdir():
        sealed = sealed_init or path.name != "init.mp4"
        data = path.read_bytes()
        source.files[f"/{path.name}"] = seal(data, key, iv) if sealed else data
    source.files["/key"] = key
    [init] = re.findall(r"#EXT-X-MAP:[^\n]*\n", playlist)
    tags = [f'#EXT-X-KEY:METHOD=AES-128,URI="/key",IV=0x{iv.hex()}\n', init]
    head = HEAD + dated(0) + "".join(reversed(tags) if map_first else tags)
    entries = entries_in(playlist)
    run = start()
    source.publish(head + entries[0])
    events = take(run, 1)
    source.publish(head + "".join(entries[:3]))
    events += take(run, 2)
    run.finish()
    init_bytes, names = (made / "init.mp4").read_bytes(), [e.split()[-1] for e in entries[:3]]
    assert [event.path.read_bytes() for event in events] == [
        init_bytes + (made / name).read_bytes() for name in names
    ]
    assert (source.asked.count("/key"), source.asked.count("/init.mp4")) == (1, 1)


@pytest.mark.parametrize("iv", [None, b"\1" * 16], ids=["numbered", "iv given"])
def test_aes_128_is_decrypted_and_the_file_is_the_sources(
    source: Source, start, pieces: Path, iv: bytes | None
) -> None:
    key = bytes(range(16))
    source.files["/key"] = key
    paths = sorted(pieces.glob("*.ts"))[:2]
    lines = ""
    for n, path in enumerate(paths):
        source.files[f"/{n}.ts"] = seal(path.read_bytes(), key, iv or n.to_bytes(16, "big"))
        lines += f"#EXTINF:0.5,\n{n}.ts\n"
    tag = '#EXT-X-KEY:METHOD=AES-128,URI="/key"' + (f",IV=0x{iv.hex()}" if iv else "") + "\n"
    run = start()
    first = lines.partition("#EXTINF:0.5,\n1")[0]
    source.publish(HEAD + dated(0) + tag + first)
    events = take(run, 1)
    source.publish(HEAD + dated(0) + tag + lines)
    events += take(run, 1)
    run.finish()
    assert [event.path.read_bytes() for event in events] == [path.read_bytes() for path in paths]
    assert source.asked.count("/key") == 1


def listed(*numbers: int, first: int | None = None, with_dates: bool = True) -> str:
    first = numbers[0] if first is None else first
    begin = dated(numbers[0]) if with_dates else ""
    begin = re.sub(r"SEQUENCE:\d+", f"SEQUENCE:{first}", begin) or (
        f"#EXT-X-MEDIA-SEQUENCE:{first}\n"
    )
    return HEAD + begin + "".join(f"#EXTINF:0.5,\n{n}.ts\n" for n in numbers)


@pytest.fixture
def numbered(source: Source, pieces: Path) -> Source:
    """A source with 0.ts to 5.ts."""
    for n, path in enumerate(sorted(pieces.glob("*.ts"))):
        source.files[f"/{n}.ts"] = path.read_bytes()
    return source


def test_a_master_playlist_leads_to_the_largest_picture_up_to_720_lines(
    numbered: Source, start
) -> None:
    numbered.publish(listed(0))
    numbered.files["/mid.m3u8"] = numbered.files.pop("/live.m3u8")
    variants = {"low": 240, "mid": 720, "high": 1080}
    numbered.publish(
        "#EXTM3U\n"
        + "".join(
            f"#EXT-X-STREAM-INF:BANDWIDTH={height},RESOLUTION={2 * height}x{height}\n{name}.m3u8\n"
            for name, height in variants.items()
        )
    )
    run = start()
    take(run, 1)
    run.finish()
    assert numbered.asked == ["/live.m3u8", "/mid.m3u8", "/0.ts"]


def test_numbers_that_begin_anew_lose_nothing_and_old_playlists_repeat_nothing(
    numbered: Source, start
) -> None:
    run = start()
    numbered.publish(listed(0, first=100))
    events = take(run, 1)
    numbered.publish(listed(0, 1, 2, first=100))
    events += take(run, 2)
    numbered.publish(listed(0, 1, first=100))  # an old copy
    loads = len(numbered.requests)
    while len(numbered.requests) < loads + 3:
        assert run.poll() == []
    numbered.publish(listed(2, 3, 4, first=0))
    events += take(run, 2)
    run.finish()
    assert [event.start for event in events] == [NOON + n * PIECE for n in range(5)]


@pytest.mark.parametrize("by_s", [-20.0, 4000.0], ids=["back", "far ahead"])
def test_a_clock_that_jumps_loses_nothing_and_is_marked(
    numbered: Source, start, by_s: float
) -> None:
    run = start()
    numbered.publish(listed(0))
    events = take(run, 1)
    jumped = (NOON + timedelta(seconds=by_s)).isoformat()
    tail = f"#EXT-X-PROGRAM-DATE-TIME:{jumped}\n#EXTINF:0.5,\n1.ts\n#EXTINF:0.5,\n2.ts\n"
    numbered.publish(listed(0) + tail)
    events += take(run, 2)
    run.finish()
    assert [event.start for event in events] == [NOON + n * PIECE for n in range(3)]
    assert [event.start_is_estimated for event in events] == [False, True, True]


def test_a_segment_that_is_no_media_is_a_gap_that_says_so(numbered: Source, start) -> None:
    run = start()
    numbered.files["/1.ts"] = b"<html>sorry</html>"
    numbered.publish(listed(0))
    events = take(run, 1)
    numbered.publish(listed(0, 1, 2))
    events += take(run, 1)
    run.finish()
    [gap] = [event for event in events if isinstance(event, Gap)]
    assert (gap.start, gap.end) == (NOON + PIECE, NOON + 2 * PIECE)
    assert "no media" in gap.why


def test_what_is_cut_off_is_tried_again_then_kept_and_the_rest_is_a_gap(
    numbered: Source, start
) -> None:
    whole = numbered.files["/1.ts"]
    assert isinstance(whole, bytes)
    numbered.files["/1.ts"] = whole[: len(whole) // 5 // 188 * 188]
    run = start()
    numbered.publish(listed(0))
    events = take(run, 1)
    numbered.publish(listed(0, 1, 2))
    events += take(run, 2)
    run.finish()
    assert numbered.asked.count("/1.ts") == 3
    gap, after = events[-2:]
    assert isinstance(gap, Gap)
    assert gap.end == after.start == NOON + 2 * PIECE


def test_a_listed_segment_is_waited_for_while_those_after_it_are_fetched(
    numbered: Source, start
) -> None:
    late = numbered.files["/1.ts"]
    numbered.files["/1.ts"] = Reply(status=500)
    run = start()
    numbered.publish(listed(0))
    events = take(run, 1)
    numbered.publish(listed(0, 1, 2, 3))
    while not {"/2.ts", "/3.ts"} <= set(numbered.asked):
        assert run.poll() == []
    numbered.files["/1.ts"] = late
    events += take(run, 3)
    run.finish()
    assert [event.start for event in events] == [NOON + n * PIECE for n in range(4)]


def test_a_source_that_refuses_needs_a_new_address(numbered: Source, start) -> None:
    numbered.files["/0.ts"] = Reply(status=403)
    numbered.publish(listed(0))
    run = start()
    while run.ended is None:
        assert run.poll() == []
    assert "refused 3 times" in run.ended
    assert "403" in run.error_text
    assert run.finish() == []


def test_the_next_run_continues_where_the_last_one_stopped_without_dates(
    numbered: Source, start, tmp_path: Path
) -> None:
    run = start()
    numbered.publish(listed(0, with_dates=False))
    events = take(run, 1)
    run.finish()
    again = Recording(tmp_path / "rec", channel="demo", broadcast=1)
    run = start(into=again)
    numbered.publish(listed(0, 1, 2, with_dates=False))
    events += take(run, 2)
    run.finish()
    assert [event.sequence for event in events] == [0, 1, 2]
    assert events[1].start == events[0].end
    assert all(event.start_is_estimated for event in events)


def test_dates_a_little_short_of_the_durations_do_not_cut_frames_off(
    numbered: Source, start
) -> None:
    def wobbling(n: int) -> str:
        dates = [NOON + k * (PIECE - timedelta(milliseconds=4)) for k in range(n)]
        return (
            HEAD
            + "#EXT-X-MEDIA-SEQUENCE:0\n"
            + "".join(
                f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}\n#EXTINF:0.5,\n{k}.ts\n"
                for k, date in enumerate(dates)
            )
        )

    run = start()
    numbered.publish(wobbling(2))
    events = take(run, 1)
    numbered.publish(wobbling(4))
    events += take(run, 2)
    run.finish()
    assert [event.offset_s for event in events] == [0, 0, 0]
    step = timedelta(milliseconds=496)
    assert [event.start for event in events] == [NOON + k * step for k in (1, 2, 3)]


def frames_played(recording: Path) -> int:
    """Number of frames that a player shows of the closed local playlist."""
    [playlist] = recording.glob("*.m3u8")
    closed = recording / "closed.m3u8"
    closed.write_text(playlist.read_text() + "#EXT-X-ENDLIST\n")
    with av.open(str(closed), format="hls") as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_local_playlist_opens_and_plays_what_was_recorded(
    numbered: Source, start, tmp_path: Path
) -> None:
    run = start()
    numbered.publish(listed(0))
    take(run, 1)
    numbered.publish(listed(0, 1, 2, 3))
    take(run, 3)
    run.finish()
    assert frames_played(tmp_path / "rec") == 48


def test_the_end_is_believed_when_it_lasts(numbered: Source, start) -> None:
    run = start()
    numbered.publish(listed(0))
    take(run, 1)
    numbered.publish(listed(0, 1) + "#EXT-X-ENDLIST\n")
    assert len(take(run, 1)) == 1
    with pytest.raises(NotLive, match="has ended"):
        take(run, 1)
    run.finish()


def test_new_segments_wait_at_the_source_where_too_many_wait_here(
    source: Source,
    start,
    pieces: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pending, "MAX_WAITING", 6)
    first = min(pieces.glob("*.ts")).read_bytes()

    def publish(first: int, end: int) -> None:
        text = f"{HEAD}#EXT-X-MEDIA-SEQUENCE:{first}\n"
        source.publish(text + "".join(f"#EXTINF:0.5,\n{n}.ts\n" for n in range(first, end)))

    publish(0, 1)
    run = start()
    end = 1
    deadline = time.monotonic() + PATIENCE_S
    while end < 12:  # one more at each load, none of them available
        assert time.monotonic() < deadline
        run.poll()
        if source.asked.count("/live.m3u8") > end:
            end += 1
            publish(max(0, end - 6), end)
    told = [each.getMessage() for each in caplog.records if "too many" in each.getMessage()]
    assert len(told) == 1
    assert len(run._items) <= 6
    for n in range(end):
        source.files[f"/{n}.ts"] = first
    # Listed segments are fetched, and missing ones are not waited for.
    take(run, 6)
    run.finish()


def hostile(playlist: str, says: str, error: type[CaptureError] = UnsafeURL) -> object:
    return pytest.param(playlist, error, says, id=re.sub(r"\W+", " ", playlist)[:60].strip())


def entry(url: str) -> str:
    return f"{HEAD}#EXTINF:0.5,\n{url}\n"


INWARD = "10.0.0.1 is an internal address"


@pytest.mark.parametrize(
    ("playlist", "error", "says"),
    [
        hostile(entry("http://10.0.0.1/a.ts"), INWARD),
        hostile(entry("//10.0.0.1/a.ts"), INWARD),
        hostile(entry("http://10.0.0.1:8080/a.ts"), INWARD),
        hostile(entry("http://169.254.169.254/latest/meta-data/"), "internal"),
        hostile(entry("http://192.168.0.1/a.ts"), "internal"),
        hostile(entry("http://172.16.9.9/a.ts"), "internal"),
        hostile(entry("http://100.64.0.1/a.ts"), "internal"),
        hostile(entry("http://0.0.0.0/a.ts"), "internal"),
        hostile(entry("http://[::]/a.ts"), "internal"),
        hostile(entry("http://[fe80::1]/a.ts"), "internal"),
        hostile(entry("http://[fd00::1]/a.ts"), "internal"),
        hostile(entry("http://[::ffff:10.0.0.1]/a.ts"), "internal"),
        hostile(entry("http://[64:ff9b::a00:1]/a.ts"), "internal"),
        hostile(entry("http://[2002:a00:1::]/a.ts"), "internal"),
        hostile(entry("http://167772161/a.ts"), INWARD),
        hostile(entry("http://0x0a000001/a.ts"), INWARD),
        hostile(entry("http://10.1/a.ts"), INWARD),
        hostile(entry("file:///etc/passwd"), "begins with http"),
        hostile(entry("FILE:///etc/passwd"), "begins with http"),
        hostile(entry("data:video/mp2t;base64,AAAA"), "begins with http"),
        hostile(entry("concat:/etc/passwd|/etc/hosts"), "begins with http"),
        hostile(entry("subfile:/etc/passwd"), "begins with http"),
        hostile(entry("crypto+http://93.184.215.14/a.ts"), "begins with http"),
        hostile(entry("hls+http://93.184.215.14/a.ts"), "begins with http"),
        hostile(entry("ftp://93.184.215.14/a.ts"), "begins with http"),
        hostile(entry("tcp://93.184.215.14:25"), "begins with http"),
        hostile(entry("rtmp://93.184.215.14/live"), "begins with http"),
        hostile(entry("gopher://93.184.215.14/x"), "begins with http"),
        hostile(entry("http://user:secret@93.184.215.14/a.ts"), "leave user name"),
        hostile(entry("http://93.184.215.14\\@127.0.0.1/a.ts"), "not allowed in a URL"),
        hostile(entry("http://[::1"), "broken", NoStream),
        hostile(entry("http://93.184.215.14/" + "a" * 9000), "longer than"),
        hostile(HEAD + '#EXT-X-MAP:URI="http://10.0.0.1/i.mp4"\n#EXTINF:1,\na.m4s\n', INWARD),
        hostile(HEAD + '#EXT-X-MAP:URI="file:///etc/passwd"\n#EXTINF:1,\na.m4s\n', "http"),
        hostile(
            HEAD + '#EXT-X-KEY:METHOD=AES-128,URI="http://10.0.0.1/k"\n#EXTINF:1,\na.ts\n', INWARD
        ),
        hostile(HEAD + "#EXTINF:1,\ndata:,0123456789abcdef\n", "http"),
        hostile("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://10.0.0.1/v.m3u8\n", INWARD),
        hostile("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile:///etc/passwd\n", "http"),
        hostile(
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8\n", "leads to another", NoStream
        ),
        hostile("ffconcat version 1.0\nfile /etc/passwd\n", "not an HLS playlist", NoStream),
        hostile("<html></html>", "not an HLS playlist", NoStream),
        hostile("#EXTM3U\n#EXT-X-BYTERANGE:10@x\n#EXTINF:1,\na.ts\n", "byte range", NoStream),
        hostile("#EXTM3U\n#EXT-X-BYTERANGE:10\n#EXTINF:1,\na.ts\n", "continues nothing", NoStream),
        hostile(
            '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x' + "f" * 99 + "\n", "IV", NoStream
        ),
        hostile("#EXTM3U\n" + "#EXTINF:1,\na\n" * 50_001, "more than 50000", NoStream),
        hostile("#EXTM3U\n" + "#" * (17 << 20), "larger than", NoStream),
    ],
)
def test_a_hostile_playlist_is_refused_and_nothing_it_names_is_fetched(
    source: Source, start, playlist: str, error: type[CaptureError], says: str
) -> None:
    source.publish(playlist)
    run = start()
    with pytest.raises(error, match=says) as caught:
        run.poll()
    run.finish()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert set(source.asked) == {"/live.m3u8"}
