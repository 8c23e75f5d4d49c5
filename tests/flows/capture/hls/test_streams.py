"""Kinds of streams by packagers and sites: recorded completely, once, with correct dates."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import av
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from benchmarks.capture.live_stream import live_stream
from emotion.media.segment import read_parts
from flows.capture.hls.engine import HlsRun
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.journal import read_events
from flows.capture.recorded.recording import Recording
from flows.capture.segment import Gap, Segment
from flows.demo.server import HttpServer, Reply

PATIENCE_S = 60.0
SEGMENT = timedelta(seconds=2)
MS = timedelta(milliseconds=1)
N = 5
KEY = bytes(range(16))

HEADERS = ["-flags", "+global_header", "-bsf:v", "dump_extra=freq=keyframe"]
BY_TIME = ["-hls_flags", "split_by_time"]
HELD = "select='lt(t,6)+lt(mod(t,2),0.47)'"
KEYS = ["-force_key_frames", "expr:gte(t,n_forced*2)"]
CLIPS = {
    "plain": ["-g", "50"],
    "rare keys": ["-g", "250", *BY_TIME],
    "intra refresh": ["-x264-params", "intra-refresh=1:keyint=50", *HEADERS, *BY_TIME],
    "open gop": ["-g", "25", "-x264-params", "open-gop=1", "-bf", "2", *HEADERS],
    "fmp4": ["-g", "50", "-hls_segment_type", "fmp4"],
    "fmp4, large": ["-g", "50", "-s", "320x180", "-hls_segment_type", "fmp4"],
    "fmp4, other coding": ["-g", "50", "-coder", "0", "-bf", "0", "-hls_segment_type", "fmp4"],
    "fmp4, other rate": ["-r", "30", "-g", "60", "-hls_segment_type", "fmp4"],
    "fmp4, audio first": ["-map", "1", "-map", "0", "-g", "50", "-hls_segment_type", "fmp4"],
    "one picture": ["-r", "0.5", "-g", "1"],
    "no sound": ["-g", "50", "-an"],
    "held pictures": ["-an", "-vf", HELD, "-fps_mode", "passthrough", "-g", "500", *KEYS],
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[bytes]]:
    """Ten seconds in five segments, in one of the formats above; of fMP4 the header is first."""
    made: dict[str, list[bytes]] = {}

    def make(kind: str) -> list[bytes]:
        if kind not in made:
            folder = tmp_path_factory.mktemp("clip")
            command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i"]
            command += ["testsrc2=size=160x90:rate=25", "-f", "lavfi", "-i", "sine=frequency=300"]
            command += ["-t", str(2 * N), "-c:v", "libx264", "-preset", "superfast", "-c:a", "aac"]
            command += ["-sc_threshold", "0", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0"]
            command += [*CLIPS[kind], str(folder / "a.m3u8")]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            names = [
                each for each in (folder / "a.m3u8").read_text().splitlines() if each[0] != "#"
            ]
            heads = [path.read_bytes() for path in folder.glob("init.mp4")]
            made[kind] = heads + [(folder / name).read_bytes() for name in names]
        return made[kind]

    return make


@dataclass
class Origin:
    """Serves the content set by the test; `spoil` may change answers."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    spoil: Callable[[str], Reply | None] = lambda _: None
    base: str = ""

    def reply(self, target: str) -> Reply:
        path = target.partition("?")[0]
        found = self.files.get(target, self.files.get(path))
        return self.spoil(path) or (Reply(status=404) if found is None else Reply(body=found))

    def publish(self, *lines: str, text: str = "") -> None:
        head = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2"]
        self.files["/live.m3u8"] = (text or "\n".join([*head, *lines, ""])).encode()


@pytest.fixture
def origin() -> Iterator[Origin]:
    made = Origin()
    server = HttpServer(
        made.reply,
        host="127.0.0.1",
        port=0,
        log=lambda request: made.asked.append(request.path),
        whole=True,
    )
    server.start()
    made.base = f"http://127.0.0.1:{server.port}"
    yield made
    server.stop()


@dataclass
class Watch:
    """A run of the engine, polled without pauses."""

    origin: Origin
    policy: AddressPolicy
    recording: Recording
    events: list[Segment | Gap] = field(default_factory=list)
    time_shifted: bool = False
    run: HlsRun | None = None
    fetcher: Fetcher | None = None

    def start(self) -> None:
        """Make the run, if there is none."""
        if self.run is None:
            url = f"{self.origin.base}/live.m3u8"
            stream = live_stream(url, url)
            self.fetcher = Fetcher(self.policy)
            self.run = HlsRun(
                stream,
                self.recording,
                self.fetcher,
                ended_after_s=0.0,
                time_shifted=self.time_shifted,
            )

    def take(self, n: int) -> list[Segment]:
        """Poll until there are this many segments, and return them."""
        self.start()
        assert self.run is not None
        deadline = time.monotonic() + PATIENCE_S
        while len(self.segments) < n:
            assert time.monotonic() < deadline, (self.run.error_text, self.events)
            self.run._pacing.due_at = 0.0  # the next playlist is already available
            self.events += self.run.poll()
        return self.segments

    @property
    def segments(self) -> list[Segment]:
        return [event for event in self.events if isinstance(event, Segment)]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    def stop(self) -> None:
        if self.run is not None and self.fetcher is not None:
            self.events += self.run.finish()
            self.fetcher.close()
            self.run = None


@pytest.fixture
def watch(origin: Origin, policy: AddressPolicy, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(origin, policy, Recording(tmp_path / "rec", channel="demo", broadcast=1))
    yield made
    made.stop()


def put(origin: Origin, media: list[bytes], name: str = "/{}.ts") -> None:
    for n, data in enumerate(media):
        origin.files[name.format(n)] = data


def began() -> datetime:
    """Start of the first segment, in whole milliseconds, so that the last one is current."""
    now = datetime.now(UTC) - N * SEGMENT
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def entry(n: int, at: datetime | None = None, *, length: str = "2", name: str = "{}.ts") -> str:
    date = f"#EXT-X-PROGRAM-DATE-TIME:{(at + n * SEGMENT).isoformat()}\n" if at else ""
    return f"{date}#EXTINF:{length},\n{name.format(n)}"


def number(n: int) -> str:
    return f"#EXT-X-MEDIA-SEQUENCE:{n}"


def n_frames(segment: Segment, fps: float = 25.0) -> int:
    parts = read_parts(
        segment.path, fps=fps, longest_side_px=64, part_px=1 << 30, lead=segment.lead
    )
    return sum(len(part) for part in parts)


def require_whole(watch: Watch, n: int = N) -> None:
    """Assert that there are no gaps, holes or duplicates."""
    assert not watch.gaps
    segments = watch.segments
    assert len(segments) == n
    assert all(a.end == b.start for a, b in pairwise(segments))
    assert all(abs(s.duration_s - 2) < 0.05 and s.offset_s == 0 for s in segments)


@pytest.mark.parametrize("kind", ["rare keys", "intra refresh", "open gop"])
def test_segments_that_begin_amid_pictures_are_decoded(
    kind: str, clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips(kind))
    at = began()
    origin.publish(number(0), *(entry(n, at) for n in range(3)))
    watch.take(1)
    origin.publish(number(0), *(entry(n, at) for n in range(N)))
    first = {"rare keys": 0, "intra refresh": 2, "open gop": 2}[kind]
    segments = watch.take(N - first if kind != "intra refresh" else 3)
    assert not watch.gaps
    if kind == "rare keys":
        # Starts before the live edge, so that the following segments can be decoded.
        assert segments[0].start == at
        assert sum(map(n_frames, segments)) == 50 * N
        assert [len(s.needs) for s in segments] == [0, 1, 2, 3, 4]
        assert read_events(watch.recording.directory) == watch.events
    assert all(abs(b.start - a.end) < timedelta(milliseconds=50) for a, b in pairwise(segments))
    late = segments[1:] if kind == "intra refresh" else segments
    once = [n_frames(s, 5.0) for s in late]
    assert all(n in (10, 11) for n in once)
    assert once == [n_frames(s, 5.0) for s in late]  # the same bytes, the same frames


def test_an_init_section_that_changes_at_its_address_is_fetched_again(
    clips, origin: Origin, watch: Watch
) -> None:
    small, large = clips("fmp4"), clips("fmp4, large")
    put(origin, small[1:3], "/a{}.m4s")
    put(origin, large[1:3], "/b{}.m4s")
    at, init = began(), '#EXT-X-MAP:URI="init.mp4"'
    origin.files["/init.mp4"] = small[0]
    first = [init, *(entry(n, at, name="a{}.m4s") for n in range(2))]
    origin.publish(number(0), *first)
    watch.take(1)
    origin.files["/init.mp4"] = large[0]
    again = [entry(n, at + 2 * SEGMENT, name="b{}.m4s") for n in range(2)]
    origin.publish(number(0), *first, "#EXT-X-DISCONTINUITY", init, *again)
    segments = watch.take(3)
    assert [s.width_px for s in segments] == [160, 320, 320]
    assert [n_frames(s) for s in segments] == [50, 50, 50]
    assert origin.asked.count("/init.mp4") == 2
    assert not watch.gaps


@pytest.mark.parametrize(
    ("kind", "each"),
    [
        pytest.param("fmp4, large", False, id="another size"),
        pytest.param("fmp4, other coding", False, id="of the same size"),
        pytest.param("fmp4, large", True, id="named before each segment"),
        pytest.param("fmp4, other rate", False, id="of another timescale"),
        pytest.param("fmp4, audio first", False, id="of other track numbers"),
    ],
)
def test_an_init_section_that_changes_without_a_word_is_fetched_again(
    kind: str, each: bool, clips, origin: Origin, watch: Watch
) -> None:
    old, new = clips("fmp4"), clips(kind)
    put(origin, old[1:3] + new[3:6], "/{}.m4s")
    at, init = began(), '#EXT-X-MAP:URI="init.mp4"'
    origin.files["/init.mp4"] = old[0]
    lines = [entry(n, at, name="{}.m4s") for n in range(N)]
    lines = [f"{init}\n{line}" for line in lines] if each else [init, *lines]
    origin.publish(number(0), *lines[: 2 if each else 3])
    watch.take(1)
    origin.files["/init.mp4"] = new[0]
    origin.publish(number(0), *lines)
    segments = watch.take(4)
    assert not watch.gaps
    assert [n_frames(s) for s in segments] == [50] * 4
    assert [s.start for s in segments] == [at + n * SEGMENT for n in range(1, N)]
    assert segments[-1].width_px == (320 if "large" in kind else 160)
    assert origin.asked.count("/init.mp4") == 2


def test_a_damaged_segment_is_kept_and_its_init_section_fetched_once_more(
    clips, origin: Origin, watch: Watch
) -> None:
    clip = clips("fmp4")
    spoilt = [data[:-6000] + bytes(5000) + data[-1000:] for data in clip[1:]]
    put(origin, clip[1:2] + spoilt[1:], "/{}.m4s")
    origin.files["/init.mp4"] = clip[0]
    at, init = began(), '#EXT-X-MAP:URI="init.mp4"'
    lines = [init, *(entry(n, at, name="{}.m4s") for n in range(N))]
    origin.publish(number(0), *lines[:2])
    watch.take(1)
    origin.publish(number(0), *lines)
    watch.take(N)
    require_whole(watch)
    assert origin.asked.count("/init.mp4") <= 2


@pytest.mark.parametrize(
    ("init", "says"),
    [(None, "no EXT-X-MAP names one"), (b"<html></html>", r"no header of fMP4 \(EXT-X-MAP\)")],
    ids=["absent", "a page"],
)
def test_what_is_wrong_with_an_init_section_is_said(
    init: bytes | None, says: str, clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("fmp4")[1:], "/{}.m4s")
    origin.files["/init.mp4"] = init or b""
    tags = ['#EXT-X-MAP:URI="init.mp4"'] if init else []
    origin.publish(number(0), *tags, entry(0, began(), name="{}.m4s"))
    watch.start()
    assert watch.run is not None
    assert not watch.run.poll()
    assert re.search(says, watch.run.error_text)
    assert str(watch.recording.directory) not in watch.run.error_text


def test_a_segment_that_comes_late_is_tried_again_before_it_is_given_up(
    clips, origin: Origin, watch: Watch
) -> None:
    """Also where those after it are fetched first, once all of them are there."""
    put(origin, clips("plain"))
    at, late = began(), origin.files.pop("/2.ts")
    origin.publish(number(0), *(entry(n, at) for n in range(2)))
    watch.take(1)
    origin.publish(number(0), *(entry(n, at) for n in range(N)))
    assert watch.run is not None
    while "/2.ts" not in origin.asked:
        watch.run._pacing.due_at = 0.0
        watch.run.poll()
    (item,) = [each for each in watch.run._items if each.tries]
    item.missing, item.failing_since = 99, 0.0
    origin.files["/2.ts"] = late
    watch.run.poll()
    item.try_at = 0.0
    watch.take(4)
    require_whole(watch, 4)


@pytest.mark.parametrize("dated", [True, False], ids=["dates", "no dates"])
@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(lambda first: None, id="absent"),
        pytest.param(lambda first: 3 * first, id="steps of three"),
        pytest.param(lambda first: first // 2, id="steps of a half"),
        pytest.param(lambda first: 100 - 40 * first, id="reset each time"),
        pytest.param(lambda first: 1000 * first, id="jumps"),
    ],
)
def test_identity_survives_whatever_the_source_numbers(
    numbers: Callable[[int], int | None], dated: bool, clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("plain"))
    at = began() if dated else None
    for first in range(N):
        said = numbers(first)
        window = range(max(0, first - 1), first + 1)
        lines = [number(said)] if said is not None else []
        origin.publish(*lines, *(entry(n, at) for n in window))
        watch.take(first + 1)
    require_whole(watch)
    assert [p for p in origin.asked if p.endswith(".ts")] == [f"/{n}.ts" for n in range(N)]


@pytest.mark.parametrize("numbered", [True, False], ids=["numbers", "no numbers"])
@pytest.mark.parametrize("dated", [True, False], ids=["dates", "no dates"])
def test_segments_that_only_their_queries_tell_apart_are_recorded_once(
    numbered: bool, dated: bool, clips, origin: Origin, watch: Watch
) -> None:
    at = began() if dated else None
    for n, data in enumerate(clips("plain")):
        for stamp in range(N):
            origin.files[f"/seg.ts?sig={stamp}&n={n}"] = data
    for newest in range(1, N):
        lines = [number(newest - 1)] if numbered else []
        name = f"seg.ts?sig={newest}&n={{}}"
        origin.publish(*lines, *(entry(n, at, name=name) for n in (newest - 1, newest)))
        watch.take(newest)
    require_whole(watch, N - 1)
    assert [s.path.read_bytes() for s in watch.segments] == clips("plain")[1:]


@pytest.mark.parametrize("how", ["/s{stamp}/{n}.ts", "/{n}.ts?sig={stamp}", "/x{stamp}-{n}.ts"])
def test_addresses_that_are_signed_anew_lose_nothing_that_is_listed(
    how: str, clips, origin: Origin, watch: Watch
) -> None:
    media, at, loads, refused = clips("plain"), began(), [0], set[int]()

    def spoil(path: str) -> Reply | None:
        if path == "/live.m3u8":
            loads[0] += 1
            stamp = loads[0]
            names = [how.format(stamp=stamp, n=n)[1:] for n in range(min(N, 1 + stamp))]
            body = "\n".join(
                ["#EXTM3U\n#EXT-X-TARGETDURATION:2", number(0)]
                + [entry(n, at, name=name) for n, name in enumerate(names)]
            )
            return Reply(body=body.encode())
        n = int(path.rpartition("-" if "-" in path else "/")[2].partition(".")[0])
        if n == 2 and loads[0] not in refused and len(refused) < 3:
            refused.add(loads[0])
            return Reply(status=503)
        return Reply(body=media[n])

    origin.spoil = spoil
    segments = watch.take(4)
    assert [s.path.read_bytes() for s in segments] == media[1:]
    require_whole(watch, 4)


def test_segments_that_nothing_but_their_media_tells_apart_are_recorded_once(
    clips, origin: Origin, watch: Watch
) -> None:
    media = clips("plain")
    for newest in range(1, N):
        names = {n: f"{hash((n, newest)) % 2**40:x}" for n in range(newest + 1)}
        origin.files |= {f"/{name}": media[n] for n, name in names.items()}
        origin.publish(*(entry(n, name=name) for n, name in names.items()))
        watch.take(newest)
    require_whole(watch, N - 1)
    assert [s.path.read_bytes() for s in watch.segments] == media[1:]


@pytest.mark.parametrize("length", ["1", "1.8", "2.3", "0", "9999", "-5", "NaN"])
def test_lengths_go_by_the_media_whatever_the_playlist_says(
    length: str, clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("plain"))
    at = began()
    origin.publish(number(0), entry(0, at, length=length))
    watch.take(1)
    lengths = [
        length if length not in ("9999", "0", "-5", "NaN") or n == 2 else "2" for n in range(N)
    ]
    origin.publish(number(0), *(entry(n, at, length=lengths[n]) for n in range(N)))
    watch.take(N)
    require_whole(watch)
    assert [s.start for s in watch.segments] == [at + n * SEGMENT for n in range(N)]


def test_few_pictures_are_fetched_once_and_last_as_long_as_the_sound(
    clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("one picture"))
    at = began()
    origin.publish(number(0), entry(0, at))
    watch.take(1)
    origin.publish(number(0), *(entry(n, at) for n in range(N)))
    segments = watch.take(N)
    assert not watch.gaps
    assert [abs(s.duration_s - 2) < 0.1 for s in segments] == [True] * N
    assert [p for p in origin.asked if p.endswith(".ts")] == [f"/{n}.ts" for n in range(N)]


def picture_at(data: bytes, share: float) -> int:
    """Return where a picture begins after this share of MPEG-TS, amid the count of its packets."""
    places = [at for at in range(0, len(data), 188) if data[at + 1] & 31 == 1 and not data[at + 2]]
    last = data[places[-1] + 3] & 15
    return next(
        at
        for at in places
        if at > share * len(data) and data[at + 1] & 64 and data[at + 3] & 15 != (last + 1) % 16
    )


@pytest.mark.parametrize("dated", [True, False], ids=["dates", "no dates"])
@pytest.mark.parametrize("share", [0.25, 0.7])
@pytest.mark.parametrize("place", ["within a picture", "between pictures", "within a packet"])
def test_a_segment_without_sound_that_is_cut_off_leaves_a_gap(
    place: str, share: float, dated: bool, clips, origin: Origin, watch: Watch
) -> None:
    clip = clips("no sound")
    cut = picture_at(clip[3], share)
    cut += {"within a picture": -188, "between pictures": 0, "within a packet": -100}[place]
    put(origin, [*clip[:3], clip[3][:cut], clip[4]])
    at = began() if dated else None
    origin.publish(number(0), entry(0, at, length="2.0"))
    watch.take(1)
    origin.publish(number(0), *(entry(n, at, length="2.0") for n in range(N)))
    segments = watch.take(N)
    whole = [s.duration_s for s in segments if s is not segments[3]]
    assert whole == pytest.approx([2.0] * 4, abs=0.003)
    (gap,) = watch.gaps
    assert (gap.start, gap.end) == (segments[3].end, segments[4].start)
    assert "ends before its time" in gap.why
    assert abs(segments[4].end - segments[0].start - N * SEGMENT) < 3 * MS
    assert origin.asked.count("/3.ts") >= 2


def test_a_segment_that_is_cut_off_for_a_moment_is_fetched_again(
    clips, origin: Origin, watch: Watch
) -> None:
    clip = clips("no sound")
    cut = [clip[3][: picture_at(clip[3], 0.25)]]
    origin.spoil = lambda path: Reply(body=cut.pop()) if path == "/3.ts" and cut else None
    put(origin, clip)
    at = began()
    origin.publish(number(0), entry(0, at, length="2.0"))
    watch.take(1)
    origin.publish(number(0), *(entry(n, at, length="2.0") for n in range(N)))
    watch.take(N)
    require_whole(watch)
    assert origin.asked.count("/3.ts") == 2


def unpadded(data: bytes) -> bytes:
    """Return MPEG-TS whose last picture fills its last packet: with zeros behind it."""
    assert (data[-187] & 31, data[-186]) == (1, 0)  # of the video
    if not data[-185] & 0x20:
        return data
    padding = data[-184]
    kept = data[-183 + padding :]
    control = bytes([data[-185] & ~0x20])
    return data[:-185] + control + kept + bytes(184 - len(kept))


@pytest.mark.parametrize("is_padded", [True, False], ids=["padded", "full packets"])
def test_held_pictures_without_sound_are_no_gaps(
    is_padded: bool, clips, origin: Origin, watch: Watch
) -> None:
    clip = clips("held pictures")
    put(origin, clip if is_padded else [unpadded(data) for data in clip])
    at = began()
    for n in (1, N):
        origin.publish(number(0), *(entry(each, at, length="2.0") for each in range(n)))
        watch.take(n)
    require_whole(watch)
    assert [p for p in origin.asked if p.endswith(".ts")] == [f"/{n}.ts" for n in range(N)]


def test_what_ends_early_when_a_run_ends_is_recorded_to_where_it_is(
    clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("held pictures"))
    at = began()
    for n in (1, N - 1):
        origin.publish(number(0), *(entry(each, at, length="2.0") for each in range(n)))
        watch.take(min(n, N - 2))
    assert watch.run is not None
    while "/3.ts" not in origin.asked:
        watch.events += watch.run.poll()
    watch.stop()
    assert not watch.gaps
    lengths = [segment.duration_s for segment in watch.segments]
    assert lengths == pytest.approx([2.0] * 3 + [0.48], abs=0.003)


@pytest.mark.parametrize(
    "off",
    [timedelta(days=-500), timedelta(days=-3), timedelta(hours=1), timedelta(hours=-8)],
    ids=["500 days ago", "3 days ago", "an hour ahead", "local time"],
)
def test_dates_far_from_now_are_not_believed(
    off: timedelta, clips, origin: Origin, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    put(origin, clips("plain"))
    at = began() + off
    origin.publish(number(0), entry(0, at))
    watch.take(1)
    origin.publish(number(0), *(entry(n, at) for n in range(N)))
    segments = watch.take(N)
    require_whole(watch)
    assert all(s.start_is_estimated for s in segments)
    assert abs(segments[0].start - datetime.now(UTC)) < timedelta(minutes=1)
    assert caplog.text.count("not believed") == 1
    assert "SHOWMOOD_TIME_SHIFTED" in caplog.text


def test_a_time_shifted_channel_keeps_its_dates(clips, origin: Origin, watch: Watch) -> None:
    put(origin, clips("plain"))
    at = began() - timedelta(hours=6)
    watch.time_shifted = True
    origin.publish(number(0), entry(0, at))
    [segment] = watch.take(1)
    assert (segment.start, segment.start_is_estimated) == (at, False)


def test_what_is_dated_by_arrival_is_not_in_the_future(clips, origin: Origin, watch: Watch) -> None:
    put(origin, clips("plain"))
    origin.publish(number(0), entry(0, began() - timedelta(days=1)))
    [segment] = watch.take(1)
    assert segment.end <= datetime.now(UTC)


def test_dates_that_vary_while_timestamps_go_on_are_no_gaps(
    clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("plain"))
    at = began()
    lines = [entry(n, at + timedelta(milliseconds=600 * (n % 2))) for n in range(N)]
    origin.publish(number(0), lines[0])
    watch.take(1)
    origin.publish(number(0), *lines)
    watch.take(N)
    require_whole(watch)


def test_a_date_that_stands_still_is_reported_once(
    clips, origin: Origin, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    put(origin, clips("plain"))
    lines = [entry(n, began() - n * SEGMENT) for n in range(N)]
    origin.publish(number(0), lines[0])
    watch.take(1)
    origin.publish(number(0), *lines)
    watch.take(N)
    require_whole(watch)
    assert caplog.text.count("the source's clock jumped by -2.0 s") == 1
    assert caplog.text.count("clock jumped") == 1


def test_of_several_video_streams_the_largest_is_taken(
    origin: Origin, watch: Watch, tmp_path: Path
) -> None:
    made = tmp_path / "two.ts"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "color=black:s=64x36:r=25"]
    command += ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25", "-t", "2", "-map", "0"]
    command += ["-map", "1", "-c:v", "libx264", "-preset", "ultrafast", str(made)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    put(origin, [made.read_bytes()])
    origin.publish(number(0), entry(0, began()))
    [segment] = watch.take(1)
    assert (segment.width_px, segment.height_px) == (160, 90)
    [frames] = read_parts(segment.path, fps=5.0, longest_side_px=160, part_px=1 << 30)
    assert frames.images.shape == (10, 90, 160, 3)
    assert frames.images.mean() > 50


def test_advertisements_are_marked_and_dates_are_exact_after_them(
    clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("plain"))
    at = began()
    lines = [number(0), entry(0, at), "#EXT-X-DISCONTINUITY\n#EXT-X-CUE-OUT:4", entry(1), entry(2)]
    lines += ["#EXT-X-CUE-IN\n#EXT-X-DISCONTINUITY", entry(3, at - timedelta(milliseconds=300))]
    origin.publish(*lines[:2])
    watch.take(1)
    origin.publish(*lines, entry(4))
    segments = watch.take(N)
    assert [s.is_ad for s in segments] == [None, True, True, False, False]
    assert segments[3].start == at + 3 * SEGMENT - timedelta(milliseconds=300)
    assert [s.start_is_estimated for s in segments[3:]] == [False, False]
    assert [n_frames(s) for s in segments] == [50] * N
    assert read_events(watch.recording.directory) == watch.events


def test_two_hosts_of_the_same_segments_are_no_advertisements(
    clips, origin: Origin, watch: Watch
) -> None:
    put(origin, clips("plain"))
    at, port = began(), origin.base.rpartition(":")[2]
    for newest in range(1, N):
        host = f"http://{'localhost' if newest % 2 else '127.0.0.1'}:{port}/"
        lines = [entry(n, at, name=host + "{}.ts") for n in (newest - 1, newest)]
        origin.publish(number(newest - 1), "#EXT-X-DISCONTINUITY", *lines)
        watch.take(newest)
    require_whole(watch, N - 1)
    assert not any(s.is_ad for s in watch.segments)


def seal(data: bytes, iv: bytes) -> bytes:
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES128(KEY), modes.CBC(iv)).encryptor()
    return cipher.update(padder.update(data) + padder.finalize()) + cipher.finalize()


@pytest.mark.parametrize("iv", [bytes(16), b"\1" * 16, None], ids=["zero", "given", "number"])
@pytest.mark.parametrize("map_first", [True, False], ids=["map, key", "key, map"])
def test_a_sealed_init_section_is_opened(
    map_first: bool, iv: bytes | None, clips, origin: Origin, watch: Watch
) -> None:
    head, media = clips("fmp4")[:2]
    sealed = (7).to_bytes(16, "big") if iv is None else iv
    origin.files |= {"/init.mp4": seal(head, sealed), "/0.m4s": seal(media, sealed), "/key": KEY}
    said = f",IV=0x{iv.hex()}" if iv is not None else ""
    tags = ['#EXT-X-MAP:URI="init.mp4"', f'#EXT-X-KEY:METHOD=AES-128,URI="key"{said}']
    lines = tags if map_first else tags[::-1]
    origin.publish(number(7), *lines, entry(0, began(), name="{}.m4s"))
    [segment] = watch.take(1)
    # Without an IV, it is tried; a wrong one spoils the first 16 bytes alone: a minor version.
    assert segment.path.read_bytes()[16:] == (head + media)[16:]
    assert n_frames(segment) == 50


@pytest.mark.parametrize(
    "padded",
    [
        pytest.param(lambda data: data + bytes(-len(data) % 16), id="zeros"),
        pytest.param(lambda data: data[: len(data) // 16 * 16], id="none"),
        pytest.param(lambda data: data + bytes([9]) * (32 - len(data) % 16), id="another"),
    ],
)
def test_a_segment_that_is_padded_otherwise_is_decrypted(
    padded: Callable[[bytes], bytes], clips, origin: Origin, watch: Watch
) -> None:
    at, key = began(), '#EXT-X-KEY:METHOD=AES-128,URI="key"'
    origin.files["/key"] = KEY
    for n, data in enumerate(clips("plain")):
        seal = Cipher(algorithms.AES128(KEY), modes.CBC(n.to_bytes(16, "big"))).encryptor()
        sealed = seal.update(padded(data))
        origin.files[f"/{n}.ts"] = sealed + (b"odd" if n == 2 else b"")
    origin.publish(number(0), key, entry(0, at))
    watch.take(1)
    origin.publish(number(0), key, *(entry(n, at) for n in range(N)))
    watch.take(N)
    require_whole(watch)
    assert [n_frames(s, 5.0) for s in watch.segments] == [10] * N


def test_what_stands_before_the_packets_is_left_out(clips, origin: Origin, watch: Watch) -> None:
    media = clips("plain")
    before = [b"ID3\4\0\0\0\0\0\5hello", bytes(100), media[0][-60:], b"G", b""]
    put(origin, [each + data for each, data in zip(before, media, strict=True)])
    at = began()
    origin.publish(number(0), entry(0, at))
    watch.take(1)
    origin.publish(number(0), *(entry(n, at) for n in range(N)))
    watch.take(N)
    require_whole(watch)
    assert [s.path.read_bytes() for s in watch.segments] == media


def test_fmp4_goes_over_to_mpeg_ts_without_a_word(clips, origin: Origin, watch: Watch) -> None:
    head, *media = clips("fmp4")
    origin.files["/init.mp4"] = head
    put(origin, media, "/{}.m4s")
    put(origin, clips("plain"))
    at = began()
    lines = ['#EXT-X-MAP:URI="init.mp4"', *(entry(n, at, name="{}.m4s") for n in range(2))]
    origin.publish(number(0), *lines[:2])
    watch.take(1)
    rest = [entry(n, at) for n in range(2, N)]
    origin.publish(number(0), *lines, "#EXT-X-DISCONTINUITY", *rest)
    watch.take(N)
    require_whole(watch)
    assert [s.path.suffix for s in watch.segments] == [".mp4", ".mp4", ".ts", ".ts", ".ts"]


def test_a_target_of_an_hour_does_not_say_when_to_ask(clips, origin: Origin, watch: Watch) -> None:
    put(origin, clips("plain"))
    origin.publish("#EXT-X-TARGETDURATION:3600", number(0), entry(0, began()))
    watch.take(1)
    assert watch.run is not None
    watch.run._pacing.due_at = 0.0
    watch.run.poll()  # nothing new
    assert watch.run._pacing.due_at - time.monotonic() < 7
    assert watch.run.step_s < 15


def test_listed_segments_are_fetched_without_a_pause(clips, origin: Origin, watch: Watch) -> None:
    put(origin, clips("plain"))
    at = began()
    origin.publish(number(0), entry(0, at))
    watch.take(1)
    run = watch.run
    assert run is not None
    assert 0 < run.pause_s <= 4
    origin.publish(number(0), *(entry(n, at) for n in range(3)))
    run._pacing.due_at = 0.0
    assert run.pause_s == 0
    watch.events += run.poll()  # the playlist and a segment
    assert run.pause_s == 0
    watch.events += run.poll()
    assert len(watch.segments) == 3
    assert 0 < run.pause_s <= 4


def test_tables_given_apart_variables_spaces_pictures_and_dirt_are_read(
    clips, origin: Origin, watch: Watch
) -> None:
    media = clips("plain")
    first = media[0]
    tables = first[188 * 1 : 188 * 3] if first[1] & 31 == 0 and first[2] == 17 else first[: 188 * 2]
    packets = [first[n : n + 188] for n in range(0, len(first), 188)]
    pids = [(p[1] & 31) << 8 | p[2] for p in packets]
    tables = b"".join(p for p, pid in zip(packets, pids, strict=True) if pid in (0, 4096))[:376]
    bare = b"".join(p for p, pid in zip(packets, pids, strict=True) if pid not in (0, 17, 4096))
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(200)) + b"IEND\xaeB`\x82"
    origin.files |= {
        "/tables.ts": tables,
        "/a b/0.ts": bare,
        "/a%20b/0.ts": bare,
        "/pic/1.ts": png + media[1],
        "/pic/2.ts": b"\xff\xd8\xff\xe0" + bytes(77) + media[2],
    }
    at = began()
    text = "\ufeff \r\n#EXTM3U \r\n#ext-x-version:7\r\n\r\n  #EXT-X-TARGETDURATION : 2\r\n"
    text += '#EXT-X-DEFINE:NAME="dir",VALUE="pic"\r\n#EXT-X-MEDIA-SEQUENCE: 0\t\r\n'
    text += f'#EXT-X-MAP:URI="tables.ts"\r\n\0{entry(0, at, name="a b/{}.ts")} \r\n'
    origin.publish(text=text)
    watch.take(1)
    text += (
        f"{entry(1, at, name='{{$dir}}/{}.ts')}\r\n{entry(2, at, name='{{$dir}}/{}.ts')}\u200b\r\n"
    )
    text += '#EXT-X-PART:DURATION=0.5,URI="part.ts"\r\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p.ts"\r\n'
    origin.publish(text=text)
    segments = watch.take(3)
    assert not {"/part.ts", "/p.ts"} & set(origin.asked)
    require_whole(watch, 3)
    assert [n_frames(s) for s in segments] == [50] * 3
    assert segments[1].path.read_bytes() == tables + media[1]
    with av.open(str(segments[0].path)) as opened:
        assert opened.format.name == "mpegts"


def test_a_playlist_of_six_hours_is_followed(clips, origin: Origin, watch: Watch) -> None:
    media, n = clips("plain"), 10_800
    at = datetime.now(UTC) - n * SEGMENT
    name = "x" * 250 + "{}.ts"
    lines = [entry(k, at, name=name) for k in range(n)]
    put(origin, media[:1], "/" + name.replace("{}", str(n - 2)))
    origin.files["/" + name.format(n - 1)] = media[1]
    origin.publish(number(0), *lines[:-1])
    watch.take(1)
    origin.publish(number(0), *lines)
    watch.take(2)
    require_whole(watch, 2)
