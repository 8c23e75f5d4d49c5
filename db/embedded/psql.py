"""Runs psql, with the password in a file, because all users can see command lines."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from db.embedded.server import psql_path
from db.passfile import without_password, write_passfile


def run_psql(url: str, arguments: Sequence[str]) -> int:
    """Run the wheel's psql on the database, and return its exit code.

    The password is passed in a file of mode 0600 (PGPASSFILE), deleted when psql
    ends. Raise BadDatabaseURL, EmbeddedError if the wheel is not installed.
    """
    plain, secret = without_password(url)
    with tempfile.TemporaryDirectory(prefix="showmood-psql-") as folder:
        env = dict(os.environ)
        if secret is not None:
            env |= write_passfile(Path(folder) / "pgpass", secret)
        command = [str(psql_path()), plain, *arguments]
        return subprocess.run(command, env=env, check=False).returncode
