from dataclasses import replace
from pathlib import Path

import av
import pytest

from flows.capture.recorded.media import TICKS_PER_S, WRAP, measure, read_head, ticks_from
from flows.capture.segment import UnreadableMedia


def test_a_piece_is_measured(pieces: Path) -> None:
    extent = measure(pieces / "piece-00001.ts")
    assert extent.end - extent.first == TICKS_PER_S // 2
    assert (extent.width_px, extent.height_px) == (320, 180)
    assert extent.interval == extent.longest == TICKS_PER_S // 24


def test_a_piece_ends_where_the_next_begins(pieces: Path) -> None:
    first, second = (measure(pieces / f"piece-0000{i}.ts") for i in (1, 2))
    assert first.end == second.first


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(10, 25, 15), (25, 10, -15), (WRAP - 5, 10, 15), (10, WRAP - 5, -15)],
)
def test_timestamps_are_compared_across_the_counters_end(
    before: int, after: int, expected: int
) -> None:
    assert ticks_from(before, after) == expected


def test_the_beginning_of_a_piece_gives_its_first_timestamps(pieces: Path) -> None:
    path = pieces / "piece-00002.ts"
    head = path.read_bytes()[: 188 * 12]
    assert read_head(head, fragmented=False) == (measure(path).first,) * 2


@pytest.mark.parametrize(("ends_s", "sound_s"), [(1.5, 1.5), (-0.2, 0.0), (-7200.0, None)])
def test_audio_that_ends_before_the_pictures_is_too_short(
    ends_s: float, sound_s: float | None, pieces: Path
) -> None:
    extent = measure(pieces / "piece-00001.ts")
    end = extent.first + round(ends_s * TICKS_PER_S)
    assert replace(extent, sound_end=end).sound_s == sound_s


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>no video</html>" * 50, b"\x47" + bytes(187)],
    ids=["empty", "page", "null"],
)
def test_what_is_no_video_is_unreadable(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(body)
    with pytest.raises(UnreadableMedia):
        measure(path)
    with pytest.raises(UnreadableMedia):
        read_head(body, fragmented=False)


def test_a_list_of_files_under_a_segments_name_opens_none(tmp_path: Path, pieces: Path) -> None:
    path = tmp_path / "x.ts"
    path.write_text(f"ffconcat version 1.0\nfile '{pieces / 'piece-00001.ts'}'\n")
    with pytest.raises(UnreadableMedia):
        measure(path)


def test_a_piece_in_an_unknown_codec_is_measured(tmp_path: Path, pieces: Path) -> None:
    made = tmp_path / "made.mp4"
    with (
        av.open(str(pieces / "piece-00001.ts")) as piece,
        av.open(str(made), "w", options={"movflags": "frag_keyframe+empty_moov"}) as out,
    ):
        video = piece.streams.video[0]
        copied = out.add_stream_from_template(video)
        for packet in piece.demux(video):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    assert measure(made, fragmented=True).width_px == 320
    made.write_bytes(made.read_bytes().replace(b"avc1", b"new9"))
    extent = measure(made, fragmented=True)
    assert (extent.width_px, extent.height_px) == (0, 0)
    assert extent.end - extent.first == TICKS_PER_S // 2
