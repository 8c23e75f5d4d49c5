"""The environment of the stack's processes."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db.session import make_engine
from flows.auth.access import Access
from flows.settings import Settings
from flows.stack.processes.environment import environment
from flows.stack.stack import server_command

ACCESS = Access(secret="x" * 43)


def told(home: Path, *, url: str = "postgresql://me@there/shows", server: bool) -> dict[str, str]:
    return environment(
        Settings(home=home, allow_networks=("10.0.0.0/8",)),  # type: ignore[call-arg]
        database_url=url,
        api_url="http://127.0.0.1:4200/api",
        access=ACCESS,
        allow=("127.0.0.1:8099",),
        server=server,
    )


def test_operators_own_settings_of_prefect_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {
        "PREFECT_SERVER_API_AUTH_STRING": "operator:word",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "https://dash.example.com",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        "PREFECT_SERVER_API_HOST": "0.0.0.0",
    }
    elsewhere = {
        "PREFECT_API_URL": "https://api.prefect.cloud/api",
        "PREFECT_API_KEY": "pnu_x",
        "PREFECT_API_AUTH_STRING": "of:another",
        "PREFECT_HOME": "/elsewhere",
        "PREFECT_PROFILE": "cloud",
        "PREFECT__FLOW_RUN_ID": "of another",
    }
    loud = {"DO_NOT_TRACK": "0", "PREFECT_SERVER_ANALYTICS_ENABLED": "true"}
    for name, value in (theirs | elsewhere | loud).items():
        monkeypatch.setenv(name, value)
    env = told(tmp_path, server=True)
    assert env.items() >= theirs.items()
    assert env["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert env["PREFECT_API_AUTH_STRING"] == ACCESS.auth_string
    assert env["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert not {"PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT__FLOW_RUN_ID"} & set(env)
    assert (env["DO_NOT_TRACK"], env["PREFECT_SERVER_ANALYTICS_ENABLED"]) == ("1", "false")
    assert env["SHOWMOOD_ALLOW_NETWORKS"] == "10.0.0.0/8,127.0.0.1:8099"


def test_server_listens_on_loopback_by_default() -> None:
    assert server_command({}, 4200)[-4:] == ["--host", "127.0.0.1", "--port", "4200"]
    told_otherwise = {"PREFECT_SERVER_API_HOST": "0.0.0.0"}
    assert server_command(told_otherwise, 4200)[-3] == "0.0.0.0"


def test_run_gets_no_password_in_its_environment_and_finds_it(
    tmp_path: Path, databases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect may write a run's environment into a file."""
    monkeypatch.setenv("SHOWMOOD_PREFECT_DATABASE_URL", "postgresql://me:hush@there/prefect")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql://me:hush@there/x")
    monkeypatch.setenv("PREFECT_API_DATABASE_PASSWORD", "hush")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "operator:hush")
    with databases.with_password("watcher", r"hush:b\c d@/%") as url:
        env = told(tmp_path, url=url, server=False)
        assert not any("hush" in value for value in env.values())
        monkeypatch.setenv("PGPASSFILE", env["PGPASSFILE"])
        engine = make_engine(env["SHOWMOOD_DATABASE_URL"])
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_user")).scalar_one() == "watcher"
        engine.dispose()
    assert Path(env["PGPASSFILE"]).stat().st_mode & 0o077 == 0
