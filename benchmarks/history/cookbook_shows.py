"""The shows of the examples in docs/sql.md, in the database and as Python objects.

Eleven nights of one channel; two mornings of another, one of them with gaps; and a debate on three
nights around the end of summer time in Berlin: by two networks, with advertisements, without faces.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import Engine

from benchmarks.history.made_shows import make_show, pieces
from db.keeping import keep
from db.tables.shows import EMOTIONS
from db.writing.rows import ObservationRows, SegmentRow
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    fail_segment,
    open_broadcast,
    record_gap,
    record_segment,
    replace_segment,
)

SHOW_S = 300.0
SEGMENT_S = 30.0
LIVE = "retinaface-mobilenet0.25+showmood-expression-2"
AGAIN = "retinaface-mobilenet0.25+enet_b0_8_best_vgaf+centred"


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """A face in a frame; emotions that the network lacks are omitted."""

    ts: datetime
    track: int
    smoothed: dict[str, float]
    raw: dict[str, float]
    box: tuple[float, float, float, float]
    yaw: float

    @property
    def emotion(self) -> str:
        """The strongest emotion."""
        return max(self.smoothed, key=lambda name: self.smoothed[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A segment or a gap. state: analysed, ad, failed, waiting or gap."""

    start: datetime
    end: datetime
    state: str
    fps: float = 0.0
    model: str = ""
    why: str = ""

    def frames(self) -> Iterator[datetime]:
        """Yield the times of the analysed frames."""
        for index in range(round((self.end - self.start).total_seconds() * self.fps)):
            yield self.start + timedelta(seconds=index / self.fps)


@dataclass(kw_only=True, slots=True)
class Told:
    """A show, as it is in the database."""

    channel: str
    title: str
    start: datetime
    number: int = 0
    stretches: list[Stretch] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    shots: list[datetime] = field(default_factory=list)

    def mood(self) -> list[Face]:
        """Return the faces outside advertisements."""
        ads = [each for each in self.stretches if each.state == "ad"]
        return [face for face in self.faces if not any(ad.start <= face.ts < ad.end for ad in ads)]


def fill(engine: Engine) -> list[Told]:
    """Store all shows; return them, in the order of their numbers."""
    shows = [
        *(Told(channel="late-night", title="", start=at) for at in _days(2026, 11, 10, 11, 22)),
        *(Told(channel="morning", title="", start=at) for at in _days(2026, 11, 18, 2, 7)),
    ]
    for show in shows:
        show.title = f"{show.channel.title()} {show.start:%d %B}"
    first = datetime(2026, 10, 23, 22, 15, tzinfo=UTC)
    shows += [
        Told(channel="debate", title=title, start=first + timedelta(days=day))
        for day, title in enumerate(("Nobody", "Part One", 'The "Half-Time"'))
    ]
    counts: dict[str, int] = {}
    for show in shows:
        number = counts[show.channel] = counts.get(show.channel, -1) + 1
        _store(engine, show, number)
    begin = shows[0].start + timedelta(seconds=60)
    with engine.begin() as connection:
        keep(connection, "late-night", begin, begin + timedelta(seconds=60), "the goal")
    return shows


def _days(year: int, month: int, day: int, count: int, hour: int) -> list[datetime]:
    return [datetime(year, month, day + each, hour, tzinfo=UTC) for each in range(count)]


def _store(engine: Engine, show: Told, number: int) -> None:
    with engine.begin() as connection:
        url = f"https://example.org/{show.channel}"
        channel = ensure_channel(connection, show.channel, url)
        show.number = open_broadcast(
            connection, channel_id=channel, started_at=show.start, title=show.title
        )
    debate = show.channel == "debate"
    rows = make_show(
        (len(show.channel), number),
        start=show.start,
        seconds=SHOW_S,
        lacking=() if debate else ("contempt",),
    )
    for index, (at, part) in enumerate(
        pieces(rows, start=show.start, seconds=SHOW_S, segment_s=SEGMENT_S)
    ):
        later = debate and number == 1 and index >= 5
        made = _with_extras(part, show.start, lacks_contempt=debate and not later)
        if later:
            made = made.take(np.flatnonzero(made.ts.astype(np.int64) % 1_000_000 == 0))
        if debate and number == 0:
            made = made.take(np.arange(0))
        _store_segment(engine, show, number, channel, index, at, made, later=later)
    with engine.begin() as connection:
        end = show.start + timedelta(seconds=SHOW_S)
        close_broadcast(connection, show.number, ended_at=end, status="completed")


def _store_segment(
    engine: Engine,
    show: Told,
    number: int,
    channel: int,
    index: int,
    at: datetime,
    rows: ObservationRows,
    *,
    later: bool,
) -> None:
    end = at + timedelta(seconds=SEGMENT_S)
    hole = (show.channel, number) == ("morning", 1)
    ad = (show.channel, number) == ("debate", 2) and index in (4, 5)
    fps, model = (1.0, AGAIN) if later else (5.0, LIVE)
    told = Stretch(start=at, end=end, state="ad" if ad else "analysed", fps=fps, model=model)
    segment = SegmentRow(
        channel_id=channel,
        broadcast_id=show.number,
        sequence=index,
        started_at=at,
        duration_s=SEGMENT_S,
        frames_analysed=round(SEGMENT_S * fps),
        analysed_fps=fps,
        frames_us=[round(each * 1e6 / fps) for each in range(round(SEGMENT_S * fps))],
        model=model,
        width_px=1280,
        height_px=720,
        lag_ms=700 + 37 * ((index * 7 + number) % 11),
        is_ad=ad if show.channel == "debate" else None,
    )
    if hole and index in (2, 3, 6, 9):
        with engine.begin() as connection:
            if index in (2, 3):
                why = ("no segment for 15 s", "the source answered 503")[index - 2]
                told = Stretch(start=at, end=end, state="gap", why=why)
                record_gap(
                    connection,
                    channel_id=channel,
                    broadcast_id=show.number,
                    started_at=at,
                    ended_at=end,
                    why=why,
                )
            elif index == 6:
                told = Stretch(start=at, end=end, state="failed", why="truncated")
                fail_segment(connection, segment, "truncated")
            else:
                told = Stretch(start=at, end=end, state="waiting")
                record_segment(connection, segment)
    else:
        replace_segment(engine, segment, rows)
        show.faces += _faces(rows)
        show.shots += [ts.replace(tzinfo=UTC) for ts in rows.shots.tolist()]
    show.stretches.append(told)


def _with_extras(
    rows: ObservationRows, start: datetime, *, lacks_contempt: bool
) -> ObservationRows:
    """Add shots (every third new face comes with a cut), and the pose of the faces."""
    firsts = np.unique(rows.track, return_index=True)[1]
    begin = np.datetime64(start.replace(tzinfo=None), "us")
    shots = np.unique(rows.ts[firsts][::3]) if len(rows) else rows.ts[:0]
    before = np.where(shots > begin, shots - np.timedelta64(200_000, "us"), np.datetime64("NaT"))
    turn = np.sin(rows.ts.astype(np.int64) / 7e6 + rows.track)
    pose = np.stack([3 * turn, turn / 2], axis=1).astype(np.float32)
    probs, smoothed = rows.probs.copy(), rows.smoothed.copy()
    if lacks_contempt:
        probs[:, -1] = smoothed[:, -1] = np.nan
    return replace(
        rows,
        probs=probs,
        smoothed=smoothed,
        shots=shots,
        seen_before=before.astype("datetime64[us]"),
        pose=pose,
    )


def _faces(rows: ObservationRows) -> list[Face]:
    return [
        Face(
            ts=ts.replace(tzinfo=UTC),
            track=track,
            smoothed=_known(smoothed),
            raw=_known(raw),
            box=tuple(box),
            yaw=yaw,
        )
        for ts, track, smoothed, raw, box, (_, yaw) in zip(
            rows.ts.tolist(),
            rows.track.tolist(),
            rows.smoothed.tolist(),
            rows.probs.tolist(),
            rows.boxes.tolist(),
            [] if rows.pose is None else rows.pose.tolist(),
            strict=True,
        )
    ]


def _known(values: list[float]) -> dict[str, float]:
    return {name: each for name, each in zip(EMOTIONS, values, strict=True) if each == each}
