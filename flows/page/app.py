"""The page's application: routes, error responses, and the login gate in front of them."""

import gzip
import mimetypes
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from db.errors import DatabaseError
from flows.auth.access import Access
from flows.auth.gate import App, Gate
from flows.errors import ShowmoodError, UsageError
from flows.page.media.playback import CopyGone, NotNow
from flows.page.routes import keeping, media, show_data, show_pages, shows
from flows.page.routes.context import HERE, Context, NotThere, error_page
from flows.page.vendor import FILES

CONTENT: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Only styles may be inline: media-chrome has some in its elements' shadow DOM."""

CLOSED: Final = (
    "<h1>Showmood</h1><p>This page opens by its link. <code>showmood up</code> or "
    "<code>showmood page</code> has printed it, and <code>showmood link</code> prints it again, on "
    "the machine where it runs.</p>"
)
STATIC: Final = HERE / "static"


def make_app(context: Context) -> FastAPI:
    """Return the application, without the gate."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.reader.close()

    app = FastAPI(
        title="Showmood", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.include_router(shows.router(context))
    app.include_router(show_data.router(context))
    app.include_router(media.router(context))
    app.include_router(show_pages.router(context))
    app.include_router(keeping.router(context))

    @app.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        return _static(request, STATIC, name, {path.name for path in STATIC.iterdir()})

    @app.get("/favicon.ico")
    def favicon(request: Request) -> Response:
        return _static(request, STATIC, "favicon.svg", {"favicon.svg"})

    @app.get("/vendor/{name}")
    def vendor(request: Request, name: str) -> Response:
        if context.vendor is None:
            raise NotThere("the page's libraries were not fetched: showmood page --fetch")
        return _static(request, context.vendor, name, set(FILES))

    app.add_exception_handler(NotThere, _not_there)
    app.add_exception_handler(CopyGone, _no_copy)
    app.add_exception_handler(NotNow, _not_now)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(ShowmoodError, _not_fit)
    app.add_exception_handler(DatabaseError, _no_database)
    return app


def gated(
    context: Context, *, access: Access, hosts: frozenset[str], port: int, asks: bool = False
) -> App:
    """Return the application behind the gate."""
    return Gate(
        make_app(context),
        access=access,
        hosts=hosts,
        cookie=f"showmood-page-{port}",
        content=CONTENT,
        closed=CLOSED,
        asks=asks,
    )


def _static(request: Request, folder: Path, name: str, known: set[str]) -> Response:
    if name not in known:
        raise NotThere("there is no such file")
    path = folder / name
    status = path.stat()
    content, zipped = _read(path, status.st_mtime_ns)
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {"etag": tag, "cache-control": "private, max-age=60", "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "text/plain"
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        content = zipped
    return Response(content, media_type=kind, headers=headers)


@lru_cache(maxsize=64)
def _read(path: Path, modified_ns: int) -> tuple[bytes, bytes]:
    content = path.read_bytes()
    return content, gzip.compress(content, 9, mtime=0)


def _answer(
    request: Request, status: int, title: str, why: str, links: Sequence[tuple[str, str]] = ()
) -> Response:
    if "text/html" in request.headers.get("accept", "") and request.method == "GET":
        return error_page(status, title, why, links)
    body: dict[str, object] = {"why": why}
    if links:
        body["links"] = [address for _, address in links]
    return JSONResponse(body, status_code=status, headers={"cache-control": "no-store"})


def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotThere)
    return _answer(request, 404, "Not found", str(error), error.links)


def _no_copy(request: Request, error: Exception) -> Response:
    return _answer(request, 404, "Not found", str(error))


def _not_now(request: Request, error: Exception) -> Response:
    return _answer(request, 503, "Not available now", str(error))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        return _answer(request, error.status_code, "Not found", "there is no such page")
    return _answer(request, error.status_code, "Refused", str(error.detail))


def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = ", ".join(str(each["loc"][-1]) for each in error.errors()) or "the request"
    return _answer(request, 400, "Invalid request", f"{fields}: not a valid value")


def _not_fit(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, UsageError) else 500
    return _answer(request, status, "Request failed", str(error))


def _no_database(request: Request, error: Exception) -> Response:
    return _answer(request, 503, "The database can't be read", str(error))
