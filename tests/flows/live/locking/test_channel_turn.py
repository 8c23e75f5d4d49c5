"""One watch per channel: waiting, its length, and the remaining time."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from db.channel_lock import channel_lock
from db.errors import ChannelBusy
from db.writing import writes
from flows.capture.stream import Stream
from flows.errors import HandedOver, Skipped
from flows.live.lifecycle import WatchedBroadcast, close, open_or_continue
from flows.live.locking.channel_turn import channel_turn, giving_way, rest_of, waiting_run
from flows.show import make_show

LOG = logging.getLogger(__name__)


def in_s(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def open_broadcast(engine: Engine, *, run: str, planned_end: datetime) -> int:
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "http://example.org/live")
        return writes.open_broadcast(
            connection,
            channel_id=channel,
            started_at=in_s(-60),
            planned_end=planned_end,
            source_id=None,
            title=None,
            flow_run_id=run,
        )


def test_a_free_channel_is_acquired_immediately(engine: Engine, tmp_path: Path) -> None:
    with channel_turn(
        engine, "news", "one", recordings_dir=tmp_path, ends_at=in_s(60), log=LOG
    ) as turn:
        assert turn.until is None


def test_without_a_planned_time_a_watched_channel_is_an_error(
    engine: Engine, tmp_path: Path
) -> None:
    with (
        channel_lock(engine, "news", "one"),
        pytest.raises(ChannelBusy, match="one"),
        channel_turn(engine, "news", "two", recordings_dir=tmp_path, ends_at=None, log=LOG),
    ):
        pass


def test_a_run_without_remaining_time_names_the_holder(engine: Engine, tmp_path: Path) -> None:
    with (
        channel_lock(engine, "news", "the-first-run"),
        pytest.raises(Skipped, match="run the-first-run was watching it"),
        channel_turn(engine, "news", "two", recordings_dir=tmp_path, ends_at=in_s(-1), log=LOG),
    ):
        pass


def test_a_run_that_begins_long_after_its_time_is_skipped(engine: Engine, tmp_path: Path) -> None:
    with (
        pytest.raises(Skipped, match="was over"),
        channel_turn(engine, "news", "late", recordings_dir=tmp_path, ends_at=in_s(-3600), log=LOG),
    ):
        pass


def test_a_waiting_run_gets_the_rest_of_its_own_time(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends_at = in_s(60)
    got: list[datetime | None] = []

    def second() -> None:
        with channel_turn(
            engine, "news", "two", recordings_dir=tmp_path, ends_at=ends_at, log=LOG
        ) as turn:
            got.append(turn.until)

    thread = threading.Thread(target=second)
    said = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.set()

    listener = Listener()
    LOG.addHandler(listener)
    try:
        with channel_lock(engine, "news", "the-first-run"):
            thread.start()
            assert said.wait(60)
            assert got == []
        thread.join(60)
    finally:
        LOG.removeHandler(listener)
    assert got == [ends_at]
    assert "the-first-run" in caplog.text


def test_at_most_one_process_of_a_run_waits_for_another(engine: Engine, tmp_path: Path) -> None:
    """As after outages of a server, which repeatedly takes a show for dead."""
    given = {"recordings_dir": tmp_path, "ends_at": in_s(60), "log": LOG}
    with (
        channel_lock(engine, "news", "one"),
        channel_lock(engine, "news by schedule", "one"),
        pytest.raises(HandedOver, match="a third waits"),
        channel_turn(engine, "news", "one", **given),
    ):
        pass


def test_a_restarted_run_gets_the_rest_of_its_broadcast(engine: Engine) -> None:
    planned_end = in_s(60)
    open_broadcast(engine, run="one", planned_end=planned_end)
    assert rest_of(engine, "one", datetime.now(UTC)) == planned_end
    assert rest_of(engine, "another", datetime.now(UTC)) is None


def test_a_run_restarted_too_late_is_skipped(engine: Engine) -> None:
    open_broadcast(engine, run="one", planned_end=in_s(-1))
    with pytest.raises(Skipped, match="had ended"):
        rest_of(engine, "one", datetime.now(UTC))


def test_a_run_that_has_completed_its_broadcast_is_not_repeated(engine: Engine) -> None:
    made = open_broadcast(engine, run="one", planned_end=in_s(60))
    with engine.begin() as connection:
        writes.close_broadcast(connection, made, ended_at=in_s(0), status="completed")
    with pytest.raises(Skipped, match="had ended"):
        rest_of(engine, "one", datetime.now(UTC))


def opened(
    engine: Engine, *, run: str | None, source: str = "video", duration: str = "10m"
) -> WatchedBroadcast:
    """Open or continue the channel's broadcast."""
    stream = Stream(
        page_url="http://example.org/live",
        url="http://example.org/live.m3u8",
        protocol="hls",
        live=True,
        live_status="is_live",
        source_id=source,
        title="live",
    )
    show = make_show(url=stream.page_url, name="news", duration=duration)
    return open_or_continue(engine, show, stream, None, run_id=run, log=LOG)


@pytest.mark.parametrize("status", ["cancelled", "failed", "interrupted"])
def test_a_restarted_run_continues_its_broadcast_after_any_end(engine: Engine, status: str) -> None:
    first = opened(engine, run="one")
    close(engine, first, status, LOG)
    again = opened(engine, run="one")
    assert (again.id, again.until) == (first.id, first.started_at + timedelta(minutes=10))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT status, ended_at FROM broadcasts")).one()
    assert tuple(found) == ("live", None)


@pytest.mark.parametrize(
    ("run", "source", "status"),
    [("two", "video", "cancelled"), ("one", "other", "cancelled"), ("one", "video", "completed")],
    ids=["another run", "another video", "one that is done"],
)
def test_an_ended_broadcast_is_not_continued(
    engine: Engine, run: str, source: str, status: str
) -> None:
    first = opened(engine, run="one")
    close(engine, first, status, LOG)
    assert opened(engine, run=run, source=source).id != first.id


@pytest.mark.parametrize("before", ["one", None], ids=["a run", "a terminal"])
@pytest.mark.parametrize("run", ["two", None], ids=["another run", "by a terminal"])
@pytest.mark.parametrize("duration", ["1m", "1h"], ids=["shorter", "longer"])
def test_a_broadcast_left_open_is_not_continued_by_another_run(
    engine: Engine, before: str | None, run: str | None, duration: str
) -> None:
    first = opened(engine, run=before)
    second = opened(engine, run=run, duration=duration)
    assert second.id != first.id
    assert second.until is None, "its own time, from its own beginning on"
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT status, planned_end - started_at FROM broadcasts ORDER BY id")
        ).all()
    length = make_show(url="http://example.org/live", duration=duration).length
    assert [tuple(row) for row in found] == [
        ("interrupted", timedelta(minutes=10)),
        ("live", length),
    ]


def test_a_run_that_died_continues_its_broadcast_until_the_planned_end(engine: Engine) -> None:
    first = opened(engine, run="one")
    again = opened(engine, run="one", duration="1h")
    assert (again.id, again.until) == (first.id, first.started_at + timedelta(minutes=10))


def test_a_broadcast_is_not_continued_after_a_later_one_of_its_channel(engine: Engine) -> None:
    first = opened(engine, run="one")
    close(engine, first, "cancelled", LOG)
    second = opened(engine, run="two")
    close(engine, second, "cancelled", LOG)
    assert opened(engine, run="one").id not in (first.id, second.id)


def test_an_unscheduled_run_ends_for_a_scheduled_one(engine: Engine, tmp_path: Path) -> None:
    ended = threading.Event()
    got: list[bool] = []

    def scheduled() -> None:
        with channel_turn(
            engine,
            "news",
            "slot",
            recordings_dir=tmp_path,
            ends_at=in_s(60),
            log=LOG,
            of_schedule=True,
        ) as turn:
            got.append(turn.until is not None)

    thread = threading.Thread(target=scheduled)
    with channel_lock(engine, "news", "adhoc"):
        assert waiting_run(engine, "news") is None
        with giving_way(engine, "news", ended.set, LOG, own="adhoc", of_schedule=False):
            thread.start()
            assert ended.wait(60)
            assert waiting_run(engine, "news") == "slot"
    thread.join(60)
    assert got == [True]
    assert waiting_run(engine, "news") is None


def test_an_unscheduled_run_does_not_request_the_channel(engine: Engine, tmp_path: Path) -> None:
    with (
        channel_lock(engine, "news", "one"),
        pytest.raises(Skipped),
        channel_turn(engine, "news", "two", recordings_dir=tmp_path, ends_at=in_s(0.5), log=LOG),
    ):
        pass
    assert waiting_run(engine, "news") is None
