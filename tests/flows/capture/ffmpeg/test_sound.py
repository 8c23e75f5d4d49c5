"""Audio with its own playlist is recorded beside ffmpeg, on the clock of its files."""

import threading
from collections.abc import Iterable
from pathlib import Path

import av
import pytest

from benchmarks.capture.live_stream import live_stream
from benchmarks.up import until
from flows.capture.net.address import AddressPolicy
from flows.capture.recorded.audio import audio_in
from flows.capture.recorded.audio_measuring import measure_audio
from flows.capture.recorded.audio_shifting import shift
from flows.capture.recorded.media import TICKS_PER_S, WRAP, ticks_from
from flows.capture.segment import Segment, UnreadableMedia
from flows.capture.supervisor.capture import Capture
from flows.recordings.clip import cut_found
from flows.recordings.finding import Found
from tests.flows.capture.hls.test_audio import N, Source, media

__all__ = ["media"]

ADTS_BYTES = 7


def times_of(paths: Iterable[Path], kind: str) -> dict[bytes, int]:
    """Each packet's timestamp in ticks, by its content."""
    found: dict[bytes, int] = {}
    for path in paths:
        with av.open(str(path)) as container:
            skipped = ADTS_BYTES if kind == "audio" and path.suffix in (".ts", ".x") else 0
            for packet in container.demux(getattr(container.streams, kind)[0]):
                if packet.pts is not None:
                    ticks = round(packet.pts * packet.time_base * TICKS_PER_S)
                    found[bytes(packet)[skipped:]] = ticks
    return found


def later(recorded: dict[bytes, int], source: dict[bytes, int]) -> set[int]:
    assert recorded.keys() <= source.keys()
    return {ticks_from(source[each], ticks) for each, ticks in recorded.items()}


@pytest.mark.parametrize(("kind", "dated"), [("ts", False), ("fmp4", True), ("packed", True)])
def test_separate_audio_is_as_late_as_its_pictures(
    kind: str, dated: bool, site, media, policy: AddressPolicy, tmp_path: Path
) -> None:
    source = Source(site.base, media, kind=kind, n=2, dates=dated)
    site.answer = source.answer
    url = f"{source.base}/master.m3u8"
    folder = tmp_path / "rec"
    segments: list[Segment] = []
    with Capture(
        url,
        directory=folder,
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=live_stream(url, url),
        segment_s=1.0,
        engine="ffmpeg",
    ) as capture:
        until(
            lambda: any("picture1" in asked.path for asked in site.asked),
            what="ffmpeg has begun",
            within_s=60,
        )
        source.n = N
        while len(segments) < 2:
            event = capture.get(60.0)
            assert isinstance(event, Segment), capture.last_error
            segments.append(event)
        until(lambda: len(audio_in(folder)) >= 2, what="audio is recorded", within_s=60)
    for thread in threading.enumerate():
        if thread.name == "capture-audio":
            thread.join(60)
    audio = audio_in(folder)
    sources = {}
    for name in ("picture", kind):
        sources[name] = []
        for n, data in enumerate(media["ts" if name == "packed" else name]):
            path = tmp_path / f"{name}{n}{'.mp4' if name == 'fmp4' else '.ts'}"
            path.write_bytes((media["init"][0] if name == "fmp4" else b"") + data)
            sources[name].append(path)
    [pictures_later] = later(
        times_of((each.path for each in segments), "video"), times_of(sources["picture"], "video")
    )
    sounds_later = later(
        times_of((each.path for each in audio), "audio"), times_of(sources[kind], "audio")
    )
    assert pictures_later != 0
    assert all(abs(ticks_from(pictures_later % WRAP, each % WRAP)) <= 90 for each in sounds_later)
    found = Found(segments=tuple(segments), gone=0, on=(), elsewhere=(), gaps=())
    [cut] = cut_found(found, segments[0].start, segments[-1].end, tmp_path / "clip.mp4")
    with av.open(str(cut.path)) as clip:
        heard = [p for p in clip.demux(audio=0) if p.pts is not None]
        length_s = float(sum(p.duration for p in heard) * clip.streams.audio[0].time_base)
    assert abs(length_s - sum(each.duration_s for each in segments)) < 0.15


def test_audio_before_the_clock_s_beginning_is_cut_off(media, tmp_path: Path) -> None:
    path = tmp_path / "audio.ts"
    path.write_bytes(media["long"][0])
    measured = measure_audio(path, fragmented=False)
    found, cut = shift(path, measured, by=-measured.first - TICKS_PER_S)
    again = measure_audio(path, fragmented=False)
    assert abs(found.first - again.first) + abs(found.length - again.length) < 9
    assert abs(cut - TICKS_PER_S) < 4000
    assert found.first < 4000
    assert abs(found.length + cut - measured.length) < 4000
    with pytest.raises(UnreadableMedia):
        shift(path, found, by=-found.length - found.first - 9000)
    assert [each.name for each in tmp_path.iterdir()] == ["audio.ts"]
