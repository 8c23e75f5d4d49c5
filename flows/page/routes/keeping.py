"""Keeps and releases time ranges of recordings: the only changes that the page makes."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from db import keeping
from db.errors import UnknownChannel
from flows.page.routes.context import Context, NotThere, moment, page


class Wanted(BaseModel):
    """What is to be kept; times in ms since 1970."""

    model_config = ConfigDict(extra="forbid")

    show: Annotated[int, Field(gt=0)]
    begin: int
    end: int
    note: Annotated[str, Field(max_length=keeping.NOTE_CHARS)] = ""


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/kept")
    def listed(request: Request) -> Response:
        with context.reader.connect() as connection:
            found = keeping.kept(connection)
        return page("kept.html", here="kept", kept=found)

    @routes.post("/kept", status_code=201)
    def keep(wanted: Wanted) -> Response:
        begin, end = moment(str(wanted.begin), "begin"), moment(str(wanted.end), "end")
        with context.reader.connect() as connection:
            row = context.show(connection, wanted.show)
        if begin is None or end is None:
            raise NotThere("begin and end: mark a stretch first")
        with context.reader.transaction() as connection:
            try:
                number = keeping.keep(connection, row.channel, begin, end, wanted.note.strip())
            except (ValueError, UnknownChannel) as e:
                raise NotThere(str(e)) from e
        return JSONResponse({"id": number}, status_code=201)

    @routes.delete("/kept/{number}")
    def release(number: int) -> Response:
        if not 0 < number < 1 << 31:
            raise NotThere("there is no such stretch")
        with context.reader.transaction() as connection:
            gone = keeping.let_go(connection, number)
        if not gone:
            raise NotThere("this stretch was released already")
        return Response(status_code=204)

    return routes
