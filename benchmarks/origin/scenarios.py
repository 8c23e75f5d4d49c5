"""Faults of live sources, by name, with their start, length and end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A fault of an origin that plays a test card with its variants (`benchmarks.origin.testcard`).

    lasts_s: full length, for segments of 2 s; `begin` and `end` are called with the
    origin. least_lost: segments that are never offered intact, so that no capture can have them.
    final: the show ends.
    """

    name: str
    begin: Callable[[LiveOrigin], object]
    lasts_s: float
    end: Callable[[LiveOrigin], object] = LiveOrigin.heal
    least_lost: int = 0
    final: bool = False


def _fault(**options: Any) -> Callable[[LiveOrigin], object]:  # noqa: ANN401
    return lambda origin: origin.inject(Fault(**options))


def _slowly(origin: LiveOrigin) -> None:
    origin.inject(Fault(on="segment", over_s=1.5 * origin.segment_s))


SCENARIOS: Final = (
    Scenario(name="playlist 500", begin=_fault(on="playlist", status=500), lasts_s=10),
    Scenario(name="playlist 404", begin=_fault(on="playlist", status=404), lasts_s=10),
    Scenario(name="playlist 403", begin=_fault(on="playlist", status=403), lasts_s=10),
    Scenario(name="stalled playlist", begin=_fault(on="playlist", stall=True, times=1), lasts_s=20),
    Scenario(name="frozen playlist", begin=LiveOrigin.freeze, lasts_s=20, end=LiveOrigin.resume),
    Scenario(name="segments 500", begin=_fault(on="segment", status=500), lasts_s=10),
    Scenario(name="segments 403", begin=_fault(on="segment", status=403), lasts_s=10),
    Scenario(name="403 until resolved again", begin=LiveOrigin.renew_addresses, lasts_s=2),
    Scenario(
        name="reset mid-segment",
        begin=_fault(on="segment", keep_bytes=5000, times=2),
        lasts_s=4,
    ),
    Scenario(
        name="stall mid-segment",
        begin=_fault(on="segment", stall=True, keep_bytes=5000),
        lasts_s=20,
    ),
    Scenario(name="connections reset", begin=_fault(reset=True), lasts_s=5),
    Scenario(name="server restart", begin=LiveOrigin.stop, lasts_s=5, end=LiveOrigin.start),
    Scenario(name="slower than real time", begin=_slowly, lasts_s=20),
    Scenario(name="sequence reset", begin=LiveOrigin.reset_sequence, lasts_s=2),
    Scenario(name="end by mistake", begin=LiveOrigin.end, lasts_s=8, end=LiveOrigin.resume),
    Scenario(name="end", begin=LiveOrigin.end, lasts_s=2, final=True),
    Scenario(
        name="other resolution",
        begin=lambda origin: origin.play("smaller"),
        lasts_s=8,
        end=LiveOrigin.play,
    ),
    Scenario(
        name="other resolution, untold",
        begin=lambda origin: origin.play("smaller", discontinuity=False),
        lasts_s=8,
        end=lambda origin: origin.play(discontinuity=False),
    ),
    Scenario(
        name="no sound",
        begin=lambda origin: origin.play("silent", discontinuity=False),
        lasts_s=8,
        end=lambda origin: origin.play(discontinuity=False),
    ),
    Scenario(
        name="timestamps back",
        begin=lambda origin: origin.move_timestamps(-60.0),
        lasts_s=8,
        end=lambda origin: origin.move_timestamps(0.0),
    ),
    Scenario(
        name="timestamps forward",
        begin=lambda origin: origin.move_timestamps(3600.0),
        lasts_s=8,
        end=lambda origin: origin.move_timestamps(0.0),
    ),
    Scenario(
        name="clock back",
        begin=lambda origin: origin.misdate(-40.0),
        lasts_s=8,
        end=lambda origin: origin.misdate(0.0),
    ),
    Scenario(
        name="clock forward",
        begin=lambda origin: origin.misdate(3600.0),
        lasts_s=8,
        end=lambda origin: origin.misdate(0.0),
    ),
    Scenario(
        name="a segment that is no media",
        begin=_fault(on="segment", body=b"<html>sorry</html>", one_segment=True),
        lasts_s=20,
        least_lost=1,
    ),
    Scenario(
        name="a segment cut short",
        begin=_fault(on="segment", share=0.25, one_segment=True),
        lasts_s=20,
        least_lost=1,
    ),
)
