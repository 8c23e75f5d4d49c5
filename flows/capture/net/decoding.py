"""The content coding of an HTTP answer (RFC 9110, 8.4.1), undone in steps of bounded size."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import httpx

from flows.capture.segment import SourceUnreachable

ASKED_FOR: Final = "gzip"
"""Content encodings of answers; segments are asked for without, and accepted with one."""

_GZIP: Final = ("gzip", "x-gzip")
_CODINGS: Final = (*_GZIP, "br", "compress", "x-compress", "dcb", "dcz", "deflate", "zstd")
"""All that IANA lists; servers that say anything else, such as a character set, encode nothing."""

_STEP_BYTES: Final = 64 * 1024
_WITH_HEADER: Final = 16 + zlib.MAX_WBITS

_MAX_CHUNKS: Final = 100_000
"""So many pieces a body may come in: each costs the same time, be it ever so small."""


def chunks_of(response: httpx.Response, url: str) -> Iterator[bytes]:
    """Give the content of a response, in pieces of bounded size; raises as `decode`."""
    return decode(_raw_chunks(response, url), response.headers.get("content-encoding", ""), url=url)


def _raw_chunks(response: httpx.Response, url: str) -> Iterator[bytes]:
    for n, chunk in enumerate(response.iter_raw()):
        if n >= _MAX_CHUNKS:
            raise SourceUnreachable(f"{url}: comes in more than {_MAX_CHUNKS} pieces")
        yield chunk


def decode(parts: Iterable[bytes], encoding: str, *, url: str) -> Iterator[bytes]:
    """Give the content of what comes in parts, at most 64 KiB at a time or as it comes.

    encoding: what Content-Encoding says. Raises SourceUnreachable for what was not asked for, and
    for what is broken or ends early.
    """
    used = [name for name in map(str.strip, encoding.lower().split(",")) if name in _CODINGS]
    if not used:
        return iter(parts)
    if len(used) == 1 and used[0] in _GZIP:
        return _unzip(parts, url)
    raise SourceUnreachable(
        f"{url}: encoded with {', '.join(used[:3])}, where {ASKED_FOR} was asked for"
    )


def _unzip(parts: Iterable[bytes], url: str) -> Iterator[bytes]:
    unzipping = zlib.decompressobj(_WITH_HEADER)
    try:
        for part in parts:
            left = part
            while left and not unzipping.eof:
                yield unzipping.decompress(left, _STEP_BYTES)
                left = unzipping.unconsumed_tail
    except zlib.error as e:
        raise SourceUnreachable(f"{url}: broken gzip ({e})") from e
    if not unzipping.eof:
        raise SourceUnreachable(f"{url}: gzip that ends early")
