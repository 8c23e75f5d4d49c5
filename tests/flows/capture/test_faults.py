"""Each fault of a live source, for both engines: nothing is lost without a gap that says why.

Half-second segments, and faults a quarter as long as they are in SHOWMOOD_FAULT_SCALE=4.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from flows.capture import supervise
from flows.capture.address import AddressPolicy
from flows.capture.segment import Gap, Segment
from flows.capture.supervise import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault
from flows.demo.pieces import cut

SCALE = float(os.environ.get("SHOWMOOD_FAULT_SCALE", "1"))
PATIENCE_S = 40.0 * SCALE


@pytest.fixture(scope="session")
def fault_pieces(pieces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if SCALE == 1:
        return pieces
    clip = tmp_path_factory.mktemp("whole") / "clip.ts"
    clip.write_bytes(b"".join(path.read_bytes() for path in sorted(pieces.glob("*.ts"))) * 3)
    directory = tmp_path_factory.mktemp("longer")
    cut(clip, directory, segment_s=0.5 * SCALE)
    return directory


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What goes wrong, for how long (s, to be scaled), and how it ends."""

    name: str
    begin: Callable[[LiveOrigin], object]
    last_s: float
    end: Callable[[LiveOrigin], object] = LiveOrigin.heal


def fault(**options: object) -> Callable[[LiveOrigin], object]:
    return lambda origin: origin.inject(Fault(**options))


SCENARIOS = [
    Scenario(name="playlist 500", begin=fault(on="playlist", status=500), last_s=2.5),
    Scenario(name="playlist 404", begin=fault(on="playlist", status=404), last_s=2.5),
    Scenario(name="playlist 403", begin=fault(on="playlist", status=403), last_s=2.5),
    Scenario(name="segments 500", begin=fault(on="segment", status=500), last_s=2.5),
    Scenario(name="segments 403", begin=fault(on="segment", status=403), last_s=2.5),
    Scenario(
        name="reset mid-segment", begin=fault(on="segment", keep_bytes=5000, times=2), last_s=1.0
    ),
    Scenario(name="refused connections", begin=fault(reset=True), last_s=1.25),
    Scenario(
        name="stall mid-segment",
        begin=fault(on="segment", stall=True, keep_bytes=5000),
        last_s=3.5,
    ),
    Scenario(name="stalled playlist", begin=fault(on="playlist", stall=True, times=1), last_s=2.0),
    Scenario(name="frozen", begin=LiveOrigin.freeze, last_s=3.5, end=LiveOrigin.resume),
    Scenario(name="server restart", begin=LiveOrigin.stop, last_s=1.25, end=LiveOrigin.start),
    Scenario(
        name="sequence reset", begin=LiveOrigin.reset_sequence, last_s=0.5, end=LiveOrigin.heal
    ),
    Scenario(name="end by mistake", begin=LiveOrigin.end, last_s=2.0, end=LiveOrigin.resume),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
def test_a_fault_loses_nothing_silently(
    engine: str,
    scenario: Scenario,
    make_origin: Callable[..., LiveOrigin],
    fault_pieces: Path,
    tmp_path: Path,
    policy: AddressPolicy,
    stream_of,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervise, "_BACKOFF_S", 0.1 * SCALE)
    origin = make_origin(fault_pieces, window=30)
    with Capture(
        origin.url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        segment_s=0.5 * SCALE,
        stream=stream_of(origin),
        stall_s=2.75 * SCALE,
        ended_after_s=PATIENCE_S,
        engine=engine,
    ) as capture:
        events = take_until(capture, 2)
        scenario.begin(origin)
        time.sleep(scenario.last_s * SCALE)  # the show goes on, and knows no other time
        scenario.end(origin)
        healed = datetime.now(UTC)
        events += take_until(capture, 1, healed)
        recovered_s = (datetime.now(UTC) - healed).total_seconds()
    gaps = [event for event in events if isinstance(event, Gap)]
    lost_s = sum((gap.end - gap.start).total_seconds() for gap in gaps)
    sys.stdout.write(
        f"{engine:7}{scenario.name:22}lost {lost_s:5.1f} s   recovered in {recovered_s:5.1f} s\n"
    )
    for before, after in pairwise(events):
        assert timedelta(0) <= after.start - before.end < supervise.SHORTEST, (before, after)
    assert all(gap.why for gap in gaps)
    if engine == "hls":
        # All of it was still listed when the source answered again.
        assert gaps == []


def take_until(capture: Capture, n: int, moment: datetime | None = None) -> list[Segment | Gap]:
    """Take events until `n` are segments and the last ends after the moment."""
    events: list[Segment | Gap] = []
    while sum(isinstance(event, Segment) for event in events) < n or (
        moment is not None and events[-1].end <= moment
    ):
        event = capture.get(PATIENCE_S)
        assert event is not None, f"nothing more comes: {capture.last_error}"
        events.append(event)
    return events
