"""psql on a database: its password goes by a file, since every user sees a command line."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from db.embedded.server import psql_path
from db.passfile import without_password, write_passfile


def run_psql(url: str, arguments: Sequence[str]) -> int:
    """Run the wheel's psql on the database, and return its exit code.

    A password is handed over in a file of mode 0600 that PGPASSFILE names; it is deleted when psql
    ends. Raise BadDatabaseURL, EmbeddedError if the wheel is not installed.
    """
    plain, secret = without_password(url)
    with tempfile.TemporaryDirectory(prefix="showmood-psql-") as folder:
        env = dict(os.environ)
        if secret is not None:
            env |= write_passfile(Path(folder) / "pgpass", secret)
        command = [str(psql_path()), plain, *arguments]
        return subprocess.run(command, env=env, check=False).returncode
