"""Converts timestamps of a recording by ffmpeg into the source's dates.

ffmpeg shifts timestamps: its output begins near zero, and where the source's timestamps jump it
adds an offset, which it logs, to keep the output continuous. So the output of one run of ffmpeg
consists of sections, one for each jump. Within a section the difference between input and output
is constant, so that the date of one frame, from the source's playlist, dates all of them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from flows.capture.recorded.media import TICKS_PER_S, WRAP, ticks_from

_TOLERANCE: Final = TICKS_PER_S // 100
"""Tolerance of a section's start in ticks, for rounding between clocks."""

_NEAR: Final = 10 * TICKS_PER_S
_SAME_US: Final = 100_000
"""Offsets that differ by less, in microseconds, are the same but for rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A section of the output without a jump.

    date: of its first frame, aware UTC. input: that frame's timestamp in the source, in ticks of
    90 kHz; None if unknown. offset_us: ffmpeg's offset relative to the first section's.
    """

    date: datetime
    estimated: bool
    input: int | None
    offset_us: int = 0

    def __post_init__(self) -> None:
        """Check the date."""
        if self.date.utcoffset() != timedelta(0):
            raise ValueError(f"a date must be aware UTC, not {self.date!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockState:
    """The state of a clock: `first`, and its sections in order."""

    first: int | None
    sections: tuple[Section, ...]


class Clock:
    """Dates the timestamps of one run of ffmpeg."""

    def __init__(self, sections: list[Section] | None = None, first: int | None = None) -> None:
        """Begin without a section, or with a saved state."""
        self._sections = sections or []
        self._undone_us: int | None = None
        self.first = first
        """The timestamp of the run's first recorded frame, in ticks."""

    @property
    def is_set(self) -> bool:
        """Whether there is a section to date by."""
        return bool(self._sections)

    @property
    def is_anchored(self) -> bool:
        """Whether the source's timestamp of a dated frame is known."""
        return bool(self._sections) and self._sections[0].input is not None

    def begin(self, section: Section) -> None:
        """Set the first section."""
        self._sections = [section]

    def jump(self, section: Section, *, now: int) -> None:
        """Add a section for a jump that ffmpeg reported after it had recorded up to `now` (ticks).

        If it can't be placed, dates continue as before, estimated from `now`.
        """
        origin = self._sections[0].input
        if self._is_undone_by(section):
            self._undone_us = self._sections.pop().offset_us
            return
        if self._undone_us is not None and section.input is not None:
            # The audio stays where it was: ffmpeg jumps to and fro with each of its packets.
            known = (self._undone_us, self._sections[-1].offset_us)
            if any(abs(section.offset_us - each) < _SAME_US for each in known):
                return
        if section.input is None or origin is None or self.first is None:
            date, _ = self.date(now)
            # Placed at `now`: its offset is computed to fit.
            offset_us = round((now - (self.first or 0)) * 1e6 / TICKS_PER_S)
            self._sections.append(
                Section(date=date, estimated=True, input=origin, offset_us=offset_us)
            )
            return
        self._sections.append(section)

    def _is_undone_by(self, section: Section) -> bool:
        """Return whether the last jump was only of the audio, after ten seconds without audio.

        Then the video makes ffmpeg jump back at once, at the same place in the source.
        """
        if len(self._sections) < 2 or section.input is None:
            return False
        before, last = self._sections[-2:]
        near = last.input is not None and abs(section.input - last.input) <= _NEAR
        return near and abs(section.offset_us - before.offset_us) < _SAME_US

    def shift(self, by: timedelta, *, now: int) -> None:
        """Shift the dates from `now` (ticks) on; they are then estimated."""
        date, _ = self.date(now)
        offset_us = round((now - (self.first or 0)) * 1e6 / TICKS_PER_S)
        origin = self._sections[0].input
        self._sections.append(
            Section(date=date + by, estimated=True, input=origin, offset_us=offset_us)
        )

    def date(self, ticks: int) -> tuple[datetime, bool]:
        """Return a frame's date, aware UTC, in whole milliseconds, and whether it is estimated.

        Sources date to the millisecond; timestamps are converted between clocks of 90 kHz and
        1 MHz, and rounding makes two recordings of a frame agree.
        """
        start, section = self._section_at(ticks)
        us = round((ticks - start) * 1e6 / TICKS_PER_S)
        date = section.date + timedelta(microseconds=us)
        ms = round((date - _EPOCH) / timedelta(milliseconds=1))
        return _EPOCH + timedelta(milliseconds=ms), section.estimated

    def date_of_input(self, ticks: int) -> datetime | None:
        """Return the date of a frame with this source timestamp, without further jumps.

        None if unknown.
        """
        origin = self._sections[0].input if self._sections else None
        if origin is None or self.first is None:
            return None
        # Sections with the first one's timestamp were placed by the output.
        jumps = [s for s in self._sections if s.input is not None and s.input != origin]
        offset = round(jumps[-1].offset_us * TICKS_PER_S / 1e6) if jumps else 0
        return self.date(self.first + offset + ticks_from(origin, ticks))[0]

    def input_at(self, ticks: int) -> int | None:
        """Return a frame's timestamp in the source, in ticks; None if unknown."""
        start, section = self._section_at(ticks)
        first = self._sections[0]
        # Sections with the first one's timestamp were placed by the output.
        if section.input is None or (section is not first and section.input == first.input):
            return None
        return (section.input + ticks - start) % WRAP

    def same_section(self, a: int, b: int) -> bool:
        """Return whether no jump lies between two timestamps."""
        return self._section_at(a)[1] is self._section_at(b)[1]

    def _section_at(self, ticks: int) -> tuple[int, Section]:
        first = self.first or 0
        found = (first, self._sections[0])
        for section in self._sections[1:]:
            start = self._start_of(section, near=ticks)
            if start <= ticks + _TOLERANCE:
                found = (start, section)
        return found

    def _start_of(self, section: Section, *, near: int) -> int:
        """Return where in the output a section starts, by the lap of the 33-bit counter."""
        base = (self.first or 0) + round(section.offset_us * TICKS_PER_S / 1e6)
        start = base + (section.input or 0) - (self._sections[0].input or 0)
        laps = round((near - start) / WRAP)
        return start + laps * WRAP

    def state(self) -> ClockState:
        """Return what `from_state` takes."""
        return ClockState(first=self.first, sections=tuple(self._sections))

    @classmethod
    def from_state(cls, state: ClockState) -> Self:
        """Return the clock that `state` was taken from."""
        return cls(list(state.sections), state.first)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
