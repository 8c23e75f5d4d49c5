"""The views, with an analyst's rights."""

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db.reading import queries
from db.tables.shows import EMOTIONS
from db.writing.writes import fail_segment, record_gap, replace_segment

VIEWS = ("emotion_history", "emotion_timeline", "show_summary")


@pytest.fixture
def filled(engine, new_show, observe, t0):
    titled = new_show("news", title="The Ten O'Clock")
    plain = new_show("demo", title="")
    for shown in (titled, plain):
        for index in range(40):
            segment = shown.segment(index, lag_ms=index)
            replace_segment(engine, segment, observe(segment, (1, 2), lacking=(6, 7)))
    with engine.begin() as connection:
        fail_segment(connection, plain.segment(40), "truncated")
        record_gap(
            connection,
            channel_id=plain.channel_id,
            broadcast_id=plain.broadcast_id,
            started_at=t0 + timedelta(seconds=90),
            ended_at=t0 + timedelta(seconds=91.5),
            why="stalled",
        )
    return plain


@pytest.fixture
def analyst(engine, databases, filled):
    """A connection with a role that can only read the views."""
    role = f"analyst_{engine.url.database}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role}"))
        connection.execute(text(f"GRANT SELECT ON {', '.join(VIEWS)} TO {role}"))
    with engine.connect() as connection:
        connection.execute(text(f"SET ROLE {role}"))
        yield connection
        connection.rollback()
    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {role}; DROP ROLE {role}"))


def test_history(analyst, filled, observe, t0):
    rows = analyst.execute(
        text("SELECT * FROM emotion_history WHERE channel = 'demo' ORDER BY ts DESC, track LIMIT 4")
    ).all()
    assert [row.track for row in rows] == [1, 2, 1, 2]
    assert {row.show for row in rows} == {"demo"}
    given = observe(filled.segment(39), (1, 2), lacking=(6, 7))
    for row, index in zip(rows, (18, 19, 16, 17), strict=True):
        assert row.emotion == EMOTIONS[np.nanargmax(given.smoothed[index])]
        np.testing.assert_array_equal(
            np.float32([row.x0, row.y0, row.x1, row.y1]), given.boxes[index]
        )
        np.testing.assert_array_equal(
            np.float32([getattr(row, emotion) for emotion in EMOTIONS[:6]]),
            given.smoothed[index, :6],
        )
        assert (row.fear, row.contempt) == (None, None)
    assert rows[0].ts == t0 + timedelta(seconds=79.8)


def test_a_title_is_the_show(analyst):
    shows = analyst.scalars(text("SELECT DISTINCT show FROM emotion_history ORDER BY 1")).all()
    assert shows == ["The Ten O'Clock", "demo"]


def test_no_emotion_at_all_is_null(engine, analyst, filled, observe):
    segment = filled.segment(50)
    replace_segment(engine, segment, observe(segment, (5,), lacking=tuple(range(8))))
    row = analyst.execute(text("SELECT * FROM emotion_history WHERE track = 5 LIMIT 1")).one()
    assert (row.emotion, row.neutral) == (None, None)


def test_timeline_has_a_row_a_minute(analyst, t0):
    rows = analyst.execute(
        text("SELECT * FROM emotion_timeline WHERE channel = 'demo' ORDER BY minute")
    ).all()
    assert [(row.minute, row.observations, row.tracks) for row in rows] == [
        (t0, 600, 2),
        (t0 + timedelta(minutes=1), 200, 2),
    ]
    means = np.array([getattr(rows[0], emotion) for emotion in EMOTIONS], dtype=float)
    assert rows[0].emotion == EMOTIONS[np.nanargmax(means)]


def test_summary_has_a_row_a_show_and_agrees_with_the_query(engine, analyst):
    row = analyst.execute(text("SELECT * FROM show_summary WHERE channel = 'demo'")).one()
    with engine.connect() as connection:
        summary = queries.summary(connection, "demo")
    assert (row.observations, row.tracks) == (summary.n_observations, summary.n_tracks)
    assert (row.segments, row.analysed, row.failed, row.recorded_s) == (41, 40, 1, 82.0)
    assert (row.gaps, row.gap_s) == (1, 1.5)
    assert (row.median_lag_ms, row.p95_lag_ms) == (summary.median_lag_ms, summary.p95_lag_ms)
    assert row.emotion == summary.emotion
    assert (row.contempt, summary.share["contempt"]) == (None, None)
    for emotion in EMOTIONS[:6]:
        assert getattr(row, emotion) == pytest.approx(summary.share[emotion], rel=1e-5)


def test_a_show_without_anything_is_in_the_summary(engine, new_show, analyst):
    new_show("empty")
    row = analyst.execute(text("SELECT * FROM show_summary WHERE channel = 'empty'")).one()
    assert (row.observations, row.segments, row.gap_s, row.emotion) == (0, 0, 0.0, None)


def test_tables_are_closed_to_the_analyst(analyst):
    with pytest.raises(ProgrammingError, match="permission denied for table observations"):
        analyst.execute(text("SELECT 1 FROM observations"))


@pytest.mark.parametrize("view", VIEWS)
def test_views_say_what_they_are(engine, view):
    with engine.connect() as connection:
        assert connection.scalar(text(f"SELECT obj_description('{view}'::regclass)"))
        described = connection.scalar(
            text(
                "SELECT count(*) FROM pg_description WHERE objoid = CAST(:view AS regclass)"
                " AND objsubid > 0"
            ),
            {"view": view},
        )
    assert described > len(EMOTIONS)


def test_a_channels_hour_is_read_by_key_and_from_one_partition(engine, filled):
    """The plan uses the key and only the hour's partition, independent of the history's size."""
    with engine.connect() as connection:
        connection.execute(text("SELECT observations_partition(now() + interval '2 months')"))
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(
            connection.scalars(
                text(
                    "EXPLAIN SELECT * FROM emotion_history WHERE channel = 'demo'"
                    " AND ts >= '2026-11-22 18:00+00' AND ts < '2026-11-22 19:00+00'"
                )
            )
        )
    assert "observations_2026_11_pkey" in plan
    assert plan.count(" on observations_") == 1
