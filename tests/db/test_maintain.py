"""Maintenance: partitions and retention of each table, also with concurrent writers."""

import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from db import maintain as maintenance
from db.errors import DatabaseUnreachable
from db.maintain import Maintained, Retention, maintain
from db.roles import VIEWS, grant_roles
from db.session import make_engine
from db.writing.forgetting import forget_broadcasts
from db.writing.imports import open_import
from db.writing.writes import record_gap, record_segment, replace_segment

NOW = datetime(2026, 11, 22, 4, 30, tzinfo=UTC)


def partitions(engine) -> list[str]:
    with engine.connect() as connection:
        return list(
            connection.scalars(
                text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")
            )
        )


@pytest.fixture
def year(engine, new_show, observe):
    """A segment, a gap and a track in each of twelve months, of two channels."""
    for slug in ("demo", "news"):
        shown = new_show(slug)
        for index in range(12):
            at = datetime(2025, 12, 15, 12, tzinfo=UTC) + timedelta(days=30.4 * index)
            segment = shown.segment(index, started_at=at)
            replace_segment(engine, segment, observe(segment, (index + 1,)))
            with engine.begin() as connection:
                record_gap(
                    connection,
                    channel_id=shown.channel_id,
                    broadcast_id=shown.broadcast_id,
                    started_at=segment.ended_at,
                    ended_at=segment.ended_at + timedelta(seconds=1),
                    why="stalled",
                )
    age(engine)
    return shown


def age(engine, *, until: str = "2025-12-15") -> None:
    """Set the time when all shows were stored."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE broadcasts SET stored_at = :at"), {"at": until})


def counts(tables) -> dict[str, int]:
    return {name: len(rows) for name, rows in tables().items()}


def test_for_ever_drops_nothing_and_makes_what_comes(engine, year, tables):
    before = tables()
    done = maintain(engine, Retention(), now=NOW)
    assert done[0] == Maintained(
        table="observations", before=None, made=("observations_2026_12", "observations_2027_01")
    )
    assert {(each.table, each.before, each.deleted) for each in done[1:]} == {
        (table, None, 0)
        for table in ("seconds", "emotion_minutes", "face_tracks", "shots", "segments", "gaps")
    }
    assert tables() == before


def test_each_table_has_its_own_age(engine, year, tables):
    done = maintain(
        engine,
        Retention(
            observations_days=60,
            minutes_days=150,
            tracks_days=120,
            segments_days=200,
            gaps_days=1,
        ),
        now=NOW,
    )
    assert done[0].before == NOW - timedelta(days=60)
    # 23 September: all of August is older, not all of September.
    assert done[0].dropped[0] == "observations_2025_12"
    assert done[0].dropped[-1] == "observations_2026_08"
    assert len(done[0].dropped) == 9
    left = counts(tables)
    assert left["observations"] == 3 * 10 * 2
    assert left["emotion_minutes"] == 5 * 2
    assert left["face_tracks"] == 4 * 2
    assert left["segments"] == 7 * 2
    assert left["gaps"] == 0
    assert left["broadcasts"] == 2
    assert {each.table: each.deleted for each in done} == {
        "observations": 0,
        "seconds": 9 * 2 * 2,
        "emotion_minutes": 14,
        "face_tracks": 16,
        "shots": 0,
        "segments": 10,
        "gaps": 24,
    }


def test_minutes_and_tracks_outlive_their_raw_rows(engine, year, tables):
    """Although they are due by their own retention."""
    done = maintain(
        engine, Retention(observations_days=100, minutes_days=1, tracks_days=1), now=NOW
    )
    assert {each.table: each.before for each in done[2:4]} == {
        "emotion_minutes": datetime(2026, 8, 1, tzinfo=UTC),
        "face_tracks": datetime(2026, 8, 1, tzinfo=UTC),
    }
    left = counts(tables)
    assert left["observations"] == 4 * 10 * 2
    assert (left["emotion_minutes"], left["face_tracks"]) == (4 * 2, 4 * 2)


def test_is_idempotent(engine, year, tables):
    retention = Retention(observations_days=60, minutes_days=150, segments_days=200, gaps_days=100)
    maintain(engine, retention, now=NOW)
    once = tables()
    again = maintain(engine, retention, now=NOW)
    assert tables() == once
    assert all(not (each.made or each.dropped or each.deleted) for each in again)


def test_many_rows_go_in_batches(engine, show, tables, monkeypatch):
    with engine.begin() as connection:
        for index in range(25):
            record_segment(connection, show.segment(index))
    statements = {
        table: text(statement.text.replace(str(maintenance.BATCH_ROWS), "10"))
        for table, statement in maintenance._DELETE.items()
    }
    monkeypatch.setattr(maintenance, "BATCH_ROWS", 10)
    monkeypatch.setattr(maintenance, "_DELETE", statements)
    # Also after today: rows stored within the last day are kept.
    later = max(NOW, datetime.now(UTC)) + timedelta(days=9)
    done = maintain(engine, Retention(segments_days=1), now=later)
    assert {each.table: each.deleted for each in done}["segments"] == 25
    assert tables()["segments"] == []


def test_a_month_in_use_is_tried_again_and_left_for_the_next_time(engine, year, monkeypatch):
    monkeypatch.setattr(maintenance, "DROP_ATTEMPTS", 2)
    monkeypatch.setattr(maintenance, "DROP_PAUSE_S", 0.001)
    retention = Retention(observations_days=250)
    with engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM observations"))
        done = maintain(engine, retention, now=NOW)
        assert done[0].dropped == ()
        assert done[0].postponed == (
            "observations_2025_12",
            "observations_2026_01",
            "observations_2026_02",
        )
    assert len(maintain(engine, retention, now=NOW)[0].dropped) == 3


def test_beside_writers_and_another_maintenance(engine, year, observe, tables, database_url):
    """Writers store into this month and into one being dropped, with two maintenance runs."""
    retention = Retention(observations_days=60, segments_days=200)
    raised: list[BaseException] = []
    barrier = threading.Barrier(4)

    def run(job) -> None:
        try:
            barrier.wait()
            for _ in range(3):
                job()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            raised.append(error)

    def write(index: int, at: datetime) -> None:
        for step in range(10):
            segment = year.segment(
                index + step, started_at=at + timedelta(seconds=2 * step), duration_s=2.0
            )
            replace_segment(engine, segment, observe(segment, (index,)))

    def tend() -> None:
        own = make_engine(database_url)
        maintain(own, retention, now=NOW)
        own.dispose()

    threads = [
        threading.Thread(target=run, args=(job,))
        for job in (
            lambda: write(100, NOW),
            lambda: write(200, datetime(2026, 3, 31, 23, 59, 50, tzinfo=UTC)),
            tend,
            tend,
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    age(engine)
    maintain(engine, retention, now=NOW)
    with engine.connect() as connection:
        minutes = connection.execute(
            text(
                "SELECT sum(n) FROM emotion_minutes WHERE broadcast_id = :b AND minute >= :at"
                " AND minute < CAST(:at AS timestamptz) + interval '1 minute'"
            ),
            {"b": year.broadcast_id, "at": NOW},
        ).scalar()
        raw = connection.scalar(
            text("SELECT count(*) FROM observations WHERE ts >= :at AND ts < :end"),
            {"at": NOW, "end": NOW + timedelta(minutes=1)},
        )
    assert minutes == raw == 100
    assert "observations_2026_03" not in partitions(engine)


EVERYTHING = Retention(
    observations_days=30, minutes_days=30, tracks_days=30, segments_days=30, gaps_days=30
)


def test_what_was_written_lately_stays_however_old_it_is(engine, year, tables):
    """For example a recording of last year, analysed again yesterday."""
    age(engine, until="2026-11-01")
    before = tables()
    done = maintain(engine, EVERYTHING, now=NOW)
    assert tables() == before
    assert all(not (each.dropped or each.deleted) for each in done)


def test_a_clip_of_2019_stays_and_what_is_due_beside_it_goes(engine, new_show, observe, tables):
    """Also in the same month, whose partition cannot be dropped; and the clip, once forgotten."""
    at = datetime(2019, 6, 1, 12, tzinfo=UTC)
    with engine.begin() as connection:
        channel, clip = open_import(
            connection,
            slug="clip",
            path=Path("/clip.mp4"),
            source_id="sha256:0",
            title="clip.mp4",
            start=at,
            end=at + timedelta(seconds=4),
        )
    live = new_show("demo", started_at=at)
    imported = replace(live, channel_id=channel, broadcast_id=clip)
    for show in (imported, live):
        for index in range(2):
            segment = show.segment(index, started_at=at + timedelta(seconds=2 * index))
            rows = observe(segment, (1, 2))
            shots = rows.ts[:1]
            replace_segment(
                engine, segment, replace(rows, shots=shots, seen_before=shots - np.timedelta64(1))
            )
    age(engine)
    before = tables()
    done = {each.table: each for each in maintain(engine, EVERYTHING, now=NOW)}
    assert done["observations"].dropped == ()
    assert done["observations"].deleted == 40
    left = tables()
    own = {"observations": 1, "segments": 3, "face_tracks": 1, "seconds": 2, "emotion_minutes": 2}
    for table, column in own.items():
        kept = [row for row in before[table] if clip in (row[column], row[column] // 10**8)]
        assert left[table] == kept != before[table]
    assert len(left["shots"]) == 2
    assert maintain(engine, EVERYTHING, now=NOW)[0].deleted == 0
    assert tables() == left
    with engine.begin() as connection:
        forget_broadcasts(connection, channel, [clip])
    assert maintain(engine, EVERYTHING, now=NOW)[0].dropped == ("observations_2019_06",)
    assert {table: len(rows) for table, rows in tables().items()} == dict.fromkeys(left, 0) | {
        "channels": 2,
        "broadcasts": 1,
    }


def test_a_writer_may_maintain(databases, database_url, engine, year, tables):
    grant_roles(database_url)
    name = f"tender_{engine.url.database}"
    databases.run(f"CREATE ROLE {name} LOGIN IN ROLE showmood_writer")
    writer = make_engine(database_url.replace("://showmood@", f"://{name}@", 1))
    done = maintain(writer, Retention(observations_days=60, gaps_days=60), now=NOW)
    assert (len(done[0].dropped), len(done[0].made)) == (9, 2)
    writer.dispose()
    databases.run(f"DROP ROLE {name}")


def test_a_missing_database_is_an_error(databases, engine, database_url):
    databases.drop(engine.url.database)
    with pytest.raises(DatabaseUnreachable):
        maintain(engine, Retention(), now=NOW)


def test_a_night_is_not_an_age():
    with pytest.raises(ValueError, match="gaps_days must be at least 1"):
        Retention(gaps_days=0)
    with pytest.raises(ValueError, match="aware"):
        maintain(make_engine("postgresql:///x"), Retention(), now=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_table_that_is_not_ours_to_cut_up_is_left_alone(engine, new_show, observe, tables):
    """Like a hypertable: a plain table for us, partitioned by an extension."""
    shown = new_show()
    moments = (NOW - timedelta(days=200), NOW, NOW + timedelta(seconds=2))
    segments = [shown.segment(index, started_at=at) for index, at in enumerate(moments)]
    for segment in segments[:2]:
        replace_segment(engine, segment, observe(segment, (1,)))
    before = tables()
    guide = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    (statements,) = re.findall(r"```sql\nBEGIN;\n(.*?)COMMIT;\n```", guide, re.S)
    assert "create_hypertable" in statements
    with engine.begin() as connection:
        connection.execute(text(re.sub(r"SELECT create_hypertable.*\n", "", statements)))
    assert tables() == before
    for segment in segments:
        replace_segment(engine, segment, observe(segment, (1,)))
    with engine.connect() as connection:
        for view in VIEWS:
            connection.execute(text(f"SELECT * FROM {view}"))
        read = connection.execute(text("SELECT ts FROM emotion_newest('demo', 1)")).scalar_one()
    assert read == NOW + timedelta(seconds=3.8)
    done = maintain(engine, Retention(observations_days=60, minutes_days=60), now=NOW)
    assert done[0] == Maintained(table="observations", before=NOW - timedelta(days=60))
    assert len(tables()["observations"]) == 30
    assert len(tables()["emotion_minutes"]) == 2
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM observations WHERE ts < :at"), {"at": NOW - timedelta(days=1)}
        )
    age(engine)
    maintain(engine, Retention(observations_days=60, minutes_days=60), now=NOW)
    assert len(tables()["emotion_minutes"]) == 1
