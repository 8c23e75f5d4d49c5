"""If a capture cannot write, it loses only what leaves the playlist, and the watch continues."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from flows.capture import disk
from flows.capture.disk import is_temporary
from flows.capture.hls import listing
from flows.capture.net.address import AddressPolicy
from flows.capture.recorded import rolling_playlist
from flows.capture.recorded.recording import Recording
from flows.capture.segment import CaptureFailed, DiskFull, Gap, Segment
from flows.capture.stream import Stream
from flows.capture.supervisor import recorder
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.live.capturing import recover_own
from flows.live.lifecycle import WatchedBroadcast
from flows.show import make_show

PATIENCE_S = 60.0


@pytest.fixture
def capture(
    make_origin: Callable[..., LiveOrigin],
    stream_of: Callable[[LiveOrigin], Stream],
    policy: AddressPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Capture:
    monkeypatch.setattr(recorder, "_BACKOFF_S", 0.05)
    origin = make_origin(window=30)
    return Capture(
        origin.url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=stream_of(origin),
        engine="hls",
    )


def fail(
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    *,
    owner: object = Recording,
    what: str = "_write",
    after: int,
    times: int,
) -> None:
    """Make writes fail this many times, after this many successes."""
    real, calls = getattr(owner, what), [0]

    def failing(*args: object, **options: object) -> object:
        calls[0] += 1
        if after < calls[0] <= after + times:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    monkeypatch.setattr(owner, what, failing)


def take(capture: Capture, n: int) -> list[Segment | Gap]:
    events = [capture.get(PATIENCE_S) for _ in range(n)]
    assert None not in events, capture.last_error
    return events


@pytest.mark.parametrize(
    "number", [errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE], ids=errno.errorcode.get
)
def test_a_temporarily_unwritable_disk_loses_nothing_still_listed(
    capture: Capture, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, number, after=1, times=2)
    with capture:
        events = take(capture, 4)
    assert capture.failure is None
    assert isinstance(capture.last_error, DiskFull)
    assert os.strerror(number) in str(capture.last_error)
    assert all(isinstance(event, Segment) for event in events)
    assert all(a.end == b.start for a, b in pairwise(events))


@pytest.mark.parametrize("what", ["__init__", "recover"])
def test_a_capture_waits_for_an_unwritable_disk_at_its_start(
    capture: Capture, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk, "AGAIN_S", 0.05)
    fail(monkeypatch, errno.EROFS, what=what, after=0, times=3)
    with capture:
        events = take(capture, 2)
    assert [event.sequence for event in events if isinstance(event, Segment)] == [0, 1]
    assert caplog.text.count("recording waits to begin") == 1


def test_a_capture_reports_a_disk_unwritable_until_its_end(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, errno.EROFS, what="__init__", after=0, times=9)
    capture._plan.stopping.set()
    with pytest.raises(DiskFull, match="Read-only file system"), capture:
        pass


def test_recovery_of_a_dead_process_s_files_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = make_show(url="http://example.org/live", duration="1m")
    broadcast = WatchedBroadcast(id=1, channel_id=1, started_at=datetime.now(UTC))
    (tmp_path / "0001-20261122T190000Z.json").touch()
    monkeypatch.setattr(disk, "AGAIN_S", 0.01)
    fail(monkeypatch, errno.EROFS, what="recover", after=0, times=2)
    recover_own(tmp_path, show, broadcast)
    fail(monkeypatch, errno.EROFS, what="recover", after=0, times=9)
    over = replace(broadcast, until=datetime.now(UTC))
    with pytest.raises(DiskFull):
        recover_own(tmp_path, show, over)


@pytest.mark.parametrize("owner", [listing, rolling_playlist], ids=["position", "playlist"])
def test_a_segment_in_the_journal_is_reported_though_later_steps_fail(
    capture: Capture, owner: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, errno.ENOSPC, owner=owner, what="write_whole", after=1, times=2)
    with capture:
        events = take(capture, 4)
    assert [event.sequence for event in events if isinstance(event, Segment)] == [0, 1, 2, 3]


def test_errors_that_are_not_of_a_disk_end_the_capture(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_temporary(PermissionError(errno.EACCES, "no"))
    fail(monkeypatch, errno.EACCES, after=1, times=9)
    with capture, pytest.raises(CaptureFailed, match="Permission denied"):
        list(capture)


def test_the_gap_at_the_end_is_reported_though_it_cannot_be_written(
    capture: Capture, monkeypatch: pytest.MonkeyPatch, until: Callable[..., object]
) -> None:
    fail(monkeypatch, errno.ENOSPC, after=1, times=10_000)
    with capture:
        take(capture, 1)
        until(lambda: capture.last_error, what="the error")
        until(lambda: capture.newest_age_s > 0.2, what="something to miss")
        capture.stop()
        [gap] = list(capture)
    assert isinstance(gap, Gap)
    assert "No space left" in gap.why
