"""Reads a URL as an HLS playlist, where yt-dlp does not, or reads it otherwise than we do."""

import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from flows.capture.net.address import AddressPolicy
from flows.capture.net.for_stream import fetcher_for
from flows.capture.playlists.playlist import parse_playlist
from flows.capture.playlists.tags import STRIPPED_CHARS, is_playlist
from flows.capture.segment import CaptureError, NoStream
from flows.capture.source.operator.access import Access
from flows.capture.stream import Loaded, Stream

_BEGIN_BYTES: Final = 4096
PLAYLISTS: Final = (".m3u8", ".m3u", ".mpd")


def is_playlist_url(url: str) -> bool:
    """Return whether a URL is one of a playlist or manifest, by its name."""
    return urlsplit(url).path.endswith(PLAYLISTS)


def playlist_at(
    url: str,
    policy: AddressPolicy,
    access: Access,
    *,
    timeout_s: float,
    stopping: threading.Event | None,
) -> Stream | None:
    """Return the stream of a URL that is a playlist, which may be empty; else None.

    Its id and title are those of yt-dlp. Raises NoStream for one that is too large.
    """
    name = PurePosixPath(unquote(urlsplit(url).path)).stem
    stream = Stream(
        page_url=url,
        url=url,
        protocol="hls",
        live=None,
        live_status=None,
        source_id=name,
        title=name,
        headers=(("User-Agent", access.user_agent),) if access.user_agent else (),
        site_headers=access.headers,
        cookies=access.cookies,
    )
    with fetcher_for(stream, policy, timeout_s=timeout_s, stopping=stopping) as fetcher:
        try:
            # At first its beginning: it may be anything, and endless.
            found = fetcher.get(url, max_bytes=_BEGIN_BYTES, head_only=True)
        except CaptureError:
            return None
        begin = found.body.decode(errors="replace")
        is_empty = not begin.strip(STRIPPED_CHARS) and is_playlist_url(url)
        if not is_empty and not is_playlist(begin):
            return None
        return replace(stream, loaded=fetcher.load(url))


def is_misread(master: Loaded) -> bool:
    """Return whether yt-dlp can't have read a master playlist: it knows no variables.

    Nor does it know a media playlist whose tags are in small letters.
    """
    with suppress(NoStream):
        playlist = parse_playlist(master.text, master.found_at)
        return bool(playlist.entries or (playlist.offers and playlist.variables))
    return False
