"""The items that every capture yields, in order, and the errors that it raises.

CaptureError
 +-- UnsafeURL            refused before anything was fetched
 +-- SourceUnreachable    the site or the stream did not answer
 +-- NoStream             it answered, but has no video
 |    +-- NotWatchable    its video can't be watched, and a retry does not help
 +-- NotLive              there is a video, but not on air
 |    +-- ShowMissed      it did not begin within the waiting time
 +-- UnreadableMedia      what was recorded or fetched can't be decoded
 |    +-- NoPicture       it can, but has no video
 +-- DiskFull             the recording's disk is full, or can't be written to for now
 +-- CaptureFailed        the capture ended, and a retry does not help
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from flows.capture.redaction import clean

_TOO_MANY: Final = 429
_TOO_MANY_S: Final = 4.0
"""Pause after "too many requests" (429) without a Retry-After, in seconds."""

MAX_BACKOFF_S: Final = 300.0
"""Longest pause that a server's Retry-After can set, in seconds."""


class CaptureError(Exception):
    """Root of capture's errors; each message is one line that says what to do.

    Messages go to logs, rows and pages: URLs in them are always shortened.
    """

    def __init__(self, message: str = "") -> None:
        """Shorten the URLs."""
        super().__init__(clean(message))


class UnsafeURL(CaptureError):
    """The URL may not be fetched from here."""


RANGE_NOT_THERE: Final = 416
"""Status of a byte range that a file does not have, or not yet; also where only a part came."""


class SourceUnreachable(CaptureError):
    """The site or the stream did not answer."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        """Keep the HTTP status, if there is one, and the seconds of its Retry-After."""
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s

    @property
    def backoff_s(self) -> float:
        """Return the seconds to wait before the next request; 0 where the server set none."""
        if self.retry_after_s is not None:
            return min(self.retry_after_s, MAX_BACKOFF_S)
        return _TOO_MANY_S if self.status == _TOO_MANY else 0.0


class NoStream(CaptureError):
    """There is no video at this URL."""


class NotWatchable(NoStream):
    """There is a video that can't be watched: encrypted, or for other users only."""


class NotLive(CaptureError):
    """There is a video, but not on air.

    starts_at: its announced start, aware UTC. over: it seems to have ended; a playlist also ends
    when its encoder restarts. final: the site states that it has ended. ended_for_s: seconds since
    its playlist ended.
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
    """A show did not begin within the waiting time."""


class UnreadableMedia(CaptureError):
    """The media can't be decoded."""


class NoPicture(UnreadableMedia):
    """The media has no video."""


class DiskFull(CaptureError):
    """The recording's disk is full, or can't be written to for now."""


class CaptureFailed(CaptureError):
    """The capture ended, and a retry does not help."""


def _require_aware(name: str, value: datetime) -> None:
    if value.tzinfo is None or value.utcoffset() != timedelta(0):
        raise ValueError(f"{name} must be aware UTC, not {value!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A finished segment of the recording, on disk.

    channel: the channel's slug. broadcast: the database's id of the broadcast.
    sequence: counts the broadcast's segments, across restarts, without reuse.
    start: aware UTC, of the first video frame, by the source's clock; `start_is_estimated` where
        the source has no clock and the time of arrival is used.
    duration_s: to the start of the next segment.
    offset_s: where in the file the segment starts, seconds from its first video frame; above 0 only
        where a restarted capture recorded frames twice: those before it belong to the segment
        before. width_px, height_px: 0 where unknown.
    continuous: the file's timestamps continue those of the file before.
    is_ad: whether the source marks it as an advertisement; None where it marks nothing.
    needs: names of the files in its folder to decode before it, in order: its first pictures refer
        to pictures in them.
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
        """Return the files to decode before its own, in order; some may be deleted."""
        return [self.path.with_name(name) for name in self.needs]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A time range of the broadcast that no segment covers, and why."""

    start: datetime
    end: datetime
    why: str

    def __post_init__(self) -> None:
        """Check the clock and the order."""
        _require_aware("start", self.start)
        _require_aware("end", self.end)
        if self.end < self.start:
            raise ValueError(f"a gap ends ({self.end}) before it starts ({self.start})")
