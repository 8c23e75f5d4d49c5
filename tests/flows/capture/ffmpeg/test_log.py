from collections.abc import Callable
from pathlib import Path

import pytest

from flows.capture.ffmpeg import log as ffmpeg_log
from flows.capture.ffmpeg.log import FfmpegLog, Jump
from flows.capture.playlists.playlist import parse_playlist

PLAYLIST = "http://stream.test/0.m3u8"
LISTED = parse_playlist("#EXTM3U\n" + "".join(f"#EXTINF:2,\n{n}.ts\n" for n in range(9)), PLAYLIST)
ENTRIES = {entry.url: entry for entry in LISTED.entries}
OPENED = "[in#0/hls @ 0x55] Opening 'http://stream.test/{}.ts' for reading\n"
START = (
    "  Stream #0:0[0x100]: Video: h264 (High) ([27][0][0][0] / 0x001B), yuv420p, 24 fps, "
    "24 tbr, 90k tbn, start 2.983333\n"
)
OUTPUT = "  Stream #0:0: Video: h264 (High), yuv420p, q=2-31, 24 fps, 24 tbr, 90k tbn\n"
JUMP = "[vist#0:0/h264 @ 0x55] timestamp discontinuity (stream id=0): -3000001, new offset= {}\n"
FAILED = "[hls @ 0x55] Failed to open segment 7 of playlist 0\n"


@pytest.fixture
def log(tmp_path: Path) -> FfmpegLog:
    (tmp_path / "run.log").touch()
    return FfmpegLog(tmp_path / "run.log", entry_at=ENTRIES.get)


@pytest.fixture
def say(tmp_path: Path) -> Callable[[str], None]:
    def append(text: str) -> None:
        with (tmp_path / "run.log").open("a") as file:
            file.write(text)

    return append


def test_segments_are_recognised_and_not_the_playlist(log: FfmpegLog, say) -> None:
    say(f"[hls @ 0x55] Opening '{PLAYLIST}' for reading\n" + OPENED.format(3) + OPENED.format(4))
    assert log.read() == []
    assert [entry.url for entry, _ in log.opened] == [f"http://stream.test/{i}.ts" for i in (3, 4)]


def test_an_unfinished_line_is_read_later(log: FfmpegLog, say) -> None:
    line = OPENED.format(3)
    say(line[:30])
    log.read()
    assert not log.opened
    say(line[30:])
    log.read()
    assert len(log.opened) == 1


def test_the_first_frame_is_that_of_the_input(log: FfmpegLog, say) -> None:
    say(OUTPUT)
    log.read()
    assert log.start is None
    say(START + START.replace("2.983333", "9.0"))
    log.read()
    assert log.start == 268_500


def test_jumps_are_returned_once_with_what_was_opened_before(log: FfmpegLog, say) -> None:
    say(OPENED.format(3) + OPENED.format(4) + JUMP.format(3000001) + OPENED.format(5))
    log.read()
    [jump] = log.take_jumps()
    opened = tuple(ENTRIES[f"http://stream.test/{n}.ts"] for n in (3, 4))
    assert jump == Jump(by_us=-3000001, offset_us=3000001, opened=opened)
    assert log.take_jumps() == []


@pytest.mark.parametrize(
    ("jumps", "ends"),
    [
        ([("vist#0:0/h264", 14_001_622), ("aist#0:1/aac", -14_001_633)], True),
        ([("aist#0:1/aac", 14_001_622), ("vist#0:0/h264", -14_001_633)], True),
        ([("vist#0:0/h264", 60_000_000), ("vist#0:0/h264", -60_000_000)], False),
        ([("aist#0:1/aac", 60_000_000), ("vist#0:0/h264", -90_000_000)], False),
        ([("aist#0:1/aac", -400_000), ("vist#0:0/h264", -400_000)], False),
    ],
    ids=["picture first", "sound first", "the source goes back", "two jumps", "short segments"],
)
def test_a_jump_that_the_other_stream_undoes_ends_the_run(
    log: FfmpegLog, say, jumps: list[tuple[str, int]], ends: bool
) -> None:
    for stream, by_us in jumps:
        say(f"[{stream} @ 0x55] timestamp discontinuity (stream id=0): {by_us}, new offset= -5\n")
    assert bool(log.read()) == ends
    assert len(log.take_jumps()) == 2


SAID_OF_A_STREAM = """\
Input #0, hls, from 'http://stream.test/0.m3u8':
  Metadata:
    title           : Error: it failed, forbidden
    comment         : Opening 'http://stream.test/9.ts' for reading
                    : [hls @ 0x55] Failed to open segment 7 of playlist 0
    Stream #0:0[0x1]: Stream #0:0: Video: h264, start 7.000000
  Program 0
    Metadata:
      service_name  : [hls @ 0x55] timestamp discontinuity (stream id=0): 1, new offset= 5
      author        : [hls @ 0x55] Stream ends prematurely
"""


def test_text_of_a_stream_in_the_log_is_ignored(log: FfmpegLog, say) -> None:
    say(SAID_OF_A_STREAM)
    assert log.read() == []
    assert (log.error_text, list(log.opened), log.start, log.take_jumps()) == ("", [], None, [])


def test_an_error_that_hides_half_a_segment_is_reported(log: FfmpegLog, say) -> None:
    say("[http @ 0x55] HTTP error 404 Not Found\n")
    assert log.read() == []
    assert log.error_text == "HTTP error 404 Not Found"
    say(FAILED)
    assert log.read() == ["Failed to open segment 7 of playlist 0"]
    assert log.read() == []


def test_a_long_log_is_emptied_and_read_on(
    log: FfmpegLog, say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg_log, "MAX_LOG_BYTES", 100)
    say(OPENED.format(3) * 2)
    log.read()
    assert (tmp_path / "run.log").stat().st_size == 0
    say(OPENED.format(5))
    log.read()
    assert [entry.url[-4:] for entry, _ in log.opened] == ["3.ts", "3.ts", "5.ts"]
