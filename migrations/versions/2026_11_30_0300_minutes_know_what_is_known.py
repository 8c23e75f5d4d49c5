"""Minutes have the number of seconds in which each emotion is known, as weights of means.

Revision ID: f1d83a6c52b7
Revises: d7c24b81e05f
Create Date: 2026-11-30 03:00:00
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "f1d83a6c52b7"
down_revision = "d7c24b81e05f"
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
MEANS = (*EMOTIONS, *(f"raw_{emotion}" for emotion in EMOTIONS), *AFFECT)
KNOWN = (*EMOTIONS, "affect")


def listed(pattern: str, names: tuple[str, ...] = EMOTIONS) -> str:
    """Return the pattern once for each name, with commas."""
    return ", ".join(pattern.format(name) for name in names)


def known(name: str) -> str:
    """Return the column that counts the seconds of a minute that have this mean."""
    return f"{'affect' if name in AFFECT else name.removeprefix('raw_')}_known_s"


def before(name: str) -> ModuleType:
    """Return an older revision's module, by the end of its file name."""
    (path,) = Path(__file__).parent.glob(f"*_{name}.py")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


views = before("views_over_time")
functions = before("functions_over_time")

# Existing minutes: all their seconds if the emotion has a value, else none. Minutes of several
# networks are counted from the table of seconds, if their seconds still exist.
FILL = (
    "UPDATE emotion_minutes SET "
    + listed("{0}_known_s = CASE WHEN {0} IS NULL THEN 0 ELSE seconds END")
    + ", affect_known_s = CASE WHEN valence IS NULL THEN 0 ELSE seconds END",
    f"UPDATE emotion_minutes m SET {listed('{0}_known_s = s.{0}', KNOWN)} FROM ("
    f"SELECT x.channel_id, x.broadcast_id, x.minute, {listed('count(s.{0}) AS {0}')},"
    " count(s.valence) AS affect FROM emotion_minutes x JOIN seconds s"
    " ON s.channel_id = x.channel_id AND s.broadcast_id = x.broadcast_id AND s.n > 0"
    " AND s.second >= x.minute AND s.second < x.minute + interval '1 minute'"
    " WHERE x.models LIKE '%, %' GROUP BY 1, 2, 3 HAVING sum(s.n) = max(x.n)) s"
    " WHERE m.channel_id = s.channel_id AND m.broadcast_id = s.broadcast_id"
    " AND m.minute = s.minute",
)

WEIGHTED = ", ".join(
    f"(sum({name} * {known(name)}::double precision) / nullif(sum({known(name)}), 0))::real"
    f" AS {name}"
    for name in MEANS
)

OVER_MINUTES = (
    "coalesce(sum(n), 0)::bigint AS observations, coalesce(sum(seconds), 0)::bigint AS seconds, "
    f"{WEIGHTED}, {listed('sum({0}_s)::bigint AS {0}_s')}"
)

SHOW_SUMMARY = views.SHOW_SUMMARY.replace(views.OVER_MINUTES, OVER_MINUTES)

EMOTION_LONG = f"""
CREATE VIEW emotion_long AS
SELECT c.slug AS channel, {views.SHOW} AS show, m.minute, e.emotion, e.probability,
    (e.strongest_s / nullif({" + ".join(f"m.{emotion}_s" for emotion in EMOTIONS)}, 0)::real)::real
        AS time_share,
    m.n AS observations, b.id AS broadcast_id, e.known_s AS seconds, e.raw_probability,
    m.models LIKE '%, %' OR m.low_fps < m.high_fps AS mixed, m.valence, m.arousal
FROM emotion_minutes m
JOIN channels c ON c.id = m.channel_id
JOIN broadcasts b ON b.id = m.broadcast_id
CROSS JOIN LATERAL (
    VALUES {listed("('{0}', m.{0}, m.raw_{0}, m.{0}_s, m.{0}_known_s::integer)")}
) AS e (emotion, probability, raw_probability, strongest_s, known_s)
WHERE e.probability IS NOT NULL
"""

COMMENTS = {
    "emotion_long.seconds": "Seconds of it with a face that this emotion is known of: the mean is"
    " over these",
    "emotion_long.valence": "How pleasant, mean of the minute, -1 to 1; null where the network"
    " can't tell",
    "emotion_long.arousal": "How aroused, mean of the minute, -1 to 1; null where the network"
    " can't tell",
}

AROUND = (
    "The rows of emotion_history of a channel from before a moment to after it, none of an unknown"
    " channel; quick also beside a table of many moments, by CROSS JOIN LATERAL"
)

MORE = (*(f"raw_{emotion}" for emotion in EMOTIONS), *AFFECT)


def between() -> str:
    """Return emotion_between with raw means, valence and arousal as additional last columns."""
    statement = str(functions.EMOTION_BETWEEN)
    for old, new in (
        ("mixed boolean\n)", f"mixed boolean, {listed('{0} real', MORE)}\n)"),
        (functions.ANSWER.rstrip(), f"{functions.ANSWER.rstrip()}, {listed('x.{0}', MORE)}"),
        (functions.WEIGHTED, WEIGHTED),
        (
            listed("avg({0})::real AS {0}"),
            listed("avg({0})::real AS {0}", MEANS),
        ),
        (
            listed("avg(smoothed_{0})::real AS {0}"),
            f"{listed('avg(smoothed_{0})::real AS {0}, avg({0})::real AS raw_{0}')}, "
            f"{listed('avg({0})::real AS {0}', AFFECT)}",
        ),
    ):
        assert old in statement
        statement = statement.replace(old, new)
    return statement


NAME = "emotion_between(text, timestamptz, timestamptz, interval, text)"


def make_between(statement: str) -> None:
    """Recreate the function; roles that can read the views can call it."""
    schema = op.get_context().dialect.identifier_preparer.quote(functions.current_schema())
    op.execute(f"DROP FUNCTION {NAME}")
    op.execute(statement)
    op.execute(f"ALTER FUNCTION {NAME} SET search_path = {schema}, pg_temp")
    op.execute(f"REVOKE ALL ON FUNCTION {NAME} FROM PUBLIC")
    op.execute(f"COMMENT ON FUNCTION {NAME} IS {views.quoted(functions.COMMENTS[NAME])}")
    for role in ("showmood_analyst", "showmood_writer"):
        if views.granted(role):
            op.execute(f"GRANT EXECUTE ON FUNCTION {NAME} TO {role}")


def make_view(name: str, statement: str) -> None:
    """Recreate a view with its comments and rights."""
    roles = [role for role in ("showmood_analyst", "showmood_writer") if views.granted(role)]
    op.execute(f"DROP VIEW {name}")
    op.execute(statement)
    op.execute(f"COMMENT ON VIEW {name} IS {views.quoted(views.COMMENTS[name])}")
    for column in views.columns(statement):
        said = COMMENTS.get(f"{name}.{column}") if statement is EMOTION_LONG else None
        said = said or views.meaning(name, column)
        op.execute(f"COMMENT ON COLUMN {name}.{column} IS {views.quoted(said)}")
    for role in roles:
        op.execute(f"GRANT SELECT ON {name} TO {role}")


def comment_around(said: str) -> None:
    """Set the comment of emotion_around."""
    name = "emotion_around(text, timestamptz, interval, interval)"
    op.execute(f"COMMENT ON FUNCTION {name} IS {views.quoted(said)}")


def upgrade() -> None:
    """Add and fill the columns, and recreate the views and functions that use them."""
    for name in KNOWN:
        op.add_column(
            "emotion_minutes",
            sa.Column(
                f"{name}_known_s",
                sa.SmallInteger(),
                nullable=True,
                comment="Seconds with a face: it is known",
            ),
        )
    for statement in FILL:
        op.execute(statement)
    make_view("emotion_long", EMOTION_LONG)
    make_view("show_summary", SHOW_SUMMARY)
    make_between(between())
    comment_around(AROUND)


def downgrade() -> None:
    """Restore the views and functions, and drop the columns."""
    make_view("emotion_long", views.EMOTION_LONG)
    make_view("show_summary", views.SHOW_SUMMARY)
    make_between(functions.EMOTION_BETWEEN)
    comment_around(functions.COMMENTS["emotion_around(text, timestamptz, interval, interval)"])
    for name in reversed(KNOWN):
        op.drop_column("emotion_minutes", f"{name}_known_s")
