"""Further views and functions for analysts."""

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.tables.shows import EMOTIONS
from db.writing.rows import ObservationRows
from db.writing.writes import fail_segment, record_gap, record_segment, replace_segment

VIEWS = (
    "coverage",
    "emotion_history",
    "emotion_long",
    "emotion_seconds",
    "emotion_timeline",
    "show_frames",
    "show_seconds",
    "show_shots",
    "show_summary",
    "track_summary",
)


@pytest.fixture
def filled(engine, new_show, observe, t0):
    """80 s with two faces, a third for 4 s; a failed segment, a waiting one, three gaps."""
    titled = new_show("news", title="The Ten O'Clock")
    plain = new_show("demo", title="")
    replace_segment(engine, titled.segment(0), observe(titled.segment(0)))
    for index in range(20):
        segment = plain.segment(index, seconds=4.0, lag_ms=index)
        tracks = (1, 2, 3) if index == 17 else (1, 2)
        replace_segment(engine, segment, observe(segment, tracks, lacking=(6, 7)))
    with engine.begin() as connection:
        fail_segment(connection, plain.segment(40), "truncated")
        record_segment(connection, plain.segment(41))
        for at, why in ((90, "stalled"), (100, "no answer"), (110, "stalled")):
            record_gap(
                connection,
                channel_id=plain.channel_id,
                broadcast_id=plain.broadcast_id,
                started_at=t0 + timedelta(seconds=at),
                ended_at=t0 + timedelta(seconds=at + 2),
                why=why,
            )
    return plain


@pytest.fixture
def ask(engine, filled):
    with engine.connect() as connection:
        yield lambda sql, **values: connection.execute(text(sql), values).all()


def plan(connection, sql: str) -> str:
    return "\n".join(connection.scalars(text(f"EXPLAIN (COSTS OFF) {sql}")))


def test_seconds_are_means_of_their_rows(ask, t0):
    rows = ask("SELECT * FROM emotion_seconds WHERE channel = 'demo' ORDER BY second")
    assert [row.second for row in rows] == [t0 + timedelta(seconds=s) for s in range(80)]
    assert {(row.observations, row.tracks) for row in rows} == {(10, 2), (15, 3)}
    raw = ask(
        f"SELECT {', '.join(f'avg({e})::real AS {e}' for e in EMOTIONS)} FROM emotion_history"
        " WHERE channel = 'demo' AND ts >= :second AND ts < :second + interval '1 second'",
        second=rows[61].second,
    )[0]
    for emotion in EMOTIONS[:6]:
        assert getattr(rows[61], emotion) == pytest.approx(getattr(raw, emotion), rel=1e-6)
    assert (rows[61].fear, rows[61].contempt) == (None, None)
    known = {emotion: getattr(raw, emotion) for emotion in EMOTIONS[:6]}
    assert rows[61].emotion == max(known, key=lambda emotion: known[emotion])


def test_seconds_are_separate_by_show(engine, ask, filled, new_show, observe, t0):
    """Two broadcasts of a channel that share a minute."""
    other = new_show(started_at=t0 + timedelta(seconds=30), title="extra")
    segment = other.segment(45)
    replace_segment(engine, segment, observe(segment, (1,)))
    rows = ask(
        "SELECT show, count(*), sum(observations) FROM emotion_seconds WHERE channel = 'demo'"
        " GROUP BY show ORDER BY show"
    )
    assert [tuple(row) for row in rows] == [("demo", 80, 820), ("extra", 2, 10)]


def test_every_second_says_what_is_known_of_it(engine, ask, filled, t0):
    """Gaps, a failure, a waiting segment; and only keyframes, one every three seconds."""
    segment = filled.segment(
        30, seconds=4.0, frames_analysed=2, analysed_fps=0.5, frames_us=[0, 3_000_000]
    )
    replace_segment(engine, segment, observe_nothing())
    rows = ask("SELECT * FROM show_seconds WHERE channel = 'demo' ORDER BY second")
    assert len({row.second for row in rows}) == len(rows)
    states: dict[str, list[int]] = {}
    for row in rows:
        states.setdefault(row.state, []).append(round((row.second - t0).total_seconds()))
    assert states == {
        "faces": list(range(80)),
        "failed": [80, 81],
        "waiting": [82, 83],
        "gap": [90, 91, 100, 101, 110, 111],
        "no face": [120, 123],
        "not looked at": [121, 122],
    }
    assert {(row.state, row.why) for row in rows if row.why} == {
        ("failed", "truncated"),
        ("gap", "stalled"),
        ("gap", "no answer"),
    }
    frames = ask("SELECT ts, faces, offset_s FROM show_frames WHERE channel = 'demo' AND fps = 0.5")
    assert [tuple(row) for row in frames] == [
        (t0 + timedelta(seconds=at), 0, at - 120.0) for at in (120, 123)
    ]


def observe_nothing() -> ObservationRows:
    """Return no observation."""
    none = np.zeros((0, 8), dtype=np.float32)
    return ObservationRows(
        ts=np.zeros(0, dtype="datetime64[us]"),
        track=np.zeros(0, dtype=np.int64),
        boxes=none[:, :4],
        scores=none[:, 0],
        probs=none,
        smoothed=none,
    )


def test_tracks_have_their_times_and_means(ask, t0):
    rows = ask("SELECT * FROM track_summary WHERE channel = 'demo' ORDER BY track")
    assert [(row.track, row.observations, row.seconds) for row in rows] == [
        (1, 400, 79.8),
        (2, 400, 79.8),
        (3, 20, 3.8),
    ]
    assert (rows[2].first_ts, rows[2].last_ts) == (
        t0 + timedelta(seconds=68),
        t0 + timedelta(seconds=71.8),
    )
    raw = ask("SELECT avg(happiness) FROM emotion_history WHERE channel = 'demo' AND track = 3")
    assert rows[2].happiness == pytest.approx(raw[0][0], rel=1e-6)
    assert rows[2].contempt is None


def test_a_tracks_rows_are_not_read_for_its_times_alone(engine, filled):
    with engine.connect() as connection:
        assert "observations" not in plan(
            connection, "SELECT track, first_ts, seconds FROM track_summary"
        )


def test_coverage(ask, t0):
    news, demo = (
        ask("SELECT * FROM coverage WHERE channel = :c", c=channel)[0]
        for channel in ("news", "demo")
    )
    assert (demo.segments, demo.analysed, demo.failed, demo.waiting) == (22, 20, 1, 1)
    assert (demo.recorded_s, demo.analysed_s) == (84.0, 80.0)
    assert (demo.gaps, demo.gap_s, demo.gap_reasons) == (3, 6.0, "no answer; stalled")
    assert (demo.recorded_share, demo.analysed_share) == (84 / 90, 80 / 84)
    assert (demo.frames, demo.median_lag_ms, demo.p95_lag_ms) == (400, 9.5, pytest.approx(18.05))
    assert (demo.first_recorded, demo.last_recorded) == (t0, t0 + timedelta(seconds=84))
    assert (news.gaps, news.gap_s, news.gap_reasons, news.recorded_share) == (0, 0.0, None, 1.0)


def test_a_show_without_anything_is_covered_by_nothing(ask, new_show):
    new_show("empty")
    row = ask("SELECT * FROM coverage WHERE channel = 'empty'")[0]
    assert (row.segments, row.recorded_s, row.gap_s) == (0, 0.0, 0.0)
    assert (row.recorded_share, row.analysed_share, row.p95_lag_ms) == (None, None, None)


def test_long_is_the_timeline_turned(ask):
    rows = ask("SELECT * FROM emotion_long WHERE channel = 'demo' ORDER BY minute")
    wide = ask("SELECT * FROM emotion_timeline WHERE channel = 'demo'")
    assert {(row.minute, row.emotion, row.probability, row.observations) for row in rows} == {
        (row.minute, emotion, getattr(row, emotion), row.observations)
        for row in wide
        for emotion in EMOTIONS[:6]
    }


def test_a_mixtures_means_are_over_the_seconds_that_know_them(engine, show, observe, t0):
    """Two networks share the first minute: only the one of its last third has contempt."""
    for index in range(5):
        segment = show.segment(index, seconds=20.0, model="plain" if index < 2 else "rich")
        rows = observe(segment, (1,), lacking=(7,) if index < 2 else ())
        replace_segment(engine, segment, rows)
    with engine.connect() as connection:

        def ask(sql: str):
            return connection.execute(text(sql)).all()

        [(contempt, raw, happiness, n)] = ask(
            "SELECT avg(contempt), avg(raw_contempt), avg(happiness), count(contempt)"
            " FROM emotion_seconds"
        )
        of_shows = ask("SELECT contempt, raw_contempt, happiness FROM show_summary")
        of_days = ask(
            "SELECT contempt, raw_contempt, happiness FROM"
            " emotion_between('demo', '2026-11-22', '2026-11-23', '1 day')"
        )
        long = ask(
            "SELECT sum(probability * seconds) / sum(seconds),"
            " sum(raw_probability * seconds) / sum(seconds), sum(seconds) FROM emotion_long"
            " WHERE emotion = 'contempt'"
        )
        minutes = ask(
            "SELECT sum(contempt * contempt_known_s) / sum(contempt_known_s),"
            " sum(raw_contempt * contempt_known_s) / sum(contempt_known_s),"
            " sum(happiness * happiness_known_s) / sum(happiness_known_s), sum(affect_known_s)"
            " FROM emotion_timeline"
        )
    assert n == 60
    assert minutes[0] == pytest.approx((contempt, raw, happiness, 0), rel=1e-6)
    for found in (of_shows, of_days):
        assert found[0] == pytest.approx((contempt, raw, happiness), rel=1e-6)
    assert long[0] == pytest.approx((contempt, raw, 60), rel=1e-6)


def test_buckets_have_raw_means_whatever_they_are_made_of(ask, t0):
    """From minutes, from seconds, and from raw rows."""
    names = [f"raw_{emotion}" for emotion in EMOTIONS[:6]]
    [wanted] = ask(
        f"SELECT {', '.join(f'avg({name})' for name in names)} FROM emotion_seconds"
        " WHERE channel = 'demo'"
    )
    for shift_s in (0, 1, 0.0001):
        since = t0 - timedelta(seconds=shift_s)
        [row] = ask(BETWEEN, since=since, until=since + timedelta(minutes=2), bucket="2 min")
        found = [getattr(row, name) for name in names]
        assert found == pytest.approx(list(wanted), rel=1e-5)
        assert (row.raw_contempt, row.valence, row.arousal) == (None, None, None)


def test_every_column_says_what_it_is(ask):
    for view in VIEWS:
        said = ask(
            "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
            " WHERE attrelid = CAST(:view AS regclass) AND attnum > 0",
            view=view,
        )
        assert [(view, name) for name, words in said if not words] == []
        assert ask(f"SELECT obj_description('{view}'::regclass)")[0][0]


BETWEEN = "SELECT * FROM emotion_between('demo', :since, :until, CAST(:bucket AS interval))"


def test_whole_minutes_come_from_the_minutes(engine, ask, t0):
    """Same results as from raw rows, also after the raw rows were deleted."""
    span = {"since": t0 - timedelta(minutes=1), "until": t0 + timedelta(minutes=3)}
    rows = ask(BETWEEN, **span, bucket="2 min")
    shifted = {name: at - timedelta(microseconds=1) for name, at in span.items()}
    raw = ask(BETWEEN, **shifted, bucket="2 min")
    assert [(row.start, row.observations, row.emotion) for row in rows] == [
        (span["since"] + timedelta(minutes=2 * n), observations, raw[n].emotion)
        for n, observations in enumerate((600, 220))
    ]
    for row, same in zip(rows, raw, strict=True):
        np.testing.assert_allclose(row[3:9], same[3:9], rtol=1e-5)
        assert tuple(row[9:11]) == (None, None)
        assert row.seconds in (60, 20)
        shares = [getattr(row, f"{emotion}_time_share") for emotion in EMOTIONS]
        assert sum(shares) == pytest.approx(1)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM observations"))
        left = connection.execute(text(BETWEEN), {**span, "bucket": "2 min"}).all()
    assert left == rows


def test_buckets_begin_at_since_in_any_session_time_zone(engine, ask, t0):
    since = t0 + timedelta(seconds=0.5)
    span = {"since": since, "until": t0 + timedelta(seconds=10), "bucket": "2.5 s"}
    rows = ask(BETWEEN, **span)
    assert [(row.start, row.observations) for row in rows] == [
        (since + timedelta(seconds=2.5 * n), faces) for n, faces in enumerate((24, 26, 24, 20))
    ]
    with engine.connect() as connection:
        connection.execute(text("SET timezone = 'Australia/Lord_Howe'"))
        assert connection.execute(text(BETWEEN), span).all() == rows


def test_days_are_the_readers_across_the_beginning_of_summer_time(engine, filled, observe):
    """Lord Howe Island sets its clocks forward by half an hour at 15:30 UTC on 3 October."""
    with engine.connect() as connection:
        connection.execute(text("SET timezone = 'Australia/Lord_Howe'"))
        start = connection.scalar(text("SELECT TIMESTAMPTZ '2026-10-03 12:00+00'"))
    for hours in (0.0, 3.4, 23.4, 23.6, 24.1):
        at = start + timedelta(hours=hours)
        segment = filled.segment(int(hours * 10) + 100, started_at=at)
        replace_segment(engine, segment, observe(segment, (1,)))
    with_zone = BETWEEN.replace("interval))", "interval), :zone)")
    span = {"since": start, "until": start + timedelta(days=2), "bucket": "1 day"}
    for since, hours, faces in (
        (start, {"UTC": 24.0, "Australia/Lord_Howe": 23.5}, {"UTC": 40, "Australia/Lord_Howe": 30}),
        # not a whole minute: from the seconds, and from raw rows
        *(
            (start + shift, {"Australia/Lord_Howe": 23.5}, {"Australia/Lord_Howe": seen})
            for shift, seen in ((timedelta(seconds=-1), 30), (timedelta(microseconds=-1), 30))
        ),
    ):
        for zone, length in hours.items():
            with engine.connect() as connection:
                connection.execute(text(f"SET timezone = '{zone}'"))
                rows = connection.execute(text(BETWEEN), span | {"since": since}).all()
                connection.execute(text("SET timezone = 'UTC'"))
                named = span | {"since": since, "zone": zone}
                assert connection.execute(text(with_zone), named).all() == rows
            assert [(row.start, row.observations) for row in rows] == [
                (since, faces[zone]),
                (since + timedelta(hours=length), 50 - faces[zone]),
            ]


HOUR = "now() - interval '1 h', now()"

REFUSED = (
    (f"'demo', {HOUR}, '1 day', 'Europe/Nowhere'", "no time zone 'Europe/Nowhere'", "Berlin"),
    (f"'demo', {HOUR}, '1 day', NULL", "no time zone 'null'", "Berlin"),
    (f"'demo', {HOUR}, 'infinity'", "positive interval", "5 min"),
    (f"'nobody', {HOUR}", "no channel 'nobody'", "DISTINCT channel"),
    (f"NULL, {HOUR}", "no channel 'null'", "DISTINCT channel"),
    (f"'O''Clock \"x\"', {HOUR}", "no channel 'O'Clock \"x\"'", "DISTINCT channel"),
    ("'demo', now(), now() - interval '1 h'", "must be before until", "Both are needed"),
    ("'demo', now(), now()", "must be before until", "Both are needed"),
    ("'demo', NULL, now()", "must be before until", "Both are needed"),
    ("'demo', now(), NULL", "must be before until", "Both are needed"),
    ("'demo', '-infinity', now()", "must be before until", "Both are needed"),
    ("'demo', now(), 'infinity'", "must be before until", "Both are needed"),
    (f"'demo', {HOUR}, '0 s'", "positive interval", "5 min"),
    (f"'demo', {HOUR}, '-1 s'", "positive interval", "5 min"),
    (f"'demo', {HOUR}, '1 month'", "without months", "1 day"),
    (f"'demo', {HOUR}, NULL", "positive interval", "5 min"),
)


def test_invalid_arguments_are_errors(engine, show):
    for arguments, said, hint in REFUSED:
        with engine.connect() as connection, pytest.raises(DBAPIError, match=said) as raised:
            connection.execute(text(f"SELECT * FROM emotion_between({arguments})"))
        assert hint in str(raised.value)


def test_an_empty_range_is_empty(ask):
    assert ask("SELECT * FROM emotion_between('demo', '2020-01-01', '2020-01-02')") == []


def test_newest(ask):
    rows = ask("SELECT * FROM emotion_newest('demo', 5)")
    same = ask(
        "SELECT * FROM emotion_history WHERE channel = 'demo' ORDER BY ts DESC, track LIMIT 5"
    )
    assert rows == same
    assert len(rows) == 5
    assert ask("SELECT count(*) FROM emotion_newest('demo')")[0][0] == 20
    with pytest.raises(DBAPIError, match="no channel 'nobody'"):
        ask("SELECT * FROM emotion_newest('nobody')")


def test_around_a_moment_of_an_unknown_channel_is_nothing(ask, t0):
    """As in a join with a table of times, which may have unknown channels."""
    rows = ask(
        "SELECT e.channel, count(h.ts) FROM (VALUES ('demo'), ('nobody'), (NULL)) e (channel)"
        " LEFT JOIN LATERAL emotion_around(e.channel, :at, '1 s', '1 s') h ON true"
        " GROUP BY 1 ORDER BY 1",
        at=t0 + timedelta(seconds=10),
    )
    assert [tuple(row) for row in rows] == [("demo", 20), ("nobody", 0), (None, 0)]
    assert "unknown channel" in ask("SELECT obj_description('emotion_around'::regproc)")[0][0]


def test_newest_of_a_channel_without_a_face_is_empty(ask, new_show):
    new_show("empty")
    assert ask("SELECT * FROM emotion_newest('empty')") == []


def test_a_shows_seconds_and_faces_are_read_by_key(engine, filled):
    """Queries of a show read only its own rows, independent of the history's size."""
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        for view, key in (
            ("emotion_seconds", "seconds_"),
            ("track_summary", "observations_2026_11_pkey"),
            ("emotion_history", "observations_2026_11_pkey"),
        ):
            said = plan(connection, f"SELECT * FROM {view} WHERE broadcast_id = 1")
            assert key in said
            assert "Seq Scan on observations" not in said
