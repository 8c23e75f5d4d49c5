"""Exceptions of `flows`; emotion, db and flows.capture have root classes of their own.

Exception
 +-- ShowmoodError
 |    +-- UsageError         invalid input: exit code 2
 |    +-- StackError         a part of the embedded stack did not start, or stopped
 |    +-- ShowFailed         a watch ended without a single segment analysed
 |    +-- Skipped            nothing left to watch: another run did it, or the show is over
 |    +-- HandedOver         another process continues this run
 +-- emotion.types.EmotionError
 +-- db.errors.DatabaseError
 +-- flows.capture.segment.CaptureError
"""

from typing import Final

from db.errors import DatabaseError
from emotion.types import EmotionError
from flows.capture.segment import CaptureError


class ShowmoodError(Exception):
    """Root of the flows' errors; each message is one line that says what to do."""


class UsageError(ShowmoodError):
    """Invalid input."""


class StackError(ShowmoodError):
    """A part of the embedded stack did not start, or stopped by itself."""


class ShowFailed(ShowmoodError):
    """A watch ended without a single segment analysed."""


class Skipped(ShowmoodError):
    """Nothing is left to watch; not a failure."""


class HandedOver(ShowmoodError):
    """A process on another machine continues this run; everything recorded here is stored."""


EXPECTED: Final = (ShowmoodError, CaptureError, DatabaseError, EmotionError)
"""Errors shown without a traceback: one line, in the terminal and as a run's message."""
