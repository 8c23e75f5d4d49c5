"""ASGI middleware that checks host, origin and authentication before an application.

Prefect 3.8.8 itself accepts any Host and Origin, and JSON without a content type. The rules, in
this order, for requests and web sockets: the Host is one of ours; the Origin, if any, is too; a
cookie or the secret is present; a body is declared as JSON.
"""

import asyncio
import html
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from flows.auth.access import COOKIE_S, LOGIN, Access
from flows.auth.headers import Headers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FIRST_MESSAGE_S: Final = 10.0
"""Seconds within which a web socket without a header must send the secret."""

POLICY_VIOLATION: Final = 1008
"""RFC 6455, section 7.4.1."""

CONTENT: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "style-src 'self' 'unsafe-inline'",
        "worker-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
"""What a page may load and connect to: the UI of Prefect 3.8.8 sends telemetry to sr-client-cfg.
amplitude.com, whatever the server's settings. Also blocks external pictures in reports."""

ADDED: Final = (
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">{head}<title>Showmood</title>
<body style="font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem">
{body}</body></html>
"""
_CLOSED: Final = (
    "<h1>Showmood</h1><p>This page opens by its link. <code>showmood up</code> has printed it, "
    "and <code>showmood link</code> prints it again, on the machine where the server runs.</p>"
)


def known_hosts(port: int, also: Iterable[str] = ()) -> frozenset[str]:
    """Return the server's allowed Host values, with ports as browsers send them."""
    ours = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    if port == 80:
        ours |= {name.rpartition(":")[0] for name in ours}
    return frozenset(ours | {name.lower() for name in also})


@dataclass(frozen=True, kw_only=True, slots=True)
class _No:
    """Why a request is refused."""

    status: int
    why: str


class Gate:
    """An ASGI application in front of another.

    origins: of other pages that the operator allows (PREFECT_SERVER_CORS_ALLOWED_ORIGINS); they
    need the secret, and their cookies are ignored. home: target of the link. content: the
    Content-Security-Policy of every response. closed: the page for a browser without a cookie.
    asks: whether browsers ask for user and password (HTTP Basic).
    """

    def __init__(
        self,
        app: App,
        *,
        access: Access,
        hosts: frozenset[str],
        cookie: str = "showmood",
        origins: frozenset[str] = frozenset(),
        home: str = "/",
        content: str = CONTENT,
        closed: str = _CLOSED,
        asks: bool = False,
    ) -> None:
        """Keep the arguments."""
        self._added = ((b"content-security-policy", content.encode()), *ADDED)
        self._closed = closed
        self._asks = asks
        self._app = app
        self._access = access
        self._hosts = hosts
        self._cookie = cookie
        self._origins = origins
        self._home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers.read(scope)
        is_socket = scope["type"] == "websocket"
        no = self._not_ours(scope, headers)
        if no is None and not is_socket and scope["path"].startswith(LOGIN):
            await self._log_in(scope, headers, send)
            return
        if no is None and not self._is_allowed_preflight(scope, headers):
            if self._is_logged_in(headers):
                no = None if is_socket else _not_json(headers)
            elif is_socket and "origin" not in headers.of and _speaks_prefect(headers):
                receive, send = self._proving(receive, send)
            else:
                no = _No(status=401, why="Unauthorized: this server needs its secret or its link")
        if no is None:
            await self._app(scope, receive, send if is_socket else self._adding(send))
        elif is_socket:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": no.why})
        else:
            await self._refuse(no, headers, send)

    def _not_ours(self, scope: Scope, headers: Headers) -> _No | None:
        if headers.one("host").lower() not in self._hosts:
            return _No(status=421, why="unknown host name of this server: see SHOWMOOD_UI_HOSTS")
        if "origin" in headers.of:
            origin = headers.one("origin")
            if not (self._is_own(origin) or origin in self._origins):
                return _No(status=403, why="this origin is not allowed")
        elif headers.one("sec-fetch-site") in ("cross-site", "same-site"):
            # Without an Origin: a picture, a script or a frame; a followed link is allowed.
            followed = headers.one("sec-fetch-dest") == "document"
            if scope.get("method") != "GET" or not followed:
                return _No(status=403, why="requests of other pages are not allowed")
        return None

    def _is_own(self, origin: str) -> bool:
        scheme, _, authority = origin.partition("://")
        return scheme in ("http", "https") and authority.lower() in self._hosts

    def _is_allowed_preflight(self, scope: Scope, headers: Headers) -> bool:
        """Return whether this is a CORS preflight, which carries no secret."""
        asks = "access-control-request-method" in headers.of
        return scope.get("method") == "OPTIONS" and asks and "origin" in headers.of

    def _is_logged_in(self, headers: Headers) -> bool:
        if self._access.takes_basic(headers.one("authorization")):
            return True
        origin = headers.one("origin")
        if "origin" in headers.of and not self._is_own(origin):
            return False
        for line in headers.of.get("cookie", []):
            try:
                found = SimpleCookie(line).get(self._cookie)
            except CookieError:
                continue
            if found is not None and self._access.takes_cookie(found.value):
                return True
        return False

    async def _log_in(self, scope: Scope, headers: Headers, send: Send) -> None:
        """Set the cookie for the link, with a page that redirects.

        By a page, so that the (SameSite=Strict) cookie is also sent after a link on another site.
        """
        if scope["method"] != "GET" or not self._access.opens(scope["path"]):
            await self._refuse(_No(status=401, why="Unauthorized: no such link"), headers, send)
            return
        cookie = f"{self._cookie}={self._access.cookie()}; Path=/; Max-Age={COOKIE_S}"
        cookie += "; HttpOnly; SameSite=Strict"
        cookie += "; Secure" if scope.get("scheme") == "https" else ""
        head = f'<meta http-equiv="refresh" content="0; url={html.escape(self._home)}">'
        page = _PAGE.format(head=head, body=f'<a href="{html.escape(self._home)}">Showmood</a>')
        await self._answer(send, 200, page, "text/html", ((b"set-cookie", cookie.encode()),))

    async def _refuse(self, no: _No, headers: Headers, send: Send) -> None:
        if no.status == 401 and "text/html" in headers.one("accept"):
            # After a link on another site the browser sent no cookie: reload once.
            again = headers.one("sec-fetch-site") in ("cross-site", "same-site")
            head = '<meta http-equiv="refresh" content="0">' if again else ""
            page = _PAGE.format(head=head, body=self._closed)
            await self._answer(send, 401, page, "text/html", self._challenge)
        else:
            body = json.dumps({"exception_message": no.why})
            more = self._challenge if no.status == 401 else ()
            await self._answer(send, no.status, body, "application/json", more)

    @property
    def _challenge(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header that makes browsers ask for the password, if the operator has set one."""
        if not self._asks:
            return ()
        return ((b"www-authenticate", b'Basic realm="Showmood", charset="UTF-8"'),)

    def _adding(self, send: Send) -> Send:
        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._added]
            await send(message)

        return adding

    async def _answer(
        self,
        send: Send,
        status: int,
        body: str,
        kind: str,
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        content = body.encode()
        headers = [
            (b"content-type", f"{kind}; charset=utf-8".encode()),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"no-store"),
            *((name, value) for name, value in self._added if name != b"referrer-policy"),
            (b"referrer-policy", b"no-referrer"),
            *more,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _proving(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Wait for the secret in a web socket's first message, as Prefect's clients send it.

        Nothing but the acceptance is sent before.
        """
        state = {"proven": False, "over": False}

        async def proven_receive() -> Message:
            if state["proven"]:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), FIRST_MESSAGE_S)
            except TimeoutError:
                message = {"type": "websocket.receive", "text": ""}
            if message["type"] != "websocket.receive":
                return message
            state["proven"] = self._names_secret(message)
            if state["proven"]:
                return message
            state["over"] = True
            why = "Unauthorized: the first message must contain this server's secret"
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": why})
            return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}

        async def proven_send(message: Message) -> None:
            early = not state["proven"] and message["type"] == "websocket.send"
            if not state["over"] and not early:
                await send(message)

        return proven_receive, proven_send

    def _names_secret(self, message: Message) -> bool:
        try:
            content = json.loads(message.get("text") or message.get("bytes") or "")
        except (ValueError, RecursionError):
            return False
        token = content.get("token") if isinstance(content, dict) else None
        is_auth = isinstance(content, dict) and content.get("type") == "auth"
        return is_auth and isinstance(token, str) and self._access.takes(token)


def _speaks_prefect(headers: Headers) -> bool:
    offered = ",".join(headers.of.get("sec-websocket-protocol", []))
    return "prefect" in (name.strip() for name in offered.split(","))


def _not_json(headers: Headers) -> _No | None:
    """Refuse a body that is not declared as JSON: any page can make a browser send one."""
    n_bytes = headers.one("content-length")
    has_body = "transfer-encoding" in headers.of or n_bytes.strip("0") != ""
    kind = headers.one("content-type").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        return _No(status=415, why="this server takes JSON, as Content-Type: application/json")
    return None
