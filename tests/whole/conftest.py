"""One stack for the end-to-end tests: a browser, and then the whole pipeline.

They share one test process (`tests/conftest.py`), and run in the order of their file names: the
last test of the last file stops the stack.

Prefect's server uses PostgreSQL here if the machine has one with pg_trgm, such as
Debian's; the other tests use SQLite, the default.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest


def postgres_programs() -> Path | None:
    """Return the programs of this machine's PostgreSQL, if it has pg_trgm, which Prefect needs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    for initdb in [*([Path(on_path)] if on_path else []), *found]:
        folder = initdb.resolve().parent
        if not (folder / "pg_config").exists():
            shared = Path("/usr/share/postgresql") / folder.parent.name
        else:
            asked = [folder / "pg_config", "--sharedir"]
            shared = Path(subprocess.check_output(asked, text=True).strip())
        if (shared / "extension" / "pg_trgm.control").exists():
            return folder
    return None


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """Run a server on a separate socket, as an unprivileged user; yield its URL."""
    home = Path(tempfile.mkdtemp(prefix="showmood-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(home, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        made = [programs / "initdb", "--username=prefect", "--auth=trust", "--no-sync"]
        subprocess.run(
            [*made, "--encoding=UTF8", "--locale=C", "--pgdata", home / "data"],
            check=True,
            capture_output=True,
            cwd=home,
            **as_user,
        )
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", home]
        server = subprocess.Popen(
            [programs / "postgres", "-D", home / "data", *options],
            stderr=subprocess.PIPE,
            text=True,
            cwd=home,
            **as_user,
        )
        stack.callback(server.wait)
        stack.callback(server.send_signal, signal.SIGQUIT)
        assert server.stderr is not None
        stack.callback(server.stderr.close)
        for line in server.stderr:
            if "ready to accept connections" in line:
                break
        yield f"postgresql://prefect@/postgres?host={home}"


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str | None]:
    """URL of Prefect's database; None without a suitable server."""
    programs = postgres_programs()
    if programs is None:
        yield None
    else:
        with postgres(programs) as url:
            yield url


@pytest.fixture(scope="session")
def up(
    start_up: Any, prefect_url: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    setting = {"SHOWMOOD_PREFECT_DATABASE_URL": prefect_url} if prefect_url else {}
    with start_up(tmp_path_factory.mktemp("home"), **setting) as started:
        yield started
