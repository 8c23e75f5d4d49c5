"""Prefetching: items are produced by a thread while the previous ones are used."""

from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")
_POLL_S: Final = 0.1
_CLOSE_S: Final = 1.0


class _End:
    """Marks the end of the items; `error`, if any, is raised to the consumer."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetcher(Generic[_T]):
    """An iterator whose items are produced by a thread, at most `depth` in advance.

    The thread starts immediately. Its exceptions are raised to the consumer. `close` ends
    it early, as does the end of the process; an item that is being produced then is finished and
    dropped, and `close` waits for it at most a second.
    """

    def __init__(self, make: Callable[[], Iterator[_T]], *, depth: int) -> None:
        """Start to produce items. depth: capacity of the queue, at least 1."""
        self._ready: Queue[_T | _End] = Queue(depth)
        self._stopped = Event()
        self._ended: _End | None = None
        self._thread = Thread(target=self._run, args=(make,), name="prefetch", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Prefetcher[_T]":
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def __iter__(self) -> Iterator[_T]:
        """Return itself."""
        return self

    def __next__(self) -> _T:
        """Return the next item, waiting for it."""
        while self._ended is None:
            try:
                item = self._ready.get(timeout=_POLL_S)
            except Empty:
                if self._stopped.is_set():
                    break
                continue
            if not isinstance(item, _End):
                return item
            self._ended = item
            if item.error is not None:
                raise item.error
        raise StopIteration

    def close(self) -> None:
        """Stop producing items, and wait for the thread, at most a second."""
        self._stopped.set()
        self._thread.join(_CLOSE_S)

    def _run(self, make: Callable[[], Iterator[_T]]) -> None:
        error: BaseException | None = None
        try:
            for item in make():
                if not self._put(item):
                    break
        except BaseException as e:  # noqa: BLE001 - raised to the consumer
            error = e
        self._put(_End(error))

    def _put(self, item: _T | _End) -> bool:
        """Queue an item when there is room; return False once closed."""
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=_POLL_S)
            except Full:
                continue
            return True
        return False
