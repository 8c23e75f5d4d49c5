"""A broadcast continued by another machine from its rows, without access to the other disk."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db.errors import MachineNameTaken
from db.machines import leave, machines, register
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.segment import Gap, Segment
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.errors import UsageError
from flows.live.lifecycle import open_or_continue
from flows.live.rows.left_behind import write_left_behind
from flows.recordings.clip import clip
from flows.recordings.finding import find, folder_of
from flows.recordings.play import playlist_at
from flows.show import make_show

OVERLAPS = (
    "SELECT count(*) FROM segments a JOIN segments b ON a.started_at < b.started_at"
    " AND a.ended_at > b.started_at + interval '1 millisecond'"
)


@pytest.fixture
def show_on_air(open_show) -> Any:
    began = datetime.now().astimezone() - timedelta(minutes=1)
    planned_end = began + timedelta(hours=1)
    return open_show(status="live", started_at=began, planned_end=planned_end, flow_run_id="again")


@pytest.fixture
def elsewhere(engine: Engine, tmp_path: Path) -> Callable[..., list[Segment | Gap]]:
    """Continue a broadcast on a machine with an empty disk, for this many segments."""

    def go_on(show: Any, channel: Any, first: int, end: int) -> list[Segment | Gap]:
        stream = Stream(
            page_url=channel.url,
            url=channel.url,
            protocol="hls",
            live=True,
            live_status="is_live",
            source_id=None,
            title="live",
        )
        watched = make_show(url=channel.url, name=show.slug, duration="1h")
        broadcast = open_or_continue(
            engine, watched, stream, None, run_id="again", log=logging.getLogger("test")
        )
        assert broadcast.id == show.broadcast
        directory = folder_of(tmp_path / "elsewhere", show.slug, broadcast.started_at, broadcast.id)
        channel.first, channel.end = first, end
        events: list[Segment | Gap] = []
        with Capture(
            channel.url,
            directory=directory,
            channel=show.slug,
            broadcast=broadcast.id,
            policy=AddressPolicy(allow_networks=LOOPBACK),
            after=broadcast.last,
            stream=stream,
            engine="hls",
            time_shifted=True,
        ) as capture:
            while sum(isinstance(event, Segment) for event in events) < end - first:
                event = capture.get(60.0)
                assert event is not None, capture.last_error
                events.append(event)
        show.store(events)
        return events

    return go_on


def rows(engine: Engine, statement: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(statement)))


def gaps(engine: Engine) -> list[tuple[datetime, datetime, str]]:
    return [tuple(row) for row in rows(engine, "SELECT started_at, ended_at, why FROM gaps")]


def test_hole_between_two_machines_is_a_gap_until_the_first_machine_fills_it(
    engine: Engine, air, record, show_on_air, elsewhere, recordings_dir: Path
) -> None:
    channel = air("ts")
    show = record(channel, (0, 5), show=show_on_air)
    first, third = show.segments[0], show.segments[2]
    with engine.begin() as connection:  # it died before it had stored two of them
        connection.execute(text("DELETE FROM segments WHERE sequence > 2"))
    gap, *new = elsewhere(show, channel, 8, 10)
    assert gap == Gap(start=third.end, end=new[0].start, why="nothing was recording")
    assert [each.sequence for each in new] == [3, 4], "numbers go on"
    assert gaps(engine) == [(third.end, new[0].start, "nothing was recording")]

    assert write_left_behind(engine, recordings_dir / show.slug) == 2
    assert gaps(engine) == [(show.segments[4].end, new[0].start, "nothing was recording")]
    assert rows(engine, "SELECT count(*), min(started_at), max(ended_at) FROM segments") == [
        (7, first.start, new[-1].end)
    ]
    assert rows(engine, OVERLAPS) == [(0,)]
    assert write_left_behind(engine, recordings_dir / show.slug) == 0


def test_what_two_machines_recorded_is_stored_once(
    engine: Engine, air, record, show_on_air, elsewhere, recordings_dir: Path
) -> None:
    """The first was disconnected from the database, not from the show."""
    channel = air("ts")
    show = record(channel, (0, 6), show=show_on_air)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM segments WHERE sequence > 2"))
    new = elsewhere(show, channel, 4, 7)
    with engine.begin() as connection:  # the source's dates were read a little otherwise there
        connection.execute(
            text(
                "UPDATE segments SET started_at = started_at + interval '0.2 s' WHERE sequence = 3"
            )
        )
    write_left_behind(engine, recordings_dir / show.slug)
    assert gaps(engine) == []
    assert rows(engine, OVERLAPS) == [(0,)]
    [(length, begin, end)] = rows(
        engine, "SELECT sum(ended_at - started_at), min(started_at), max(ended_at) FROM segments"
    )
    assert end == new[-1].end
    assert length == end - begin, "each second once"


def test_recording_of_another_machine_is_reported_as_existing(
    engine: Engine, air, record, show_on_air, recordings_dir: Path, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 2), show=show_on_air)
    with engine.begin() as connection:
        connection.execute(text("UPDATE segments SET machine = 'studio-a'"))
    first, last = show.segments[0], show.segments[-1]
    here = {"recordings_dir": tmp_path / "elsewhere", "machine": "studio-b"}
    found = find(engine, show.slug, first.start, last.end, **here)
    assert (found.segments, found.on, found.gone) == ((), ("studio-a",), 0)
    with pytest.raises(UsageError, match="the recording is on studio-a: ask there"):
        clip(engine, show.slug, first.start, last.end, tmp_path / "clip.mp4", **here)
    for at in (None, first.start):
        with pytest.raises(UsageError, match="on studio-a"):
            playlist_at(engine, show.slug, at, **here)
    found = find(engine, show.slug, first.start, last.end, recordings_dir=recordings_dir)
    assert len(found.segments) == 2


def test_machines_are_distinguished(engine: Engine) -> None:
    with engine.begin() as connection:
        assert register(connection, name="a", disk="1", version="0.1") is None
        with pytest.raises(
            MachineNameTaken, match=r"another machine is called a, .*SHOWMOOD_MACHINE"
        ):
            register(connection, name="a", disk="2", version="0.1")
        with pytest.raises(
            MachineNameTaken, match=r"a has the same disk-id as b, .*delete its file disk-id"
        ) as taken:
            register(connection, name="b", disk="1", version="0.1")
        assert "\n" not in str(taken.value)
        leave(connection, "1")
        said = register(connection, name="b", disk="1", version="0.1")
        assert said == "this machine was called a: 0 recordings are now b's"
        connection.execute(text("UPDATE machines SET seen_at = now() - interval '1 hour'"))
        assert "had another disk" in str(register(connection, name="b", disk="2", version="0.1"))
        assert [(each.name, each.disk) for each in machines(connection)] == [("b", "2")]


def test_of_two_machines_with_one_name_only_one_is_registered(engine: Engine, until) -> None:
    with engine.begin() as connection, ThreadPoolExecutor(1) as other:
        register(connection, name="a", disk="1", version="0.1")

        def start() -> None:
            with engine.begin() as second:
                register(second, name="a", disk="2", version="0.1")

        late = other.submit(start)
        waits = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'machines'::regclass"
        until(lambda: rows(engine, waits), what="the second's waiting", within_s=60)
        connection.commit()
        with pytest.raises(MachineNameTaken):
            late.result(60)
    assert [each.disk for each in rows(engine, "SELECT disk FROM machines")] == ["1"]


def test_whether_a_machine_is_online_does_not_depend_on_our_clock(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(minutes=5)

    monkeypatch.setattr("db.machines.datetime", Ahead)
    with engine.begin() as connection:
        register(connection, name="a", disk="1", version="0.1")
        [machine] = machines(connection)
        assert machine.is_there
        leave(connection, "1")
        [machine] = machines(connection)
        assert not machine.is_there


def test_segments_still_listed_after_a_handover_leave_no_gap(
    engine: Engine, air, record, show_on_air, elsewhere
) -> None:
    channel = air("ts")
    show = record(channel, (0, 3), show=show_on_air)
    elsewhere(show, channel, 3, 6)
    assert gaps(engine) == []
    assert rows(engine, "SELECT sequence FROM segments ORDER BY started_at") == [
        (n,) for n in range(6)
    ]
