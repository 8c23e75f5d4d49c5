"""Functions that tests call in the box; imported only there."""

import io
import os
import socket
import tempfile
import threading
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from flows.capture.hls.pieces import MAX_INIT_BYTES, MAX_SEGMENT_BYTES, Pieces
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Part, parse_playlist


def policy_for(url: str) -> AddressPolicy:
    """Return a policy that allows the server at this URL, and no other of this machine."""
    parts = urlsplit(url)
    assert parts.hostname
    host = ip_address(parts.hostname if parts.hostname != "slow.example" else "127.0.0.1")
    return AddressPolicy(allow_origins=((host, parts.port or 0),))


def playlist(url: str, request_s: float = 30.0) -> str:
    """Fetch and read a playlist."""
    with Fetcher(policy_for(url), request_s=request_s) as fetcher:
        found = fetcher.get_playlist(url)
        return f"{len(found.entries)} entries, {len(found.offers)} variants"


def playlists(url: str, n: int) -> str:
    """Fetch a playlist several times, as one client."""
    with Fetcher(policy_for(url)) as fetcher:
        return f"{len([fetcher.get_playlist(url) for _ in range(n)])}"


def slow_name(url: str, request_s: float) -> str:
    """Fetch from a name whose resolution never ends."""
    socket.getaddrinfo = lambda *_, **__: threading.Event().wait()  # type: ignore[assignment]
    return playlist(url.replace("127.0.0.1", "slow.example"), request_s)


def page(url: str) -> str:
    """Fetch the beginning of a page."""
    with Fetcher(policy_for(url)) as fetcher:
        return f"{len(fetcher.get(url, max_bytes=64 * 1024, head_only=True).body)} bytes"


def segment(url: str) -> str:
    """Download a segment."""
    with Fetcher(policy_for(url)) as fetcher, Path(os.devnull).open("wb") as sink:
        n_bytes = fetcher.download(Part(url=url), sink, max_bytes=MAX_SEGMENT_BYTES)
        return f"{n_bytes} bytes"


def key(url: str) -> str:
    """Download a small file: a key, an initialisation section."""
    with Fetcher(policy_for(url)) as fetcher:
        n_bytes = fetcher.download(Part(url=url), io.BytesIO(), max_bytes=MAX_INIT_BYTES)
        return f"{n_bytes} bytes"


def take_mb(n: int) -> str:
    """Allocate memory, and free it."""
    return f"{len(bytes(n * 1024 * 1024).upper())} bytes"


def encrypted(url: str) -> str:
    """Fetch a segment that is encrypted."""
    entry = parse_playlist('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="key"\na.ts\n', url).entries[0]
    with Fetcher(policy_for(url)) as fetcher, tempfile.TemporaryDirectory() as name:
        return f"{Pieces(fetcher).fetch(entry, Path(name) / 'x')}"
