"""Waits with a bound, which another thread can end."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.1
"""A wait looks so often whether it is to end."""

Result = TypeVar("Result")


class Stopped(Exception):
    """A wait was ended because the capture stops: nothing is wrong with the source."""

    def __init__(self) -> None:
        """Set the message."""
        super().__init__("the capture stops")


class Patience:
    """How long a thread may wait for a source: until it is stopped, or its time is up.

    stopping: set by any thread, for good. ends_at: by the monotonic clock; set again by the thread
    that waits, for each thing that has a deadline as a whole.
    """

    def __init__(self, stopping: threading.Event | None = None) -> None:
        """Wait without end, unless it is stopped."""
        self.stopping = stopping or threading.Event()
        self.ends_at = math.inf

    def require(self) -> None:
        """Raise Stopped once it was stopped."""
        if self.stopping.is_set():
            raise Stopped

    def step_s(self, until: float) -> float:
        """Return for how long to wait before the next look, at most until then (monotonic).

        Raises Stopped; TimeoutError if there is no time left.
        """
        self.require()
        left_s = min(until, self.ends_at) - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return min(left_s, LOOK_S)

    def run(self, work: Callable[[], Result], *, name: str) -> Result:
        """Do work that can't be interrupted, such as looking a name up, and return its result.

        It has a thread of its own, which is left to its own end where this raises Stopped or
        TimeoutError; else it raises what the work does.
        """
        done: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

        def work_aside() -> None:
            try:
                done.put((work(), None))
            except BaseException as e:  # noqa: BLE001 - raised by who waits
                done.put((None, e))

        thread = threading.Thread(target=work_aside, name=name, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(self.step_s(math.inf))
        result, error = done.get_nowait()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]


@contextmanager
def beside(
    work: Callable[[], object], over: threading.Event, *, name: str, end_s: float
) -> Iterator[None]:
    """Run `work` on a thread of its own while the context lasts; an error that ends it is logged.

    At its end `over` is set, by which the work ends, and it is waited for so long at most.
    """

    def logged() -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - the caller goes on without it, and a person has to know
            _log.exception("%s: an internal error ended this thread", name)

    thread = threading.Thread(target=logged, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(end_s)
