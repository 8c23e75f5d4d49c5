"""A show's numbers as data: what it is made of, chunks of its curves, its faces and its tracks."""

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import Connection

from db.channel_lock import is_watched
from db.keeping import kept
from db.models import EMOTIONS
from flows.page import chunks, questions
from flows.page.context import Context, NotThere, data, ms
from flows.page.live import TooMany
from flows.page.playback import parts, spans

MAX_COMPARED: Final = 5


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/data")

    @routes.get("/show/{number}")
    def show(request: Request, number: int) -> Response:
        with context.reader.asking() as connection:
            row = context.show(connection, number)
            recording, segments = context.recording(connection, row)
            gaps = questions.rows(connection, "gaps", id=number)
            keeps = kept(connection, row.channel)
            on_air = row.status == "live" and is_watched(connection, row.channel)
        begin = min((each.started_at for each in segments), default=row.started_at)
        until = max(
            (each.started_at + timedelta(seconds=each.duration_s) for each in segments),
            default=row.ended_at or begin,
        )
        newest = recording.listed[-1].end if recording.listed else until
        sizes = {(each.width_px, each.height_px) for each in segments if each.width_px}
        body: dict[str, Any] = {
            "id": row.broadcast_id,
            "channel": row.channel,
            "show": row.show,
            "begin": ms(begin),
            "until": ms(max(until, newest)),
            "onAir": on_air,
            "estimated": any(each.start_is_estimated for each in segments),
            "size": max(sizes, default=None),
            "media": spans(recording.listed),
            "parts": [[ms(part[0].start), ms(part[-1].end)] for part in parts(recording)],
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
        return data(request, body, closed=False)

    @routes.get("/show/{number}/tracks")
    def tracks(request: Request, number: int) -> Response:
        with context.reader.asking() as connection:
            row = context.show(connection, number)
            found = questions.rows(connection, "tracks", id=number)
            cuts = questions.rows(connection, "cuts", id=number)
        body = {
            "track": [each.track for each in found],
            "first": [ms(each.first_ts) for each in found],
            "last": [ms(each.last_ts) for each in found],
            "emotion": [each.emotion for each in found],
            "cuts": [ms(each.started_at) for each in cuts[1:]],
        }
        return data(request, body, closed=row.status != "live")

    @routes.get("/show/{number}/usual")
    def usual(request: Request, number: int) -> Response:
        with context.reader.asking() as connection:
            row = context.show(connection, number)
            found = questions.rows(
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
        with context.reader.asking() as connection:
            row = context.show(connection, number)
            found = chunks.faces(connection, row, index, _until(context, connection, number))
        return _chunk(request, found)

    @routes.get("/show/{number}/{step_s}/{index}")
    def means(request: Request, number: int, step_s: int, index: int) -> Response:
        if step_s not in chunks.SPANS_S:
            raise NotThere(f"means are over {', '.join(map(str, chunks.SPANS_S))} s")
        with context.reader.asking() as connection:
            row = context.show(connection, number)
            until = _until(context, connection, number)
            found = chunks.means(connection, row, step_s, index, until)
        return _chunk(request, found)

    @routes.get("/live/{channel}")
    async def live(channel: str) -> Response:
        try:
            context.hub.take()
        except TooMany:
            return Response(
                "too many people look at live shows here: try again",
                status_code=503,
                headers={"retry-after": "30"},
            )
        return StreamingResponse(
            context.hub.listen(channel),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return routes


def _until(context: Context, connection: Connection, number: int) -> datetime:
    (row,) = questions.rows(connection, "figures", ids=[number])
    until: datetime = row.until or context.show(connection, number).started_at
    return until


def _chunk(request: Request, found: chunks.Chunk | None) -> Response:
    if found is None:
        raise NotThere("there is no such stretch of time")
    return data(request, found.body, closed=found.closed)
