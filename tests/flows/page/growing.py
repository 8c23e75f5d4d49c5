"""A show on air for the page, and a piece of HEVC."""

import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from benchmarks.history.made_shows import make_show, pieces
from db.writing.forgetting import forget_broadcasts
from db.writing.rows import SegmentRow
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    open_broadcast,
    record_segment,
    replace_segment,
)
from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.journal import to_line
from flows.capture.segment import Segment
from flows.recordings.finding import folder_of
from tests.flows.page.conftest import AIR, PIECE_S, Made

WITH_FACES = 11
"""Seed of a show with a face in each second of its first 20: others may begin without any."""


def make_hevc(path: Path) -> None:
    """Create a piece of HEVC of PIECE_S, as .ts or .mp4 by its name."""
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "color=gray:s=128x72:r=10"]
    command += ["-t", str(PIECE_S), "-c:v", "libx265", "-preset", "ultrafast"]
    command += ["-x265-params", "log-level=none:pools=1", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


class Growing:
    """A show on air in its own channel, whose recording and rows grow by one file at a time."""

    def __init__(self, made: Made, slug: str, files: list[Path]) -> None:
        self.made, self.slug, self.files = made, slug, files
        self.begin = AIR + timedelta(days=1)
        self.n = 0
        with made.engine.begin() as connection:
            self.channel = ensure_channel(connection, slug, "https://example.org/more")
            self.show = open_broadcast(
                connection, channel_id=self.channel, started_at=self.begin, title="More"
            )
        self.folder = folder_of(made.recordings_dir, slug, self.begin, self.show)
        self.folder.mkdir(parents=True)
        length_s = len(files) * PIECE_S
        rows = make_show((WITH_FACES,), start=self.begin, seconds=length_s)
        rows.boxes[:] = rows.boxes / 10
        self.rows = list(pieces(rows, start=self.begin, seconds=length_s, segment_s=PIECE_S))

    @property
    def until(self) -> datetime:
        return self.begin + timedelta(seconds=self.n * PIECE_S)

    def grow(self, n: int = 1) -> None:
        for _ in range(n):
            self._add()

    def _add(self) -> None:
        file = self.files[self.n]
        path = self.folder / f"0001-20261121T190000Z-{self.n:06d}{file.suffix}"
        shutil.copy(file, path)
        segment = Segment(
            channel=self.slug,
            broadcast=self.show,
            sequence=self.n,
            start=self.until,
            start_is_estimated=False,
            duration_s=PIECE_S,
            path=path,
            width_px=128,
            height_px=72,
            continuous=self.n > 0,
        )
        with (self.folder / "events.jsonl").open("a") as journal:
            journal.write(f"{to_line(segment)}\n")
        row = SegmentRow(
            channel_id=self.channel,
            broadcast_id=self.show,
            sequence=self.n,
            started_at=self.until,
            duration_s=PIECE_S,
            path=str(path),
            width_px=128,
            height_px=72,
            frames_analysed=round(PIECE_S * 5),
            analysed_fps=5.0,
        )
        with self.made.engine.begin() as connection:
            record_segment(connection, row)
        replace_segment(self.made.engine, row, self.rows[self.n][1])
        self.n += 1

    def end(self) -> None:
        with self.made.engine.begin() as connection:
            close_broadcast(connection, self.show, ended_at=self.until, status="completed")

    def forget(self) -> None:
        with self.made.engine.begin() as connection:
            forget_broadcasts(connection, self.channel, [self.show])
            connection.execute(text("DELETE FROM channels WHERE id = :id"), {"id": self.channel})
