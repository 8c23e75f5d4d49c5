"""Keys and initialisation sections that a playlist contains itself, as data: URLs (RFC 2397)."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from flows.capture.playlists.playlist import Part
from flows.capture.segment import NoStream


def data_of(part: Part, *, max_bytes: int) -> bytes:
    """Return the bytes of a part whose URL contains them; raises NoStream."""
    head, comma, text = part.url.partition(",")
    data = unquote_to_bytes(text)
    if head.lower().endswith(";base64"):
        try:
            data = base64.b64decode(data)
        except binascii.Error as e:
            raise NoStream(f"a broken data: URL ({e})") from e
    if not comma or len(data) > max_bytes:
        raise NoStream(f"a data: URL of {len(data)} bytes, where {max_bytes} are the most")
    return data[part.offset :][: part.length]
