"""The page plays separately recorded audio: in one file with each segment, without holes."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flows.recordings.segment_audio import seconds_of
from tests.flows.page.apart import N, add_audio, cut_apart
from tests.flows.page.conftest import PIECE_S


@pytest.fixture
def apart(growing: Callable[..., Any], tmp_path: Path) -> Callable[[str], Any]:
    """A recorded show with separate audio files; the last segment has none."""

    def make(kind: str) -> Any:
        pictures, audio = cut_apart(tmp_path / kind, kind)
        show = growing(f"apart-{kind}", pictures)
        show.grow(N)
        add_audio(show, audio[:-1])
        show.end()
        return show

    return make


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_each_segment_has_its_video_and_its_audio(page: Any, apart: Any, kind: str) -> None:
    show = apart(kind)
    listed = page.client.get(f"/media/{show.show}/part-0.m3u8").text
    names = [line for line in listed.splitlines() if line and not line.startswith("#")]
    assert len(names) == N
    pictures, heard, loud = [], [], []
    for n, name in enumerate(names):
        data = page.client.get(f"/media/{show.show}/{name}").content
        if kind == "mp4":
            assert name == f"{n}.media.mp4"
            data = page.client.get(f"/media/{show.show}/{n}.init.mp4").content + data
        with av.open(io.BytesIO(data)) as container:
            for packet in container.demux():
                if packet.pts is not None:
                    into = pictures if packet.stream.type == "video" else heard
                    into.append(seconds_of(packet))
        with av.open(io.BytesIO(data)) as container:
            sound = [np.abs(frame.to_ndarray()).mean() for frame in container.decode(audio=0)]
            loud.append(bool(np.median(sound) > 0.01))
    assert len(pictures) == 10 * PIECE_S * N
    assert loud == [True, True, True, False], "silence where there is no audio"
    steps = [b - a for a, b in pairwise(heard)]
    assert max(steps) < 2.5 * 1024 / 48_000, "no hole"
    assert min(steps) > 0.5 * 1024 / 48_000, "nothing twice"
    assert abs(heard[0] - pictures[0]) < 0.05
    assert abs(heard[-1] - pictures[-1]) < 0.15
    damaged = next(show.folder.glob("*-000001.*"))
    whole = damaged.read_bytes()
    damaged.write_bytes(b"G" + bytes(187))
    kept = page.client.get(f"/media/{show.show}/1.{kind}")
    assert (kept.status_code, kept.content) == (200, b"G" + bytes(187))
    damaged.write_bytes(whole)
    begin, end = show.begin.timestamp(), show.until.timestamp()
    asked = f"/take/{show.show}/stretch.mp4?from={begin * 1000:.0f}&to={end * 1000:.0f}"
    with av.open(io.BytesIO(page.client.get(asked).content)) as clip:
        assert [stream.type for stream in clip.streams] == ["video", "audio"]
