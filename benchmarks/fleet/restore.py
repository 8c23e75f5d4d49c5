"""Trial: the history restored from a dump is the same in another database."""

import subprocess

from sqlalchemy import text

from benchmarks.fleet.fleet import Fleet
from db.session import make_engine

_FACTS = text(
    "SELECT (SELECT count(*) FROM segments), (SELECT count(*) FROM observations),"
    " (SELECT count(*) FROM gaps), (SELECT id FROM installation)"
)


def history_is_restored(fleet: Fleet) -> str:
    """Restore a dump of the history in another database, and compare."""
    programs, back = fleet.postgres.programs, f"{fleet.url}_again"
    dumped = [programs / "pg_dump", "-Fc", fleet.url]
    dump = subprocess.run(dumped, check=True, capture_output=True).stdout
    with fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {back.rpartition('/')[2]}"))
    restored = [programs / "pg_restore", "-d", back]
    subprocess.run(restored, input=dump, check=True, capture_output=True)
    found = []
    for url in (fleet.url, back):
        engine = make_engine(url)
        with engine.connect() as connection:
            found.append(tuple(connection.execute(_FACTS).one()))
        engine.dispose()
    return "the same" if found[0] == found[1] else f"{found[0]} and {found[1]} differ"
