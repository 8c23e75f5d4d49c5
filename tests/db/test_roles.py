"""The two roles: an analyst only reads the views, a writer can do everything that flows do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from db.channel_lock import channel_lock, is_watched
from db.errors import ChannelBusy, DatabaseNotMigrated, DatabaseRefused
from db.reading import queries
from db.reading.newest import newest
from db.roles import ANALYST, FUNCTIONS, LIMITS, VIEWS, WRITER, grant_roles
from db.session import alembic_config, make_engine, require_current, upgrade
from db.writing.rows import SegmentRow
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    fail_segment,
    find_open_broadcast,
    open_broadcast,
    record_gap,
    record_lag,
    record_segment,
    replace_segment,
)

TABLES = (
    "broadcasts",
    "channels",
    "emotion_minutes",
    "face_tracks",
    "gaps",
    "kept",
    "seconds",
    "shots",
    "channel_locks",
    "observations",
    "segments",
)


def logged_in(databases, url: str, role: str, who: str = "user") -> Iterator[Engine]:
    """An engine of a user with only this role."""
    name = f"{who}_{make_engine(url).url.database}"
    databases.run(f"CREATE ROLE {name} LOGIN IN ROLE {role}")
    user = make_engine(url.replace("://showmood@", f"://{name}@", 1))
    yield user
    user.dispose()
    databases.run(f"DROP ROLE {name}")


@pytest.fixture
def analyst(databases, database_url, show):
    grant_roles(database_url)
    yield from logged_in(databases, database_url, ANALYST)


@pytest.fixture
def writer(databases, database_url):
    grant_roles(database_url)
    yield from logged_in(databases, database_url, WRITER)


@pytest.fixture
def writer_too(databases, database_url, analyst):
    """A user with both roles."""
    yield from logged_in(databases, database_url, f"{WRITER}, {ANALYST}", "both")


def test_an_analyst_reads_every_view(analyst):
    with analyst.connect() as connection:
        for view in VIEWS:
            connection.execute(text(f"SELECT * FROM {view}"))


def test_the_views_are_all_there_are(engine):
    with engine.connect() as connection:
        views = connection.scalars(
            text("SELECT viewname FROM pg_views WHERE schemaname = 'public' ORDER BY 1")
        )
        assert tuple(views) == VIEWS


def test_an_analyst_can_call_the_functions(analyst):
    with analyst.connect() as connection:
        connection.execute(text("SELECT * FROM emotion_newest('demo', 3)"))
        connection.execute(
            text("SELECT * FROM emotion_between('demo', now() - interval '1 hour', now(), '5 s')")
        )


def test_an_analyst_does_nothing_else(analyst):
    for statement in (
        *(f"SELECT 1 FROM {table}" for table in TABLES),
        "DELETE FROM channels",
        "SELECT observations_partition(now())",
        "SELECT observations_drop(now())",
        "CREATE TABLE mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE",
    ):
        with (
            analyst.connect() as connection,
            pytest.raises(ProgrammingError, match="permission denied"),
        ):
            connection.execute(text(statement))


def test_an_analysts_sessions_have_limits_from_the_first_login(analyst, writer_too):
    shown = "SELECT " + ", ".join(f"current_setting('{name}')" for name in LIMITS)
    with analyst.connect() as connection:
        assert tuple(connection.execute(text(shown)).one()) == tuple(LIMITS.values())
    with writer_too.connect() as connection:
        assert connection.scalar(text("SELECT current_setting('statement_timeout')")) == "0"


def test_an_owner_who_is_no_superuser_limits_those_whose_roles_are_his(
    databases, database_url, caplog
):
    """Without the right to create a login trigger; a warning names users that cannot be limited."""
    names = [f"{who}_{make_engine(database_url).url.database}" for who in ("boss", "ann", "bob")]
    boss, ann, bob = names
    databases.run(f"CREATE ROLE {boss} LOGIN CREATEROLE IN ROLE showmood")
    url = database_url.replace("://showmood@", f"://{boss}@", 1)
    grant_roles(url)
    for name in (ann, bob):
        databases.run(f"CREATE ROLE {name} LOGIN IN ROLE {ANALYST}")
    databases.run(f"GRANT {ann} TO {boss} WITH ADMIN TRUE, INHERIT FALSE")
    caplog.clear()
    grant_roles(url)
    shown = "SELECT " + ", ".join(f"current_setting('{name}')" for name in LIMITS)
    found = []
    for name in (ann, bob):
        user = make_engine(database_url.replace("://showmood@", f"://{name}@", 1))
        with user.connect() as connection:
            found.append(tuple(connection.execute(text(shown)).one()))
        user.dispose()
    databases.run(f"DROP ROLE {', '.join(names)}")
    assert found == [tuple(LIMITS.values()), ("0", "0", "0")]
    assert f"may not limit the sessions of {bob}" in caplog.text
    assert f"sessions of {ann}" not in caplog.text


def test_no_analyst_stops_a_channel_or_a_migration(analyst, engine, database_url, caplog):
    """Even if they hold all known keys, exclusive or shared, before and during watches."""
    for how in ("pg_advisory_lock", "pg_advisory_lock_shared"):
        with analyst.connect() as thief, engine.connect() as connection:
            with channel_lock(engine, "demo", "one"):
                key = connection.scalar(text("SELECT key FROM channel_locks"))
                with pytest.raises(ChannelBusy, match="one"), channel_lock(engine, "demo", "two"):
                    pass
            connection.commit()
            thief.execute(text(f"SELECT {how}(:key)"), {"key": key})
            thief.execute(text(f"SELECT {how}({0x73686F776D6F6F64})"))  # of migrations, once
            assert not is_watched(connection, "demo")
            with channel_lock(engine, "demo", "two") as lock:
                lock.check()
                connection.commit()
                assert is_watched(connection, "demo")
                with pytest.raises(ChannelBusy, match="two"), channel_lock(engine, "demo", "me"):
                    pass
            assert "held the lock of channel 'demo' without the right to write" in caplog.text
            connection.commit()
            command.downgrade(alembic_config(database_url), "-1")
            upgrade(database_url)


def test_the_functions_are_closed_to_everybody_else(databases, database_url):
    name = f"stranger_{make_engine(database_url).url.database}"
    databases.run(f"CREATE ROLE {name} LOGIN")
    stranger = make_engine(database_url.replace("://showmood@", f"://{name}@", 1))
    with stranger.connect() as connection:
        for function in FUNCTIONS:
            may = connection.scalar(
                text("SELECT has_function_privilege(:function, 'execute')"), {"function": function}
            )
            assert may is False
    stranger.dispose()
    databases.run(f"DROP ROLE {name}")


def test_a_writer_does_all_that_the_flows_do(writer, observe, tables):
    """From the schema check to the report, in a month without a partition."""
    require_current(writer)
    upgrade(writer.url.render_as_string())  # like every command; a no-op
    began = datetime(2031, 1, 31, 23, 59, 58, tzinfo=UTC)
    with channel_lock(writer, "demo", "me"):
        with writer.begin() as connection:
            channel = ensure_channel(connection, "demo", "http://a")
            ensure_channel(connection, "demo", "http://b")
            assert find_open_broadcast(connection, channel) is None
            broadcast = open_broadcast(connection, channel_id=channel, started_at=began)
        for index in range(3):
            segment = SegmentRow(
                channel_id=channel,
                broadcast_id=broadcast,
                sequence=index,
                started_at=began + timedelta(seconds=2 * index),
                duration_s=2.0,
            )
            for tracks in ((1, 2, 3), (2, 4)):
                with writer.begin() as connection:
                    record_segment(connection, segment)
                replace_segment(writer, segment, observe(segment, tracks))
            with writer.begin() as connection:
                record_lag(connection, segment, lag_ms=12)
                queries.tracker_state_before(connection, broadcast, segment.ended_at)
        late = began + timedelta(seconds=6)
        with writer.begin() as connection:
            failed = SegmentRow(
                channel_id=channel,
                broadcast_id=broadcast,
                sequence=3,
                started_at=late,
                duration_s=2.0,
            )
            fail_segment(connection, failed, "truncated")
            record_gap(
                connection,
                channel_id=channel,
                broadcast_id=broadcast,
                started_at=late + timedelta(seconds=60),
                ended_at=late + timedelta(seconds=61),
                why="stalled",
            )
            close_broadcast(connection, broadcast, ended_at=late, status="completed")
    with writer.connect() as connection:
        assert queries.summary(connection, "demo").n_observations == 60
        assert newest(connection, "demo") is not None
        assert len(queries.timeline(connection, "demo").start) == 2
        assert len(queries.tracks(connection, "demo").n) == 2
        assert len(queries.gaps(connection, "demo")) == 1
        assert len(queries.segments_of(connection, broadcast)) == 4
    assert len(tables()["observations"]) == 60


def test_a_writer_makes_and_drops_partitions_but_owns_nothing(writer):
    with writer.begin() as connection:
        connection.execute(text("SELECT observations_partition('2031-05-05')"))
        assert connection.scalar(text("SELECT observations_drop('2031-05-17')")) is True
        assert connection.scalar(text("SELECT observations_drop('2031-05-17')")) is False
    for statement in ("DROP TABLE observations", "ALTER TABLE gaps DROP why"):
        with (
            writer.connect() as connection,
            pytest.raises(ProgrammingError, match="must be owner"),
        ):
            connection.execute(text(statement))


def test_granting_roles_is_idempotent(database_url):
    grant_roles(database_url)
    grant_roles(database_url)


def test_roles_need_the_tables(empty_database_url):
    with pytest.raises(DatabaseNotMigrated, match="showmood db upgrade"):
        grant_roles(empty_database_url)


def test_without_the_right_to_create_roles_is_an_error(writer, databases):
    url = writer.url.render_as_string(hide_password=False)
    with pytest.raises(DatabaseRefused, match="may not create roles or grant rights") as raised:
        grant_roles(url)
    assert "\n" not in str(raised.value)
