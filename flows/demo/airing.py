"""When the parts of a show are on air, and how its playlist lists them."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from flows.demo.errors import DemoError
from flows.demo.mpegts import move_timestamps
from flows.demo.pieces import Piece


def now() -> datetime:
    """Return the time, aware UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """State of the show from its `first`-th segment on.

    variant: which pieces. moved_s: shift of the timestamps. misdated: shift of the dates.
    discontinuity: whether the playlist has a discontinuity here.
    """

    first: int
    variant: str | None = None
    moved_s: float = 0.0
    misdated: timedelta = timedelta(0)
    discontinuity: bool = False


class Airing:
    """A show that is on air from `started_at` on, piece after piece.

    Changes take effect with the next segment that is listed. May be used by any thread.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        *,
        started_at: datetime | None = None,
        variants: Mapping[str, Sequence[Piece]] | None = None,
        window: int = 6,
        loop: bool = True,
        pause_s: float = 0.0,
        dated: bool = True,
        clock: Callable[[], datetime] = now,
    ) -> None:
        """Begin; see LiveOrigin. Raises DemoError for a variant with other cuts."""
        self._variants: dict[str | None, Sequence[Piece]] = {None: pieces}
        self._variants.update(variants or {})
        for name, variant in self._variants.items():
            if len(variant) != len(pieces):
                raise DemoError(f"{name} has {len(variant)} pieces and not {len(pieces)}")
        self.n_pieces = len(pieces)
        """Segments until the show begins again."""
        self._starts_us = [0]
        for piece in pieces:
            self._starts_us.append(self._starts_us[-1] + piece.duration_us)
        self._round_us = self._starts_us[-1] + round(pause_s * 1e6)
        self._clock = clock
        self.started_at = started_at or clock() - timedelta(
            microseconds=self._starts_us[min(3, len(pieces))]
        )
        self._window, self._loop, self._dated = window, loop, dated
        self._changing = threading.Lock()
        self._stretches: tuple[_Stretch, ...] = (_Stretch(first=0),)
        self._held_at: datetime | None = None
        self._ended = False
        self._first_number = 0

    @property
    def segment_s(self) -> float:
        """The duration of the longest piece."""
        return max(piece.duration_us for piece in self._variants[None]) / 1e6

    # -- what is on air

    def start_of(self, index: int) -> datetime:
        """Return the date of the first frame of the show's `index`-th segment."""
        rounds, piece = divmod(index, self.n_pieces)
        return self.started_at + timedelta(
            microseconds=rounds * self._round_us + self._starts_us[piece]
        )

    @property
    def published(self) -> int:
        """How many segments of the show have passed."""
        passed = (self._held_at or self._clock()) - self.started_at
        rounds, rest = divmod(passed // timedelta(microseconds=1), self._round_us)
        if rounds < 0:
            return 0
        if rounds and not self._loop:
            return self.n_pieces
        return rounds * self.n_pieces + sum(end <= rest for end in self._starts_us[1:])

    @property
    def listed(self) -> tuple[int, int]:
        """The half-open range of the segments that the playlist lists."""
        end = self.published
        return max(0, end - self._window), end

    def piece_at(self, index: int) -> Piece:
        """Return what is on air as the show's `index`-th segment, its timestamps aside."""
        return self._variants[self._stretch_at(index).variant][index % self.n_pieces]

    def bytes_of(self, index: int) -> bytes:
        """Return the show's `index`-th segment as it is sent."""
        data = self.piece_at(index).path.read_bytes()
        return move_timestamps(data, self._stretch_at(index).moved_s)

    def _stretch_at(self, index: int) -> _Stretch:
        return next(s for s in reversed(self._stretches) if s.first <= index)

    # -- what changes

    def freeze(self) -> None:
        """List nothing new from now on."""
        self._held_at = self._clock()

    def end(self) -> None:
        """Close the playlist with EXT-X-ENDLIST where it is."""
        self._held_at = self._clock()
        self._ended = True

    def resume(self) -> None:
        """Undo `freeze` and `end`: the show continues where it would be without them."""
        self._held_at, self._ended = None, False

    def reset_sequence(self) -> None:
        """Number the media segments from 0 again, as a restarted encoder does."""
        self._first_number = self.listed[0]

    def play(self, variant: str | None = None, *, discontinuity: bool = True) -> None:
        """Play the pieces of a variant, or (None) those of the beginning."""
        if variant not in self._variants:
            raise DemoError(f"there is no variant {variant}")
        self._change(variant=variant, discontinuity=discontinuity)

    def move_timestamps(self, by_s: float, *, discontinuity: bool = False) -> None:
        """Shift the media's timestamps by these seconds; 0 undoes it."""
        self._change(moved_s=by_s, discontinuity=discontinuity)

    def misdate(self, by_s: float) -> None:
        """Shift the playlist's dates by these seconds; 0 undoes it."""
        self._change(misdated=timedelta(seconds=by_s))

    def _change(self, *, discontinuity: bool = False, **changes: object) -> None:
        with self._changing:
            changed = replace(
                self._stretches[-1],
                first=self.published,
                discontinuity=discontinuity,
                **changes,  # type: ignore[arg-type]
            )
            self._stretches = (*self._stretches, changed)

    # -- the playlist

    def playlist(self) -> str:
        """Return the media playlist as of now (RFC 8216, section 4.3)."""
        first, end = self.listed
        changes = {s.first for s in self._stretches if s.discontinuity}
        gone = max(0, first - 1) // self.n_pieces
        gone += sum(n < first and n % self.n_pieces != 0 for n in changes)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            f"#EXT-X-TARGETDURATION:{math.ceil(self.segment_s)}",
            f"#EXT-X-MEDIA-SEQUENCE:{max(0, first - self._first_number)}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{gone}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        for index in range(first, end):
            if index and (index % self.n_pieces == 0 or index in changes):
                lines.append("#EXT-X-DISCONTINUITY")
            if self._dated:
                date = self.start_of(index) + self._stretch_at(index).misdated
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat(timespec='milliseconds')}")
            lines.append(f"#EXTINF:{self.piece_at(index).duration_us / 1e6:.6f},")
            lines.append(f"segment-{index:06d}.ts")
        if self._ended or (not self._loop and end == self.n_pieces):
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"
