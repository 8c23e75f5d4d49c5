import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.maintain import maintain_here
from flows.recordings.alert_clips import path_of, roll_clips
from flows.settings import Settings

NOW = datetime(2026, 11, 22, 4, 30, tzinfo=UTC)
KB = 1024


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Clips of a kilobyte, of 1 to 6 days ago, of two channels by turns."""
    for days in range(1, 7):
        begin = NOW - timedelta(days=days)
        put(path_of(tmp_path / "clips", f"channel-{days % 2}", begin), begin)
    return tmp_path


def put(path: Path, at: datetime) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(KB))
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def ages(home: Path) -> list[int]:
    return sorted(
        round((NOW.timestamp() - path.stat().st_mtime) / 86400)
        for path in home.glob("clips/*/*.mp4")
    )


@pytest.mark.parametrize(
    ("days", "kilobytes", "left"),
    [
        (0, 0, [1, 2, 3, 4, 5, 6]),
        (3.5, 0, [1, 2, 3]),
        (0, 4, [1, 2, 3, 4]),
        (0, 3.5, [1, 2, 3]),
        (5.5, 2, [1, 2]),
        (0.1, 0, []),
        (0, 0.1, [1]),
    ],
)
def test_the_oldest_clips_are_deleted_by_age_and_size_but_never_the_newest(
    home: Path, days: float, kilobytes: float, left: list[int]
) -> None:
    settings = Settings(home=home, keep_clips_days=days, keep_clips_gb=kilobytes / (1 << 20))
    assert roll_clips(settings, NOW) == (6 - len(left), (6 - len(left)) * KB)
    assert ages(home) == left
    assert roll_clips(settings, NOW) == (0, 0)


def test_only_our_own_clips_and_unfinished_ones_are_deleted(home: Path, tmp_path: Path) -> None:
    long_ago = NOW - timedelta(days=900)
    folder = home / "clips" / "channel-1"
    theirs = [
        put(folder / name, long_ago)
        for name in ("best-of.mp4", "20200101T000000Z.txt", ".20200101T000000Z.mp4.part")
    ]
    outside = put(tmp_path / "elsewhere" / "20200101T000000Z.mp4", long_ago)
    (home / "clips" / "linked").symlink_to(outside.parent)
    (folder / "20200102T000000Z.mp4").symlink_to(outside)
    begun = put(folder / ".20200101T000000Z.mp4.0123abcd.part", long_ago)
    being = put(folder / ".20200101T000000Z.mp4.0123abce.part", NOW)
    emptied = put(home / "clips" / "old" / "20200101T000000Z-2.mp4", long_ago)
    assert roll_clips(Settings(home=home), NOW) == (1, KB)
    assert all(path.exists() for path in [*theirs, outside, being])
    assert not begun.exists()
    assert not emptied.parent.exists()
    assert roll_clips(Settings(home=tmp_path / "nowhere"), NOW) == (0, 0)


def test_maintenance_deletes_clips(home: Path, database_url: str) -> None:
    maintain_here(Settings(home=home, keep_clips_days=2.5), database_url, now=NOW)
    assert ages(home) == [1, 2]
