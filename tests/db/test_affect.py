"""Valence and arousal: null if the network lacks them, and in all outputs."""

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from db.reading.history import columns_of, read_rows
from db.writing.replacing import replace_segment
from db.writing.spool import Spool


@pytest.fixture
def seen(show, observe):
    """Return a segment, and observations, some without valence."""
    segment = show.segment(0)
    rows = observe(segment)
    affect = np.random.default_rng(0).uniform(-1, 1, (len(rows), 2)).astype(np.float32)
    affect[::3, 0] = np.nan
    return segment, replace(rows, affect=affect)


def _stored(engine) -> np.ndarray:
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT valence, arousal FROM emotion_history ORDER BY ts, track")
        ).all()
    return np.array([[np.nan if v is None else v for v in row] for row in found], dtype=np.float32)


def test_what_was_seen_is_in_the_history(engine, seen):
    segment, rows = seen
    replace_segment(engine, segment, rows)
    np.testing.assert_array_equal(_stored(engine), rows.affect)


def test_a_network_without_them_leaves_null(engine, seen):
    segment, rows = seen
    replace_segment(engine, segment, rows)
    replace_segment(engine, segment, replace(rows, affect=None))
    assert np.isnan(_stored(engine)).all()


def test_rows_that_had_to_wait_keep_them(engine, seen, tmp_path):
    segment, rows = seen
    for affect in (None, rows.affect):
        spool = Spool(tmp_path)
        spool.put_segment(segment, replace(rows, affect=affect))
        assert spool.write(engine) == 1
        expected = np.full_like(rows.affect, np.nan) if affect is None else affect
        np.testing.assert_array_equal(_stored(engine), expected)


def test_the_newest_rows_and_an_export_have_them(engine, seen):
    segment, rows = seen
    replace_segment(engine, segment, rows)
    with engine.connect() as connection:
        newest = connection.execute(text("SELECT * FROM emotion_newest('demo', 3)")).mappings()
        assert [row["arousal"] for row in newest] == pytest.approx(
            [float(value) for value in rows.affect[-3:, 1]]
        )
        (exported,) = read_rows(connection, "demo")
        at = [column.name for column in columns_of(connection, "faces")].index("arousal")
    arousal = [row[at] for row in exported.rows]
    assert arousal == pytest.approx([float(value) for value in rows.affect[:, 1]])


def test_rows_are_chosen_with_them(seen):
    _, rows = seen
    chosen = rows.take(np.array([4, 0]))
    np.testing.assert_array_equal(chosen.affect, rows.affect[[4, 0]])


@pytest.mark.parametrize("shape", [(3, 2), (30, 3), (30,)])
def test_another_shape_is_refused(seen, shape):
    _, rows = seen
    with pytest.raises(ValueError, match="affect"):
        replace(rows, affect=np.zeros(shape, dtype=np.float32))
