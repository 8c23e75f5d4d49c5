import hashlib
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from flows.demo.errors import DemoError
from flows.demo.programme import (
    DURATION_S,
    FPS,
    HEIGHT_PX,
    SCENES,
    WIDTH_PX,
    draw_frame,
    make_programme,
)


def test_the_scenes_follow_each_other() -> None:
    assert SCENES[0].start_s == 0
    for before, after in pairwise(SCENES):
        assert before.end_s == after.start_s
    assert DURATION_S >= 40
    assert {scene.faces for scene in SCENES} == {0, 1, 2}
    for scene in SCENES:
        assert all(scene.start_s <= t < scene.end_s for t in scene.faces_at)


def test_hard_cuts_are_between_the_scenes_except_within_a_shot() -> None:
    def change(at_s: float) -> float:
        index = round(at_s * FPS)
        a, b = draw_frame(index - 1).astype(int), draw_frame(index).astype(int)
        return float(np.abs(a - b).mean())

    cuts = [scene.start_s for scene in SCENES[2:]]
    assert min(change(at) for at in cuts) > 20
    assert change(3.0) < 5


def test_the_face_leaves_and_comes_back() -> None:
    def spread(at_s: float) -> float:
        """An empty stage is a gradient: its rows hold one colour."""
        return float(draw_frame(round(at_s * FPS)).std(axis=1).max())

    assert spread(9.8) < 1
    assert spread(7.2) > 30
    assert spread(14.0) > 30


def test_the_file_is_a_video_with_sound_and_the_same_every_time(tmp_path: Path) -> None:
    one, other = (make_programme(tmp_path / f"{n}.mp4", duration_s=1.0) for n in "ab")
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()
    assert sorted(tmp_path.iterdir()) == [one, other]
    with av.open(str(one)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.average_rate) == (WIDTH_PX, HEIGHT_PX, FPS)
        assert sound.codec_context.name == "aac"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
    assert len(frames) == FPS
    assert np.abs(frames[0].astype(int) - draw_frame(0)).mean() < 8


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="can't be made"):
        make_programme(tmp_path / "missing" / "a.mp4", duration_s=1.0)
