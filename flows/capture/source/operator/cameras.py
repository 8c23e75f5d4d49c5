"""Streams of cameras and encoders that the operator lists in sources.toml."""

import base64
from typing import Literal
from urllib.parse import unquote, urlsplit

from flows.capture.net.address import PAGE_SCHEMES
from flows.capture.stream import Stream

CAMERA = "camera:"
"""Prefix of a camera in a show's URL: camera:studio-2."""


def is_camera(url: str) -> bool:
    """Return whether a show's URL names a camera."""
    return url.startswith(CAMERA)


def without_user(url: str) -> str:
    """Return a URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def camera_stream(named: str, url: str) -> Stream:
    """Return a camera's stream. named: the show's URL. url: from sources.toml."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    kind: Literal["hls", "http", "other"] = "other"
    headers: tuple[tuple[str, str], ...] = ()
    if parts.scheme in PAGE_SCHEMES:
        kinds: dict[str, Literal["hls", "other"]] = {"m3u8": "hls", "mpd": "other"}
        kind = kinds.get(parts.path.rpartition(".")[2].lower(), "http")
        if user:
            coded = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers = (("Authorization", f"Basic {coded}"),)
    return Stream(
        page_url=named,
        url=without_user(url),
        protocol=kind,
        live=True,
        live_status=None,
        source_id=named,
        title=named.removeprefix(CAMERA),
        headers=headers,
        user=user,
        password=password,
    )
