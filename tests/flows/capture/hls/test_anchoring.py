"""ffmpeg's recordings keep correct dates when the source's clock is wrong."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import pytest

from flows.capture.net.address import AddressPolicy
from flows.capture.segment import Gap, Segment
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault

PIECE_S = 0.5


@pytest.fixture(scope="session")
def card(long_card: dict[str, Path]) -> Path:
    """A show that does not loop, in half-second segments."""
    return long_card[""]


def first_picture(path: Path) -> str:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return hashlib.md5(bytes(next(packets))).hexdigest()


@pytest.mark.parametrize("by_s", [12.0, -12.0])
def test_a_clock_that_jumps_before_a_restart_makes_no_gap_and_loses_nothing(
    card: Path, stream_of, policy: AddressPolicy, tmp_path: Path, by_s: float
) -> None:
    events: list[Segment | Gap] = []
    with LiveOrigin(card, window=100, loop=False) as origin:
        capture = Capture(
            origin.url,
            directory=tmp_path,
            channel="demo",
            broadcast=1,
            policy=policy,
            stream=stream_of(origin),
            segment_s=PIECE_S,
            engine="ffmpeg",
        )
        with capture:

            def take(n: int) -> None:
                for _ in range(n):
                    event = capture.get(60.0)
                    assert event is not None, capture.last_error
                    events.append(event)

            take(2)
            for clock_s in (by_s, 0.0):
                origin.misdate(clock_s)
                take(4)
                restarts = capture.restarts
                origin.inject(Fault(on="segment", status=500))
                while capture.restarts == restarts:
                    events.extend(filter(None, [capture.get(0.05)]))
                origin.heal()
                take(3)
        began = origin.started_at
    assert not [event for event in events if isinstance(event, Gap)]
    pieces = sorted(card.glob("*.ts"))
    for n, event in enumerate(events):
        place = (event.start - began) / timedelta(seconds=PIECE_S)
        assert place == pytest.approx(round(place), abs=0.01)
        assert round(place) == round((events[0].start - began) / timedelta(seconds=PIECE_S)) + n
        assert first_picture(event.path) == first_picture(pieces[round(place)])


def test_reset_timestamps_are_not_taken_for_a_clock_that_jumped(
    make_origin, stream_of, policy: AddressPolicy, tmp_path: Path, caplog
) -> None:
    """The show loops every 3 s; it is unavailable for two loops."""
    origin = make_origin()
    capture = Capture(
        origin.url,
        directory=tmp_path,
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=stream_of(origin),
        segment_s=PIECE_S,
        engine="ffmpeg",
    )
    with capture:
        first = capture.get(60.0)
        assert isinstance(first, Segment), capture.last_error
        origin.inject(Fault(status=503))
        origin.list_only(2)
        end = datetime.now(UTC) + timedelta(seconds=7)
        while datetime.now(UTC) < end:
            capture.get(0.05)
        origin.heal()
        while not isinstance(gap := capture.get(60.0), Gap):
            assert gap is not None, capture.last_error
    assert gap.end - gap.start > timedelta(seconds=4)
    assert "jumped" not in caplog.text
