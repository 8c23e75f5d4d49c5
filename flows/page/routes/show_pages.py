"""The pages of a show, of search, and of shows side by side."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from db.tables.shows import EMOTIONS
from flows.errors import UsageError
from flows.page.reading import search, show_queries
from flows.page.routes.context import Context, NotThere, data, moment, ms, page, zone_of
from flows.page.routes.show_data import MAX_COMPARED

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HEAT_STEPS: Final = 6
WEEKS: Final = 12
BEFORE_S: Final = 2
"""Seconds before a moment from which its link plays."""


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/show/{number}")
    def show(request: Request, number: int) -> Response:
        with context.reader.connect() as connection:
            row = context.show(connection, number)
        run = f"{context.prefect_url}/runs/flow-run/{row.flow_run_id}" if row.flow_run_id else None
        return page(
            "show.html",
            here="shows",
            show=row,
            run=run if context.prefect_url else None,
            vendor=context.vendor is not None,
        )

    @routes.get("/show/{number}/table")
    def table(request: Request, number: int) -> Response:
        begin = moment(request.query_params.get("from"), "from")
        end = moment(request.query_params.get("to"), "to")
        with context.reader.connect() as connection:
            row = context.show(connection, number)
            since, until = begin or row.started_at - timedelta(days=1), end or datetime.now(UTC)
            fine = end is not None and until - since <= timedelta(minutes=10)
            name = "seconds" if fine else "minutes"
            span: dict[str, Any] = {
                "since": since.replace(second=0, microsecond=0),
                "until": until,
            }
            if fine:
                span["channel"] = row.channel
            found = show_queries.rows(connection, name, id=number, **span)
            gaps = show_queries.rows(connection, "gaps", id=number)
        shown = [
            (each.at, ms(each.at), each.tracks, [getattr(each, name) for name in EMOTIONS])
            for each in found
        ]
        return page("table.html", here="shows", show=row, rows=shown, gaps=gaps, fine=fine)

    @routes.get("/search")
    def find(request: Request) -> Response:
        form = {name: value[:200] for name, value in request.query_params.items()}
        wrong, stretches, sql, sought = None, None, None, None
        with context.reader.connect() as connection:
            names = show_queries.channels(connection)
        if form.get("emotion"):
            try:
                sought = search.parse(form, names, datetime.now(UTC))
                sql = search.as_sql(sought)
                with context.reader.connect() as connection:
                    stretches = search.find(connection, sought)
            except UsageError as e:
                wrong = str(e)
        found = [
            (each, ms(each.begin), ms(each.begin) - BEFORE_S * 1000, ms(each.end), ms(each.peak_at))
            for each in stretches or ()
        ]
        return page(
            "search.html",
            here="search",
            names=names,
            form=form,
            wrong=wrong,
            found=found if stretches is not None else None,
            sql=sql,
            most=search.MAX_MOMENTS,
            status=400 if wrong else 200,
        )

    @routes.get("/compare")
    def compare(request: Request) -> Response:
        query = request.query_params
        zone = zone_of(query.get("zone"))
        emotion = query.get("emotion", "happiness")
        if emotion not in EMOTIONS:
            raise NotThere(
                f"there is no emotion {emotion[:40]!r}; there are: {', '.join(EMOTIONS)}"
            )
        with context.reader.connect() as connection:
            names = show_queries.channels(connection)
            channel = query.get("channel") or (names[0] if names else "")
            if names:
                context.require_channel(channel, names)
            shows = show_queries.shows(connection, channel, most=30)
            now = datetime.now(UTC)
            heat = show_queries.rows(
                connection,
                "week",
                channel=channel,
                zone=zone.key,
                since=now - timedelta(weeks=WEEKS),
                until=now,
            )
        chosen = [int(each) for each in query.getlist("show") if each.isdecimal()][:MAX_COMPARED]
        return page(
            "compare.html",
            here="compare",
            names=names,
            channel=channel,
            emotion=emotion,
            zone=zone.key,
            shows=shows,
            chosen=chosen or [each.broadcast_id for each in shows[:2]],
            heat=heat_map(heat, emotion),
            days=DAYS,
            weeks=WEEKS,
            vendor=context.vendor is not None,
        )

    @routes.get("/data/compare")
    def compared(request: Request) -> Response:
        query = request.query_params
        numbers = [int(each) for each in query.getlist("show") if each.isdecimal()]
        emotion = query.get("emotion", "")
        if emotion not in EMOTIONS or not 1 <= len(numbers) <= MAX_COMPARED:
            raise NotThere(f"name an emotion and one to {MAX_COMPARED} shows")
        body = []
        with context.reader.connect() as connection:
            for number in numbers:
                row = context.show(connection, number)
                found = show_queries.rows(connection, "strips", ids=[number])
                begin = found[0].minute if found else row.started_at
                body.append(
                    {
                        "id": number,
                        "show": row.show,
                        "began": ms(row.started_at),
                        "first": ms(begin),
                        "minute": [
                            round((each.minute - begin).total_seconds() / 60) for each in found
                        ],
                        "share": [
                            None
                            if (value := getattr(each, emotion)) is None
                            else round(value * 1000)
                            for each in found
                        ],
                    }
                )
        return data(request, body)

    return routes


def heat_map(found: Sequence[Any], emotion: str) -> dict[str, Any]:
    """Return the mean share of an emotion by weekday (0 is Monday) and hour, and its steps.

    cells: (share or None, step from 0 to HEAT_STEPS - 1) by day and hour.
    """
    values = {
        (row.day - 1, row.hour): value
        for row in found
        if (value := getattr(row, emotion)) is not None
    }
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    width = (high - low) or 1.0

    def cell(day: int, hour: int) -> tuple[float | None, int]:
        value = values.get((day, hour))
        if value is None:
            return None, 0
        return value, min(HEAT_STEPS - 1, int((value - low) / width * HEAT_STEPS))

    hours = sorted({hour for _, hour in values})
    span = range(hours[0], hours[-1] + 1) if hours else range(0)
    return {
        "hours": list(span),
        "rows": [[cell(day, hour) for hour in span] for day in range(7)],
        "low": low,
        "high": high,
    }
