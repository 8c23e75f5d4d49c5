"""One watch from a page that is not live yet to the last row, and early ends."""

import logging
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial, partialmethod
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from benchmarks.origin.site import Announced, ShowSite, ShowSiteIE
from benchmarks.up import until
from db.channel_lock import channel_lock
from db.errors import ChannelLockLost
from db.writing import replacing, writes
from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.journal import read_events
from flows.capture.segment import NotLive, Segment, ShowMissed
from flows.capture.source import waiting
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.errors import HandedOver
from flows.live import broadcast
from flows.live import lifecycle as opening
from flows.live.broadcast import Watch
from flows.live.locking import handover_signal, lock_check
from flows.live.rows.analysis import Analysis, take_for
from flows.live.rows.observers import Observer
from flows.live.rows.store import Store
from flows.maintain import maintain_here
from flows.settings import Settings
from flows.show import make_show

MakeWatch = Callable[..., Watch]


@dataclass
class Listener(Observer):
    """Stores its notifications."""

    heard: list[object] = field(default_factory=list)

    def waiting(self, until: datetime | None) -> None:
        self.heard.append(until)

    def missed(self, why: str) -> None:
        self.heard.append(why)

    def ended(self, status: str) -> None:
        self.heard.append(status)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveOrigin]:
    """A live show in pieces of half a second."""
    clip = tmp_path_factory.mktemp("clip") / "clip.mp4"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=12"]
    command += ["-t", "3", "-g", "6", "-y", str(clip)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with LiveOrigin(clip, segment_s=0.5, window=60) as made:
        yield made


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def make_watch(
    tmp_path: Path,
    database_url: str,
    engine: Engine,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[MakeWatch]:
    """Watch a page with a signed address, which must not be disclosed."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(waiting, "MIN_PAUSE_S", 0.01)

    def make(site: ShowSite, *, give_up_after: str, **options: object) -> Watch:
        return Watch(
            show=make_show(
                url=f"{site.url}?token=SECRET",
                name="show",
                duration="1s",
                analysed_fps=1.0,
                give_up_after=give_up_after,
            ),
            settings=Settings(home=tmp_path, allow_networks="127.0.0.0/8", device="cpu"),
            database_url=database_url,
            log=logging.getLogger("test"),
            observer=listener,
            extractors=[ShowSiteIE],
            **options,
        )

    yield make
    assert "SECRET" not in caplog.text + str(listener.heard)
    for table in ("channels", "broadcasts", "segments", "gaps"):
        assert "SECRET" not in str(rows(engine, f"SELECT t::text FROM {table} t"))


def signed(origin: LiveOrigin) -> str:
    return f"{origin.url}?token=SECRET"


def rows(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_a_watch_waits_for_its_show(
    origin: LiveOrigin, make_watch: MakeWatch, engine: Engine, listener: Listener
) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=0.05)
    with ShowSite(
        Announced(status="offline"),
        Announced(status="is_upcoming", starts_at=soon),
        Announced(status="is_live", playlist=signed(origin)),
    ) as site:
        counts = make_watch(site, give_up_after="1m").run()
    assert counts.segments >= 2
    assert listener.heard == [None, soon, "completed"]
    assert rows(engine, "SELECT title, status FROM broadcasts") == [("A show", "completed")]
    [(length,)] = rows(engine, "SELECT sum(duration_s) FROM segments")
    assert length == pytest.approx(1.0)


def test_a_show_that_never_starts_is_one_line_without_a_broadcast(
    make_watch: MakeWatch, engine: Engine, listener: Listener
) -> None:
    with ShowSite(Announced()) as site, pytest.raises(ShowMissed) as missed:
        make_watch(site, give_up_after="0s").run()
    assert listener.heard == [str(missed.value)]
    assert rows(engine, "SELECT * FROM broadcasts") == []


def test_a_restarted_run_closes_its_broadcast_if_the_show_is_over(
    make_watch: MakeWatch, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "DOUBTED_S", 0.05)
    began = datetime.now(UTC) - timedelta(minutes=1)
    with engine.begin() as connection:
        writes.open_broadcast(
            connection,
            channel_id=writes.ensure_channel(connection, "show", "http://show"),
            started_at=began,
            planned_end=began + timedelta(hours=1),
            flow_run_id="the run",
        )
    with ShowSite(Announced(status="was_live")) as site, pytest.raises(NotLive):
        make_watch(site, give_up_after="0s", run_id="the run").run()
    assert rows(engine, "SELECT status, ended_at FROM broadcasts") == [("interrupted", began)]


@pytest.mark.parametrize(
    ("winner", "error", "heard"),
    [
        pytest.param("the winner", ChannelLockLost, ["failed"], id="another run"),
        pytest.param("the loser", HandedOver, [], id="this run elsewhere"),
    ],
)
def test_a_watch_that_lost_its_channel_ends_and_leaves_the_broadcast_open(
    winner: str,
    error: type[Exception],
    heard: list[object],
    origin: LiveOrigin,
    make_watch: MakeWatch,
    engine: Engine,
    listener: Listener,
    databases,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_check, "CHECK_S", 600.0)  # not before the winner holds it

    def minute(analysis: Analysis, capture: Capture) -> None:
        take_for(analysis, capture, minute_s=0.1)
        databases.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'showmood the loser'"
        )
        watching.__enter__()

    watching = channel_lock(engine, "show", winner)
    page = Announced(status="is_live", playlist=signed(origin))
    try:
        with (
            ShowSite(page) as site,
            pytest.raises(error, match=f"{winner} watches it by now"),
        ):
            make_watch(site, give_up_after="0s", run_id="the loser", minute=minute).run()
    finally:
        watching.__exit__(None, None, None)
    assert listener.heard == heard
    assert rows(engine, "SELECT status FROM broadcasts") == [("live",)]


def test_a_lost_free_lock_is_acquired_again_and_the_show_continues(
    origin: LiveOrigin, make_watch: MakeWatch, engine: Engine, databases
) -> None:
    def minute(analysis: Analysis, capture: Capture) -> None:
        take_for(analysis, capture, minute_s=0.1)
        databases.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'showmood%'"
        )

    with ShowSite(Announced(status="is_live", playlist=signed(origin))) as site:
        make_watch(site, give_up_after="0s", minute=minute).run()
    assert rows(engine, "SELECT status FROM broadcasts") == [("completed",)]


def test_watch_hands_over_to_the_next_process_of_its_run_with_an_open_broadcast(
    origin: LiveOrigin, make_watch: MakeWatch, engine: Engine, listener: Listener
) -> None:
    """The waiting process is of the same run; the first stays until it may leave."""
    asking = channel_lock(engine, "show by schedule", "the run")

    def minute(analysis: Analysis, capture: Capture) -> None:
        take_for(analysis, capture, minute_s=0.1)
        if not handover_signal.MAY_LEAVE.is_set():
            asking.__enter__()
            handover_signal.MAY_LEAVE.set()

    page = Announced(status="is_live", playlist=signed(origin))
    options = {"give_up_after": "0s", "run_id": "the run", "of_schedule": True}
    try:
        with ShowSite(page) as site:
            watch = make_watch(site, minute=minute, **options)
            long = replace(watch, show=watch.show.model_copy(update={"duration": "30s"}))
            with pytest.raises(HandedOver):
                long.run()
    finally:
        handover_signal.MAY_LEAVE.clear()
        asking.__exit__(None, None, None)
    assert rows(engine, "SELECT status FROM broadcasts") == [("live",)]
    assert listener.heard == [], "it has not ended"


@pytest.fixture
def rows_are_there(engine: Engine, tmp_path: Path) -> Callable[[], bool]:
    """Tell whether each segment that was recorded has a row, and none has failed."""

    def run() -> bool:
        statement = "SELECT started_at, status = 'failed' FROM segments ORDER BY 1"
        found = rows(engine, statement)
        return found == [(each.start, False) for each in recorded(tmp_path)] and len(found) >= 2

    return run


def recorded(home: Path) -> list[Segment]:
    folders = home.glob("recordings/show/*-*")
    found = [event for folder in folders for event in read_events(folder)]
    return [event for event in found if isinstance(event, Segment)]


@pytest.fixture
def after_two(tmp_path: Path) -> Callable[..., Callable[[], AbstractContextManager[None]]]:
    """Return a GPU slot that is free after two recorded segments."""

    @contextmanager
    def place(error: type[BaseException] | None) -> Iterator[None]:
        until(lambda: len(recorded(tmp_path)) >= 2, what="two segments")
        if error is not None:
            raise error
        yield

    return lambda error=None: partial(place, error)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt, "cancelled"),
        (RuntimeError, "failed"),
        (OSError, "failed"),
    ],
)
@pytest.mark.parametrize("when", ["before the networks", "amid"])
def test_everything_recorded_has_rows_and_the_status_has_the_cause(
    origin: LiveOrigin,
    make_watch: MakeWatch,
    engine: Engine,
    listener: Listener,
    rows_are_there: Callable[[], bool],
    after_two: Callable[..., Callable[[], AbstractContextManager[None]]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    when: str,
    error: type[BaseException],
    status: str,
) -> None:
    monkeypatch.setattr(broadcast, "CANCEL_DRAIN_S", 0.0)

    def minute(analysis: Analysis, capture: Capture) -> None:
        analysis.begin(next(iter(capture)))
        raise error

    place = after_two(error if when == "before the networks" else None)
    with (
        ShowSite(Announced(status="is_live", playlist=signed(origin))) as site,
        pytest.raises(error),
    ):
        make_watch(site, give_up_after="0s", minute=minute, place=place).run()
    assert rows_are_there()
    assert rows(engine, "SELECT status, ended_at IS NOT NULL FROM broadcasts") == [(status, True)]
    assert listener.heard == [status]


def test_a_segment_interrupted_by_a_signal_before_its_analysis_has_a_row(
    origin: LiveOrigin, make_watch: MakeWatch, rows_are_there, after_two, monkeypatch
) -> None:
    """Between the hand-over of a segment and the start of its analysis."""
    monkeypatch.setattr(broadcast, "CANCEL_DRAIN_S", 0.0)

    def minute(analysis: Analysis, capture: Capture) -> None:
        assert capture.get(60.0) is not None
        raise KeyboardInterrupt

    with (
        ShowSite(Announced(status="is_live", playlist=signed(origin))) as site,
        pytest.raises(KeyboardInterrupt),
    ):
        make_watch(site, give_up_after="0s", minute=minute, place=after_two()).run()
    assert rows_are_there()


@pytest.mark.parametrize(
    ("number", "error", "status"),
    [
        (signal.SIGTERM, KeyboardInterrupt, "cancelled"),
        (signal.SIGINT, RuntimeError, "failed"),
        (signal.SIGTERM, None, "completed"),
    ],
    ids=["cancelled", "failed", "completed"],
)
def test_signals_do_not_interrupt_the_last_writes(
    origin: LiveOrigin,
    make_watch: MakeWatch,
    engine: Engine,
    listener: Listener,
    rows_are_there,
    after_two,
    monkeypatch: pytest.MonkeyPatch,
    *,
    number: signal.Signals,
    error: type[BaseException] | None,
    status: str,
) -> None:
    """Neither during the storing of segments, nor during the closing of the broadcast."""
    monkeypatch.setattr(broadcast, "CANCEL_DRAIN_S", 0.0)

    def amid(whole: Callable[..., object], *given: object) -> object:
        signal.raise_signal(number)
        return whole(*given)

    monkeypatch.setattr(Store, "leave", partialmethod(partial(amid, Store.leave)))
    monkeypatch.setattr(broadcast, "close", partial(amid, broadcast.close))

    class Told(BaseException):
        """What SIGTERM and SIGINT raise here."""

    def tell(*_: object) -> None:
        raise Told

    before = [(each, signal.signal(each, tell)) for each in (signal.SIGTERM, signal.SIGINT)]
    try:
        with (
            ShowSite(Announced(status="is_live", playlist=signed(origin))) as site,
            pytest.raises(KeyboardInterrupt if status == "cancelled" else Told),
        ):
            make_watch(site, give_up_after="0s", place=after_two(error)).run()
        assert all(signal.getsignal(each) is tell for each, _ in before)
    finally:
        for each, handler in before:
            signal.signal(each, handler)
    assert rows_are_there()
    assert rows(engine, "SELECT status FROM broadcasts") == [(status,)]
    assert listener.heard == [status]


def test_a_watch_continues_if_neither_database_nor_disk_accept_writes(
    origin: LiveOrigin,
    make_watch: MakeWatch,
    engine: Engine,
    databases,
    rows_are_there,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next watch, or maintenance, adds the missing rows."""
    monkeypatch.setattr(opening, "_CLOSE_S", 0.0)
    monkeypatch.setattr(replacing, "FIRST_PAUSE_S", 0.001)
    name = engine.url.database

    def minute(analysis: Analysis, capture: Capture) -> None:
        databases.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        analysis.store.engine.dispose()
        assert analysis.store.spool is not None
        analysis.store.spool.directory.write_text("in the way, as a full disk is")
        take_for(analysis, capture)

    with ShowSite(Announced(status="is_live", playlist=signed(origin))) as site:
        watch = make_watch(site, give_up_after="0s", minute=minute)
        counts = watch.run()
    assert counts.segments >= 2
    assert rows(engine, "SELECT * FROM segments") == []
    assert rows(engine, "SELECT status FROM broadcasts") == [("live",)]
    databases.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    engine.dispose()
    maintain_here(watch.settings, str(watch.database_url), now=datetime.now(UTC))
    assert rows_are_there()
    assert set(rows(engine, "SELECT status FROM segments")) == {("recorded",)}


@pytest.fixture
def shut(databases, database_url: str) -> Callable[[bool], None]:
    """Close the database to everybody, or open it again."""
    name = make_url(database_url).database

    def run(closed: bool) -> None:
        databases.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {not closed}")
        if closed:
            databases.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                f" WHERE datname = '{name}'"
            )

    return run


@pytest.mark.parametrize("back", [True, False], ids=["for a while", "for good"])
def test_the_end_waits_for_an_unavailable_database_for_a_limited_time(
    origin: LiveOrigin,
    make_watch: MakeWatch,
    engine: Engine,
    shut: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    *,
    back: bool,
) -> None:
    monkeypatch.setattr(opening, "_CLOSE_S", 60.0 if back else 0.0)
    monkeypatch.setattr(opening, "_CLOSE_AGAIN_S", 0.05)
    again = threading.Timer(0.3, shut, [False])

    def minute(analysis: Analysis, capture: Capture) -> None:
        take_for(analysis, capture)
        shut(True)
        if back:
            again.start()

    try:
        with ShowSite(Announced(status="is_live", playlist=signed(origin))) as site:
            counts = make_watch(site, give_up_after="0s", minute=minute).run()
    finally:
        again.cancel()
        if back:
            again.join()
        shut(False)
    assert counts.segments >= 2
    status = "completed" if back else "live"
    assert rows(engine, "SELECT status FROM broadcasts") == [(status,)]
