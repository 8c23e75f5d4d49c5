"""psql on a database: its password goes by a file, since every user sees a command line."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import URL

from db.embedded import psql_path
from db.session import driver_url


def run_psql(url: str, arguments: Sequence[str]) -> int:
    """Run the wheel's psql on the database, and return its exit code.

    A password is handed over in a file of mode 0600 that PGPASSFILE names; it is deleted when psql
    ends. Raise BadDatabaseURL, EmbeddedError if the wheel is not installed.
    """
    parsed = driver_url(url)
    query = {name: value for name, value in parsed.query.items() if name != "password"}
    secret = parsed.password or parsed.query.get("password")
    # URL.set() takes None for "as it is".
    plain = URL.create(
        "postgresql",
        username=parsed.username,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
        query=query,
    )
    with tempfile.TemporaryDirectory(prefix="showmood-psql-") as folder:
        env = dict(os.environ)
        if secret:
            passfile = Path(folder) / "pgpass"
            passfile.touch(mode=0o600)
            escaped = str(secret).replace("\\", "\\\\").replace(":", "\\:")
            passfile.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
            env["PGPASSFILE"] = str(passfile)
        command = [str(psql_path()), plain.render_as_string(hide_password=False), *arguments]
        return subprocess.run(command, env=env, check=False).returncode
