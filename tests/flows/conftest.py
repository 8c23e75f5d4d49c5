"""A live channel that flashes and beeps every second, and recordings of it with their rows.

The flash of second k is brighter than that of k - 1, so any part of a recording shows its air time,
and whether video and audio are in sync.
"""

import io
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from sqlalchemy import Engine, text

from benchmarks.capture.live_stream import live_stream
from benchmarks.origin.testcard import VARIANTS, make_testcard
from db.writing.rows import SegmentRow
from db.writing.writes import ensure_channel, open_broadcast, record_gap, record_segment
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.processes import find_ffmpeg
from flows.capture.segment import Gap, Segment
from flows.capture.supervisor.capture import Capture
from flows.demo.programme import make_programme
from flows.demo.server import HttpServer, Reply
from flows.recordings.finding import folder_of

FPS = 24
PIECE_S = 0.5
AIR_S = 8
ON_AIR = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
DARK, STEP = 16, 22


@pytest.fixture(scope="session")
def programme_pieces(made_once: Callable[..., Path]) -> list[Path]:
    """Five one-second MPEG-TS segments of the demo programme, not to be changed."""

    def make(folder: Path) -> None:
        folder.mkdir()
        clip = make_programme(folder / "clip.mp4", duration_s=5)
        cut = ["-an", "-c:v", "libx264", "-g", "25", "-f", "segment", "-segment_time", "1"]
        command = [find_ffmpeg(), "-v", "error", "-i", str(clip), *cut, str(folder / "%d.ts")]
        subprocess.run(command, check=True)

    found = sorted(made_once("programme-pieces", make).glob("*.ts"))
    assert len(found) == 5
    return found


@pytest.fixture(scope="session")
def long_card(made_once: Callable[..., Path]) -> dict[str, Path]:
    """75 seconds of the test card in half-second segments, with its variants."""
    made = made_once("long-card", partial(make_testcard, duration_s=75.0, segment_s=0.5))
    return {name: made / (name or "full") for name in ("", *VARIANTS)}


@pytest.fixture(scope="session")
def flashes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path]]:
    """Return the playlist of the clip cut as "ts", "mp4" or (another picture size) "large"."""
    made: dict[str, tuple[str, Path]] = {}

    def make(kind: str) -> tuple[str, Path]:
        if kind in made:
            return made[kind]
        directory = tmp_path_factory.mktemp(kind)
        size = "64x48" if kind == "large" else "48x32"
        level = f"if(lt(mod(T,1),0.125),{DARK}+{STEP}*(1+floor(T)),{DARK})"
        command = [find_ffmpeg(), "-v", "error", "-f", "lavfi"]
        command += ["-i", f"color=black:s={size}:r={FPS},format=yuv420p,geq=lum='{level}':cb=128"]
        beep = "if(lt(mod(t,1),0.125),0.5*sin(2*PI*1000*t),0)"
        command += ["-f", "lavfi", "-i", f"aevalsrc='{beep}':s=48000", "-t", str(AIR_S)]
        command += ["-c:v", "libx264", "-g", "12", "-sc_threshold", "0", "-c:a", "aac"]
        command += ["-f", "hls", "-hls_time", str(PIECE_S), "-hls_list_size", "0"]
        command += ["-hls_segment_type", "fmp4" if kind == "mp4" else "mpegts"]
        subprocess.run(
            [*command, str(directory / "all.m3u8")], check=True, stdin=subprocess.DEVNULL
        )
        made[kind] = (directory / "all.m3u8").read_text(), directory
        return made[kind]

    return make


@dataclass
class Channel:
    """Lists the pieces first..end of a clip, from ON_AIR on; set by the test."""

    playlist: str
    directory: Path
    first: int = 0
    end: int = 1
    url: str = ""
    entries: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.entries = re.findall(r"#EXTINF[^#]*?\n[^#]*?\n", self.playlist)

    def reply(self, path: str) -> Reply:
        name = path.rpartition("/")[2]
        if name != "live.m3u8":
            return Reply(body=(self.directory / name).read_bytes())
        lengths = [float(s) for s in re.findall(r"#EXTINF:([\d.]+)", self.playlist)]
        date = ON_AIR + timedelta(seconds=sum(lengths[: self.first]))
        found = re.search(r"#EXT-X-MAP:[^\n]*\n", self.playlist)
        text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n"
        text += f"#EXT-X-MEDIA-SEQUENCE:{self.first}\n" + (found[0] if found else "")
        text += f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}\n"
        return Reply(body=(text + "".join(self.entries[self.first : self.end])).encode())


@dataclass
class Recorded:
    """A recorded broadcast, possibly still live."""

    slug: str
    broadcast: int
    channel_id: int
    folder: Path
    engine: Engine
    events: list[Segment | Gap] = field(default_factory=list)

    @property
    def segments(self) -> list[Segment]:
        return [event for event in self.events if isinstance(event, Segment)]

    def store(self, events: list[Segment | Gap], status: str = "analysed") -> None:
        """Write rows like an analysis."""
        self.events += events
        with self.engine.begin() as connection:
            for event in events:
                if isinstance(event, Gap):
                    record_gap(
                        connection,
                        channel_id=self.channel_id,
                        broadcast_id=self.broadcast,
                        started_at=event.start,
                        ended_at=event.end,
                        why=event.why,
                    )
                    continue
                row = SegmentRow(
                    channel_id=self.channel_id,
                    broadcast_id=self.broadcast,
                    sequence=event.sequence,
                    started_at=event.start,
                    duration_s=event.duration_s,
                    path=str(event.path),
                    offset_s=event.offset_s,
                    width_px=event.width_px,
                    height_px=event.height_px,
                )
                record_segment(connection, row)
            connection.execute(
                text(
                    "UPDATE segments SET status = :status"
                    " WHERE broadcast_id = :id AND status = 'recorded'"
                ),
                {"status": status, "id": self.broadcast},
            )

    def paths(self) -> list[str | None]:
        """The rows' paths, in order of time."""
        statement = text("SELECT path FROM segments WHERE broadcast_id = :id ORDER BY started_at")
        with self.engine.connect() as connection:
            return list(connection.scalars(statement, {"id": self.broadcast}))


@pytest.fixture
def recordings_dir(tmp_path: Path) -> Path:
    return tmp_path / "home" / "recordings"


@pytest.fixture
def open_show(engine: Engine, recordings_dir: Path) -> Callable[..., Recorded]:
    """Open a broadcast, and create its folder."""

    def make(
        slug: str = "flash",
        started_at: datetime = ON_AIR,
        status: str = "completed",
        **other: object,
    ) -> Recorded:
        with engine.begin() as connection:
            channel = ensure_channel(connection, slug, f"http://{slug}")
            broadcast = open_broadcast(
                connection, channel_id=channel, started_at=started_at, status=status, **other
            )
        folder = folder_of(recordings_dir, slug, started_at, broadcast)
        folder.mkdir(parents=True)
        return Recorded(slug, broadcast, channel, folder, engine)

    return make


@pytest.fixture
def air(flashes) -> Iterator[Callable[[str], Channel]]:
    """Serve the clip as a live channel."""
    servers = []

    def make(kind: str) -> Channel:
        channel = Channel(*flashes(kind))
        server = HttpServer(channel.reply, host="127.0.0.1", port=0, log=lambda _: None)
        server.start()
        servers.append(server)
        channel.url = f"http://127.0.0.1:{server.port}/live.m3u8"
        return channel

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def capture_of() -> Callable[[Recorded, Channel], Capture]:
    """Return a capture of a channel into a broadcast's folder."""

    def make(show: Recorded, channel: Channel) -> Capture:
        stream = live_stream(channel.url, channel.url)
        return Capture(
            channel.url,
            directory=show.folder,
            channel=show.slug,
            broadcast=show.broadcast,
            policy=AddressPolicy(allow_networks=LOOPBACK),
            stream=stream,
            engine="hls",
            time_shifted=True,  # ON_AIR is in the past
        )

    return make


@pytest.fixture
def record(open_show, capture_of) -> Callable[..., Recorded]:
    """Record the pieces first..end of a channel, each range with a separate capture."""

    def make(channel: Channel, *ranges: tuple[int, int], show: Recorded | None = None) -> Recorded:
        show = show or open_show()
        for first, end in ranges:
            n_before = len(show.segments)
            channel.first, channel.end = first, first + 1
            with capture_of(show, channel) as capture:
                events: list[Segment | Gap] = []
                while sum(isinstance(event, Segment) for event in events) < end - first:
                    event = capture.get(60.0)
                    assert event is not None, capture.last_error
                    events.append(event)
                    channel.end = end
            show.store(events)
            assert len(show.segments) - n_before == end - first
        return show

    return make


@dataclass
class Watched:
    """Content of a decoded file, in seconds from its start.

    flash: start of the flash of each second of the show. beep: start of each beep.
    frame_s: the time of each frame. audio_s: end of the audio.
    """

    flash: dict[int, float]
    beep: list[float]
    frame_s: list[float]
    audio_s: float


@pytest.fixture
def frames_played() -> Callable[[Path], int]:
    """Number of frames that a player shows of a playlist; it restarts at each discontinuity."""

    def count(playlist: Path) -> int:
        sections, data, init, part, suffix = [], b"", b"", slice(None), ""
        for line in playlist.read_text().splitlines():
            if line == "#EXT-X-DISCONTINUITY":
                sections.append(data)
                data = b""
            elif found := re.match(r'#EXT-X-MAP:URI="(.*)",BYTERANGE="(\d+)@0"', line):
                init = (playlist.parent / found[1]).read_bytes()[: int(found[2])]
            elif found := re.match(r"#EXT-X-BYTERANGE:(\d+)@(\d+)", line):
                part = slice(int(found[2]), int(found[1]) + int(found[2]))
            elif line and not line.startswith("#"):
                suffix = line.rpartition(".")[2]
                data += (b"" if data else init) + (playlist.parent / line).read_bytes()[part]
        kind = "mpegts" if suffix == "ts" else "mp4"
        n_frames = 0
        for section in filter(None, [*sections, data]):
            with av.open(io.BytesIO(section), format=kind) as container:
                n_frames += sum(1 for _ in container.decode(video=0))
        return n_frames

    return count


@pytest.fixture
def watch() -> Callable[[Path], Watched]:
    """Decode a file or playlist, and return its flashes and beeps."""

    def decode(path: Path) -> Watched:
        flash: dict[int, float] = {}
        frame_s: list[float] = []
        loud: list[tuple[float, float]] = []
        audio_s = 0.0
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.video[0], container.streams.audio[0]):
                if isinstance(frame, av.VideoFrame):
                    frame_s.append(frame.time)
                    level = float(np.median(frame.to_ndarray(format="gray")))
                    # From the broadcast range of a picture to that of a gray one.
                    second = round((level * 219 / 255 + 16 - DARK) / STEP) - 1
                    if second >= 0:
                        flash.setdefault(second, frame.time)
                else:
                    samples = np.abs(frame.to_ndarray()[0])
                    at = frame.time + np.flatnonzero(samples > 0.1) / frame.sample_rate
                    loud += [(float(each), 0.0) for each in at]
                    audio_s = frame.time + frame.samples / frame.sample_rate
        times = [each for each, _ in loud]
        beep = times[:1] + [b for a, b in pairwise(times) if b - a > 0.3]
        return Watched(flash, beep, frame_s, audio_s)

    return decode
