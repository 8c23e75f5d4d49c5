"""A cache of the page's responses, bounded in bytes; drops the least recently used first."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_BYTES: Final = 8 << 20


class ResponseCache:
    """Responses by their ETag."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        """Begin with none."""
        self._max_bytes = max_bytes
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def of(self, tag: str, make: Callable[[], bytes]) -> bytes:
        """Return the response of a tag, made if it is not known."""
        with self._lock:
            known = self._known.get(tag)
            if known is not None:
                self._known.move_to_end(tag)
                return known
        made = make()
        with self._lock:
            before = self._known.pop(tag, b"")
            self._known[tag] = made
            self._n_bytes += len(made) - len(before)
            while self._n_bytes > self._max_bytes:
                _, gone = self._known.popitem(last=False)
                self._n_bytes -= len(gone)
        return made
