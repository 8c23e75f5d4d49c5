"""A show's data as JSON: its recordings and gaps, chunks of its curves, faces and tracks."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from db.channel_lock import is_watched
from db.keeping import KeptRow, kept
from db.tables.shows import EMOTIONS
from flows.page.media.codecs import is_hevc
from flows.page.media.playback import CopyGone, NotNow, parts, spans
from flows.page.reading import chunks, show_queries
from flows.page.reading.live_updates import TooMany
from flows.page.reading.show_queries import ShowRow
from flows.page.routes.context import Context, NotThere, data, ms, remembered

MAX_COMPARED: Final = 5


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/data")

    @routes.get("/show/{number}")
    def show(request: Request, number: int) -> Response:
        heads = _heads(context, number)
        with context.reader.connect() as connection:
            row = context.show(connection, number)
            keeps = kept(connection, row.channel)
            on_air = row.status == "live" and is_watched(connection, row.channel)
            mark = (row, show_queries.state(connection, number), context.playback.mark(row))
            return remembered(
                request,
                context.cache,
                (*mark, keeps, on_air, heads),
                lambda: _show(context, connection, row, keeps, on_air=on_air),
            )

    @routes.get("/show/{number}/tracks")
    def tracks(request: Request, number: int) -> Response:
        with context.reader.connect() as connection:
            row = context.show(connection, number)
            return remembered(
                request,
                context.cache,
                show_queries.state(connection, number),
                lambda: _tracks(connection, number),
                closed=row.status != "live",
            )

    @routes.get("/show/{number}/usual")
    def usual(request: Request, number: int) -> Response:
        with context.reader.connect() as connection:
            row = context.show(connection, number)
            found = show_queries.rows(
                connection, "usual", channel=row.channel, id=number, before=row.started_at
            )
        body = {
            "minute": [each.at for each in found],
            "share": {
                name: [
                    None if (value := getattr(each, name)) is None else round(value * 1000)
                    for each in found
                ]
                for name in EMOTIONS
            },
        }
        return data(request, body, closed=True)

    @routes.get("/show/{number}/faces/{index}")
    def faces(request: Request, number: int, index: int) -> Response:
        return _chunk(context, request, number, chunks.FACES_S, index, chunks.faces)

    @routes.get("/show/{number}/{step_s}/{index}")
    def means(request: Request, number: int, step_s: int, index: int) -> Response:
        if step_s not in chunks.SPANS_S:
            raise NotThere(f"means are over {', '.join(map(str, chunks.SPANS_S))} s")

        def ask(
            connection: Connection, row: ShowRow, begin: datetime, end: datetime
        ) -> dict[str, Any]:
            return chunks.means(connection, row, step_s, begin, end)

        return _chunk(context, request, number, chunks.SPANS_S[step_s], index, ask)

    @routes.get("/live/{channel}")
    async def live(channel: str) -> Response:
        await run_in_threadpool(_require_channel, context, channel)
        try:
            context.hub.take()
        except TooMany:
            return Response(
                "too many browsers follow live shows: try again",
                status_code=503,
                headers={"retry-after": "30"},
            )
        return StreamingResponse(
            context.hub.listen(channel),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return routes


def _heads(context: Context, number: int) -> list[bool]:
    """Fetch the first file of each part, which has its codec; return which are on this disk."""
    if not context.playback.has_store:
        return []
    with context.reader.connect() as connection:
        recording = context.recording(connection, context.show(connection, number))
    firsts = [part[0] for part in parts(recording)]
    with suppress(CopyGone, NotNow):
        context.playback.bring(recording, firsts)
    return [first.path.is_file() for first in firsts]


def _chunk(
    context: Context,
    request: Request,
    number: int,
    length_s: int,
    index: int,
    ask: Callable[[Connection, ShowRow, datetime, datetime], dict[str, Any]],
) -> Response:
    span = chunks.span(length_s, index)
    if span is None:
        raise NotThere("there is no such stretch of time")
    begin, end = span
    with context.reader.connect() as connection:
        row = context.show(connection, number)
        state = show_queries.state(connection, number)
        return remembered(
            request,
            context.cache,
            state,
            lambda: ask(connection, row, begin, end),
            closed=chunks.closed(row, end, state.until or row.started_at),
        )


def _require_channel(context: Context, channel: str) -> None:
    with context.reader.connect() as connection:
        context.require_channel(channel, show_queries.channels(connection))


def _tracks(connection: Connection, number: int) -> dict[str, Any]:
    found = show_queries.rows(connection, "tracks", id=number)
    cuts = show_queries.rows(connection, "cuts", id=number)
    return {
        "track": [each.track for each in found],
        "first": [ms(each.first_ts) for each in found],
        "last": [ms(each.last_ts) for each in found],
        "emotion": [each.emotion for each in found],
        "cuts": [ms(each.started_at) for each in cuts[1:]],
    }


def _show(
    context: Context,
    connection: Connection,
    row: ShowRow,
    keeps: Sequence[KeptRow],
    *,
    on_air: bool,
) -> dict[str, Any]:
    number = row.broadcast_id
    segments = show_queries.rows(connection, "segments", id=number)
    recording = context.recording(connection, row)
    gaps = show_queries.rows(connection, "gaps", id=number)
    begin = min((each.started_at for each in segments), default=row.started_at)
    until = max(
        (each.started_at + timedelta(seconds=each.duration_s) for each in segments),
        default=row.ended_at or begin,
    )
    newest = recording.listed[-1].end if recording.listed else until
    sizes = {(each.width_px, each.height_px) for each in segments if each.width_px}
    return {
        "id": number,
        "channel": row.channel,
        "show": row.show,
        "begin": ms(begin),
        "until": ms(max(until, newest)),
        "onAir": on_air,
        "estimated": any(each.start_is_estimated for each in segments),
        "size": max(sizes, default=None),
        "media": spans(recording.listed),
        "parts": [
            [ms(part[0].start), ms(part[-1].end), part[0].path.suffix, is_hevc(part[0].path)]
            for part in parts(recording)
        ],
        "elsewhere": recording.elsewhere,
        "gaps": [[ms(each.started_at), ms(each.ended_at), each.why] for each in gaps],
        "failed": [
            [ms(each.started_at), round(each.duration_s * 1000)]
            for each in segments
            if each.status == "failed"
        ],
        "ads": [
            [ms(each.started_at), ms(each.started_at) + round(each.duration_s * 1000)]
            for each in segments
            if each.is_ad
        ],
        "kept": [
            [each.id, ms(each.started_at), ms(each.ended_at), each.note]
            for each in keeps
            if each.started_at < until and each.ended_at > begin
        ],
    }
