"""Serves the page: for `showmood page`, and as a process of the stack."""

import argparse
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from db.errors import DatabaseError
from db.roles import grant_roles
from db.session import require_readable
from flows.auth.access import Access
from flows.auth.gate import known_hosts
from flows.errors import ShowmoodError, UsageError
from flows.page import vendor
from flows.page.app import gated
from flows.page.media.playback import Playback
from flows.page.reading.database import Reader
from flows.page.reading.live_updates import Hub
from flows.page.routes.context import Context
from flows.settings import Settings, load_settings, running_database

if TYPE_CHECKING:
    from flows.page.media.stored import Stored

_log = logging.getLogger(__name__)

NAME: Final = "page"
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
MAX_CONNECTIONS: Final = 500


def page_access(settings: Settings) -> Access:
    """Return the access to the page: by its link, or by its password where one is set."""
    also = f"showmood:{settings.page_password}" if settings.page_password else None
    return Access.make(settings.home).apart(NAME, also=also)


def page_url(settings: Settings, port: int | None = None) -> str:
    """Return the page's address on this machine."""
    return f"http://127.0.0.1:{port or settings.page_port}"


def check(settings: Settings) -> None:
    """Raise UsageError where the page would listen to others without a password."""
    if settings.page_listen not in LOOPBACK and settings.page_password is None:
        raise UsageError(
            f"SHOWMOOD_PAGE_LISTEN is {settings.page_listen}: set SHOWMOOD_PAGE_PASSWORD too, "
            "else all who reach this machine can open the page"
        )


def listen_on(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raises UsageError where that is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(128)  # early clients wait for the server
    except OSError as e:
        made.close()
        raise UsageError(
            f"port {port} for the page is in use: stop what listens there, "
            "or set SHOWMOOD_PAGE_PORT to another port"
        ) from e
    return made


def make_context(settings: Settings, url: str) -> Context:
    """Return what the routes share, for a database."""
    reader = Reader(url)
    return Context(
        reader=reader,
        playback=Playback(settings.recordings_dir, stored=_stored(settings)),
        hub=Hub(lambda: reader),
        cache_dir=settings.cache_dir,
        ffmpeg=settings.ffmpeg,
        prefect_url=os.environ.get("SHOWMOOD_PREFECT_UI") or f"http://127.0.0.1:{settings.ui_port}",
        prefect_file=Path.cwd() / "prefect.yaml",
    )


def _stored(settings: Settings) -> "Stored | None":
    """Return the recordings in the object store, if one is set."""
    if settings.recordings_store is None:
        return None
    from flows.objects.configured import copies_of  # some megabytes, only where it is needed
    from flows.page.media.stored import Stored

    try:
        copies = copies_of(settings)
    except UsageError as e:
        _log.warning("%s: the page plays only what is on this disk", e)
        return None
    return None if copies is None else Stored(copies)


def serve(
    settings: Settings, url: str, port: int, *, ready: Callable[[], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; raises UsageError. ready: called once it listens."""
    check(settings)
    import uvicorn

    context = make_context(settings, url)
    hosts = known_hosts(port, settings.page_hosts)
    if settings.page_listen not in (*LOOPBACK, "0.0.0.0", "::"):
        hosts |= {f"{settings.page_listen}:{port}"}
    app = gated(
        context,
        access=page_access(settings),
        hosts=hosts,
        port=port,
        asks=settings.page_password is not None,
    )
    listening = listen_on(settings.page_listen, port)
    fetch_libraries(settings)
    if ready is not None:
        ready()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # the link is a path
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,
        lifespan="on",
        ws="none",
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listening])


def make_analyst(url: str) -> None:
    """Create the analyst's role if this user may; else the page works without it."""
    try:
        grant_roles(url)
    except DatabaseError as e:
        _log.warning("no role for analysts, the page reads as its own user, read-only: %s", e)


def fetch_libraries(settings: Settings) -> None:
    """Fetch missing browser libraries in the background."""
    if vendor.vendored(settings.cache_dir) is not None:
        return

    def fetch() -> None:
        try:
            vendor.fetch(cache_dir=settings.cache_dir)
        except (UsageError, OSError) as e:
            _log.warning("%s: the page shows only tables until showmood page --fetch", e)

    threading.Thread(target=fetch, name="fetch", daemon=True).start()


def main() -> None:
    """Serve the page as a process of the stack; exits with a one-line error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    try:
        settings = load_settings()
        url = running_database(settings)
        require_readable(url)
        serve(settings, url, port)
    except (ShowmoodError, DatabaseError) as e:
        sys.exit(f"{type(e).__name__}: {e}")


if __name__ == "__main__":
    main()
