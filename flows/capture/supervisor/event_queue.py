"""The queue of segments and gaps from the capturing thread to the consumer."""

import threading
from collections import deque
from collections.abc import Iterable

from flows.capture.segment import Gap, Segment


class EventQueue:
    """A queue that can be closed."""

    def __init__(self) -> None:
        """Begin empty and open."""
        self._events: deque[Segment | Gap] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, events: Iterable[Segment | Gap]) -> None:
        """Append segments and gaps."""
        with self._changed:
            self._events += events
            self._changed.notify_all()

    def close(self) -> None:
        """Mark the end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._events

    def get(self, timeout_s: float) -> Segment | Gap | None:
        """Return the next segment or gap; None after `timeout_s`, or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closed, timeout_s)
            return self._events.popleft() if self._events else None
