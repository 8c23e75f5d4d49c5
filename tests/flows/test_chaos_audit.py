"""The audit of `make chaos` finds planted errors in rows, journals, files and processes.

A complete show of eight segments in a real database, in which one thing is then broken.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import Engine, text

from benchmarks.chaos.audit import audit
from benchmarks.chaos.left import left_behind
from benchmarks.origin.testcard import make_testcard
from db.writing.replacing import replace_segment
from db.writing.rows import ObservationRows, SegmentRow, to_microseconds
from db.writing.writes import ensure_channel, open_broadcast
from flows.capture.recorded.journal import JOURNAL, to_line
from flows.capture.segment import Segment
from flows.demo.channel import LiveOrigin
from flows.recordings.finding import folder_of

N = 8
PIECE_S = 0.5
BEGAN = datetime(2026, 11, 29, 22, 0, tzinfo=UTC)


class Stage:
    """A show as after `make chaos`: published segments, files, journal and rows."""

    def __init__(self, engine: Engine, home: Path, card: Path) -> None:
        self.engine, self.home = engine, home
        self.now = BEGAN
        self.origin = LiveOrigin(card, started_at=BEGAN, loop=False, clock=lambda: self.now)
        self.now += timedelta(seconds=N * PIECE_S + 60)
        with engine.begin() as connection:
            self.channel = ensure_channel(connection, "show-0", "http://show")
            self.broadcast = open_broadcast(
                connection, channel_id=self.channel, started_at=BEGAN, status="completed"
            )
        self.folder = folder_of(home / "recordings", "show-0", BEGAN, self.broadcast)
        self.folder.mkdir(parents=True)
        for n in range(N):
            self.record(n)

    def record(self, n: int) -> None:
        """Store a segment like a watcher: its file, a line in the journal, rows."""
        path = self.folder / f"0001-20261129T220000Z-{n:06d}.ts"
        path.write_bytes(self.origin.piece_at(n).path.read_bytes())
        start = self.origin.start_of(n)
        segment = Segment(
            channel="show-0",
            broadcast=self.broadcast,
            sequence=n,
            start=start,
            start_is_estimated=False,
            duration_s=PIECE_S,
            path=path,
            width_px=640,
            height_px=360,
        )
        with (self.folder / JOURNAL).open("a") as journal:
            journal.write(to_line(segment).rstrip("\n") + "\n")
        row = SegmentRow(
            channel_id=self.channel,
            broadcast_id=self.broadcast,
            sequence=n,
            started_at=start,
            duration_s=PIECE_S,
            path=str(path),
            model="net",
            frames_analysed=2,
        )
        faces = np.full((2, 8), 0.125, np.float32)
        observed = ObservationRows(
            ts=to_microseconds(start) + np.array([0, 200_000]).astype("timedelta64[us]"),
            track=np.full(2, 1 + n // 4, np.int64),  # two faces, consecutively
            boxes=np.tile(np.array([0, 0, 9, 9], np.float32), (2, 1)),
            scores=np.full(2, 0.9, np.float32),
            probs=faces,
            smoothed=faces,
        )
        replace_segment(self.engine, row, observed)

    def rows(self, sql: str, **values: object) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), values))

    def spoil(self, sql: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql))

    def wrong(self) -> list[str]:
        show = SimpleNamespace(slug="show-0", origin=self.origin)
        archive = SimpleNamespace(find=lambda path: path)
        return audit(self, show, archive, [], end=N, last=self.broadcast).wrong  # type: ignore[arg-type]


@pytest.fixture
def stage(engine: Engine, tmp_path: Path, made_once: Callable[..., Path]) -> Stage:
    make = partial(make_testcard, duration_s=N * PIECE_S, segment_s=PIECE_S, variants=())
    return Stage(engine, tmp_path, made_once("chaos-card", make) / "full")


def file_of(stage: Stage, n: int) -> Path:
    return next(stage.folder.glob(f"*-{n:06d}.ts"))


def record_one_twice(stage: Stage) -> None:
    file_of(stage, 5).write_bytes(file_of(stage, 4).read_bytes())


def forget_a_row(stage: Stage) -> None:
    stage.spoil("DELETE FROM observations WHERE ts >= '2026-11-29 22:00:01.5+00'")
    stage.spoil("DELETE FROM segments WHERE sequence = 3")


def say_a_gap_that_was_not(stage: Stage) -> None:
    forget_a_row(stage)
    stage.spoil(
        "INSERT INTO gaps (channel_id, broadcast_id, started_at, ended_at, why)"
        " SELECT id, 1, '2026-11-29 22:00:01.5+00', '2026-11-29 22:00:02+00', 'HTTP 500'"
        " FROM channels"
    )


def note_one_twice(stage: Stage) -> None:
    journal = stage.folder / JOURNAL
    journal.write_text(journal.read_text() + journal.read_text().splitlines()[2] + "\n")


def lose_a_file(stage: Stage) -> None:
    file_of(stage, 6).unlink()


def count_a_track_twice(stage: Stage) -> None:
    """Give the number of the first face to another, ten seconds after its end."""
    stage.spoil(
        "UPDATE observations SET track_id = (SELECT min(track_id) FROM observations),"
        " ts = ts + interval '10 s' WHERE ts >= '2026-11-29 22:00:03.5+00'"
    )


def number_tracks_the_wrong_way_round(stage: Stage) -> None:
    first = f"{stage.broadcast} * 100000000::bigint + 1"
    stage.spoil(f"UPDATE observations SET track_id = track_id + 8 WHERE track_id = {first}")
    stage.spoil("UPDATE face_tracks SET id = id + 8, track_no = 9 WHERE track_no = 1")


def date_it_wrongly(stage: Stage) -> None:
    stage.spoil("UPDATE segments SET started_at = started_at + interval '0.2 s'")


def spoil_a_minute(stage: Stage) -> None:
    stage.spoil("UPDATE emotion_minutes SET n = n + 1")


def test_complete_show_has_no_findings(stage: Stage) -> None:
    assert stage.wrong() == []


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (record_one_twice, r"0\.50 s are there twice"),
        (record_one_twice, r"0\.50 s are missing, and no gap says so"),
        (forget_a_row, "no row between segment 2 .* and segment 4"),
        (forget_a_row, "segment 3 .* is in .* and is no row"),
        (forget_a_row, r"0\.50 s are missing, and no gap says so"),
        (say_a_gap_that_was_not, "the gap .*HTTP 500.*: there was no such fault"),
        (note_one_twice, "segment 2 .*: its number is there twice"),
        (lose_a_file, "segment 6 has no file"),
        (count_a_track_twice, "goes on after .*: two faces, one number"),
        (count_a_track_twice, "faces are of no segment"),
        (number_tracks_the_wrong_way_round, "track number 2 begins after 9"),
        (date_it_wrongly, "dates are off by 0.2"),
        (spoil_a_minute, "minutes are not the sum of their faces"),
    ],
)
def test_planted_errors_are_found(stage: Stage, plant: Callable[[Stage], None], says: str) -> None:
    plant(stage)
    wrong = stage.wrong()
    assert any(re.search(says, line) for line in wrong), wrong


@pytest.fixture
def lingering(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A leftover process."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-S", "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def test_leftovers_of_a_stack_are_found(
    tmp_path: Path, free_port: Callable[[], int], request: pytest.FixtureRequest
) -> None:
    home, cluster = tmp_path / "home", tmp_path / "pg" / "cluster"
    folder = home / "recordings" / "show-0" / "2026"
    for made in (folder, cluster):
        made.mkdir(parents=True)
    (folder / "whole.ts").touch()

    def processes() -> list[psutil.Process]:
        return []

    up = SimpleNamespace(home=home, port=free_port(), processes=processes)
    ours = psutil.Process().pid
    assert left_behind(up, cluster, ours=ours) == []  # type: ignore[arg-type]

    (folder / "0001.ts.tmp").touch()
    (cluster / "postmaster.pid").touch()
    request.getfixturevalue("lingering")
    up.home = tmp_path
    wrong = left_behind(up, cluster, ours=ours)  # type: ignore[arg-type]
    assert any("a process is left" in line for line in wrong)
    up.home = home
    wrong = left_behind(up, cluster, ours=ours)  # type: ignore[arg-type]
    assert "recordings/show-0/2026/0001.ts.tmp is left" in wrong
    assert "the database's postmaster.pid is left" in wrong
