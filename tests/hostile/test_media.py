"""Media bombs are refused before memory is allocated, and the show continues."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emotion.media.limits import FILE, SEGMENT, TooMuch, require_bounded

REFUSED = "(UnreadableMedia|VideoError): .*"
SEGMENTS = ("measured", "analysed")
ALL = ("measured", "analysed", "from_file")

# Generator, arguments, functions, expected outcome.
CASES = {
    "one size for all samples": ("one_size_of_all", {}, ALL, "40000000 samples"),
    "one size, fewer": ("one_size_of_all", {"n": 150_000}, ALL, "150000 samples, in"),
    "one size, of sound": ("one_size_of_all", {"sound": 1}, ALL, "samples, in"),
    "no size at all": ("one_size_of_all", {"size": 0}, ALL, "a table of 40000000 entries"),
    "a run without sizes": ("run_of_all", {}, ALL, "40000000 samples"),
    "a run of one size": ("run_of_all", {"size": 1}, ALL, "40000000 samples"),
    "a thousand runs": ("run_of_all", {"n": 150, "n_runs": 1000}, ALL, "150000 samples, in"),
    "chunks of sound": ("chunks_of_sound", {}, ALL, "samples"),
    "a packed header": ("packed", {}, ALL, "packed"),
    "a packed header in free space": ("packed", {"hidden": 1}, ALL, "packed"),
    "edits": ("edits", {"n": 100_000}, ALL, "100000 edits"),
    "boxes in boxes": ("deep", {}, ALL, ""),
    "boxes without end": ("row", {}, SEGMENTS, "more than 20000 boxes"),
    "8K for a segment": (
        "large",
        {"width_px": 5120, "height_px": 2880},
        ("analysed",),
        "5120x2880",
    ),
    "an hour in two seconds": (
        "many",
        {"n_frames": 4000, "rate": 5},
        SEGMENTS,
        "(too long for a segment|is longer)",
    ),
    "all at one moment": ("run_of_all", {"n": 10, "size": 20}, ("measured",), "have the same time"),
    "10,000 a second": (
        "many",
        {"n_frames": 3000, "rate": 10_000},
        ("analysed", "from_file"),
        "more than 1000 pictures a second",
    ),
}


@pytest.mark.parametrize(
    ("asks", "make", "arguments", "says"),
    [
        pytest.param(asks, make, arguments, says, id=f"{name}, {asks}")
        for name, (make, arguments, who, says) in CASES.items()
        for asks in who
    ],
)
def test_a_bomb_is_refused(
    asks: str, make: str, arguments: dict[str, int], says: str, stand: Callable[..., Any]
) -> None:
    stand({}, f"asked_media:{asks}", REFUSED + says, make, arguments, most_mb=256)


def test_the_first_bytes_of_a_bomb_are_refused(stand: Callable[..., Any]) -> None:
    stand({}, "asked_media:head", REFUSED + "40000000 samples", "run_of_all", {})


def test_ten_hours_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    bombs = importlib.import_module("bombs")
    path = tmp_path / "long.mp4"
    path.write_bytes(bombs.ten_hours())
    with path.open("ab") as file:
        file.truncate(3 << 30)  # sparse: takes no space
    require_bounded(path, FILE)
    with pytest.raises(TooMuch, match="samples"):
        require_bounded(path, SEGMENT)
