"""Executes a plan, and logs its steps."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from benchmarks.chaos.breaking import Breaker, NotPossible
from benchmarks.chaos.plan import Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """An executed step with its times; why_not: the reason if it was skipped."""

    step: Step
    begin: datetime
    end: datetime
    why_not: str | None = None


class Carrying:
    """Executes a plan and keeps its log."""

    def __init__(self, breaker: Breaker, seed: int, left_s: Callable[[], float]) -> None:
        """Start with an empty log. left_s: returns the seconds left for faults."""
        self._breaker = breaker
        self._seed = seed
        self._left_s = left_s
        self._printing: Final = threading.Lock()
        self.done: list[Done] = []
        self.failed: list[str] = []
        """Faults that failed with an unexpected error, a line each."""

    def carry_out(self, plan: Sequence[Step]) -> None:
        """Execute all steps: sequentially for each show's source, and for the machine."""
        lanes: dict[int | None, list[Step]] = {}
        for step in plan:
            is_source = step.cause == "source" and step.show is not None
            lanes.setdefault(step.show if is_source else None, []).append(step)
        began = time.monotonic()
        with ThreadPoolExecutor(max(1, len(lanes))) as pool:
            for each in [pool.submit(self._lane, lane, began) for lane in lanes.values()]:
                each.result()

    def say(self, text: str) -> None:
        """Log a line, with time and seed."""
        with self._printing:
            print(f"{datetime.now(UTC):%H:%M:%S.%f} seed {self._seed}: {text}", flush=True)

    def _lane(self, steps: Sequence[Step], began: float) -> None:
        # A step that takes longer than planned delays the rest; the pauses keep their length.
        late_s = 0.0
        for step in steps:
            time.sleep(max(0.0, began + late_s + step.at_s - time.monotonic()))
            begin = datetime.now(UTC)
            try:
                if self._left_s() < step.lasts_s:
                    raise NotPossible("the machine was too slow: the sources are nearly over")
                undo = self._breaker.begin(step)
            except NotPossible as e:
                self.say(f"NOT {step.summary()}: {e}")
                done = Done(step=step, begin=begin, end=begin, why_not=str(e))
            except Exception as e:  # noqa: BLE001 - the rest of the plan is carried out
                done = self._failed(step, begin, e)
            else:
                self.say(step.summary())
                time.sleep(step.lasts_s)
                done = Done(step=step, begin=begin, end=datetime.now(UTC))
                try:
                    undo()
                except Exception as e:  # noqa: BLE001 - as above
                    self._failed(step, begin, e)
                else:
                    if step.lasts_s:
                        self.say(f"over: {step.name}")
                    done = Done(step=step, begin=begin, end=datetime.now(UTC))
            self.done.append(done)
            late_s = max(late_s, time.monotonic() - began - step.end_s)

    def _failed(self, step: Step, begin: datetime, error: Exception) -> Done:
        self.failed.append(f"{step.summary()} could not be made or undone: {error!r}")
        self.say(f"WRONG {self.failed[-1]}")
        return Done(step=step, begin=begin, end=datetime.now(UTC), why_not=str(error))
