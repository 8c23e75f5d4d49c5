"""The plan of `make chaos`, and checks of its audit."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast

import pytest

from benchmarks.chaos.audit import is_true
from benchmarks.chaos.breaking import Breaker
from benchmarks.chaos.carrying import Carrying, Done
from benchmarks.chaos.plan import KINDS, NETWORK, SETTLED_S, Cause, Step, make_plan
from flows.capture.segment import Gap
from flows.control.healing import MIN_CRASH_INTERVAL_S

MINUTES = 30
AT = datetime(2026, 11, 29, 22, 0, tzinfo=UTC)


@pytest.fixture(scope="module", params=[1, 2, 3])
def plan(request: pytest.FixtureRequest) -> list[Step]:
    return make_plan(request.param, 60 * MINUTES, n_shows=4)


def of_machine(plan: Sequence[Step]) -> list[Step]:
    names = {kind.name for kind in KINDS}
    return [step for step in plan if step.name in names]


def test_same_seed_gives_same_plan(plan: list[Step]) -> None:
    assert plan in [make_plan(seed, 60 * MINUTES, n_shows=4) for seed in (1, 2, 3)]
    assert make_plan(1, 600, n_shows=4) == make_plan(1, 600, n_shows=4)
    assert make_plan(1, 600, n_shows=4) != make_plan(2, 600, n_shows=4)


def test_each_kind_of_fault_is_made(plan: list[Step]) -> None:
    assert {step.name for step in of_machine(plan)} == {kind.name for kind in KINDS}
    assert max(step.end_s for step in plan) <= 60 * MINUTES - SETTLED_S


def test_faults_of_the_machine_do_not_overlap(plan: list[Step]) -> None:
    assert all(a.end_s < b.at_s for a, b in pairwise(of_machine(plan)))


def test_watch_is_not_ended_again_too_early(plan: list[Step]) -> None:
    ends = {kind.name for kind in KINDS if kind.ends}
    for show in range(4):
        at = [s for s in of_machine(plan) if s.name in ends and s.show in (None, show)]
        assert all(b.at_s - a.end_s > MIN_CRASH_INTERVAL_S for a, b in pairwise(at))


def test_source_does_nothing_else_while_the_network_is_cut(plan: list[Step]) -> None:
    cuts = [step for step in plan if step.name in NETWORK]
    others = [step for step in plan if step.name not in {kind.name for kind in KINDS}]
    assert others
    assert not any(a.at_s <= b.end_s and b.at_s <= a.end_s for a in cuts for b in others)


def step(cause: Cause, show: int | None = None) -> Step:
    return Step(at_s=0.0, lasts_s=9.0, name="fault", cause=cause, show=show)


@pytest.mark.parametrize(
    ("why", "made", "after_s", "true"),
    [
        ("HTTP 500", step("source", show=0), 0, True),
        ("HTTP 500", step("source", show=1), 0, False),
        ("HTTP 500", step("disk"), 0, False),
        ("3 MiB free, 16 MiB are needed", step("disk"), 0, True),
        ("nothing was recording", step("process"), 60, True),
        ("nothing was recording", step("process"), 600, False),
    ],
    ids=["its source", "another's source", "the disk", "disk", "before", "long before"],
)
def test_gap_is_valid_during_a_matching_fault(
    why: str, made: Step, after_s: float, true: bool
) -> None:
    done = Done(step=made, begin=AT, end=AT + timedelta(seconds=made.lasts_s))
    start = done.end + timedelta(seconds=after_s)
    gap = Gap(start=start, end=start + timedelta(seconds=2), why=why)
    assert is_true(gap, "show-0", [done]) is true


class _Breaks:
    """Injects no fault; faults named `fails...` raise an unexpected error."""

    def begin(self, step: Step) -> Callable[[], object]:
        if step.name == "fails":
            raise OSError("no space left")
        return lambda: None


def test_a_failing_fault_is_reported_and_the_plan_continues() -> None:
    plan = [Step(at_s=0.0, lasts_s=0.0, name=name, cause="other") for name in ("fails", "goes on")]
    carrying = Carrying(cast("Breaker", _Breaks()), seed=1, left_s=lambda: 0.0)
    carrying.carry_out(plan)
    assert [(each.step.name, each.why_not) for each in carrying.done] == [
        ("fails", "no space left"),
        ("goes on", None),
    ]
    assert carrying.failed == ["fails could not be made or undone: OSError('no space left')"]


def test_fault_without_enough_time_left_is_skipped() -> None:
    step = Step(at_s=0.0, lasts_s=1.0, name="too late", cause="other")
    carrying = Carrying(cast("Breaker", _Breaks()), seed=1, left_s=lambda: 0.9)
    carrying.carry_out([step])
    [done] = carrying.done
    assert "too slow" in str(done.why_not)
    assert carrying.failed == []
