"""Segments that are cut short, and pictures that are held: what is lost silently, what is a gap.

python -m benchmarks.capture.cuts [NAME ...]

Sources of six segments of 2 s, of which the first, second or fourth ends early for good: behind
each picture, as the file has them, and the fourth behind each fifth packet; with dates and without.
Nothing is served: the segments go through the engine's rules as they are.
"""

import hashlib
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Final

import av

from benchmarks.origin.ending_early import (
    N_SEGMENTS,
    PACKET_BYTES,
    SEGMENT_S,
    SOURCES,
    Source,
    boxes_of,
)
from flows.capture.hls.dating import Dates
from flows.capture.hls.endings import Endings
from flows.capture.hls.pending import Pending, lacks
from flows.capture.playlists.playlist import Entry, Part
from flows.capture.recorded.media import Extent, ends_whole, measure
from flows.capture.recorded.recording import Recording
from flows.capture.segment import Gap, UnreadableMedia

_TOLD_S: Final = 0.1
"""Shorter holes are no gaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Of a recording, in seconds: what is missing without a gap, and what a gap says wrongly.

    missing_s: all that is missing.
    """

    missing_s: float
    silent_s: float
    false_s: float
    fetches: int


class Bench:
    """The segments of a source, each in a file, and what was measured of them."""

    def __init__(self, source: Source, folder: Path) -> None:
        """Make the source."""
        self.source, self._folder = source, folder
        made = folder / "made"
        made.mkdir()
        self.media = source.make(made)
        self._names = count()
        self._paths = [self._write(data) for data in self.media]
        self._extents = [self._measure(path) for path in self._paths]
        self._shown = [self._pictures(path) for path in self._paths]

    def cuts(self, n: int, *, each_packet: bool) -> Iterator[int]:
        """Yield where to cut a segment: before pictures, or behind each packet or box."""
        data = self.media[n]
        if self.source.fragmented:
            yield from [at for name, at in boxes_of(data) if name == b"moof"][1:]
            return
        n_begun = 0
        for at in range(0, len(data), PACKET_BYTES):
            is_video = (data[at + 1] & 31) << 8 | data[at + 2] == 256
            begins = is_video and bool(data[at + 1] & 0x40)
            n_begun += begins
            if n_begun > 1 and (begins or each_packet):
                yield at

    def run(self, cut: dict[int, int], *, dated: bool = True) -> Outcome | None:
        """Record it, some segments cut off; None if one can't be read."""
        paths, extents = list(self._paths), list(self._extents)
        kept: dict[int, dict[float, bytes]] = {}
        for n, at in cut.items():
            paths[n] = self._write(self.media[n][:at])
            try:
                extents[n] = self._measure(paths[n])
            except UnreadableMedia:
                return None
            kept[n] = self._pictures(paths[n])
        began = datetime(2026, 1, 1, tzinfo=UTC)
        step = timedelta(seconds=SEGMENT_S)
        items = [
            Pending(
                entry=Entry(
                    sequence=n,
                    media=Part(url=f"http://x/{n}.ts"),
                    duration_s=SEGMENT_S,
                    date=began + n * step if dated else None,
                    dated=dated,
                    discontinuity=False,
                    init=None,
                    key=None,
                ),
                arrival=began + n * step,
                follows=n > 0,
                repeats=False,
                path=paths[n],
                extent=extent,
            )
            for n, extent in enumerate(extents)
        ]
        fetches, events = _record(items, Recording(self._new(), channel="x", broadcast=1))
        gaps = [event for event in events if isinstance(event, Gap)]
        told = [((g.start - began).total_seconds(), (g.end - began).total_seconds()) for g in gaps]
        missing, shown = list[tuple[float, float]](), list[tuple[float, float]]()
        ordered = sorted(pts for pictures in self._shown for pts in pictures)
        after = dict(pairwise([*ordered, ordered[0] + N_SEGMENTS * SEGMENT_S]))
        for n, pictures in enumerate(self._shown):
            there = kept.get(n, pictures)
            for pts, digest in pictures.items():
                spans = shown if there.get(pts) == digest else missing
                spans.append((pts - ordered[0], after[pts] - ordered[0]))
        for n, at in cut.items():
            if len(self.media[n]) != at:
                paths[n].unlink()
        return Outcome(
            missing_s=sum(end - begin for begin, end in missing),
            silent_s=_silent(missing, told),
            false_s=sum(end - begin for begin, end in told)
            - sum(max(0.0, min(e, t) - max(b, s)) for b, e in missing for s, t in told),
            fetches=fetches,
        )

    def _measure(self, path: Path) -> Extent:
        extent = measure(path, fragmented=self.source.fragmented)
        if not extent.is_whole and lacks(extent, SEGMENT_S):  # as `Pending.fetch`
            is_whole = ends_whole(path, fragmented=self.source.fragmented)
            extent = replace(extent, is_whole=is_whole)
        return extent

    def _write(self, data: bytes) -> Path:
        path = self._folder / f"{next(self._names)}.ts"
        path.write_bytes(data)
        return path

    def _new(self) -> Path:
        folder = self._folder / f"rec{next(self._names)}"
        folder.mkdir()
        return folder

    @staticmethod
    def _pictures(path: Path) -> dict[float, bytes]:
        with av.open(str(path)) as found:
            video = found.streams.video[0]
            return {
                round(float(packet.pts * packet.time_base), 3): hashlib.md5(
                    bytes(packet), usedforsecurity=False
                ).digest()
                for packet in found.demux(video)
                if packet.pts is not None and packet.time_base is not None
            }


def _record(items: list[Pending], recording: Recording) -> tuple[int, list[object]]:
    """Record the segments as the engine does, each next one being there."""
    dates, endings = Dates(recording), Endings()
    events: list[object] = []
    dropped: list[str] = []
    fetches = len(items)
    while items:
        item = items[0]
        if not endings.settle(items, wait_s=4.0):
            if not item.again:
                raise AssertionError("it waits")
            item.again = False
            fetches += 1
            continue
        items.pop(0)
        if item.path is None or item.extent is None:
            raise AssertionError(item)
        start, end, estimated = dates.of(
            item.entry,
            item.extent,
            arrival=item.arrival,
            follows=item.follows and not dropped,
            repeats=item.repeats,
        )
        events += recording.add(
            item.path, item.extent, start=start, end=end, estimated=estimated, continuous=False
        )
        dropped = [item.ends_early] if endings.recorded(item) else []
    return fetches, events


def _silent(missing: Sequence[tuple[float, float]], told: Sequence[tuple[float, float]]) -> float:
    """Return the seconds that no gap tells, in stretches that should be gaps."""
    total_s, hole = 0.0, (0.0, 0.0)
    untold = [
        each
        for each in sorted(missing)
        if not any(begin - _TOLD_S <= each[0] < end + _TOLD_S for begin, end in told)
    ]
    for begin, end in [*untold, (1e9, 1e9)]:
        if begin > hole[1] + 0.005:
            total_s += hole[1] - hole[0] if hole[1] - hole[0] >= _TOLD_S - 0.001 else 0.0
            hole = (begin, end)
        hole = (hole[0], end)
    return total_s


def row(name: str, bench: Bench) -> str:
    """Return a row of the table."""
    whole = [outcome for dated in (True, False) if (outcome := bench.run({}, dated=dated))]
    false_s = sum(each.false_s for each in whole if each.false_s >= _TOLD_S)
    outcomes = []
    for n, each_packet in ((3, True), (3, False), (1, False), (0, False)):
        cuts = [*bench.cuts(n, each_packet=each_packet)][:: 5 if each_packet else 1]
        outcomes += [bench.run({n: at}, dated=dated) for at in cuts for dated in (True, False)]
    wanted = [each for each in outcomes if each and each.missing_s >= _TOLD_S]
    silent_s = [each.silent_s for each in wanted if each.silent_s >= _TOLD_S - 0.001]
    cells = f"{len(wanted)} | {len(silent_s)} | {sum(silent_s):.1f}"
    return f"| {name} | {cells} | {false_s / max(1, len(whole)):.1f} |"


def main(names: list[str]) -> int:
    """Print the table."""
    logging.disable()
    print(
        "| source | cuts | silent | s | false gaps, s |",
        "|---|---:|---:|---:|---:|",
        sep="\n",
    )
    for name, source in SOURCES.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            print(row(name, Bench(source, Path(folder))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
