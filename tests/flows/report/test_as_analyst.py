"""Reports and exports with the rights of an analyst."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from benchmarks.history.made_shows import make_show
from db.errors import UnknownChannel
from db.reading.history import KINDS
from db.roles import ANALYST, grant_roles
from db.writing.rows import SegmentRow
from db.writing.writes import ensure_channel, open_broadcast, record_gap, replace_segment
from flows.cli import app
from flows.commands.work.database_errors import explained

START = datetime(2026, 11, 20, 22, tzinfo=UTC)
TITLE = """The "Ten" [/O'Clock]"""
"""With quotes, and characters of terminal markup."""


@pytest.fixture
def ask(
    engine: Engine, database_url: str, databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Run a command as an analyst of a show of a minute."""
    with engine.begin() as connection:
        channel = ensure_channel(connection, "talk", "http://talk")
        show = open_broadcast(connection, channel_id=channel, started_at=START, title=TITLE)
        end = START + timedelta(seconds=70)
        record_gap(
            connection,
            channel_id=channel,
            broadcast_id=show,
            started_at=START + timedelta(seconds=60),
            ended_at=end,
            why="stalled",
        )
    segment = SegmentRow(
        channel_id=channel,
        broadcast_id=show,
        sequence=0,
        started_at=START,
        duration_s=60,
        frames_analysed=300,
        analysed_fps=5.0,
    )
    replace_segment(engine, segment, make_show((1,), start=START, seconds=60))
    grant_roles(database_url)
    name = f"ann_{engine.url.database}"
    databases.run(f"CREATE ROLE {name} LOGIN IN ROLE {ANALYST}")
    url = database_url.replace("://showmood@", f"://{name}@", 1)
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", url)
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield lambda *arguments: CliRunner().invoke(app, arguments)
    databases.run(f"DROP ROLE {name}")


def test_an_analyst_has_reports_and_exports(ask: Callable[..., Result], tmp_path: Path) -> None:
    span = ("--since", "2026-11-20", "--until", "2026-11-22")
    for arguments in (
        ("report",),
        ("report", "talk", *span, "--png", "a.png"),
        *(("report", "talk", "--show", "last", "--rows", kind, "--csv", "a.csv") for kind in KINDS),
        ("report", "talk", *span, "--json", "a.json", "--format", "openface"),
        ("report", "talk", "--show", TITLE, "--csv", "a[bold][.csv", "--svg", "a[dim][.svg"),
    ):
        done = ask(*arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
    said = " ".join(ask("report", "talk", *span).output.split())
    assert "frames analysed 300" in said
    assert "gaps 1 (10.0 s)" in said
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert len((tmp_path / "a.json").read_text().splitlines()) >= 300
    assert (tmp_path / "a[bold][.csv").read_text().count('"The ""Ten"" [/O\'Clock]"') >= 300
    assert f"parts of 1 (2026-11-20 22:00 UTC, {TITLE})" in " ".join(
        ask("report", "talk", "--since", "2026-11-20T22:00:30Z").output.split()
    )
    assert isinstance(ask("report", "nobody").exception, UnknownChannel)


def test_a_command_without_the_rights_is_a_one_line_error(ask: Callable[..., Result]) -> None:
    done = ask("forget", "talk", "--yes")
    assert done.exception is not None
    said = str(explained(done.exception) or done.exception)
    assert "\n" not in said
    assert "permission denied" in said
    assert ask("report", "talk", "--since", "2026-11-20").exit_code == 0
