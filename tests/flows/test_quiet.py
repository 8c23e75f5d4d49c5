"""What a flow run imports: no telemetry, also in a terminal, and nothing that few need."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SHOULD_NOT = ("CI", "DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "GITHUB_ACTIONS")
"""Variables with which Prefect sends nothing by itself, as in a CI."""

NEEDLESS = {"alembic", "cryptography", "mako", "matplotlib", "obstore", "scipy", "torch", "yt_dlp"}
"""Packages that take memory, and that a watch needs later or not at all."""


def test_process_in_a_terminal_prints_and_sends_nothing(
    tmp_path: Path, heard_of: Callable[[Path], dict[str, str]]
) -> None:
    """As when a flow is run by hand: Prefect detects a new user.

    What is imported by then is what every watcher holds from its start to its end.
    """
    code = "import sys, flows.watch; print(*sys.modules, file=open(sys.argv[1], 'w'))"
    env = {name: value for name, value in os.environ.items() if name not in SHOULD_NOT}
    env |= {"PREFECT_HOME": str(tmp_path / "prefect"), **heard_of(tmp_path)}
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "imported")],
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            check=True,
        )
        os.write(theirs, b"end")
        assert os.read(ours, 65536) == b"end"
    finally:
        os.close(ours)
        os.close(theirs)
    assert not (tmp_path / "prefect" / ".sdk_telemetry" / "notice_shown").exists()
    assert not (tmp_path / "connections.log").exists()
    imported = {name.split(".")[0] for name in (tmp_path / "imported").read_text().split()}
    assert not NEEDLESS & imported
