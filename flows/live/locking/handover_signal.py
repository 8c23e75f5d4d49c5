"""Handing over when a worker stops: SIGUSR1 tells a watch that another worker may take it.

It goes on until that other process, of the same run, waits for the channel; then it stores what it
has and leaves the broadcast open. Nobody waits: it goes on to its end.
"""

import signal
import threading
from types import FrameType
from typing import Final

MAY_LEAVE: Final = threading.Event()
"""Whether this process may hand over what it watches."""


def hear() -> None:
    """Have SIGUSR1 say so; to be called in the main thread."""

    def leave(number: int, frame: FrameType | None) -> None:
        MAY_LEAVE.set()

    signal.signal(signal.SIGUSR1, leave)
