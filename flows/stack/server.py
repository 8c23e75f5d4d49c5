"""Prefect's server behind the login: `python -m flows.stack.server`, as the stack starts it.

In place of `prefect server start`, which serves the same application without authentication.
"""

import argparse
import gc
from dataclasses import replace
from typing import Final

from flows.auth.access import Access
from flows.auth.gate import Gate, known_hosts
from flows.settings import load_settings

OBJECTS: Final = 50_000
"""As in flows.begin: objects allocated before the garbage collector runs."""


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises UsageError when the home's secret is damaged.
    """
    settings = load_settings()
    access = Access.make(settings.home)

    import uvicorn
    from prefect.server.api import collections
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings, temporary_settings

    now = get_current_settings()
    # For lists of worker types and blocks that it has itself, Prefect asks GitHub first.
    collections.KNOWN_VIEWS.update(dict.fromkeys(collections.KNOWN_VIEWS, ""))
    own = f"http://127.0.0.1:{port}"
    auth = now.server.api.auth_string
    named = (origin.strip() for origin in now.server.api.cors_allowed_origins.split(","))
    origins = frozenset(origin for origin in named if origin and origin != "*")
    with temporary_settings(
        {
            # The gate checks it. If the server did too, its UI would ask a browser that has a
            # cookie for a password.
            "server.api.auth_string": None,
            "server.api.cors_allowed_origins": ",".join(sorted(origins)) or own,
        },
        # Wherever the UI was opened from, its API is at the same origin.
        set_defaults={"server.ui.api_url": "/api"},
    ):
        gate = Gate(
            create_app(final=True),
            access=replace(access, also=auth.get_secret_value() if auth else None),
            hosts=known_hosts(port, settings.ui_hosts),
            cookie=f"showmood-{port}",
            origins=origins,
            home=now.server.ui.serve_base,
        )
        uvicorn.run(
            gate,
            host=host,
            port=port,
            timeout_keep_alive=now.server.api.keepalive_timeout,
            ws_ping_interval=now.server.api.websocket_ping_interval,
            ws_ping_timeout=now.server.api.websocket_ping_timeout,
            log_level=now.server.logging_level.lower(),
            access_log=False,  # the link is a path
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    gc.set_threshold(OBJECTS)
    serve(arguments.host, arguments.port)
