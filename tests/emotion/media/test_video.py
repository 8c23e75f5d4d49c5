import contextlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from emotion.media.video import Truncated, VideoError, probe, read_frames, read_windows

SMALL = {"fps": 5.0, "longest_side_px": 640}


def _ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error"]
    subprocess.run([*command, *map(str, arguments)], check=True)


def _clip(path: Path, *, size="322x182", rate="25", duration="3", extra=()) -> Path:
    """Write a clip of a counting test picture, with a tone."""
    _ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={duration}"),
        *("-f", "lavfi", "-i", f"sine=d={duration}", "-c:v", "libx264", "-preset", "ultrafast"),
        *("-g", "25", "-c:a", "aac", *extra, path),
    )
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Return a folder with the same three seconds in four containers."""
    folder = tmp_path_factory.mktemp("clips")
    _clip(folder / "clip.ts")
    _ffmpeg("-i", folder / "clip.ts", "-c", "copy", "-movflags", "+faststart", folder / "clip.mp4")
    for name in ("clip.mkv", "clip.flv"):
        _ffmpeg("-i", folder / "clip.ts", "-c", "copy", folder / name)
    return folder


@pytest.mark.parametrize("name", ["clip.ts", "clip.mp4", "clip.mkv", "clip.flv"])
def test_frames_lie_on_the_grid_from_the_first_frame(clips, name):
    frames = read_frames(clips / name, **SMALL)
    assert frames.images.shape == (15, 182, 322, 3)
    np.testing.assert_allclose(frames.offset_s, np.arange(15) / 5, atol=2e-3)
    assert (frames.source_width_px, frames.source_height_px) == (322, 182)


def test_the_same_bytes_give_the_same_frames(clips):
    first, second = (read_frames(clips / "clip.ts", **SMALL) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.offset_s, second.offset_s)


def test_a_rate_above_the_source_gives_every_frame(clips):
    frames = read_frames(clips / "clip.mp4", fps=100.0, longest_side_px=64)
    assert len(frames) == 75
    assert (np.diff(frames.offset_s) > 0).all()


def test_pictures_are_made_smaller_never_larger(clips):
    frames = read_frames(clips / "clip.ts", fps=1.0, longest_side_px=161)
    assert frames.images.shape == (3, 91, 161, 3)
    assert (frames.source_width_px, frames.source_height_px) == (322, 182)


def test_colours_are_rgb(tmp_path):
    matrix = "scale=out_color_matrix=bt709,format=yuv420p"
    _ffmpeg(
        *("-f", "lavfi", "-i", "color=c=0xc04020:s=64x64:d=1,format=rgb24", "-vf", matrix),
        *("-colorspace", "bt709", "-c:v", "libx264", tmp_path / "red.mp4"),
    )
    frames = read_frames(tmp_path / "red.mp4", **SMALL)
    np.testing.assert_allclose(frames.images[0, 32, 32], (0xC0, 0x40, 0x20), atol=4)


@pytest.mark.parametrize("size", ["321x181", "33x17", "16x400"])
def test_odd_sizes(tmp_path, size):
    clip = _clip(
        tmp_path / "odd.mkv",
        size=size,
        duration="1",
        extra=("-vf", f"scale={size.replace('x', ':')},setsar=1", "-pix_fmt", "yuv444p"),
    )
    width, height = map(int, size.split("x"))
    assert read_frames(clip, **SMALL).images.shape == (5, height, width, 3)


@pytest.mark.parametrize(("angle", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_pictures_are_turned_as_the_file_says(clips, tmp_path, angle, turns):
    turned = tmp_path / "turned.mp4"
    _ffmpeg("-display_rotation", str(angle), "-i", clips / "clip.mp4", "-c", "copy", turned)
    frames, plain = read_frames(turned, **SMALL), read_frames(clips / "clip.mp4", **SMALL)
    np.testing.assert_array_equal(frames.images, np.rot90(plain.images, turns, axes=(1, 2)))
    width, height = (322, 182) if turns == 2 else (182, 322)
    assert (frames.source_width_px, frames.source_height_px) == (width, height)
    assert (probe(turned).width_px, probe(turned).height_px) == (width, height)


def test_probe_says_what_the_file_says(clips, tmp_path):
    dated = tmp_path / "dated.mp4"
    _ffmpeg(
        *("-i", clips / "clip.mp4", "-c", "copy"),
        *("-metadata", "creation_time=2024-05-06T07:08:09Z", dated),
    )
    info = probe(dated)
    assert info.creation_time == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert info.duration_s == pytest.approx(3, abs=0.05)
    assert (info.width_px, info.height_px, info.fps) == (322, 182, 25)
    assert probe(clips / "clip.ts").creation_time is None


def test_windows_are_on_a_fixed_grid_and_hold_all_frames(clips):
    windows = list(read_windows(clips / "clip.mp4", window_s=0.8, **SMALL))
    starts = [start for start, _, _ in windows]
    assert starts == pytest.approx([0, 0.8, 1.6, 2.4])
    assert [d for _, d, _ in windows] == pytest.approx([0.8, 0.8, 0.8, 0.6])
    assert [len(frames) for _, _, frames in windows] == [4, 4, 4, 3]
    whole = read_frames(clips / "clip.mp4", **SMALL)
    offsets = np.concatenate([start + frames.offset_s for start, _, frames in windows])
    np.testing.assert_allclose(offsets, whole.offset_s, atol=1e-9)
    images = np.concatenate([frames.images for _, _, frames in windows])
    np.testing.assert_array_equal(images, whole.images)


def test_a_window_may_have_no_frame_of_a_coarse_grid(clips):
    windows = list(read_windows(clips / "clip.mp4", fps=0.5, window_s=1.0, longest_side_px=64))
    assert [len(frames) for _, _, frames in windows] == [1, 0, 1]


def test_a_hole_in_the_video_yields_no_window(tmp_path):
    holed = tmp_path / "holed.mkv"
    _clip(tmp_path / "all.ts", duration="6")
    _ffmpeg(
        *("-i", tmp_path / "all.ts", "-an", "-vf", "select='not(between(t,1.9,4.1))'"),
        *("-fps_mode", "vfr", "-c:v", "libx264", "-preset", "ultrafast", holed),
    )
    starts = [start for start, _, _ in read_windows(holed, window_s=1.0, **SMALL)]
    assert starts == [0, 1, 4, 5]


def test_a_change_of_size_keeps_the_first_size(clips, tmp_path):
    _clip(tmp_path / "large.ts", size="640x360", duration="1")
    both = tmp_path / "both.ts"
    both.write_bytes((clips / "clip.ts").read_bytes() + (tmp_path / "large.ts").read_bytes())
    assert read_frames(both, **SMALL).images.shape[1:] == (182, 322, 3)


def _refused(path: Path, match: str) -> None:
    with pytest.raises(VideoError, match=match) as error:
        read_frames(path, **SMALL)
    assert "\n" not in str(error.value)
    assert path.name in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    _refused(tmp_path / "none.ts", "No such file")


def test_a_folder(tmp_path):
    _refused(tmp_path, "not a file")


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.ts").touch()
    _refused(tmp_path / "empty.ts", "is empty")


@pytest.mark.parametrize(
    "data", [b"hello\n" * 500, np.random.default_rng(0).bytes(50_000)], ids=["text", "noise"]
)
def test_what_is_not_a_video(tmp_path, data):
    (tmp_path / "not.mp4").write_bytes(data)
    _refused(tmp_path / "not.mp4", "not a video")


def test_a_file_without_a_video_stream(clips, tmp_path):
    _ffmpeg("-i", clips / "clip.mp4", "-vn", "-c", "copy", tmp_path / "sound.mp4")
    _refused(tmp_path / "sound.mp4", "no video stream")
    with pytest.raises(VideoError, match="no video stream"):
        probe(tmp_path / "sound.mp4")


@pytest.mark.parametrize("name", ["clip.ts", "clip.mp4", "clip.mkv", "clip.flv"])
def test_a_truncated_file(clips, tmp_path, name):
    data = (clips / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    _refused(tmp_path / name, "truncated")


def test_an_mp4_cut_off_before_its_index(clips, tmp_path):
    _ffmpeg("-i", clips / "clip.ts", "-c", "copy", tmp_path / "whole.mp4")
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    _refused(tmp_path / "cut.mp4", "truncated")


def test_windows_before_the_damage_are_yielded(clips, tmp_path):
    data = (clips / "clip.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 6 // 10])
    windows = read_windows(tmp_path / "cut.mkv", window_s=1.0, **SMALL)
    assert len(next(windows)[2]) == 5
    with pytest.raises(VideoError, match="truncated"):
        list(windows)


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile clip.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nclip.ts\n#EXT-X-ENDLIST\n",
    ],
    ids=["ffconcat", "playlist"],
)
@pytest.mark.parametrize("suffix", [".ts", ".mp4", ".m3u8", ".ffconcat"])
def test_a_list_of_other_files_is_refused(clips, suffix, text):
    path = clips / f"list{suffix}"
    path.write_text(text)
    _refused(path, "not a video")


def test_a_name_that_looks_like_a_protocol_is_a_file_name(clips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("concat:clip.ts")
    path.write_bytes((clips / "clip.ts").read_bytes())
    assert len(read_frames(path, **SMALL)) == 15


@pytest.mark.parametrize("wrong", [{"fps": 0.0}, {"fps": -1.0}, {"longest_side_px": 0}])
def test_numbers_out_of_range(clips, wrong):
    with pytest.raises(ValueError, match="must be positive"):
        read_frames(clips / "clip.ts", **{**SMALL, **wrong})


def test_pieces_put_together_give_all_their_frames(clips, tmp_path):
    """The second part's timestamps restart, before the end of the first."""
    both = tmp_path / "both.ts"
    piece = (clips / "clip.ts").read_bytes()
    both.write_bytes(piece + piece)
    once = read_frames(clips / "clip.ts", fps=25.0, longest_side_px=64)
    twice = read_frames(both, fps=25.0, longest_side_px=64)
    assert len(twice) == 2 * len(once)
    assert (np.diff(twice.offset_s) > 0).all()


def test_a_file_cut_in_a_fragment_gives_all_that_can_be_decoded(clips, tmp_path):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    flags = "frag_keyframe+empty_moov+default_base_moof"
    _ffmpeg("-i", clips / "clip.ts", "-c", "copy", "-an", "-movflags", flags, whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 8 // 10])
    counts: list[int] = []
    windows = read_windows(cut, window_s=1.0, fps=25.0, longest_side_px=64)
    with pytest.raises(Truncated):
        counts.extend(len(frames) for _, _, frames in windows)
    with av.open(str(cut)) as container:
        decoded = 0
        for packet in container.demux(video=0):
            with contextlib.suppress(av.FFmpegError):
                decoded += len(packet.decode())
    assert 0 < decoded <= sum(counts)


def _times(path: Path) -> np.ndarray:
    frames = read_frames(path, fps=60.0, longest_side_px=16)
    assert (np.diff(frames.offset_s) > 0).all()
    return frames.offset_s


def test_pieces_with_and_without_reordering_give_all_their_frames_in_order(clips, tmp_path):
    """And timestamps that go back by over a minute are not taken for a counter that wrapped."""
    late, both = tmp_path / "late.ts", tmp_path / "both.ts"
    reordered = ("-bf", "2", "-preset", "superfast")
    _clip(late, size="64x36", duration="1", extra=("-output_ts_offset", "100", *reordered))
    again = _clip(tmp_path / "again.ts", size="64x36", duration="1", extra=("-bf", "0"))
    both.write_bytes(late.read_bytes() + again.read_bytes() + late.read_bytes())
    times = _times(both)
    assert len(times) == 75
    assert times[49] == pytest.approx(49 / 25, abs=0.15)


def test_matroska_pieces_give_all_their_frames(clips, tmp_path):
    both = tmp_path / "both.mkv"
    both.write_bytes((clips / "clip.mkv").read_bytes() * 2)
    assert len(_times(both)) == 2 * len(_times(clips / "clip.mkv"))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.flv"])
def test_an_appended_video_that_is_not_read_is_an_error(clips, tmp_path, name):
    both = tmp_path / name
    both.write_bytes((clips / name).read_bytes() * 2)
    counts: list[int] = []
    windows = read_windows(both, fps=25.0, longest_side_px=16)
    with pytest.raises(VideoError, match=r"has another video appended, after \d+ bytes: split"):
        counts.extend(len(frames) for _, _, frames in windows)
    assert sum(counts) == 50  # all windows but the last


def test_a_video_that_goes_on_in_another_stream_is_an_error(clips, tmp_path):
    both, other = tmp_path / "both.ts", tmp_path / "other.ts"
    _ffmpeg("-i", clips / "clip.ts", "-c", "copy", "-streamid", "0:700", "-map", "0", other)
    both.write_bytes((clips / "clip.ts").read_bytes() + other.read_bytes())
    with pytest.raises(VideoError, match=r"another video stream \(PID 700\), after \d+ bytes"):
        read_frames(both, **SMALL)


def test_two_videos_side_by_side_are_no_error(tmp_path):
    two = tmp_path / "two.ts"
    _ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=64x36:d=1", "-f", "lavfi", "-i", "color=s=32x18:d=1"),
        *("-map", "0", "-map", "1", "-c:v", "libx264", two),
    )
    assert len(_times(two)) == 25


def test_a_cut_film_begins_with_pictures_that_are_not_shown(tmp_path):
    """As phones and `ffmpeg -ss -c copy` cut: an edit list hides what leads to the cut."""
    whole = _clip(tmp_path / "whole.mp4", size="64x36", extra=("-g", "250"))
    cut = tmp_path / "cut.mp4"
    _ffmpeg("-ss", "1.3", "-i", whole, "-c", "copy", cut)
    times = _times(cut)
    assert len(times) >= 42
    assert times[0] < 0.05


def test_avi_with_reordered_pictures_gives_all_of_them(tmp_path):
    avi = _clip(
        tmp_path / "clip.avi",
        size="64x36",
        duration="2",
        extra=("-preset", "superfast", "-bf", "2", "-c:a", "mp3"),
    )
    assert len(_times(avi)) == 50
