"""Work that goes on while its results are used."""

from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")
_LOOK_S: Final = 0.1
_CLOSE_S: Final = 1.0


class _End:
    """What comes after the last item; `error` is raised in its place."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead(Generic[_T]):
    """An iterator whose items are made by a thread, at most `depth` before they are asked for.

    The thread starts at once. What it raises is raised where the items are taken. `close` ends
    it early; so does the end of the process. An item that is being made then is finished, and
    dropped: nobody waits for it longer than a second.
    """

    def __init__(self, make: Callable[[], Iterator[_T]], *, depth: int) -> None:
        """Start to make items. depth: how many may wait, 1 at least."""
        self._ready: Queue[_T | _End] = Queue(depth)
        self._stopped = Event()
        self._ended: _End | None = None
        self._thread = Thread(target=self._run, args=(make,), name="ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Ahead[_T]":
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
                item = self._ready.get(timeout=_LOOK_S)
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
        """Stop making items, and wait until that is so, a second at most."""
        self._stopped.set()
        self._thread.join(_CLOSE_S)

    def _run(self, make: Callable[[], Iterator[_T]]) -> None:
        error: BaseException | None = None
        try:
            for item in make():
                if not self._put(item):
                    break
        except BaseException as e:  # noqa: BLE001 - raised where the items are taken
            error = e
        self._put(_End(error))

    def _put(self, item: _T | _End) -> bool:
        """Hand an item over as soon as there is room; tell whether it is still wanted."""
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=_LOOK_S)
            except Full:
                continue
            return True
        return False
