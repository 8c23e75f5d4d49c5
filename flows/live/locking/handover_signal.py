"""Handover when a worker stops: SIGUSR1 tells a watch that another worker may continue it.

The watch continues until the other process, of the same run, waits for the channel; then it stores
everything and leaves the broadcast open. If no process waits, it runs to its end.
"""

import signal
import threading
from types import FrameType
from typing import Final

MAY_LEAVE: Final = threading.Event()
"""Set when this process may hand over its watch."""


def install_handler() -> None:
    """Install the handler of SIGUSR1; call it in the main thread."""

    def leave(number: int, frame: FrameType | None) -> None:
        MAY_LEAVE.set()

    signal.signal(signal.SIGUSR1, leave)
