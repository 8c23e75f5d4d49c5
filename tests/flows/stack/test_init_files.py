"""First use after installation: init, version, and queries without a history."""

import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from db.channel_lock import channel_lock
from flows.cli import app
from flows.control.client.api import SHIPPED, prefect_file
from flows.errors import UsageError
from flows.settings import Settings
from flows.shows.showfile import read_showfile
from flows.stack.status import read_status

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SHOWMOOD_DATABASE_URL", raising=False)
    return tmp_path


def call(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_init_writes_both_files_and_keeps_what_is_there(empty: Path) -> None:
    (empty / ".env").write_text("SHOWMOOD_UI_PORT=4300\n")
    said = call("init")
    assert f"{empty / 'prefect.yaml'} was written" in said
    assert ".env exists already and was not changed" in said
    assert "showmood shows add" in said
    assert (empty / ".env").read_text() == "SHOWMOOD_UI_PORT=4300\n"
    assert next(each.name for each in read_showfile(empty / "prefect.yaml")) == "adhoc"


def test_env_of_init_has_every_setting_and_changes_nothing(empty: Path) -> None:
    call("init")
    env = empty / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    for name in Settings.model_fields:
        assert f"# SHOWMOOD_{name.upper()}=" in env.read_text()
    assert Settings(_env_file=None) == Settings(_env_file=env)  # type: ignore[call-arg]


def test_every_line_of_env_can_be_uncommented(empty: Path) -> None:
    """Written defaults are read back as the defaults."""
    call("init")
    lines = (empty / ".env").read_text().splitlines()
    taken = [line[2:] for line in lines if line.startswith("# SHOWMOOD_") and line[-1] != "="]
    (empty / "taken").write_text("\n".join(taken))
    assert len(taken) > 20
    assert Settings(_env_file=empty / "taken") == Settings(_env_file=None)  # type: ignore[call-arg]


def test_examples_of_the_shipped_file_are_valid_when_uncommented(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    head, examples = text.split("  # - <<: *show\n", 1)
    taken = [line[4:] for line in f"  # - <<: *show\n{examples}".splitlines() if line[4:]]
    file = tmp_path / "prefect.yaml"
    file.write_text(head + "\n".join(f"  {line}" for line in taken if "work_pool" not in line))
    shows = [each for each in read_showfile(file) if each.slots and each.is_show]
    assert [each.name for each in shows] == ["evening-news", "saturday-show"]


def test_shipped_file_is_used_where_there_is_none(empty: Path) -> None:
    assert prefect_file() == SHIPPED
    assert SHIPPED.resolve() == ROOT / "prefect.yaml"
    assert not any(each.slots for each in read_showfile(SHIPPED) if each.is_show)


def test_a_show_is_added_only_to_the_user_s_own_file(empty: Path) -> None:
    with pytest.raises(UsageError, match="`showmood init` writes one"):
        call("shows", "add", "https://example.com/live", "--name", "news", "--cron", "0 20 * * *")
    assert not (empty / "prefect.yaml").exists()


@pytest.mark.parametrize(
    ("options", "name", "command", "kill"),
    [
        pytest.param((), "showmood.service", "up", "mixed", id="up"),
        # What no other worker takes goes on when its worker is restarted.
        pytest.param(("--worker",), "showmood-worker.service", "worker", "process", id="worker"),
    ],
)
def test_unit_runs_in_this_folder_and_is_valid_for_systemd(
    options: tuple[str, ...], name: str, command: str, kill: str, empty: Path
) -> None:
    call("init")
    said = call("init", "--systemd", *options)
    unit = empty / name
    lines = unit.read_text().splitlines()
    assert f"WorkingDirectory={empty}" in lines
    assert f"ExecStart={Path(sys.executable).with_name('showmood')} {command}" in lines
    assert f"KillMode={kill}" in lines
    assert f"systemctl enable --now {unit.name}" in said
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NO systemd-analyze: the unit was not verified; install Debian's systemd")
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_worker_option_requires_systemd(empty: Path) -> None:
    with pytest.raises(UsageError, match="--worker goes with --systemd"):
        call("init", "--worker")
    assert not list(empty.iterdir())


def test_unit_requires_a_plain_path(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b%h"
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(UsageError, match="without spaces"):
        call("init", "--systemd")
    assert not list(odd.iterdir())


def test_version_is_the_package_s(empty: Path) -> None:
    assert call("--version").strip().startswith("showmood 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "news"),
        ("db", "psql"),
        ("db", "url"),
        ("play", "news"),
        ("clip", "news", "a.mp4", "--from", "20:15", "--to", "45s"),
        ("replay", "news", "--from", "2h"),
    ],
    ids=" ".join,
)
def test_reading_commands_create_no_database(empty: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"no history in .*home: .*SHOWMOOD_HOME") as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    assert not (empty / "home").exists()


def test_help_and_report_import_little() -> None:
    """They start quickly: slow imports happen only where needed."""
    heavy = ("torch", "prefect", "matplotlib", "scipy", "yt_dlp", "av")
    cheap = ("pydantic", "numpy", "sqlalchemy", "httpx")
    code = f"""
import sys, flows.cli
print([name for name in {heavy + cheap} if name in sys.modules])
import flows.commands.work.report_channel
print([name for name in {heavy} if name in sys.modules])
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n[]\n"


def test_status_starts_nothing_and_gives_remedies(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    done = CliRunner().invoke(app, ["status", "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["database"] == "none yet"
    assert found["problems"][0].endswith("is not up: showmood up")
    assert found["problems"][1].startswith("no Prefect server answers at http://127.0.0.1:9/api")
    assert not (empty / "home").exists()


def test_status_reports_a_late_channel_an_old_yt_dlp_and_a_full_disk(
    empty: Path, database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    settings = Settings(home=empty, database_url=database_url, min_free_disk_mb=1 << 40)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO channels (slug, url) SELECT slug, 'https://a.b'"
                " FROM unnest(ARRAY['lost', 'news', 'over', 'waits']) slug;"
                "INSERT INTO broadcasts (channel_id, started_at, planned_end, status)"
                " SELECT id, '2098-12-31', '2099-01-02',"
                " CASE slug WHEN 'over' THEN 'completed' ELSE 'live' END"
                " FROM channels WHERE slug <> 'waits'"
            )
        )
    with channel_lock(engine, "news", "a test"), channel_lock(engine, "waits", "a test"):
        found = read_status(settings, {}, datetime(2099, 1, 1, tzinfo=UTC))
    said = " | ".join(found.problems)
    assert "news is on air, and its newest row is 86400 s old" in said
    assert "lost stopped before its end, and no worker watches it" in said
    assert "waits" not in said
    assert "SHOWMOOD_MIN_FREE_DISK_MB" in said
    assert "days old: sites change, upgrade it" in said
    assert [each.channel for each in found.channels if each.on_air] == ["news"]
