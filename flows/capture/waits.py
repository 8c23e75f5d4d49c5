"""Bounded waits that another thread can end."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

_log = logging.getLogger(__name__)

POLL_S: Final = 0.1
"""Seconds between two checks of a wait for its end."""

Result = TypeVar("Result")


class Stopped(Exception):
    """A wait was ended because the capture stops; not a fault of the source."""

    def __init__(self) -> None:
        """Set the message."""
        super().__init__("the capture stops")


class WaitLimit:
    """Limits a thread's waits for a source: by a stop, or by a deadline.

    stopping: set once, by any thread. ends_at: the deadline, by the monotonic clock; the waiting
    thread sets it for each operation that has a deadline as a whole.
    """

    def __init__(self, stopping: threading.Event | None = None) -> None:
        """Begin without a deadline."""
        self.stopping = stopping or threading.Event()
        self.ends_at = math.inf

    def require(self) -> None:
        """Raise Stopped if it was stopped."""
        if self.stopping.is_set():
            raise Stopped

    def step_s(self, until: float) -> float:
        """Return the seconds to wait before the next check; until: monotonic, like ends_at.

        Raises Stopped; TimeoutError if no time is left.
        """
        self.require()
        left_s = min(until, self.ends_at) - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return min(left_s, POLL_S)

    def run(self, work: Callable[[], Result], *, name: str) -> Result:
        """Do work that can't be interrupted, such as a DNS lookup, and return its result.

        It runs on its own thread, which is abandoned where this raises Stopped or TimeoutError;
        else raises what the work raises.
        """
        done: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

        def work_in_thread() -> None:
            try:
                done.put((work(), None))
            except BaseException as e:  # noqa: BLE001 - raised by the waiting thread
                done.put((None, e))

        thread = threading.Thread(target=work_in_thread, name=name, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(self.step_s(math.inf))
        result, error = done.get_nowait()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]


@contextmanager
def background_thread(
    work: Callable[[], object], over: threading.Event, *, name: str, end_s: float
) -> Iterator[None]:
    """Run `work` on its own thread while the context lasts; log an error that ends it.

    At the end of the context `over` is set, which ends the work, and the thread is joined for at
    most end_s.
    """

    def logged() -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - the caller continues without it
            _log.exception("%s: an internal error ended this thread", name)

    thread = threading.Thread(target=logged, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(end_s)
