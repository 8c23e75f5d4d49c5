"""A history is restored from a dump, as described in docs/operations.md."""

import subprocess
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import Engine, text

from db.embedded.server import psql_path
from db.machines import installation
from db.session import make_engine, require_current
from db.writing import writes
from db.writing.replacing import replace_segment
from db.writing.rows import ObservationRows, SegmentRow
from emotion.types import EMOTIONS

START = datetime(2026, 11, 22, 20, tzinfo=UTC)


def store(engine: Engine, number: int) -> None:
    """Store a minute of a show with a face in each second."""
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "https://example.com/live")
        broadcast = writes.open_broadcast(connection, channel_id=channel, started_at=START)
    began = START.replace(minute=number)
    probs = np.full((60, len(EMOTIONS)), 1 / len(EMOTIONS), np.float32)
    segment = SegmentRow(
        channel_id=channel,
        broadcast_id=broadcast,
        sequence=number,
        started_at=began,
        duration_s=60.0,
        path=f"/recordings/{number}.ts",
        model="m",
    )
    rows = ObservationRows(
        ts=np.datetime64(began.replace(tzinfo=None), "us") + np.arange(60) * np.timedelta64(1, "s"),
        track=np.full(60, 3),
        boxes=np.zeros((60, 4), np.float32),
        scores=np.ones(60, np.float32),
        probs=probs,
        smoothed=probs,
    )
    replace_segment(engine, segment, rows)


def history(engine: Engine) -> list[object]:
    """Return results of typical queries, and the id of the installation."""
    asked = (
        "SELECT count(*), min(ts), max(ts), avg(happiness) FROM emotion_history",
        "SELECT count(*), min(minute), max(minute) FROM emotion_timeline",
        "SELECT * FROM coverage",
    )
    with engine.connect() as connection:
        said = [tuple(row) for each in asked for row in connection.execute(text(each))]
        return [installation(connection), *said]


def test_history_of_a_dump_is_the_same_and_continues(
    engine: Engine, database_url: str, empty_database_url: str
) -> None:
    store(engine, 0)
    programs = psql_path().parent
    dumped = subprocess.run(
        [programs / "pg_dump", "-Fc", database_url], check=True, capture_output=True
    )
    restored = subprocess.run(
        [programs / "pg_restore", "-d", empty_database_url],
        input=dumped.stdout,
        check=True,
        capture_output=True,
    )
    assert restored.stderr == b""
    again = make_engine(empty_database_url)
    try:
        require_current(again)
        assert history(again) == history(engine)
        for each in (engine, again):
            store(each, 1)
        assert history(again) == history(engine)
    finally:
        again.dispose()
