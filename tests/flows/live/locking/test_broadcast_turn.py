"""Machines with parts of one broadcast analyse it again sequentially."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from db.errors import ChannelBusy
from db.writing import writes
from db.writing.rows import SegmentRow
from flows.live.locking import broadcast_turn
from flows.live.locking.broadcast_turn import turn_to_analyse

START = datetime(2026, 11, 20, 19, tzinfo=UTC)
SHOW = ("news", START, START + timedelta(minutes=1))
LOG = logging.getLogger("test")


@pytest.fixture
def broadcast(engine: Engine) -> int:
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "http://news")
        number = writes.open_broadcast(
            connection, channel_id=channel, started_at=START, status="completed"
        )
        row = SegmentRow(
            channel_id=channel,
            broadcast_id=number,
            sequence=0,
            started_at=START,
            duration_s=60.0,
            path="/recordings/0.ts",
            machine="a",
        )
        writes.record_segment(connection, row)
    return number


def test_three_machines_with_parts_of_a_broadcast_run_sequentially(
    engine: Engine,
    broadcast: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until,
) -> None:
    monkeypatch.setattr(broadcast_turn, "POLL_S", 0.05)
    caplog.set_level(logging.INFO)
    alone = threading.Lock()
    done: list[str] = []

    def analyse(name: str) -> None:
        with turn_to_analyse(engine, tmp_path / name, *SHOW, holder=f"run {name}", log=LOG):
            assert alone.acquire(blocking=False), "two at once"
            done.append(name)
            alone.release()

    with ThreadPoolExecutor(2) as others:
        with turn_to_analyse(engine, tmp_path / "a", *SHOW, holder="run a", log=LOG):
            runs = [others.submit(analyse, name) for name in ("b", "c")]
            waits = "a part of it is being analysed by run a: waiting"
            until(lambda: caplog.text.count(waits) == 2, what="both waiting", within_s=60)
            assert done == []
        for run in runs:
            run.result(60)
    assert sorted(done) == ["b", "c"]


def test_without_waiting_the_error_names_the_analysing_run(
    engine: Engine, broadcast: int, tmp_path: Path
) -> None:
    with (
        turn_to_analyse(engine, tmp_path / "a", *SHOW, holder="run a", log=LOG),
        pytest.raises(ChannelBusy, match="run a"),
        turn_to_analyse(engine, tmp_path / "b", *SHOW, holder="run b"),
    ):
        pass
