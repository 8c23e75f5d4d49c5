"""The items that every capture yields, in order, and the errors that it raises.

CaptureError
 +-- UnsafeURL            refused before anything was fetched
 +-- SourceUnreachable    the site or the stream did not answer
 +-- NoStream             it answered, and there is no video in it
 |    +-- NotWatchable    there is one that can't be watched like this, however often it is tried
 +-- NotLive              there is a video, and it is not on air
 |    +-- ShowMissed      it was waited for, and did not begin
 +-- UnreadableMedia      what was recorded or fetched is not the media it should be
 |    +-- NoPicture       it is media, and there is no video in it
 +-- DiskFull             the recording's disk has no room, or can't be written to for now
 +-- CaptureFailed        the capture or the source gave up for good
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from flows.capture.redaction import clean

_TOO_MANY: Final = 429
_TOO_MANY_S: Final = 4.0
"""Pause after "too many requests" (429) without a Retry-After, in seconds."""

MAX_LEAVE_S: Final = 300.0
"""A server that wants to be left alone for longer is asked again then."""


class CaptureError(Exception):
    """Root of capture's errors; each message is one line that says what to do.

    It goes to logs, rows and pages: the URLs in it are shortened, whoever wrote it.
    """

    def __init__(self, message: str = "") -> None:
        """Shorten the URLs."""
        super().__init__(clean(message))


class UnsafeURL(CaptureError):
    """The URL may not be fetched from here."""


class SourceUnreachable(CaptureError):
    """The site or the stream did not answer."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        """Keep the HTTP status, if it answered with one, and when it wants to be asked again."""
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s

    @property
    def leave_s(self) -> float:
        """Return for how long its server wants to be left alone; 0 where it may be asked again."""
        if self.retry_after_s is not None:
            return min(self.retry_after_s, MAX_LEAVE_S)
        return _TOO_MANY_S if self.status == _TOO_MANY else 0.0


class NoStream(CaptureError):
    """Nothing at this URL can be watched."""


class NotWatchable(NoStream):
    """There is a video that can't be watched like this: encrypted, or for others alone."""


class NotLive(CaptureError):
    """There is a video, and it is not on air.

    starts_at: its announced start, aware UTC. over: it has been, as far as can be seen: a playlist
    that ends may be that of an encoder which starts again. final: its site says that it is over.
    ended_for_s: for so long its playlist has said so.
    """

    def __init__(
        self,
        message: str,
        *,
        starts_at: datetime | None = None,
        over: bool = False,
        final: bool = False,
        ended_for_s: float = 0.0,
    ) -> None:
        """Keep what is known."""
        super().__init__(message)
        self.starts_at, self.over, self.final = starts_at, over or final, final
        self.ended_for_s = ended_for_s


class ShowMissed(NotLive):
    """A show was waited for and did not begin in time."""


class UnreadableMedia(CaptureError):
    """The bytes are not the media they should be."""


class NoPicture(UnreadableMedia):
    """The bytes are media without video."""


class DiskFull(CaptureError):
    """The recording's disk has no room, or can't be written to for now."""


class CaptureFailed(CaptureError):
    """The capture gave up for good."""


def _require_aware(name: str, value: datetime) -> None:
    if value.tzinfo is None or value.utcoffset() != timedelta(0):
        raise ValueError(f"{name} must be aware UTC, not {value!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A finished piece of recording on disk.

    channel: the channel's slug. broadcast: the database's id of the broadcast.
    sequence: counts the broadcast's segments, across restarts, without reuse.
    start: aware UTC, the first video frame, by the source's clock; `start_is_estimated` when the
        source gave no clock and the time of arrival stands for it.
    duration_s: to the start of the next segment.
    offset_s: where in the file the segment starts, seconds from its first video frame; above 0 only
        where a capture that was started again brought something twice: the frames before it are
        the segment's before this one. width_px, height_px: 0 where unknown.
    continuous: the timestamps in the file go on from those in the file of the segment before.
    is_ad: whether the source says that it is an advertisement; None where it says nothing.
    needs: names of the files in its folder that are decoded before it, in order: it begins amid
        pictures that refer to theirs.
    """

    channel: str
    broadcast: int
    sequence: int
    start: datetime
    start_is_estimated: bool
    duration_s: float
    path: Path
    width_px: int
    height_px: int
    offset_s: float = 0.0
    continuous: bool = False
    is_ad: bool | None = None
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the clock and the duration."""
        _require_aware("start", self.start)
        if not self.duration_s > 0:
            raise ValueError(f"duration_s must be positive, not {self.duration_s}")

    @property
    def end(self) -> datetime:
        """Return the end of the half-open range of time."""
        return self.start + timedelta(seconds=self.duration_s)

    @property
    def lead(self) -> list[Path]:
        """Return the files that are decoded before its own, in order; some may be deleted."""
        return [self.path.with_name(name) for name in self.needs]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A stretch of the broadcast that no segment covers, and why."""

    start: datetime
    end: datetime
    why: str

    def __post_init__(self) -> None:
        """Check the clock and the order."""
        _require_aware("start", self.start)
        _require_aware("end", self.end)
        if self.end < self.start:
            raise ValueError(f"a gap ends ({self.end}) before it starts ({self.start})")
