"""Decodes the content coding of an HTTP response (RFC 9110, 8.4.1) in bounded chunks."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import httpx

from flows.capture.segment import SourceUnreachable

ACCEPTED: Final = "gzip"
"""Accept-Encoding of requests; segments are requested with none, but accepted with it."""

_GZIP: Final = ("gzip", "x-gzip")
_CODINGS: Final = (*_GZIP, "br", "compress", "x-compress", "dcb", "dcz", "deflate", "zstd")
"""All that IANA lists; servers that send another value, such as a charset, encode nothing."""

_STEP_BYTES: Final = 64 * 1024
_WITH_HEADER: Final = 16 + zlib.MAX_WBITS

_MAX_CHUNKS: Final = 100_000
"""Limit of chunks of a body: each costs the same time, however small it is."""


def chunks_of(response: httpx.Response, url: str) -> Iterator[bytes]:
    """Yield the decoded content of a response in bounded chunks; raises as `decode`."""
    return decode(_raw_chunks(response, url), response.headers.get("content-encoding", ""), url=url)


def _raw_chunks(response: httpx.Response, url: str) -> Iterator[bytes]:
    for n, chunk in enumerate(response.iter_raw()):
        if n >= _MAX_CHUNKS:
            raise SourceUnreachable(f"{url}: the response has more than {_MAX_CHUNKS} chunks")
        yield chunk


def decode(parts: Iterable[bytes], encoding: str, *, url: str) -> Iterator[bytes]:
    """Yield the decoded content of `parts`, at most 64 KiB at a time; unencoded parts unchanged.

    encoding: the Content-Encoding. Raises SourceUnreachable for one that was not requested, and for
    a body that is broken or ends early.
    """
    used = [name for name in map(str.strip, encoding.lower().split(",")) if name in _CODINGS]
    if not used:
        return iter(parts)
    if len(used) == 1 and used[0] in _GZIP:
        return _unzip(parts, url)
    raise SourceUnreachable(
        f"{url}: encoded with {', '.join(used[:3])}, where {ACCEPTED} was requested"
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
