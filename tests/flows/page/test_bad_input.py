"""Errors of the page: one line with cause and remedy."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from flows.page.app import make_app
from flows.page.reading.database import Reader
from flows.page.serving import main

OLD = "a5f07c93d16e"


def over(page: Any, url: str, path: str) -> httpx.Response:
    """Query the page with another database."""
    reader = Reader(url)

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(replace(page.context, reader=reader)))
        async with httpx.AsyncClient(transport=transport, base_url=page.root) as client:
            return await client.get(path, headers={"Accept": "text/html"})

    try:
        return asyncio.run(get())
    finally:
        reader.close()


@pytest.fixture
def started(monkeypatch, tmp_path) -> Callable[[str, int], str]:
    """Start the page like the stack, when it fails; return its last output."""

    def start(url: str, port: int) -> str:
        monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path))
        monkeypatch.setenv("SHOWMOOD_DATABASE_URL", url)
        monkeypatch.setattr(sys, "argv", ["serving", "--port", str(port)])
        with pytest.raises(SystemExit) as ended:
            main()
        return str(ended.value)

    return start


def test_an_older_schema_ends_the_page_at_its_start(started, engine, database_url) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{OLD}'"))
    said = started(database_url, 1)
    assert "is older than this version: run `showmood db upgrade`" in said
    assert "\n" not in said


def test_an_analyst_can_start_the_page_without_rights_on_the_version(page, started) -> None:
    port = int(page.root.rpartition(":")[2])
    with page.made.engine.begin() as connection:
        connection.execute(text("CREATE ROLE looks LOGIN IN ROLE showmood_analyst"))
    try:
        url = page.made.engine.url.set(username="looks", drivername="postgresql")
        said = started(url.render_as_string(hide_password=False), port)
        assert f"port {port} for the page is in use" in said
    finally:
        with page.made.engine.begin() as connection:
            connection.execute(text("DROP ROLE looks"))


def test_a_port_in_use_is_an_error_with_the_setting(page, started) -> None:
    port = int(page.root.rpartition(":")[2])
    said = started(page.made.url, port)
    assert f"port {port} for the page is in use" in said
    assert "SHOWMOOD_PAGE_PORT" in said


@pytest.mark.parametrize("path", ["/", "/show/1", "/search?emotion=fear", "/compare", "/kept"])
def test_a_changed_schema_is_an_error_page(page, empty_database_url, path) -> None:
    answer = over(page, empty_database_url, path)
    assert answer.status_code == 503
    assert "is not of this version: run `showmood db upgrade`" in answer.text
    assert "To the shows" in answer.text


def test_no_database_is_an_error_page(page) -> None:
    answer = over(page, "postgresql://nobody:secret@127.0.0.1:1/none", "/")
    assert answer.status_code == 503
    assert "is it running, and is SHOWMOOD_DATABASE_URL right?" in answer.text
    assert "secret" not in answer.text


def test_no_show_yet_says_how_to_watch_one(page, database_url) -> None:
    answer = over(page, database_url, "/")
    assert answer.status_code == 200
    assert "showmood" in answer.text
    assert "watch" in answer.text


def test_recordings_on_another_machine_name_it(page) -> None:
    show = page.made.show + 2
    with page.made.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE segments SET path = '/there/0001-20261113T190000Z-000000.ts',"
                " machine = 'studio-2' WHERE broadcast_id = :show"
            ),
            {"show": show},
        )
    try:
        assert page.client.get(f"/data/show/{show}").json()["elsewhere"] == "on studio-2"
        answer = page.client.get(f"/media/{show}/part-0.m3u8")
        assert answer.status_code == 404
        assert answer.json()["why"] == "this show was recorded on studio-2: run showmood page there"
    finally:
        with page.made.engine.begin() as connection:
            connection.execute(
                text("UPDATE segments SET path = NULL, machine = NULL WHERE broadcast_id = :show"),
                {"show": show},
            )


@pytest.mark.parametrize(
    "path", ["/?channel=nobody", "/compare?channel=nobody", "/data/live/nobody"]
)
def test_an_unknown_channel_is_an_error_with_the_existing_ones(page, path, until) -> None:
    answer = page.client.get(path)
    assert answer.status_code == 404
    assert "there is no channel 'nobody' in this history" in answer.json()["why"]
    assert "late-night" in answer.json()["why"]
    until(lambda: page.context.hub.n_streams == 0, what="no stream")
