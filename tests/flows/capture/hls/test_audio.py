"""Audio with its own playlist is recorded separately; video never waits for it."""

import logging
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
from flows.capture.hls.engine import HlsRun
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import parse_playlist
from flows.capture.playlists.renditions import choose_audio
from flows.capture.processes import find_ffmpeg
from flows.capture.recorded import playback_playlists
from flows.capture.recorded.audio import FOLDER, audio_in
from flows.capture.recorded.recording import Recording
from flows.capture.segment import Segment
from flows.recordings.clip import cut_found
from flows.recordings.finding import Found
from flows.recordings.inventory import Folder

PATIENCE_S = 60.0
N = 4
KEY = bytes(range(16))
ID3 = b"com.apple.streaming.transportStreamTimestamp\0"
KINDS = ("ts", "fmp4", "packed", "sealed")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Four seconds of video in TS, and their audio in several formats, in segments of a second."""
    folder = tmp_path_factory.mktemp("apart")
    made = ["-t", str(N), "-f", "lavfi", "-i"]
    command = [find_ffmpeg(), "-v", "error", *made, "testsrc2=size=64x48:rate=10"]
    command += [*made, "sine=frequency=300"]
    hls = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "0"]
    picture = ["-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-g", "10"]
    sound = ["-map", "1:a", "-c:a", "aac"]
    command += [*picture, *hls, str(folder / "picture.m3u8")]
    command += [*sound, *hls, str(folder / "ts.m3u8")]
    init = ["-hls_fmp4_init_filename", "fmp4-init.mp4"]
    init += ["-output_ts_offset", "1.4"]  # where ffmpeg has MPEG-TS begin
    command += [*sound, *hls, "-hls_segment_type", "fmp4", *init, str(folder / "fmp4.m3u8")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    found = {
        name: [(folder / f"{name}{n}.{suffix}").read_bytes() for n in range(N)]
        for name, suffix in (("picture", "ts"), ("ts", "ts"), ("fmp4", "m4s"))
    }
    found["long"] = [a + b for a, b in batched_in_two(found["ts"])]
    found["init"] = [(folder / "fmp4-init.mp4").read_bytes()]
    found["packed"] = [packed(folder / f"ts{n}.ts", folder / "packed.aac") for n in range(N)]
    found["sealed"] = [seal(data, n) for n, data in enumerate(found["ts"])]
    return found


def batched_in_two(files: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(files[::2], files[1::2], strict=True))


def packed(path: Path, out: Path) -> bytes:
    """Return a segment's audio as ADTS, after an ID3 tag with its timestamp."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.audio[0]) if p.pts is not None]
        first = packets[0].pts
    command = [find_ffmpeg(), "-v", "error", "-y", "-i", str(path), "-c", "copy", "-f", "adts"]
    subprocess.run([*command, str(out)], check=True, stdin=subprocess.DEVNULL)
    body = ID3 + first.to_bytes(8, "big")
    frame = b"PRIV" + len(body).to_bytes(4, "big") + b"\0\0" + body
    return b"ID3\x04\0\0\0\0\0" + bytes([len(frame)]) + frame + out.read_bytes()


def seal(data: bytes, number: int) -> bytes:
    pad = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES128(KEY), modes.CBC(number.to_bytes(16, "big"))).encryptor()
    return cipher.update(pad.update(data) + pad.finalize()) + cipher.finalize()


@dataclass
class Source:
    """A master playlist with separate audio in one format; `n`: number of listed segments."""

    base: str
    media: dict[str, list[bytes]]
    kind: str = "ts"
    n: int = 1
    broken: bool = False
    late: int = 0
    refuses: bool = False
    dates: bool = True
    began: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(seconds=N))

    def answer(self, asked) -> bytes | int:
        name = asked.path.lstrip("/")
        if name == "master.m3u8":
            return (
                b"#EXTM3U\n"
                b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",LANGUAGE="fr",URI="fr.m3u8"\n'
                b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="y",LANGUAGE="de",DEFAULT=YES,'
                b'URI="sound.m3u8"\n'
                b'#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=64x48,AUDIO="a"\nlive.m3u8\n'
            )
        if self.broken and not name.startswith(("live", "picture")):
            return 500
        if self.refuses and name == "live.m3u8":
            return b"", [("Retry-After", "100")], 429
        if name == "live.m3u8":
            return self.listed("picture{}.ts", dated=self.dates)
        if name == "sound.m3u8":
            init = '#EXT-X-MAP:URI="init.mp4"\n' if self.kind == "fmp4" else ""
            key = '#EXT-X-KEY:METHOD=AES-128,URI="key"\n' if self.kind == "sealed" else ""
            end, length_s = self.n - self.late, 1.0
            if self.kind == "long":
                end, length_s = end // 2, 2.0
            return self.listed("sound{}.x", before=init + key, end=end, length_s=length_s)
        if name == "key":
            return KEY
        if name == "init.mp4":
            return self.media["init"][0]
        found = re.fullmatch(r"(picture|sound)(\d)\..*", name)
        if found is None:
            return 404
        form = "picture" if found[1] == "picture" else self.kind
        return self.media[form][int(found[2])]

    def listed(
        self,
        name: str,
        *,
        dated: bool = False,
        before: str = "",
        end: int | None = None,
        length_s: float = 1.0,
    ) -> bytes:
        lines = ["#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0"]
        lines += [before] if before else []
        for n in range(self.n if end is None else end):
            if dated:
                at = self.began + timedelta(seconds=n)
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{at.isoformat()}")
            lines += [f"#EXTINF:{length_s},", name.format(n)]
        return "\n".join([*lines, ""]).encode()


@dataclass
class Watch:
    """A run of the engine, polled until a condition holds."""

    url: str
    recording: Recording
    fetcher: Fetcher
    run: HlsRun | None = None

    def until(self, done: Callable[[], bool]) -> None:
        if self.run is None:
            stream = live_stream(self.url, self.url)
            self.run = HlsRun(stream, self.recording, self.fetcher, ended_after_s=0.0)
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, (
                self.run.error_text,
                self.run._audio.error_text,
                len(self.segments),
                self.audio,
            )
            self.run._pacing.due_at = self.run._audio._pacing.due_at = 0.0
            self.run.poll()
            time.sleep(0.01)  # audio has its own thread

    @property
    def segments(self) -> list[Segment]:
        return [event for event in self.recording.events if isinstance(event, Segment)]

    @property
    def audio(self) -> list:
        return audio_in(self.recording.directory)


@pytest.fixture
def source(site, media) -> Source:
    made = Source(site.base, media)
    site.answer = made.answer
    return made


@pytest.fixture
def watch(source: Source, policy: AddressPolicy, tmp_path: Path) -> Iterator[Watch]:
    with Fetcher(policy) as fetcher:
        recording = Recording(tmp_path / "rec", channel="demo", broadcast=1)
        made = Watch(f"{source.base}/master.m3u8", recording, fetcher)
        yield made
        if made.run is not None:
            made.run.finish()
            if made.run._audio._thread is not None:
                made.run._audio._thread.join(60)


def record(source: Source, watch: Watch) -> list[Segment]:
    watch.until(lambda: len(watch.segments) == 1 and len(watch.audio) == 1)
    source.n = N
    watch.until(lambda: len(watch.segments) == N and len(watch.audio) == N)
    return watch.segments


@pytest.mark.parametrize("kind", KINDS)
def test_separate_audio_is_recorded_unchanged_and_is_in_a_clip(
    kind: str, source: Source, watch: Watch, media, tmp_path: Path
) -> None:
    source.kind = kind
    segments = record(source, watch)
    if kind != "fmp4":  # its audio begins slightly before the video, in the previous file
        assert [each.piece for each in watch.audio] == [each.path.stem for each in segments]
        assert all(abs(each.offset_s) < 0.1 for each in watch.audio)
    plain = media["ts" if kind == "sealed" else kind]
    head = media["init"][0] if kind == "fmp4" else b""
    assert [each.path.read_bytes() for each in watch.audio] == [head + data for data in plain]
    found = Found(segments=tuple(segments), gone=0, on=(), elsewhere=(), gaps=())
    out = tmp_path / "clip.mp4"
    [cut] = cut_found(found, segments[0].start, segments[-1].end, out)
    assert cut.path == out
    with av.open(str(out)) as clip:
        [video], [audio] = clip.streams.video, clip.streams.audio
        heard = [p for p in clip.demux(audio) if p.pts is not None]
        steps = {b.pts - a.pts for a, b in pairwise(heard)}
        assert steps <= {1024 - 1, 1024, 1024 + 1}  # nothing missing, no duplicates
        length_s = float(sum(p.duration for p in heard) * audio.time_base)
        assert abs(length_s - N) < 0.15
        assert video.frames == 10 * N


def test_video_does_not_wait_for_failing_audio_which_is_reported_once(
    source: Source, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    source.broken = True
    watch.until(lambda: len(watch.segments) == 1)
    source.n = N
    with caplog.at_level(logging.INFO):
        watch.until(lambda: len(watch.segments) == N and watch.run._audio._pacing.failures > 3)
        assert len(watch.segments) == N
        assert not watch.audio
        source.broken = False
        watch.until(lambda: len(watch.audio) > 0)
        watch.until(lambda: "recorded again" in caplog.text)
    assert caplog.text.count("not recorded for now") == 1


def test_audio_in_longer_segments_is_used_for_all_its_video_segments(
    source: Source, watch: Watch, tmp_path: Path
) -> None:
    source.kind, source.n = "long", 2
    watch.until(lambda: len(watch.segments) > 0 and len(watch.audio) == 1)
    source.n = N
    watch.until(lambda: len(watch.audio) == 2 and len(watch.segments) == N - 1)  # from the edge
    segments = watch.segments
    assert len({each.piece for each in watch.audio}) == 2
    found = Found(segments=tuple(segments), gone=0, on=(), elsewhere=(), gaps=())
    [cut] = cut_found(found, segments[0].start, segments[-1].end, tmp_path / "clip.mp4")
    with av.open(str(cut.path)) as clip:
        heard = [p for p in clip.demux(audio=0) if p.pts is not None]
        assert {b.pts - a.pts for a, b in pairwise(heard)} <= {1023, 1024, 1025}
        length_s = float(sum(p.duration for p in heard) * clip.streams.audio[0].time_base)
        assert abs(length_s - len(segments)) < 0.15


def test_the_last_audio_may_arrive_after_the_last_video(source: Source, watch: Watch) -> None:
    watch.until(lambda: len(watch.segments) == 1 and len(watch.audio) == 1)
    source.n, source.late = N, 1
    watch.until(lambda: len(watch.segments) == N and len(watch.audio) == N - 1)
    watch.run.finish()
    source.late = 0
    watch.run._audio._pacing.due_at = 0.0
    watch.run._audio._thread.join(60)
    assert len(watch.audio) == N


def test_retry_after_for_video_applies_to_audio_too(source: Source, watch: Watch, site) -> None:
    watch.until(lambda: len(watch.segments) == 1 and len(watch.audio) == 1)
    source.refuses = True
    watch.until(lambda: watch.run._pacing.failures > 0)
    n_asked = len(site.asked)
    watch.until(lambda: len(site.asked) > n_asked + 60)  # the test hurries the engine
    of_audio = [each.path for each in site.asked[n_asked:] if "sound" in each.path]
    assert len(of_audio) <= 1  # may have been sent before


def test_too_much_audio_is_not_fetched_and_video_is(
    source: Source, watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flows.capture.hls.audio._MAX_MINUTE_BYTES", 1)
    watch.until(lambda: len(watch.segments) == 1)
    source.n = N
    watch.until(lambda: len(watch.segments) == N and "a minute" in caplog.text)
    assert len(watch.audio) <= 1


def test_audio_is_played_and_deleted_with_its_video(source: Source, watch: Watch) -> None:
    segments = record(source, watch)
    folder = watch.recording.directory
    playlist = playback_playlists.write_playlist(
        folder, segments[:2], at=segments[0].start, ended=False
    )
    assert playlist.parent.name == "with-audio"
    playback_playlists.follow(folder, watch.recording.events)
    playback_playlists.end(folder)
    with av.open(str(playlist), options={"allowed_extensions": "ALL"}) as player:
        kinds = [stream.type for stream in player.streams]
        assert sorted(kinds) == ["audio", "video"]
        ends = {}
        for packet in player.demux():
            if packet.pts is not None:
                ends[packet.stream.type] = float(packet.pts * packet.time_base)
        assert abs(ends["audio"] - ends["video"]) < 0.2
    inventory = Folder(path=folder, broadcast=1)
    inventory.look()
    first = segments[0].path.name
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix == ".ts")
    assert inventory.n_bytes == n_bytes
    inventory.set_aside(first)
    inventory.delete(first)
    playback_playlists.trim(folder, {first}, current=None)
    assert [each.piece for each in watch.audio] == [each.path.stem for each in segments[1:]]
    text = next(playlist.parent.glob("*-audio.m3u8")).read_text()
    assert "MEDIA-SEQUENCE:1\n" in text
    assert text.count("#EXTINF") == N - 1
    assert text.endswith("#EXT-X-ENDLIST\n")
    for each in segments[1:]:
        inventory.look()
        inventory.set_aside(each.path.name)
        inventory.delete(each.path.name)
    assert not list((folder / FOLDER).iterdir())
    assert inventory.remove()


def test_another_run_records_no_audio_twice(
    source: Source, watch: Watch, policy: AddressPolicy
) -> None:
    watch.until(lambda: len(watch.audio) == 1)
    watch.run.finish()
    watch.run = None
    source.n = N
    watch.until(lambda: len(watch.segments) == N and len(watch.audio) == N)
    assert len({each.path.read_bytes() for each in watch.audio}) == N


@pytest.mark.parametrize(
    ("language", "chosen"),
    [("", "b"), ("fr", "a"), ("FR", "a"), ("de-AT", "b"), ("pt", "c"), ("pt-PT", "c"), ("ja", "b")],
)
def test_choice_of_the_language(language: str, chosen: str) -> None:
    said = [("fr", "a", ""), ("de", "b", ",DEFAULT=YES"), ("pt-BR", "c", ""), ("fr", "d", "")]
    lines = [
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="{name}",LANGUAGE="{code}",'
        f'URI="{name}.m3u8"{more}'
        for code, name, more in said
    ]
    lines.append('#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="g",NAME="s",LANGUAGE="ja",URI="s.m3u8"')
    text = "\n".join(["#EXTM3U", *lines, '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="g"', "v.m3u8"])
    master = parse_playlist(text, "http://a.test/m.m3u8")
    found = choose_audio(master.audio, group=master.offers[0].audio, language=language)
    assert found is not None
    assert found.url == f"http://a.test/{chosen}.m3u8"
