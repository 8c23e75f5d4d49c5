"""A broadcast left open by a dead watcher is closed by the next watch of its channel."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db.channel_lock import channel_lock
from flows.live.left_open import close_left_open, end_cancelled
from flows.settings import Settings

LOG = logging.getLogger(__name__)


@pytest.fixture
def left(open_show: Callable[..., Any]) -> Callable[..., Any]:
    """Leave a broadcast of a run open, with an hour of its planned time left."""

    def make(run: str | None = "one") -> Any:
        began = datetime.now().astimezone() - timedelta(hours=1)
        end = began + timedelta(hours=2)
        return open_show(started_at=began, status="live", planned_end=end, flow_run_id=run)

    return make


@pytest.fixture
def next_watch(engine: Engine, recordings_dir: Path) -> Callable[..., None]:
    """Acquire the channel, like the next watch at its start."""

    def run(run_id: str | None, *, cancelled: str = "") -> None:
        close_left_open(
            engine,
            recordings_dir / "flash",
            machine=None,
            run_id=run_id,
            was_cancelled=lambda asked: asked == cancelled,
            log=LOG,
        )

    return run


def statuses(engine: Engine) -> list[tuple[str, datetime | None]]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT status, ended_at FROM broadcasts ORDER BY id"))
        return [(row.status, row.ended_at) for row in found]


def test_an_open_broadcast_of_a_cancelled_run_is_closed_as_cancelled_with_its_rows(
    engine: Engine, air, record, left: Callable[..., Any], next_watch: Callable[..., None]
) -> None:
    """Its process was killed before it had stored the last rows."""
    show = record(air("ts"), (0, 3), show=left())
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM segments WHERE sequence > 0"))
    next_watch("two", cancelled="one")
    assert statuses(engine) == [("cancelled", max(show.segments[-1].end, began(engine)))]
    assert len(show.paths()) == 3


def began(engine: Engine) -> datetime:
    with engine.connect() as connection:
        return connection.execute(text("SELECT started_at FROM broadcasts")).scalar_one()


@pytest.mark.parametrize(
    ("run", "then", "status"),
    [
        ("one", "two", "interrupted"),
        ("one", None, "interrupted"),
        (None, "two", "interrupted"),
        (None, None, "interrupted"),
        ("one", "one", "live"),
    ],
)
def test_only_its_own_run_continues_an_open_broadcast(
    engine: Engine,
    left: Callable[..., Any],
    next_watch: Callable[..., None],
    run: str | None,
    then: str | None,
    status: str,
) -> None:
    left(run)
    next_watch(then)
    assert [each for each, _ in statuses(engine)] == [status]


def test_a_cancelled_run_that_is_restarted_closes_only_its_own_broadcast(
    engine: Engine, database_url: str, left: Callable[..., Any], recordings_dir: Path
) -> None:
    left("one")
    settings = Settings(home=recordings_dir.parent, database_url=database_url)
    with channel_lock(engine, "flash", "one"):
        end_cancelled(settings, "flash", "one", LOG)
        assert [each for each, _ in statuses(engine)] == ["live"], "its process still stores"
    end_cancelled(settings, "flash", "two", LOG)
    assert [each for each, _ in statuses(engine)] == ["live"], "it is another's"
    end_cancelled(settings, "flash", "one", LOG)
    assert [each for each, _ in statuses(engine)] == ["cancelled"]


def test_a_cancelled_run_ends_although_the_database_is_unavailable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = f"postgresql://me@/shows?host={tmp_path}"
    end_cancelled(Settings(home=tmp_path, database_url=away), "flash", "one", LOG)
    assert "stays open until the next watch" in caplog.text
