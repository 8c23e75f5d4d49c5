"""Defers signals while the end of a run stores what is left."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_log = logging.getLogger(__name__)

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def undisturbed(*, heard: bool) -> Iterator[None]:
    """Defer SIGINT and SIGTERM until the context ends.

    heard: one of them is already the reason for the end; then further ones are dropped, as a
    terminal, a supervisor and a worker may each send one. Does nothing outside the main thread,
    which alone gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        _log.warning("%s deferred: storing the recorded segments", signal.Signals(number).name)

    before = {number: signal.getsignal(number) for number in _ENDING}
    before = {number: handler for number, handler in before.items() if handler is not None}
    for number in before:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting and not heard:
            signal.raise_signal(waiting[0])
