"""Rewrites an HLS playlist for ffmpeg, with our names for all URLs.

Only numbers of the source's text are kept, so that no URL can slip through in an unknown tag.
"""

import math
from collections.abc import Callable
from typing import Final

from flows.capture.net.address import read_host
from flows.capture.playlists.playlist import Entry, Part, Playlist

MAX_LISTED: Final = 5_000
"""Most segments listed, the newest ones: some hours."""


def rename_playlist(
    playlist: Playlist,
    *,
    init: Callable[[Part], str],
    media: Callable[[Entry], str],
    first: int | None = None,
) -> bytes:
    """Return the media playlist for ffmpeg.

    init, media: return our name of a URL. first: media sequence number of the first entry, in
    place of the source's. Raises UnsafeURL for any URL that is neither http nor https.
    """
    for url in playlist.urls:
        read_host(url)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
    if playlist.target_s:
        lines.append(f"#EXT-X-TARGETDURATION:{math.ceil(playlist.target_s)}")
    first = playlist.sequence if first is None else first
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
    before: Part | None = None
    for entry in playlist.entries:
        if entry.discontinuity:
            lines.append("#EXT-X-DISCONTINUITY")
        if entry.init is not None and entry.init != before:
            before = entry.init
            lines.append(f'#EXT-X-MAP:URI="{init(entry.init)}"')
        lines += [f"#EXTINF:{entry.duration_s:.6f},", media(entry)]
    if playlist.ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join([*lines, ""]).encode()
