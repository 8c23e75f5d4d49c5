"""Recordings played, shown and exported: by a show's number, never by a path."""

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from flows.capture.segment import Gap
from flows.errors import ShowmoodError
from flows.page.media import captions, curve
from flows.page.media.playback import holding, part_of_file, playlist
from flows.page.media.stills import still
from flows.page.reading import show_queries
from flows.page.reading.show_queries import ShowRow
from flows.page.routes.context import Context, NotThere, data, moment, ms
from flows.report.export import export_rows

M3U8: Final = "application/vnd.apple.mpegurl"
KINDS: Final = {".ts": "video/mp2t", ".mp4": "video/mp4"}
OPENFACE: Final = "openface.csv"
"""A row per frame, with the column names of OpenFace and py-feat."""

KINDS_OF_FILES: Final = {
    "mp4": "video/mp4",
    "csv": "text/csv",
    OPENFACE: "text/csv",
    "parquet": "application/octet-stream",
}
FORMS: Final = (*KINDS_OF_FILES, "svg", "vtt", "ass")
MAX_CLIP: Final = timedelta(hours=1)
MAX_ROWS: Final = timedelta(hours=12)
_PLAYLIST: Final = re.compile(r"(?:part-(\d{1,4})|live)\.m3u8")
_FILE: Final = re.compile(r"(\d{1,9})(\.init|\.media)?(\.ts|\.mp4)")


class InParts(NotThere):
    """A stretch can't be one clip; `links` lead to its parts."""

    def __init__(self, number: int, spans: Sequence[tuple[datetime, datetime]]) -> None:
        """Name the parts of a show's stretch, one format each."""
        super().__init__(
            "the format of video or audio changes within this stretch, and an MP4 has one: "
            f"take its {len(spans)} parts"
        )
        self.links = [
            (
                f"{begin:%H:%M:%S} to {end:%H:%M:%S} UTC",
                f"/take/{number}/stretch.mp4?from={_ms_within(begin)}&to={ms(end)}",
            )
            for begin, end in spans
        ]


def _ms_within(at: datetime) -> int:
    """Return the first whole ms since 1970 that is not before: not in the part before."""
    return -int(-at.timestamp() * 1000 // 1)


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/media/{number}/{name}")
    def file(request: Request, number: int, name: str) -> Response:
        with context.reader.connect() as connection:
            row = context.show(connection, number)
            recording = context.recording(connection, row)
        if listed := _PLAYLIST.fullmatch(name):
            text = playlist(recording, int(listed[1]) if listed[1] else None)
            if text is None:
                raise NotThere(_no_recording(recording.elsewhere))
            return data(request, text, kind=M3U8)
        named = _FILE.fullmatch(name)
        segment = recording.here.get(int(named[1])) if named else None
        if named is None or segment is None or segment.path.suffix != named[3]:
            raise NotThere("this segment of the recording is no longer here")
        context.playback.bring(recording, [segment])
        headers = {"cache-control": "private, max-age=86400, immutable"}
        kind = KINDS[segment.path.suffix]
        if recording.audio:
            # Its imports take 20 MB, which few recordings need.
            from flows.page.media.with_audio import with_audio

            if not recording.has_all_audio(segment):
                headers = {"cache-control": "no-store"}
            with suppress(ShowmoodError):  # a damaged file is sent as it is
                made = with_audio(segment, recording.listed, recording.audio)
                part = {".init": made.head, ".media": made.media}.get(named[2] or "")
                body = made.head + made.media if part is None else part
                return Response(body, media_type=kind, headers=headers)
            headers = {"cache-control": "no-store"}
        if named[2] is None:
            return FileResponse(segment.path, media_type=kind, headers=headers)
        return Response(part_of_file(segment.path, named[2]), media_type=kind, headers=headers)

    @routes.get("/still/{number}/{at}.jpg")
    def picture(number: int, at: str) -> Response:
        when = moment(at, "at")
        with context.reader.connect() as connection:
            row = context.show(connection, number)
            recording = context.recording(connection, row)
        segment = holding(recording, when) if when else None
        if when is None or segment is None:
            raise NotThere(_no_recording(recording.elsewhere))
        context.playback.bring(recording, [segment])
        return Response(
            still(segment, when, ffmpeg=context.ffmpeg),
            media_type="image/jpeg",
            headers={"cache-control": "private, max-age=3600"},
        )

    @routes.get("/take/{number}/{name}")
    def take(number: int, name: str, request: Request) -> Response:
        begin = moment(request.query_params.get("from"), "from")
        end = moment(request.query_params.get("to"), "to")
        with context.reader.connect() as connection:
            row = context.show(connection, number)
        if begin is None or end is None or not begin < end:
            raise NotThere("from and to: mark a stretch first, its end after its beginning")
        stem, _, form = name.partition(".")
        if stem != "stretch" or form not in FORMS:
            raise NotThere(f"a stretch can be taken as {', '.join(FORMS)}")
        longest = MAX_CLIP if form == "mp4" else MAX_ROWS
        if end - begin > longest:
            raise NotThere(f"at most {longest.total_seconds() / 3600:.0f} h at once as {form}")
        shown = f"{row.channel}-{begin:%Y%m%dT%H%M%SZ}.{form}"
        if form in KINDS_OF_FILES:
            return _as_file(context, row, begin, end, form, shown)
        return _as_text(context, row, begin, end, form, shown)

    return routes


def _as_file(
    context: Context,
    row: ShowRow,
    begin: datetime,
    end: datetime,
    form: str,
    shown: str,
) -> Response:
    handle, name = tempfile.mkstemp(prefix="showmood-", suffix=f".{form}")
    os.close(handle)
    path = Path(name)
    try:
        if form == "mp4":
            _cut(context, row, begin, end, path)
        else:
            with context.reader.connect_to_tables() as connection:
                done = export_rows(
                    connection,
                    row.channel,
                    begin,
                    end,
                    path,
                    form="parquet" if form == "parquet" else "csv",
                    words="openface" if form == OPENFACE else "showmood",
                    show_ids=[row.broadcast_id],
                )
            if done.sidecar is not None:
                done.sidecar.unlink()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return FileResponse(
        path,
        media_type=KINDS_OF_FILES[form],
        filename=shown,
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _cut(context: Context, row: ShowRow, begin: datetime, end: datetime, path: Path) -> None:
    # Its imports take 20 MB, which are needed here for the first time.
    from flows.recordings.clip import BEFORE, cut_found
    from flows.recordings.finding import Found

    with context.reader.connect() as connection:
        recording = context.recording(connection, row)
        gaps = show_queries.rows(connection, "gaps", id=row.broadcast_id)
    found = Found(
        segments=tuple(
            each for each in recording.listed if each.end > begin - BEFORE and each.start < end
        ),
        gone=0,
        on=(),
        elsewhere=(),
        gaps=tuple(
            Gap(
                start=each.started_at.astimezone(UTC),
                end=each.ended_at.astimezone(UTC),
                why=each.why,
            )
            for each in gaps
        ),
    )
    if not any(each.end > begin for each in found.segments):
        raise NotThere(_no_recording(recording.elsewhere))
    context.playback.bring(recording, found.segments)
    cuts = cut_found(found, begin, end, path, force=True)
    for more in cuts[1:]:
        more.path.unlink(missing_ok=True)
    if len(cuts) > 1:
        raise InParts(row.broadcast_id, [(max(begin, cut.begin), cut.end) for cut in cuts])


def _as_text(
    context: Context, row: ShowRow, begin: datetime, end: datetime, form: str, shown: str
) -> Response:
    seconds = seconds_of(context, row, begin, end)
    if form == "svg":
        title = f"{row.show}, {begin.astimezone(UTC):%d %b %Y %H:%M:%S} UTC"
        body, kind = curve.svg(_fewer(seconds), begin, end, title), "image/svg+xml"
    else:
        lines = captions.lines(seconds, begin, end)
        made = {"vtt": captions.as_webvtt, "ass": captions.as_ass}[form](lines)
        body, kind = made, "text/vtt" if form == "vtt" else "text/plain"
    return Response(
        body,
        media_type=f"{kind}; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{shown}"'},
    )


def seconds_of(context: Context, row: ShowRow, begin: datetime, end: datetime) -> list[Any]:
    """Return a show's seconds in [begin, end)."""
    span = {"since": begin - timedelta(seconds=1), "until": end}
    with context.reader.connect() as connection:
        found = show_queries.rows(
            connection, "seconds", channel=row.channel, id=row.broadcast_id, **span
        )
    return [each for each in found if ms(each.at) + 1000 > ms(begin)]


def _fewer(seconds: list[Any]) -> list[Any]:
    every = max(1, len(seconds) // 900)
    return seconds[::every]


def _no_recording(elsewhere: str | None) -> str:
    if elsewhere:
        return f"this show was recorded {elsewhere}: run showmood page there"
    hint = "its rows are kept (SHOWMOOD_KEEP_RECORDINGS_... says how long recordings stay)"
    return f"the recording of this moment is no longer here; {hint}"
