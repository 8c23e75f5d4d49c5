"""What an entry point raises; the other rooms have roots of their own.

Exception
 +-- ShowmoodError
 |    +-- UsageError         the caller's input does not fit: exit code 2
 |    +-- StackError         a part of the embedded stack did not start or stopped
 |    +-- ShowFailed         a watch ended without a single segment analysed
 |    +-- Skipped            there was nothing left to watch: somebody else did, or it is over
 +-- emotion.types.EmotionError
 +-- db.errors.DatabaseError
 +-- flows.capture.segment.CaptureError
"""

from typing import Final

from db.errors import DatabaseError
from emotion.types import EmotionError
from flows.capture.segment import CaptureError


class ShowmoodError(Exception):
    """Root of what the flows raise; each message is one line that says what to do."""


class UsageError(ShowmoodError):
    """The caller's input does not fit."""


class StackError(ShowmoodError):
    """A part of the embedded stack did not start, or stopped by itself."""


class ShowFailed(ShowmoodError):
    """A watch ended and nothing could be analysed."""


class Skipped(ShowmoodError):
    """There was nothing left to watch; nothing is wrong."""


class HandedOver(ShowmoodError):
    """Another process goes on with this run, on another machine; all that is here is stored."""


EXPECTED: Final = (ShowmoodError, CaptureError, DatabaseError, EmotionError)
"""What a person can act on: one line, in the terminal and as a run's message."""
