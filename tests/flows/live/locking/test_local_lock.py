"""Two processes never watch one channel, also if the database has lost the lock."""

import logging
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from db.channel_lock import channel_lock
from db.errors import ChannelBusy, ChannelLockLost
from flows.live.locking import lock_check as hold
from flows.live.locking.local_lock import alone_here, hold_channel
from flows.live.locking.lock_check import Hold

LOG = logging.getLogger(__name__)


def end_session(engine: Engine, holder: str) -> None:
    """As after a restart of Postgres."""
    sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = :n"
    with engine.connect() as connection:
        assert list(connection.scalars(text(sql), {"n": f"showmood {holder}"})) == [True]


def test_channel_stays_locked_when_its_session_has_ended(engine: Engine, tmp_path: Path) -> None:
    with hold_channel(engine, tmp_path, "news", "one") as lock:
        end_session(engine, "one")
        with (
            pytest.raises(ChannelBusy, match="on this machine by one") as busy,
            hold_channel(engine, tmp_path, "news", "two"),
        ):
            pass
        assert busy.value.holder == "one"
        lock.check()
        with pytest.raises(ChannelBusy), channel_lock(engine, "news", "two"):
            pass
    with hold_channel(engine, tmp_path, "news", "two"):
        pass


def test_acquiring_the_channel_is_retried_immediately(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "CHECK_S", 0.01)
    with channel_lock(engine, "news", "one") as lock, Hold(lock, LOG, lost=lambda: None) as held:
        end_session(engine, "one")
        retaken = threading.Event()
        while not retaken.wait(0.02):
            held.check()
            with engine.connect() as connection:
                sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :n"
                if connection.scalar(text(sql), {"n": "showmood one"}):
                    retaken.set()


def test_loss_of_the_channel_is_reported(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a watcher on another machine was faster."""
    monkeypatch.setattr(hold, "CHECK_S", 0.01)
    heard = threading.Event()
    with channel_lock(engine, "news", "one") as lock:
        end_session(engine, "one")
        with channel_lock(engine, "news", "two"), Hold(lock, LOG, lost=heard.set) as held:
            assert heard.wait(60)
            with pytest.raises(ChannelLockLost, match="two"):
                held.check()


def test_channels_have_separate_locks(tmp_path: Path) -> None:
    with alone_here(tmp_path, "news", "one"), alone_here(tmp_path, "sport", "two"):
        pass


def test_an_unusable_lock_file_does_not_prevent_watching(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".news.watched").mkdir()
    with alone_here(tmp_path, "news", "one"):
        assert "can't be opened" in caplog.text
