"""Views with means over time, the state of each second, and the networks used.

Revision ID: d82f6c3a7e15
Revises: c4a17e5b9d02
Create Date: 2026-11-30 02:20:00
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "d82f6c3a7e15"
down_revision = "c4a17e5b9d02"
branch_labels = None
depends_on = None

EMOTIONS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
AFFECT = ("valence", "arousal")
TRACKS_PER_BROADCAST = 100_000_000

SHOW = "coalesce(nullif(b.title, ''), c.slug)"


def dominant(prefix: str = "") -> str:
    """Return the SQL expression for the strongest emotion; null without values."""
    strongest = f"greatest({', '.join(f'{prefix}{emotion}' for emotion in EMOTIONS)})"
    whens = " ".join(f"WHEN {prefix}{emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    return f"CASE {strongest} {whens} END"


def listed(pattern: str, names: tuple[str, ...] = EMOTIONS) -> str:
    """Return the pattern once for each name, with commas."""
    return ", ".join(pattern.format(name) for name in names)


def shares(prefix: str) -> str:
    """Return the time shares, from the seconds in which each emotion was the strongest."""
    known = " + ".join(f"{prefix}{emotion}_s" for emotion in EMOTIONS)
    return listed(f"({prefix}{{0}}_s / nullif({known}, 0)::real)::real AS {{0}}_time_share")


MEANS = (*EMOTIONS, *(f"raw_{emotion}" for emotion in EMOTIONS), *AFFECT)

# Over minutes: means weighted by the seconds with a face, without minutes that lack the
# mean; and the seconds in which each emotion was the strongest.
OVER_MINUTES = (
    "coalesce(sum(n), 0)::bigint AS observations, coalesce(sum(seconds), 0)::bigint AS seconds, "
    + listed(
        "(sum({0} * seconds::double precision)"
        " / nullif(sum(seconds) FILTER (WHERE {0} IS NOT NULL), 0))::real AS {0}",
        MEANS,
    )
    + ", "
    + listed("sum({0}_s)::bigint AS {0}_s")
)


def segment_at(channel: str, at: str) -> str:
    """Return the join with the segment of a time.

    The planner omits an aggregate on the right of a left join if none of its columns is used.
    """
    return f"""
LEFT JOIN LATERAL (
    SELECT max(x.model) AS model, max(x.analysed_fps)::real AS fps,
        max(x.width_px) AS width_px, max(x.height_px) AS height_px,
        bool_or(x.start_is_estimated) AS start_is_estimated, bool_or(x.is_ad) AS is_ad
    FROM (
        SELECT model, analysed_fps, width_px, height_px, start_is_estimated, is_ad, ended_at
        FROM segments WHERE channel_id = {channel} AND started_at <= {at}
            AND started_at > {at} - interval '10 minutes'
        ORDER BY started_at DESC LIMIT 1
    ) x WHERE x.ended_at > {at}
) g ON true
"""


RECIPE = (
    "regexp_replace(g.model, '[+]centred$', '') AS model,"
    " CASE WHEN g.model LIKE '%+centred' THEN 'centred' WHEN g.model IS NOT NULL THEN 'causal' END"
    " AS smoothing, g.fps"
)

# The broadcast's bounds do not change the result; they let the planner use the key.
EMOTION_HISTORY = f"""
CREATE VIEW emotion_history AS
SELECT c.slug AS channel, {SHOW} AS show, o.ts,
    (o.track_id % {TRACKS_PER_BROADCAST})::integer AS track,
    {dominant("o.smoothed_")} AS emotion,
    o.score, o.x0, o.y0, o.x1, o.y1,
    {listed("o.smoothed_{0} AS {0}")},
    b.id AS broadcast_id, o.valence, o.arousal,
    o.track_id, {listed("o.{0} AS raw_{0}")}, o.roll_deg, o.yaw,
    {RECIPE}, g.width_px AS frame_width_px, g.height_px AS frame_height_px, g.start_is_estimated,
    coalesce(g.is_ad, false) AS is_ad
FROM observations o
JOIN channels c ON c.id = o.channel_id
JOIN broadcasts b ON b.id = (o.track_id / {TRACKS_PER_BROADCAST})::integer
    AND b.channel_id = o.channel_id AND o.ts >= b.observed_from AND o.ts < b.observed_until
{segment_at("o.channel_id", "o.ts")}
"""

EMOTION_SECONDS = f"""
CREATE VIEW emotion_seconds AS
SELECT c.slug AS channel, {SHOW} AS show, s.second,
    {dominant("s.")} AS emotion,
    s.n AS observations, s.tracks,
    {listed("s.{0}")},
    b.id AS broadcast_id, date_trunc('minute', s.second, 'UTC') AS minute,
    s.looks, {listed("s.raw_{0}")}, {listed("s.{0}", AFFECT)}, {RECIPE}
FROM seconds s
JOIN channels c ON c.id = s.channel_id
JOIN broadcasts b ON b.id = s.broadcast_id
{segment_at("s.channel_id", "(s.second + interval '999999 us')")}
WHERE s.n > 0
"""

EMOTION_TIMELINE = f"""
CREATE VIEW emotion_timeline AS
SELECT c.slug AS channel, {SHOW} AS show, m.minute,
    {dominant("m.")} AS emotion,
    m.n AS observations, m.tracks,
    {listed("m.{0}")},
    b.id AS broadcast_id, m.seconds, {shares("m.")},
    {listed("m.raw_{0}")}, {listed("m.{0}", AFFECT)},
    m.models, m.low_fps, m.high_fps,
    m.models LIKE '%, %' OR m.low_fps < m.high_fps AS mixed
FROM emotion_minutes m
JOIN channels c ON c.id = m.channel_id
JOIN broadcasts b ON b.id = m.broadcast_id
"""

EMOTION_LONG = f"""
CREATE VIEW emotion_long AS
SELECT c.slug AS channel, {SHOW} AS show, m.minute, e.emotion, e.probability,
    (e.strongest_s / nullif({" + ".join(f"m.{emotion}_s" for emotion in EMOTIONS)}, 0)::real)::real
        AS time_share,
    m.n AS observations, b.id AS broadcast_id, m.seconds, e.raw_probability,
    m.models LIKE '%, %' OR m.low_fps < m.high_fps AS mixed
FROM emotion_minutes m
JOIN channels c ON c.id = m.channel_id
JOIN broadcasts b ON b.id = m.broadcast_id
CROSS JOIN LATERAL (
    VALUES {listed("('{0}', m.{0}, m.raw_{0}, m.{0}_s)")}
) AS e (emotion, probability, raw_probability, strongest_s)
WHERE e.probability IS NOT NULL
"""

# A face's mean is over its seconds, as all means are over time. An aggregate on the right of a
# left join is left out by the planner where no column of it is asked for.
TRACK_SUMMARY = f"""
CREATE VIEW track_summary AS
SELECT c.slug AS channel, {SHOW} AS show, t.track_no AS track,
    {dominant("o.")} AS emotion,
    t.first_ts, t.last_ts,
    extract(epoch FROM t.last_ts - t.first_ts)::double precision AS seconds,
    coalesce(o.observations, 0)::integer AS observations,
    o.score, o.width_px, o.height_px,
    {listed("o.{0}")},
    b.id AS broadcast_id, t.id AS track_id, {shares("o.")},
    {listed("o.raw_{0}")}, {listed("o.{0}", AFFECT)}, o.roll_deg, o.yaw,
    EXISTS (SELECT FROM segments a WHERE a.channel_id = b.channel_id AND a.is_ad
        AND a.started_at <= t.first_ts AND a.ended_at > t.first_ts) AS is_ad
FROM face_tracks t
JOIN broadcasts b ON b.id = t.broadcast_id
JOIN channels c ON c.id = b.channel_id
LEFT JOIN LATERAL (
    SELECT sum(n) AS observations, avg(score)::real AS score,
        avg(width_px)::real AS width_px, avg(height_px)::real AS height_px,
        {listed("avg({0})::real AS {0}", (*MEANS, "roll_deg", "yaw"))},
        {listed(f"count(*) FILTER (WHERE ({dominant()}) = '{{0}}') AS {{0}}_s")}
    FROM (
        SELECT count(*) AS n, avg(score) AS score,
            avg(x1 - x0) AS width_px, avg(y1 - y0) AS height_px,
            {listed("avg(smoothed_{0})::real AS {0}, avg({0}) AS raw_{0}")},
            {listed("avg({0}) AS {0}", (*AFFECT, "roll_deg", "yaw"))}
        FROM observations
        WHERE channel_id = b.channel_id AND track_id = t.id
            AND ts >= t.first_ts AND ts <= t.last_ts
        GROUP BY date_trunc('second', ts, 'UTC')
    ) s
) o ON true
"""

OF_ANALYSED = """
        string_agg(DISTINCT model, ', ' ORDER BY model) FILTER (WHERE status = 'analysed')
            AS models,
        (min(analysed_fps) FILTER (WHERE status = 'analysed'))::real AS low_fps,
        (max(analysed_fps) FILTER (WHERE status = 'analysed'))::real AS high_fps
"""

SHOW_SUMMARY = f"""
CREATE VIEW show_summary AS
SELECT c.slug AS channel, {SHOW} AS show, b.started_at, b.ended_at, b.status,
    {dominant("m.")} AS emotion,
    m.observations, t.tracks, s.segments, s.analysed, s.failed, s.recorded_s,
    g.gaps, g.gap_s, s.median_lag_ms, s.p95_lag_ms,
    {listed("m.{0}")},
    b.id AS broadcast_id, s.analysed_s, m.seconds AS face_s,
    (m.seconds / nullif(s.analysed_s, 0))::real AS face_share,
    {shares("m.")}, {listed("m.raw_{0}")}, {listed("m.{0}", AFFECT)},
    s.models, s.low_fps, s.high_fps, s.models LIKE '%, %' OR s.low_fps < s.high_fps AS mixed,
    b.imported
FROM broadcasts b
JOIN channels c ON c.id = b.channel_id
CROSS JOIN LATERAL (
    SELECT count(*) AS segments,
        count(*) FILTER (WHERE status = 'analysed') AS analysed,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        coalesce(sum(duration_s), 0) AS recorded_s,
        coalesce(sum(duration_s) FILTER (WHERE status = 'analysed'), 0) AS analysed_s,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY lag_ms) AS median_lag_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY lag_ms) AS p95_lag_ms,
        {OF_ANALYSED}
    FROM segments WHERE broadcast_id = b.id
) s
CROSS JOIN LATERAL (
    SELECT count(*) AS gaps,
        coalesce(extract(epoch FROM sum(ended_at - started_at)), 0)::double precision AS gap_s
    FROM gaps WHERE broadcast_id = b.id
) g
CROSS JOIN LATERAL (
    SELECT count(*) AS tracks FROM face_tracks WHERE broadcast_id = b.id
) t
CROSS JOIN LATERAL (
    SELECT {OVER_MINUTES} FROM emotion_minutes WHERE broadcast_id = b.id
) m
"""

COVERAGE = f"""
CREATE VIEW coverage AS
SELECT c.slug AS channel, {SHOW} AS show, b.started_at, b.ended_at, b.status,
    s.first_recorded, s.last_recorded,
    coalesce(s.segments, 0)::integer AS segments,
    coalesce(s.analysed, 0)::integer AS analysed,
    coalesce(s.failed, 0)::integer AS failed,
    coalesce(s.waiting, 0)::integer AS waiting,
    coalesce(s.recorded_s, 0) AS recorded_s,
    coalesce(s.analysed_s, 0) AS analysed_s,
    coalesce(g.gaps, 0)::integer AS gaps,
    coalesce(g.gap_s, 0) AS gap_s,
    g.gap_reasons,
    s.recorded_s / nullif(s.recorded_s + coalesce(g.gap_s, 0), 0) AS recorded_share,
    coalesce(s.analysed_s, 0) / nullif(s.recorded_s, 0) AS analysed_share,
    s.frames, s.median_lag_ms, s.p95_lag_ms, s.start_is_estimated,
    b.id AS broadcast_id, s.models, s.low_fps, s.high_fps,
    s.models LIKE '%, %' OR s.low_fps < s.high_fps AS mixed, b.imported, b.stored_at
FROM broadcasts b
JOIN channels c ON c.id = b.channel_id
LEFT JOIN LATERAL (
    SELECT min(started_at) AS first_recorded, max(ended_at) AS last_recorded,
        count(*) AS segments,
        count(*) FILTER (WHERE status = 'analysed') AS analysed,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'recorded') AS waiting,
        sum(duration_s) AS recorded_s,
        sum(duration_s) FILTER (WHERE status = 'analysed') AS analysed_s,
        sum(frames_analysed) FILTER (WHERE status = 'analysed') AS frames,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY lag_ms) AS median_lag_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY lag_ms) AS p95_lag_ms,
        bool_or(start_is_estimated) AS start_is_estimated,
        {OF_ANALYSED}
    FROM segments WHERE broadcast_id = b.id
) s ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS gaps,
        extract(epoch FROM sum(ended_at - started_at))::double precision AS gap_s,
        string_agg(DISTINCT why, '; ') AS gap_reasons
    FROM gaps WHERE broadcast_id = b.id
) g ON true
"""

# What was looked at has its row. The few that have none are made from gaps, and from segments that
# were not analysed, or so seldom looked at that a second may be missed: an index holds those alone.
SHOW_SECONDS = f"""
CREATE VIEW show_seconds AS
SELECT c.slug AS channel, {SHOW} AS show, s.second,
    CASE WHEN s.is_ad THEN 'ad' WHEN s.n > 0 THEN 'faces' ELSE 'no face' END AS state,
    s.looks, s.n AS observations, s.tracks, NULL::text AS why, b.id AS broadcast_id
FROM seconds s
JOIN channels c ON c.id = s.channel_id
JOIN broadcasts b ON b.id = s.broadcast_id
UNION ALL
SELECT c.slug, {SHOW}, r.second, r.state, 0, 0, 0, r.why, b.id
FROM broadcasts b
JOIN channels c ON c.id = b.channel_id
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (x.second) x.second, x.state, x.why
    FROM (
        SELECT 3 AS rank, 'gap' AS state, g.why, second
        FROM gaps g CROSS JOIN generate_series(
            date_trunc('second', g.started_at, 'UTC'),
            g.ended_at - interval '1 us', interval '1 second') second
        WHERE g.broadcast_id = b.id
        UNION ALL
        SELECT CASE s.status WHEN 'analysed' THEN 2 WHEN 'recorded' THEN 1 ELSE 0 END,
            CASE s.status WHEN 'analysed' THEN 'not looked at' WHEN 'recorded' THEN 'waiting'
                ELSE 'failed' END,
            s.error, second
        FROM segments s CROSS JOIN generate_series(
            date_trunc('second', s.started_at, 'UTC'),
            s.ended_at - interval '1 us', interval '1 second') second
        WHERE s.broadcast_id = b.id
            AND (s.status <> 'analysed' OR s.frames_analysed < 2 * s.duration_s + 1)
    ) x
    WHERE NOT EXISTS (SELECT FROM seconds d WHERE d.channel_id = b.channel_id
        AND d.second = x.second AND d.broadcast_id = b.id)
    ORDER BY x.second, x.rank
) r
"""

SHOW_FRAMES = f"""
CREATE VIEW show_frames AS
SELECT c.slug AS channel, {SHOW} AS show, f.ts, coalesce(o.faces, 0)::integer AS faces,
    extract(epoch FROM f.ts - s.started_at)::double precision + s.offset_s AS offset_s,
    s.width_px AS frame_width_px, s.height_px AS frame_height_px,
    regexp_replace(s.model, '[+]centred$', '') AS model, s.analysed_fps::real AS fps,
    s.start_is_estimated, coalesce(s.is_ad, false) AS is_ad, b.id AS broadcast_id
FROM segments s
JOIN broadcasts b ON b.id = s.broadcast_id
JOIN channels c ON c.id = s.channel_id
CROSS JOIN LATERAL (
    SELECT s.started_at + us * interval '1 us' AS ts
    FROM unnest(coalesce(s.frames_us, ARRAY(
        SELECT (i * s.duration_s * 1000000 / s.frames_analysed)::integer
        FROM generate_series(0, s.frames_analysed - 1) i))) us
) f
LEFT JOIN LATERAL (
    SELECT count(*) AS faces FROM observations
    WHERE channel_id = s.channel_id AND ts = f.ts
        AND track_id >= s.broadcast_id * {TRACKS_PER_BROADCAST}::bigint
        AND track_id < (s.broadcast_id + 1) * {TRACKS_PER_BROADCAST}::bigint
) o ON true
WHERE s.status = 'analysed' AND f.ts < s.ended_at
"""

# A shot lasts until the next one; where nothing was seen for long before that, until it was last
# seen. Tracks end with their shot: it has those that begin in it.
SHOW_SHOTS = f"""
CREATE VIEW show_shots AS
SELECT c.slug AS channel, {SHOW} AS show, s.shot::integer AS shot, s.started_at, s.ended_at,
    extract(epoch FROM s.ended_at - s.started_at)::double precision AS seconds,
    s.faces::integer AS faces, b.id AS broadcast_id,
    EXISTS (SELECT FROM segments a WHERE a.channel_id = b.channel_id AND a.is_ad
        AND a.started_at <= s.started_at AND a.ended_at > s.started_at) AS is_ad
FROM broadcasts b
JOIN channels c ON c.id = b.channel_id
CROSS JOIN LATERAL (
    SELECT row_number() OVER w AS shot, y.started_at, y.faces,
        greatest(y.started_at, CASE
            WHEN lead(y.started_at) OVER w IS NULL THEN (
                SELECT max(ended_at) FROM segments WHERE broadcast_id = b.id
                    AND status = 'analysed')
            WHEN lead(y.started_at) OVER w - lead(y.seen_before) OVER w > interval '2 s'
                THEN lead(y.seen_before) OVER w
            ELSE lead(y.started_at) OVER w END) AS ended_at
    FROM (
        SELECT min(x.at) FILTER (WHERE x.kind = 0) AS started_at,
            min(x.seen_before) AS seen_before, count(*) FILTER (WHERE x.kind = 1) AS faces
        FROM (
            SELECT e.*, count(*) FILTER (WHERE e.kind = 0) OVER (
                ORDER BY e.at, e.kind ROWS UNBOUNDED PRECEDING) AS island
            FROM (
                SELECT 0 AS kind, started_at AS at, seen_before FROM shots
                WHERE broadcast_id = b.id
                UNION ALL SELECT 1, first_ts, NULL FROM face_tracks WHERE broadcast_id = b.id
            ) e
        ) x
        WHERE x.island > 0 GROUP BY x.island
    ) y
    WINDOW w AS (ORDER BY y.started_at)
) s
"""

VIEWS = {
    "emotion_history": EMOTION_HISTORY,
    "emotion_seconds": EMOTION_SECONDS,
    "emotion_timeline": EMOTION_TIMELINE,
    "emotion_long": EMOTION_LONG,
    "track_summary": TRACK_SUMMARY,
    "show_summary": SHOW_SUMMARY,
    "coverage": COVERAGE,
    "show_seconds": SHOW_SECONDS,
    "show_frames": SHOW_FRAMES,
    "show_shots": SHOW_SHOTS,
}

BEFORE = (
    "coverage",
    "emotion_history",
    "emotion_long",
    "emotion_seconds",
    "emotion_timeline",
    "show_summary",
    "track_summary",
)

FUNCTIONS_BEFORE = (
    "emotion_newest(text, integer)",
    "emotion_between(text, timestamptz, timestamptz, interval)",
)

COMMENTS = {
    "emotion_history": "Every face at every analysed moment: where it was and what it showed",
    "emotion_seconds": "Mean emotion in each second with a face, over all faces",
    "emotion_timeline": "Mean emotion in each minute of each show, over its seconds with a face",
    "emotion_long": "emotion_timeline with one row an emotion, for charting tools",
    "track_summary": "One row a face of a show: from when to when, and what it showed on average",
    "show_summary": "One row a show: how it went, what was recorded, its mean emotion over time",
    "coverage": "One row a show: what was recorded, what of it was analysed, gaps, and how late",
    "show_seconds": "Every second of a show, and what is known of it",
    "show_frames": "Every analysed frame, also those without a face",
    "show_shots": "One row a shot, from cut to cut, with the faces that appear in it",
}

STRONGEST = "The strongest of the mean emotions; null where there is none"
MIXED = "Whether it mixes networks, ways of smoothing or rates: then compare with care"

SHARED = {
    "channel": "Short name of the channel",
    "show": "Title of the broadcast, or the channel where it has none",
    "broadcast_id": "One show has one number, in all views",
    "track": "The same number is the same face, within one broadcast",
    "track_id": "The same number is the same face, and no other face's in any show",
    "observations": "Faces seen, counted once for each analysed moment",
    "tracks": "Different faces, by track",
    "emotion": STRONGEST,
    "valence": "How pleasant, mean, -1 to 1; null where the network can't tell",
    "arousal": "How aroused, mean, -1 to 1; null where the network can't tell",
    "model": "Names of the two networks; of one's own, with the first digits of its file's SHA-256",
    "models": "The networks that it was made by; +centred: smoothed with a look ahead",
    "smoothing": "causal: by the past alone, as live; centred: by the past and the future",
    "fps": "Looks a second, as asked for or as the load allowed",
    "low_fps": "Looks a second where they were fewest",
    "high_fps": "Looks a second where they were most",
    "mixed": MIXED,
    "imported": "A file, analysed by hand: kept until it is forgotten",
    "start_is_estimated": "The source gave no clock",
    "score": "How sure it is a face, 0 to 1",
    "roll_deg": "Tilt of the line through the eyes, degrees, clockwise in the picture",
    "yaw": "How far the nose is off the middle of the eyes, in distances between them; 0: ahead",
    "frame_width_px": "Width of the source's picture",
    "frame_height_px": "Height of the source's picture: a close-up fills a large part of it",
    "minute": "Beginning of the minute",
    "second": "Beginning of the second",
    "is_ad": "Whether the source says that it is of an advertisement",
    "looks": "Frames of it that were analysed",
    "started_at": "When the watch began",
    "ended_at": "When the watch ended; null while it goes on",
    "status": "live, completed, cancelled, failed or interrupted",
    "segments": "Pieces of recording",
    "analysed": "Segments that were analysed",
    "failed": "Segments that could not be analysed",
    "waiting": "Segments that are on disk and not analysed yet",
    "recorded_s": "Seconds recorded",
    "analysed_s": "Seconds analysed",
    "gaps": "Stretches on air that were not recorded",
    "gap_s": "Seconds on air that were not recorded",
    "median_lag_ms": "From the end of a segment to its rows, half of the segments were quicker",
    "p95_lag_ms": "The same, 95 of 100 segments were quicker",
}
"""Columns that mean the same in several views."""

OWN = {
    "emotion_history": {
        "ts": "When, by the source's clock",
        "emotion": "The strongest of the smoothed emotions; null where there is none",
        "x0": "Left edge of the face, in pixels of the source",
        "y0": "Top edge of the face, in pixels of the source",
        "x1": "Right edge of the face, in pixels of the source",
        "y1": "Bottom edge of the face, in pixels of the source",
        "valence": "How pleasant, -1 to 1; null where the network can't tell",
        "arousal": "How aroused, -1 to 1; null where the network can't tell",
        "yaw": "How far the nose is off the middle of the eyes, in distances between them; 0: "
        "ahead, 0.5: about profile, positive: turned to the right of the picture",
    },
    "emotion_seconds": {"minute": "Beginning of the minute that it is in"},
    "emotion_timeline": {"seconds": "Seconds of it with a face: the mean is over these"},
    "emotion_long": {
        "emotion": "Which emotion this row is about",
        "probability": "Its mean smoothed probability over the minute, 0 to 1",
        "raw_probability": "Its mean probability as the network gave it, 0 to 1",
        "time_share": "Share of the minute's seconds with a face in which it was the strongest",
        "seconds": "Seconds of it with a face: the mean is over these",
    },
    "track_summary": {
        "first_ts": "When the face was first seen",
        "last_ts": "When the face was last seen",
        "seconds": "Between the two",
        "observations": "Moments at which it was seen; 0 where the raw rows are gone",
        "score": "How sure it is a face, mean, 0 to 1",
        "width_px": "Mean width of the face, in pixels of the source",
        "height_px": "Mean height of the face, in pixels of the source",
    },
    "show_summary": {
        "face_s": "Seconds with a face",
        "face_share": "Those, of the seconds analysed",
    },
    "coverage": {
        "first_recorded": "Beginning of the first segment, by the source's clock",
        "last_recorded": "End of the last segment, by the source's clock",
        "gap_reasons": "Why, each reason once",
        "recorded_share": "Recorded, of what was recorded or known to be missed, 0 to 1",
        "analysed_share": "Analysed, of what was recorded, 0 to 1",
        "frames": "Pictures that were analysed",
        "start_is_estimated": "The source gave no clock for at least one segment",
        "stored_at": "When something of it was last written, to the hour: its age for retention",
    },
    "show_seconds": {
        "state": "faces, no face, ad; or not looked at (under load), waiting, failed, gap",
        "why": "Why there is a gap, or why the analysis failed",
    },
    "show_frames": {
        "ts": "When, by the source's clock",
        "faces": "Faces in it",
        "offset_s": "Seconds after the beginning of the file that it is in",
    },
    "show_shots": {
        "shot": "Counts the shots of a show, from 1",
        "started_at": "Its first analysed frame",
        "ended_at": "The next shot's first frame, or the last one that was seen before a hole",
        "seconds": "Between the two",
        "faces": "Different faces that appear in it",
    },
}


def quoted(words: str) -> str:
    """Return a string literal."""
    return "'" + words.replace("'", "''") + "'"


def meaning(view: str, column: str) -> str:
    """Return what a column is said to mean; raise KeyError for one that nobody described."""
    mean = "" if view == "emotion_history" else "mean over time, "
    if column in EMOTIONS:
        return f"Smoothed probability, {mean}0 to 1; null where the network can't tell"
    if column.removeprefix("raw_") in EMOTIONS:
        return f"As the network gave it: probability, {mean}0 to 1; null where it can't tell"
    if column.removesuffix("_time_share") in EMOTIONS:
        return "Share of its seconds with a face in which this was the strongest, 0 to 1"
    return OWN.get(view, {}).get(column) or SHARED[column]


def columns(statement: str) -> list[str]:
    """Return the names that the outermost SELECT of a view gives, without asking a database."""
    depth, quoted_now, part, parts = 0, False, "", []
    selected = statement.split("SELECT", 1)[1]
    for place, letter in enumerate(selected):
        if depth == 0 and selected.startswith("\nFROM", place):
            break
        quoted_now ^= letter == "'"
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0 and not quoted_now:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [each.split()[-1].rpartition(".")[2] for each in [*parts, part]]


def granted(role: str) -> bool:
    """Tell whether a role that `showmood db upgrade --roles` made may read here."""
    if op.get_context().as_sql:
        return False
    return bool(
        op.get_bind().scalar(
            sa.text(
                "SELECT has_table_privilege(oid, 'coverage', 'SELECT') FROM pg_roles"
                " WHERE rolname = :role"
            ),
            {"role": role},
        )
    )


def before(name: str) -> ModuleType:
    """Return an older revision, by the end of its file's name."""
    (path,) = Path(__file__).parent.glob(f"*_{name}.py")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def upgrade() -> None:
    """Apply; who could read the views still can."""
    roles = [role for role in ("showmood_analyst", "showmood_writer") if granted(role)]
    for function in FUNCTIONS_BEFORE:
        op.execute(f"DROP FUNCTION {function}")
    for view in BEFORE:
        op.execute(f"DROP VIEW {view}")
    for view, statement in VIEWS.items():
        op.execute(statement)
        op.execute(f"COMMENT ON VIEW {view} IS {quoted(COMMENTS[view])}")
        for column in columns(statement):
            op.execute(f"COMMENT ON COLUMN {view}.{column} IS {quoted(meaning(view, column))}")
    for role in roles:
        op.execute(f"GRANT SELECT ON {', '.join(VIEWS)} TO {role}")
    if "showmood_writer" in roles:
        op.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON shots, seconds, channel_locks"
            " TO showmood_writer"
        )


def downgrade() -> None:
    """Undo. What the roles may read is to be granted again (`showmood db upgrade --roles`)."""
    for view in reversed(tuple(VIEWS)):
        op.execute(f"DROP VIEW {view}")
    op.execute("DROP FUNCTION observations_drop(timestamptz)")  # made again below
    first = before("the_first_tables")
    for statement in (first.EMOTION_HISTORY, first.EMOTION_TIMELINE, first.SHOW_SUMMARY):
        op.execute(statement)
    for name, words in first.COMMENTS.items():
        op.execute(f"COMMENT ON VIEW {name} IS {quoted(words)}")
        for column, said in first.COLUMN_COMMENTS[name].items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS {quoted(said)}")
        for emotion in EMOTIONS:
            op.execute(
                f"COMMENT ON COLUMN {name}.{emotion} IS "
                "'Smoothed probability, 0 to 1; null where the network can''t tell'"
            )
    before("views_for_the_rest_of_the_questions").upgrade()
    affect = before("valence_and_arousal")
    op.execute(f"CREATE OR REPLACE VIEW emotion_history AS {affect.history(*affect.AFFECT)}")
    for name, said in affect.AFFECT.items():
        op.execute(f"COMMENT ON COLUMN emotion_history.{name} IS {quoted(said)}")
    ads = before("advertisements")
    op.execute(ads.seconds(f"AND {ads.NO_AD}"))
    op.execute(ads.BETWEEN.format(before=ads.RAW, after=ads.RAW_NO_AD))
