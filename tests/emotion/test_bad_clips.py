"""Unusual clips give correct rows with bounded memory."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from emotion.detection.detect import no_faces
from emotion.linking import cuts
from emotion.media.video import read_windows
from emotion.pipeline import Analyser, Linker
from emotion.types import Detections, K

START = datetime(2026, 1, 1, tzinfo=UTC)
FACE = (178, 107, 354, 328)  # of the portrait, 512 x 600


@pytest.fixture(scope="module")
def analyser(cache_dir: Path) -> Analyser:
    return Analyser(device="cpu", cache_dir=cache_dir)


def _ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error"]
    subprocess.run([*command, *map(str, arguments)], check=True)


def _x264(path: Path) -> tuple[str | Path, ...]:
    return ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", path)


def test_a_size_that_changes_in_the_middle(analyser, portrait, tmp_path):
    still = tmp_path / "still.png"
    picture = np.full((720, 1280, 3), (60, 90, 120), dtype=np.uint8)
    picture[60:660, 384:896] = portrait
    Image.fromarray(picture).save(still)
    both = tmp_path / "both.ts"
    for size in ("640:360", "320:180"):
        source = ("-loop", "1", "-framerate", "5", "-i", still, "-t", "1", "-vf", f"scale={size}")
        _ffmpeg(*source, *_x264(tmp_path / "one.ts"))
        with both.open("ab") as file:
            file.write((tmp_path / "one.ts").read_bytes())
    faces = analyser.analyse_file(both).faces
    assert faces.frame.tolist() == list(range(10))
    expected = np.add(FACE, (384, 60, 384, 60)) / 2  # in the pixels of the first size
    assert np.abs(faces.boxes - expected).max() < 0.05 * 360


def test_a_thousand_cuts(tmp_path):
    clip = tmp_path / "cuts.mkv"
    colours = "color=red:s=64x36:r=5:d=201,hue=h=137*n"
    _ffmpeg("-f", "lavfi", "-i", colours, *_x264(clip))
    linker, n_frames, n_shots = Linker(None), 0, 0
    for offset_s, _, frames in read_windows(clip, fps=5.0, longest_side_px=64):
        detections = Detections(
            offset_s=frames.offset_s,
            histograms=cuts.histograms(frames.images),
            faces=no_faces(),
            probs=np.zeros((0, K), dtype=np.float32),
        )
        seen = linker.update(detections, START + timedelta(seconds=offset_s))
        n_frames += len(seen.frames)
        n_shots += len(seen.shots)
        assert len(json.dumps(linker.state)) < 5000
    assert n_frames == 1005
    assert n_shots >= 1000


def test_ten_hours_with_a_picture_every_ten_minutes(analyser, tmp_path):
    clip = tmp_path / "long.mkv"
    _ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x36:r=1/600:d=36000", *_x264(clip))
    linker, at_s = Linker(None), []
    for offset_s, duration_s, frames in read_windows(clip, fps=5.0, longest_side_px=64):
        assert duration_s <= 2.0 or offset_s >= 35_400  # the last is as long as its video
        assert len(frames) == 1
        seen = linker.update(analyser.analyse(frames), START + timedelta(seconds=offset_s))
        at_s += (
            (seen.frames - np.datetime64("2026-01-01", "us")) / np.timedelta64(1, "s")
        ).tolist()
        assert len(seen.shots) == 1  # no track continues across a gap of ten minutes
    assert at_s == [600.0 * i for i in range(60)]
