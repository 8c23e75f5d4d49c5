"""Migrations: from empty, down and up, concurrently, and equal to the models."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from db.session import MIGRATIONS, alembic_config, make_engine, require_current, upgrade

ROOT = MIGRATIONS.parent


def dump(url: str) -> list[tuple[str, ...]]:
    """Describe every column, constraint, index, view, function and comment."""
    engine = make_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT 'column', c.oid::regclass::text, a.attname,"
                "  (row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum))::text,"
                "  format_type(a.atttypid, a.atttypmod) || a.attnotnull || a.attidentity::text,"
                "  col_description(c.oid, a.attnum)"
                " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
                " WHERE c.relnamespace = 'public'::regnamespace AND a.attisdropped IS FALSE"
                " UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, contype::text,"
                "  pg_get_constraintdef(oid), '' FROM pg_constraint"
                "  WHERE connamespace = 'public'::regnamespace"
                " UNION ALL SELECT 'relation', oid::regclass::text, relkind::text, '',"
                "  CASE relkind WHEN 'v' THEN pg_get_viewdef(oid)"
                "   WHEN 'i' THEN pg_get_indexdef(oid) ELSE '' END, obj_description(oid)"
                "  FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " UNION ALL SELECT 'function', proname, '', '', pg_get_functiondef(oid),"
                "  obj_description(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            )
        ).all()
    engine.dispose()
    return sorted(tuple(str(cell) for cell in row) for row in rows)


FILL = (
    "INSERT INTO channels (slug, url) VALUES ('demo', 'u') ON CONFLICT DO NOTHING;"
    "INSERT INTO broadcasts (channel_id, started_at, status)"
    " VALUES (1, '2026-11-22 18:00+00', 'completed') ON CONFLICT DO NOTHING;"
    "INSERT INTO segments (channel_id, started_at, ended_at, broadcast_id, sequence, duration_s,"
    " status) VALUES (1, '2026-11-22 18:00+00', '2026-11-22 18:00:02+00', 1, 0, 2, 'analysed')"
    " ON CONFLICT DO NOTHING;"
    "INSERT INTO gaps VALUES (1, '2026-11-22 18:01+00', '2026-11-22 18:02+00', 1, 'stalled')"
    " ON CONFLICT DO NOTHING;"
    "INSERT INTO face_tracks VALUES"
    " (100000001, 1, 1, '2026-11-22 18:00+00', '2026-11-22 18:00+00') ON CONFLICT DO NOTHING;"
    "SELECT observations_partition('2026-11-22 18:00+00');"
    "INSERT INTO observations (ts, track_id, channel_id, x0, y0, x1, y1, score)"
    " VALUES ('2026-11-22 18:00+00', 100000001, 1, 0, 0, 1, 1, 1) ON CONFLICT DO NOTHING;"
    "INSERT INTO emotion_minutes VALUES (1, '2026-11-22 18:00+00', 1, 1, 1)"
    " ON CONFLICT DO NOTHING"
)

# New columns are filled by the upgrade; rows inserted later get the same values.
FILL_MORE = (
    "DO $$ BEGIN IF to_regclass('seconds') IS NOT NULL THEN"
    " UPDATE broadcasts SET stored_at = started_at, observed_from = started_at,"
    "  observed_until = started_at + interval '1 hour';"
    " UPDATE emotion_minutes SET (seconds, neutral_s, happiness_s, surprise_s, sadness_s, anger_s,"
    "  disgust_s, fear_s, contempt_s) = (1, 0, 0, 0, 0, 0, 0, 0, 0);"
    " INSERT INTO seconds VALUES ('2026-11-22 18:00+00', 1, 1, 0, 1, 1) ON CONFLICT DO NOTHING;"
    " END IF; END $$"
)

TABLES = (
    "channels",
    "broadcasts",
    "segments",
    "gaps",
    "face_tracks",
    "observations",
    "emotion_minutes",
)


def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables."""
    engine = make_engine(url)
    with engine.connect() as connection:
        found = {
            table: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))]
            for table in TABLES
        }
    engine.dispose()
    return found


def assert_outlived(
    rows: dict[str, list[tuple[object, ...]]], left: dict[str, list[tuple[object, ...]]]
) -> None:
    """Assert that every row is kept, for the common columns; new columns are last."""
    assert {table: len(found) for table, found in left.items()} == {
        table: len(found) for table, found in rows.items()
    }
    for table, found in left.items():
        assert found == [row[: len(one)] for row, one in zip(rows[table], found, strict=True)]


def fill(url: str) -> None:
    """Insert a row into every table, and create a partition."""
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text(FILL))
        connection.execute(text(FILL_MORE))
    engine.dispose()


def test_every_migration_goes_down_and_up_again(empty_database_url):
    """With a row in every table and a partition: they survive every step but the first."""
    config = alembic_config(empty_database_url)
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    for step, revision in enumerate(reversed(revisions)):
        upgrade(empty_database_url, revision)
        fill(empty_database_url)
        shape, rows = dump(empty_database_url), contents(empty_database_url)
        assert all(rows.values())
        command.downgrade(config, "-1")
        if step:
            assert_outlived(rows, contents(empty_database_url))
        upgrade(empty_database_url, revision)
        fill(empty_database_url)
        assert dump(empty_database_url) == shape
        assert contents(empty_database_url) == rows
    command.downgrade(config, "base")
    left = {row[1] for row in dump(empty_database_url) if row[0] == "relation"}
    assert left == {"alembic_version", "alembic_version_pkc"}


def test_two_upgrades_at_once(empty_database_url):
    code = "import sys; from db.session import upgrade; upgrade(sys.argv[1])"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_database_url], stderr=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    engine = make_engine(empty_database_url)
    require_current(engine)
    engine.dispose()


def test_a_migration_does_not_queue_behind_a_long_query(database_url, engine):
    """It gives up after the lock timeout, without changes."""
    config = alembic_config(database_url)
    config.attributes["lock_timeout"] = "50ms"
    before = dump(database_url)
    with engine.begin() as reader:
        reader.execute(text("SELECT 1 FROM channels"))
        with pytest.raises(OperationalError, match="lock timeout"):
            command.downgrade(config, "base")
    assert dump(database_url) == before


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env=os.environ | {"SHOWMOOD_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_upgrades_and_finds_models_and_tables_equal(empty_database_url):
    done = alembic(empty_database_url, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("SELECT observations_partition(now())"))
    done = alembic(empty_database_url, "check")
    assert (done.returncode, done.stdout) == (0, "No new upgrade operations detected.\n")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE segments DROP COLUMN tracker_state"))
    engine.dispose()
    assert alembic(empty_database_url, "check").returncode != 0


def test_migrations_as_sql_need_no_database(capsys):
    command.upgrade(alembic_config("postgresql://nobody@nowhere/x"), "head", sql=True)
    said = capsys.readouterr().out
    assert "CREATE TABLE observations" in said
    assert "CREATE VIEW show_summary" in said


def test_without_a_url_it_says_which_variable(monkeypatch):
    monkeypatch.delenv("SHOWMOOD_DATABASE_URL", raising=False)
    with pytest.raises(CommandError, match="set SHOWMOOD_DATABASE_URL"):
        command.current(alembic_config(""))


def test_files_are_named_by_date():
    names = [path.name for path in (MIGRATIONS / "versions").glob("*.py")]
    dated = [name for name in names if re.fullmatch(r"\d{4}_\d\d_\d\d_\d{4}_[a-z0-9_]+\.py", name)]
    assert sorted(names) == sorted([*dated, "__init__.py"])
    assert Path(ROOT / "alembic.ini").exists()
