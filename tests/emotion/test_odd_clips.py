"""Clips that are not 16:9, 8 bit, progressive and of constant rate: correct times and boxes."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from emotion.media.segment import read_parts
from emotion.media.video import VideoError, probe, read_frames, read_windows
from emotion.pipeline import Analyser

FACE = (178, 107, 354, 328)  # of the portrait, 512 x 600


def _ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error"]
    subprocess.run([*command, *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def analyser(cache_dir: Path) -> Analyser:
    return Analyser(device="cpu", cache_dir=cache_dir)


@pytest.fixture(scope="module")
def still(tmp_path_factory, portrait) -> Path:
    """The portrait in the middle of a wide picture, 1280 x 720, as a file."""
    path = tmp_path_factory.mktemp("still") / "still.png"
    picture = np.full((720, 1280, 3), (60, 90, 120), dtype=np.uint8)
    picture[60:660, 384:896] = portrait
    Image.fromarray(picture).save(path)
    return path


def _clip(still: Path, path: Path, *arguments: str, rate="10", duration="1") -> Path:
    """Encode the still for this time, in the format of the arguments."""
    codec = () if "-c:v" in arguments else ("-c:v", "libx264", "-preset", "ultrafast")
    source = ("-loop", "1", "-framerate", rate, "-i", still, "-t", duration)
    _ffmpeg(*source, *codec, "-pix_fmt", "yuv420p", *arguments, path)
    return path


def _expected(width: int, height: int) -> np.ndarray:
    """The face's box if the still fills a picture of this size."""
    box = np.add(FACE, (384, 60, 384, 60))
    return box * np.array((width / 1280, height / 720) * 2)


def _one_face_a_frame(analyser: Analyser, path: Path, width: int, height: int, n: int) -> None:
    detections = analyser.analyse_file(path)
    assert detections.faces.frame.tolist() == list(range(n))
    off = np.abs(detections.faces.boxes - _expected(width, height)).max(axis=1)
    assert (off < 0.05 * height).all(), detections.faces.boxes


@pytest.mark.parametrize(
    ("size", "more"),
    [
        ("640:360", ("-pix_fmt", "gray")),
        ("640:360", ("-pix_fmt", "yuv420p10le")),
        ("640:360", ("-pix_fmt", "yuv422p")),
        ("641:359", ("-pix_fmt", "yuv444p")),
        ("3840:2160", ()),
        ("640:360", ("-c:v", "libx265", "-x265-params", "log-level=error")),
        ("640:360", ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=0")),
        ("640:360", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")),
        ("640:360", ("-c:v", "mpeg2video", "-q:v", "3", "-r", "25")),
    ],
    ids=["gray", "10 bits", "4:2:2", "odd", "4K", "HEVC", "HEVC 10 bits", "VP9", "MPEG-2"],
)
def test_boxes_are_where_the_face_is(analyser, still, tmp_path, size, more):
    clip = _clip(still, tmp_path / "clip.mkv", "-vf", f"scale={size},setsar=1", *more)
    width, height = map(int, size.split(":"))
    assert (probe(clip).width_px, probe(clip).height_px) == (width, height)
    _one_face_a_frame(analyser, clip, width, height, 5)


def test_av1(analyser, still, tmp_path):
    """Written by PyAV, because not every ffmpeg can."""
    path = tmp_path / "clip.mp4"
    with Image.open(still) as image, av.open(str(path), "w") as container:
        small = np.asarray(image.convert("RGB").resize((640, 360)))
        stream = container.add_stream("libsvtav1", rate=5, options={"preset": "12"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(small, "rgb24")))
        container.mux(stream.encode(None))
    _one_face_a_frame(analyser, path, 640, 360, 5)


@pytest.mark.parametrize(
    ("width", "height", "aspect"),
    [(720, 576, Fraction(64, 45)), (720, 576, Fraction(16, 15)), (1280, 360, Fraction(1, 2))],
    ids=["anamorphic 16:9", "4:3", "high pixels"],
)
def test_pixels_that_are_not_square(analyser, still, tmp_path, width, height, aspect):
    filters = f"scale={width}:{height},setsar={aspect.numerator}/{aspect.denominator}"
    clip = _clip(still, tmp_path / "clip.ts", "-vf", filters)
    frames = read_frames(clip, fps=5.0, longest_side_px=640)
    assert (frames.source_width_px, frames.source_height_px) == (width, height)
    _, shown_height, shown_width, _ = frames.images.shape
    assert shown_width <= 640
    assert shown_width / shown_height == pytest.approx(float(width * aspect / height), abs=0.01)
    if aspect != Fraction(16, 15):  # displayed with the aspect ratio of the still
        _one_face_a_frame(analyser, clip, width, height, 5)


def test_portrait_format(analyser, still, tmp_path):
    clip = _clip(still, tmp_path / "clip.mp4", "-vf", "crop=404:720,scale=360:640,setsar=1")
    faces = analyser.analyse_file(clip).faces
    assert len(faces) == 5
    box = np.subtract(_expected(1280, 720), (438, 0, 438, 0)) * 640 / 720
    assert np.abs(faces.boxes - box).max() < 20


def test_turned_by_the_file(analyser, still, tmp_path):
    filters = "scale=640:360,transpose=1"  # rotated by 90 degrees, with rotation metadata
    lying = _clip(still, tmp_path / "lying.mp4", "-vf", filters)
    turned = tmp_path / "turned.mp4"
    _ffmpeg("-display_rotation", "90", "-i", lying, "-c", "copy", turned)
    _one_face_a_frame(analyser, turned, 640, 360, 5)


def test_interlaced_pictures_are_not_combed(tmp_path):
    moving = "color=c=black:s=640x480:r=50:d=1,drawbox=w=40:h=480:t=fill:c=white"
    sliding = "geq=lum='if(between(X,20*N,20*N+60),235,16)':cb=128:cr=128"
    _ffmpeg(
        *("-f", "lavfi", "-i", f"{moving},{sliding},interlace=scan=tff,format=yuv420p"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ilme+ildct"),
        *("-x264-params", "tff=1", tmp_path / "interlaced.ts"),
    )
    with av.open(str(tmp_path / "interlaced.ts")) as container:
        woven = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
        container.seek(0)
        assert next(container.decode(video=0)).interlaced_frame

    def combed(image: np.ndarray) -> float:
        """Mean difference between neighbouring lines."""
        return float(np.abs(np.diff(image.astype(float), axis=0)).mean())

    frames = read_frames(tmp_path / "interlaced.ts", fps=25.0, longest_side_px=640)
    assert frames.images.shape[1:] == (480, 640, 3)
    assert combed(woven[10]) > 10
    assert combed(frames.images[10, :, :, 0]) < 0.5


@pytest.mark.parametrize(
    ("rate", "expected"),
    [("1", [0, 1, 2]), ("4", np.arange(12) / 4), ("120", np.arange(15) / 5)],
    ids=["1", "4", "120"],
)
def test_rates(tmp_path, rate, expected):
    clip = tmp_path / "c.ts"
    source = ("-f", "lavfi", "-i", f"color=s=64x36:r={rate}:d=3")
    _ffmpeg(*source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", clip)
    frames = read_frames(clip, fps=5.0, longest_side_px=64)
    np.testing.assert_allclose(frames.offset_s, expected, atol=2e-3)


def test_a_variable_rate_keeps_its_times(still, tmp_path):
    times = "setpts='if(lt(N,10),N*0.04,0.4+(N-10)*0.52)/TB'"
    clip = tmp_path / "variable.mkv"
    _clip(still, clip, "-vf", f"scale=64:36,{times}", "-fps_mode", "vfr", rate="25")
    frames = read_frames(clip, fps=5.0, longest_side_px=64)
    expected = [0, 0.2, *(0.4 + np.arange(len(frames) - 2) * 0.52)]
    np.testing.assert_allclose(frames.offset_s, expected, atol=2e-3)


@pytest.mark.parametrize("skip", ["needless", "nonref"])
def test_only_frames_that_are_not_sampled_are_not_decoded(tmp_path, skip):
    clip = tmp_path / "b-frames.ts"
    _ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=2", "-c:v", "libx264"),
        *("-bf", "3", "-g", "60", "-pix_fmt", "yuv420p", clip),
    )
    with av.open(str(clip)) as container:
        frames = list(container.decode(video=0))
        first = frames[0].time
        everything = {round(f.time - first, 4): f.to_ndarray(format="rgb24") for f in frames}
    found = read_frames(clip, fps=5.0, longest_side_px=320, skip=skip)
    assert len(found) == 10
    for offset_s, image in zip(found.offset_s, found.images, strict=True):
        np.testing.assert_array_equal(image, everything[round(offset_s, 4)])
    if skip == "needless":
        np.testing.assert_allclose(found.offset_s, np.arange(10) / 5, atol=1e-3)


def test_keyframes_alone(tmp_path):
    clip = tmp_path / "clip.ts"
    _ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=2", "-c:v", "libx264"),
        *("-g", "30", "-sc_threshold", "0", clip),
    )
    frames = read_frames(clip, fps=5.0, longest_side_px=320, skip="nonkey")
    assert frames.offset_s.tolist() == [0, 1]


def test_parts_are_the_frames(tmp_path, still):
    clip = _clip(still, tmp_path / "clip.ts", "-vf", "scale=64:36", duration="2")
    whole = read_frames(clip, fps=5.0, longest_side_px=64)
    parts = list(read_parts(clip, fps=5.0, longest_side_px=64, part_px=3 * 64 * 36))
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), whole.images)
    np.testing.assert_array_equal(np.concatenate([p.offset_s for p in parts]), whole.offset_s)


def test_no_face(analyser, tmp_path):
    clip = tmp_path / "nobody.ts"
    _ffmpeg("-f", "lavfi", "-i", "smptebars=s=640x360:r=10:d=1", "-c:v", "libx264", clip)
    detections = analyser.analyse_file(clip)
    assert len(detections.faces) == 0
    assert detections.probs.shape == (0, 8)
    assert len(detections.offset_s) == 5


def test_sixty_faces(analyser, tmp_path, portrait):
    face = Image.fromarray(portrait).crop((130, 60, 400, 400)).resize((54, 68))
    wall = Image.new("RGB", (12 * 54, 5 * 72), (60, 90, 120))
    places = [(54 * (n % 12), 72 * (n // 12)) for n in range(60)]
    for place in places:
        wall.paste(face, place)
    wall.save(tmp_path / "wall.png")
    clip = _clip(tmp_path / "wall.png", tmp_path / "wall.mp4", "-crf", "10")
    faces = analyser.analyse_file(clip).faces
    assert np.bincount(faces.frame).tolist() == [60] * 5
    centres = (faces.boxes[:60, :2] + faces.boxes[:60, 2:]) / 2
    nearest = np.abs(centres[:, None] - np.add(places, (27, 34))).max(axis=2).argmin(axis=1)
    assert sorted(nearest.tolist()) == list(range(60))


@pytest.mark.parametrize("side", ["left", "right", "top"])
def test_faces_that_the_border_cuts(analyser, still, tmp_path, side):
    x0, y0, x1, _ = _expected(1280, 720).round().astype(int) // 2 * 2
    crop = {
        "left": f"{1240 - x0}:720:{x0 + 40}:0",
        "right": f"{x1 - 40}:720:0:0",
        "top": f"1280:{660 - y0}:0:{y0 + 60}",
    }[side]
    clip = _clip(still, tmp_path / "cut.mkv", "-vf", f"crop={crop}")
    info = probe(clip)
    faces = analyser.analyse_file(clip).faces
    assert len(faces) == 5
    edge = {"left": faces.boxes[:, 0], "right": info.width_px - faces.boxes[:, 2]}
    np.testing.assert_allclose(edge.get(side, faces.boxes[:, 1]), 0, atol=12)
    assert (faces.boxes >= 0).all()
    assert (faces.boxes <= np.array((info.width_px, info.height_px) * 2)).all()


def test_an_unknown_codec_is_a_one_line_error(still, tmp_path):
    clip = _clip(still, tmp_path / "known.avi", "-vf", "scale=64:36", "-c:v", "mpeg4")
    data = clip.read_bytes()
    (tmp_path / "unknown.avi").write_bytes(data.replace(b"FMP4", b"QQQQ"))
    with pytest.raises(VideoError, match=r"unknown\.avi") as error:
        read_frames(tmp_path / "unknown.avi", fps=5.0, longest_side_px=64)
    assert "\n" not in str(error.value)


def test_windows_are_as_long_as_their_video_though_its_end_is_not_decoded(tmp_path):
    clip = tmp_path / "clip.mp4"
    _ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=160x90:r=30:d=3", "-c:v", "libx264"),
        *("-bf", "3", "-x264-params", "b-adapt=0", clip),
    )
    windows = list(read_windows(clip, fps=5.0, longest_side_px=160))
    assert [duration for _, duration, _ in windows] == pytest.approx([2, 1], abs=1e-3)
