"""What a file's end tells: cut within a picture, between two, or whole."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.media import TICKS_PER_S, ends_whole, measure

PACKET = 188
FPS = 25


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Two seconds of a test picture without sound."""

    def run(name: str, *options: str) -> bytes:
        path = tmp_path_factory.mktemp("clip") / name
        command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i"]
        command += [f"testsrc2=size=160x90:rate={FPS}", "-t", "2", "-c:v", "libx264"]
        command += ["-preset", "superfast", "-bf", "0", *options, str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path.read_bytes()

    return run


@pytest.mark.parametrize(
    "options",
    [(), ("-omit_video_pes_length", "0"), ("-muxrate", "2M")],
    ids=["no lengths", "lengths of pictures", "null packets"],
)
def test_a_stream_cut_within_a_picture_is_not_whole(
    options: tuple[str, ...], make: Callable[..., bytes], tmp_path: Path
) -> None:
    data = make("a.ts", *options)
    whole = measure(_file(tmp_path, data))
    assert whole.is_whole
    pid = _video_pid(data)
    ends = [at for at in _places(data, pid) if data[at + 1] & 0x40][1:]
    within = [at for at in _places(data, pid) if at > ends[0] and not data[at + 1] & 0x40]
    assert min(len(ends), len(within)) > 40
    for at in within[::25]:
        assert not measure(_file(tmp_path, data[:at])).is_whole, at
    taken = 0
    for at in ends[::10]:
        cut = measure(_file(tmp_path, data[:at]))
        taken += cut.is_whole
        assert cut.counters[pid] == whole.counters[pid]
        assert cut.next_counters[pid] == data[at + 3] & 15
    assert taken >= len(ends[::10]) - 1  # one in 184 fills its last packet


@pytest.mark.parametrize("options", [(), ("-profile:v", "baseline")], ids=["CABAC", "CAVLC"])
def test_a_picture_that_fills_its_last_packet_can_be_decoded(
    options: tuple[str, ...], make: Callable[..., bytes], tmp_path: Path
) -> None:
    data = make("a.ts", *options)
    places = _places(data, _video_pid(data))
    n_whole = 0
    for at in places[1:][:60]:
        is_whole = ends_whole(_file(tmp_path, data[:at]))
        assert is_whole == bool(data[at + 1] & 0x40), at
        n_whole += is_whole
    assert n_whole > 5


def test_pictures_are_shown_up_to_the_first_hole_that_a_cut_leaves(
    make: Callable[..., bytes], tmp_path: Path
) -> None:
    data = make("b.ts", "-bf", "3", "-b_strategy", "0", "-x264-params", "b-pyramid=normal")
    pid = _video_pid(data)
    assert measure(_file(tmp_path, data)).hole is None
    ends = [at for at in _places(data, pid) if data[at + 1] & 0x40]
    holes = []
    for n in range(2, 10):
        extent = measure(_file(tmp_path, data[: ends[n]]))
        assert extent.interval == TICKS_PER_S // FPS
        end = extent.end if extent.hole is None else extent.hole
        holes.append((end - extent.first) * FPS // TICKS_PER_S)
    # Stored as 0 4 2 1 3 8 6 5 7: all that is shown before what is not there yet.
    assert holes == [1, 1, 3, 5, 5, 5, 7, 9]


def test_fragments_are_counted(make: Callable[..., bytes], tmp_path: Path) -> None:
    flags = "+frag_every_frame+empty_moov+default_base_moof"
    data = make("a.mp4", "-movflags", flags, "-write_tmcd", "0")
    whole = measure(_file(tmp_path, data), fragmented=True)
    places = [at - 4 for at in _found(data, b"moof")]
    [first] = whole.counters.values()
    assert list(whole.next_counters.values()) == [first + len(places)]
    cut = measure(_file(tmp_path, data[: places[20]]), fragmented=True)
    assert cut.is_whole
    assert list(cut.next_counters.values()) == [first + 20]
    assert not measure(_file(tmp_path, data[: places[20] + 90]), fragmented=True).is_whole


def test_what_is_no_stream_of_188_bytes_has_no_counters(tmp_path: Path, pieces: Path) -> None:
    data = (pieces / "piece-00001.ts").read_bytes()
    stamped = b"".join(bytes(4) + data[at : at + PACKET] for at in range(0, len(data), PACKET))
    extent = measure(_file(tmp_path, stamped))
    assert extent.is_whole
    assert not extent.counters
    assert not extent.next_counters


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "x"
    path.write_bytes(data)
    return path


def _places(data: bytes, pid: int) -> list[int]:
    each = range(0, len(data), PACKET)
    found = [at for at in each if (data[at + 1] & 31) << 8 | data[at + 2] == pid]
    return [at for at in found if data[at + 3] & 0x10]  # with a payload


def _video_pid(data: bytes) -> int:
    """256 is ffmpeg's first stream."""
    assert _places(data, 256)
    return 256


def _found(data: bytes, word: bytes) -> list[int]:
    places, at = [], data.find(word)
    while at >= 0:
        places.append(at)
        at = data.find(word, at + 1)
    return places
