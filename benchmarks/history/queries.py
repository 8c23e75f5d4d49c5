"""Queries of a history, and of histories in other formats, for `benchmarks.history`."""

from db.tables.shows import EMOTIONS

ALTERNATIVES = {
    "one JSONB column": (
        "CREATE TABLE other_jsonb (ts timestamptz, track_id bigint, channel_id integer, x0 real,"
        " y0 real, x1 real, y1 real, score real, emotions jsonb,"
        " PRIMARY KEY (channel_id, ts, track_id))",
        "INSERT INTO other_jsonb SELECT ts, track_id, channel_id, x0, y0, x1, y1, score,"
        " jsonb_strip_nulls(jsonb_build_object("
        + ", ".join(f"'{e}', {e}, 'smoothed_{e}', smoothed_{e}" for e in EMOTIONS)
        + ")) FROM observations",
        "SELECT date_trunc('minute', ts), "
        + ", ".join(f"avg((emotions->>'smoothed_{e}')::real)" for e in EMOTIONS)
        + " FROM other_jsonb WHERE channel_id = :channel AND ts >= :start AND ts < :end GROUP BY 1",
    ),
    "one row an emotion": (
        "CREATE TABLE other_long (ts timestamptz, track_id bigint, channel_id integer,"
        " emotion smallint, value real, smoothed real,"
        " PRIMARY KEY (channel_id, ts, track_id, emotion))",
        "INSERT INTO other_long SELECT o.ts, o.track_id, o.channel_id, e.emotion, e.value,"
        " e.smoothed FROM observations o CROSS JOIN LATERAL (VALUES "
        + ", ".join(f"({i}::smallint, {e}, smoothed_{e})" for i, e in enumerate(EMOTIONS))
        + ") e (emotion, value, smoothed) WHERE e.value IS NOT NULL",
        "SELECT date_trunc('minute', ts), emotion, avg(smoothed) FROM other_long"
        " WHERE channel_id = :channel AND ts >= :start AND ts < :end GROUP BY 1, 2",
    ),
}

AS_IT_IS = (
    "SELECT date_trunc('minute', ts), "
    + ", ".join(f"avg(smoothed_{e})" for e in EMOTIONS)
    + " FROM observations WHERE channel_id = :channel AND ts >= :start AND ts < :end GROUP BY 1"
)

A_SHOW = "broadcast_id = :broadcast"
AN_HOUR = "channel = :slug AND ts >= :start AND ts < :end"

QUESTIONS = {
    "a show, by minute": f"SELECT * FROM emotion_timeline WHERE {A_SHOW} ORDER BY minute",
    "a show, summary": f"SELECT * FROM show_summary WHERE {A_SHOW}",
    "a show, coverage": f"SELECT * FROM coverage WHERE {A_SHOW}",
    "a show, its faces": f"SELECT * FROM track_summary WHERE {A_SHOW}",
    "a show, by second": f"SELECT * FROM emotion_seconds WHERE {A_SHOW}",
    "a show, angry faces": "SELECT track, count(*) FROM emotion_history"
    f" WHERE {AN_HOUR} AND emotion = 'anger' GROUP BY track",
    "a minute, every face": "SELECT * FROM emotion_history WHERE channel = :slug"
    " AND ts >= :start AND ts < CAST(:start AS timestamptz) + interval '1 minute'",
    "a channel, newest 20": "SELECT * FROM emotion_newest(:slug, 20)",
    "a channel, newest 20, by the view": "SELECT * FROM emotion_history WHERE channel = :slug"
    " ORDER BY ts DESC LIMIT 20",
    "a channel-year, by week": "SELECT * FROM emotion_between(:slug, '2025-01-01 00:00+00',"
    " '2026-01-01 00:00+00', '7 days')",
    "a channel-year, happiest minute": "SELECT * FROM emotion_timeline WHERE channel = :slug"
    " ORDER BY happiness DESC NULLS LAST LIMIT 3",
    "a channel-year, last ten shows": "WITH s AS (SELECT broadcast_id FROM coverage"
    " WHERE channel = :slug ORDER BY started_at DESC LIMIT 11)"
    " SELECT emotion, sum(probability * seconds) / sum(seconds) FROM emotion_long"
    " JOIN s USING (broadcast_id) GROUP BY emotion",
    "a channel-year, shows with holes": "SELECT * FROM coverage WHERE channel = :slug"
    " AND (gaps > 0 OR failed > 0)",
}


FULL_YEAR = (
    "INSERT INTO channels (slug, url) VALUES ('full', 'made');"
    " INSERT INTO broadcasts (channel_id, started_at, status) SELECT id, day, 'completed'"
    " FROM channels, generate_series(TIMESTAMPTZ '2025-01-01 10:00+00', '2025-12-31 10:00+00',"
    " '1 day') day WHERE slug = 'full';"
    " INSERT INTO emotion_minutes SELECT b.channel_id, b.started_at + n * interval '1 minute',"
    f" b.id, 900, 4, {', '.join(['random()'] * len(EMOTIONS))}"
    " FROM broadcasts b JOIN channels c ON c.id = b.channel_id, generate_series(0, 719) n"
    " WHERE c.slug = 'full'"
)
"""A channel that is on air 12 hours a day, all year: 262,800 minutes, without raw rows."""

OF_A_FULL_YEAR = {
    "a full channel-year, by week": "a channel-year, by week",
    "a full channel-year, happiest minute": "a channel-year, happiest minute",
    "a full channel-year, last ten shows": "a channel-year, last ten shows",
}
