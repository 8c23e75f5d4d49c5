"""Recognises recorded segments by their media, where neither names, numbers nor dates tell."""

import time
from collections import deque
from itertools import takewhile
from typing import Final

from flows.capture.hls.pending import HELD_UP_S, Pending
from flows.capture.recorded.media import Extent

_MAX_REPEATS: Final = 64
"""Recorded segments that are compared with newly listed ones."""


class Repeats:
    """Keeps the times and sizes of recorded segments."""

    def __init__(self) -> None:
        """Nothing was recorded yet."""
        self._recorded: deque[tuple[int, ...]] = deque(maxlen=_MAX_REPEATS)

    def recorded(self, item: Pending) -> None:
        """Take note of a segment that is recorded."""
        if item.extent is not None:
            self._recorded.append(_look_of(item.extent, item.n_bytes))

    def settle(self, items: deque[Pending]) -> bool:
        """Remove repeats from the front; return whether there is a first segment that is none.

        All that were listed together are fetched first: up to the last one that is recorded, they
        are repeats, or come before what is recorded.
        """
        if not items or not items[0].unsure:
            return bool(items)
        batch = list(takewhile(lambda each: each.unsure == items[0].unsure, items))
        waits = any(each.path is None and not each.error for each in batch)
        now = time.monotonic()
        if waits and now - (items[0].fetched_at or now) < HELD_UP_S:
            return False
        n_repeats = 0
        for n, each in enumerate(batch, 1):
            each.unsure = 0
            if each.extent and _look_of(each.extent, each.n_bytes) in self._recorded:
                n_repeats = n
        for _ in range(n_repeats):
            items.popleft().discard()
        return bool(items)


def _look_of(extent: Extent, n_bytes: int) -> tuple[int, ...]:
    return extent.first, extent.end, n_bytes
