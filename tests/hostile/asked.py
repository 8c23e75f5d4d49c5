"""What a test asks for in the box; imported there, and nowhere else."""

import io
from ipaddress import ip_address
from urllib.parse import urlsplit

from flows.capture.address import AddressPolicy
from flows.capture.fetch import Fetcher
from flows.capture.pieces import MAX_INIT_BYTES, MAX_SEGMENT_BYTES
from flows.capture.playlist import Part


def policy_for(url: str) -> AddressPolicy:
    """Return a policy that allows the server at this URL, and no other of this machine."""
    parts = urlsplit(url)
    assert parts.hostname
    return AddressPolicy(allow_origins=((ip_address(parts.hostname), parts.port or 0),))


def playlist(url: str) -> str:
    """Fetch and read a playlist."""
    with Fetcher(policy_for(url)) as fetcher:
        found = fetcher.get_playlist(url)
        return f"{len(found.entries)} entries, {len(found.offers)} variants"


def page(url: str) -> str:
    """Fetch the beginning of a page."""
    with Fetcher(policy_for(url)) as fetcher:
        return f"{len(fetcher.get(url, max_bytes=64 * 1024, head_only=True).body)} bytes"


def segment(url: str) -> str:
    """Download a segment."""
    with Fetcher(policy_for(url)) as fetcher:
        n_bytes = fetcher.download(Part(url=url), io.BytesIO(), max_bytes=MAX_SEGMENT_BYTES)
        return f"{n_bytes} bytes"


def key(url: str) -> str:
    """Download what is small: a key, an initialisation section."""
    with Fetcher(policy_for(url)) as fetcher:
        n_bytes = fetcher.download(Part(url=url), io.BytesIO(), max_bytes=MAX_INIT_BYTES)
        return f"{n_bytes} bytes"


def take_mb(n: int) -> str:
    """Take memory, and give it back."""
    return f"{len(bytes(n * 1024 * 1024).upper())} bytes"
