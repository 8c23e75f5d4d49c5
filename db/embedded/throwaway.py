"""Runs a command with an empty temporary Postgres.

python -m db.embedded.throwaway COMMAND.

SHOWMOOD_DATABASE_URL is set to the database's URL.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from db.embedded.server import EmbeddedPostgres


def main(command: list[str]) -> int:
    """Run the command and return its exit status."""
    with tempfile.TemporaryDirectory(prefix="showmood-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # for the server's OS user
        with EmbeddedPostgres(
            directory / "pg", open_dir=directory / "open", die_with_owner=True, durable=False
        ) as server:
            env = os.environ | {"SHOWMOOD_DATABASE_URL": server.url}
            return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
