"""Decodes the content coding of an HTTP response (RFC 9110, 8.4.1) in bounded chunks."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

import httpx

from flows.capture.segment import SourceUnreachable

ACCEPTED: Final = "gzip"
"""Accept-Encoding of requests; segments are requested with none, but accepted with it."""

_OTHERS: Final = ("br", "compress", "x-compress", "dcb", "dcz", "zstd")
_CODINGS: Final = ("gzip", "x-gzip", "deflate", *_OTHERS)
"""All that IANA lists; servers that send another value, such as a charset, encode nothing."""

_STEP_BYTES: Final = 64 * 1024
_MAGIC: Final = b"\x1f\x8b\x08"  # RFC 1952, 2.3.1
_WITH_HEADER: Final = 16 + zlib.MAX_WBITS

_MAX_CHUNKS: Final = 100_000
"""Limit of chunks of a body: each costs the same time, however small it is."""


def chunks_of(response: httpx.Response, url: str, *, is_text: bool = False) -> Iterator[bytes]:
    """Yield the decoded content of a response in bounded chunks; raises as `decode`."""
    encoding = response.headers.get("content-encoding", "")
    return decode(_raw_chunks(response, url), encoding, url=url, is_text=is_text)


def _raw_chunks(response: httpx.Response, url: str) -> Iterator[bytes]:
    for n, chunk in enumerate(response.iter_raw()):
        if n >= _MAX_CHUNKS:
            raise SourceUnreachable(f"{url}: the response has more than {_MAX_CHUNKS} chunks")
        yield chunk


def decode(
    parts: Iterable[bytes], encoding: str, *, url: str, is_text: bool = False
) -> Iterator[bytes]:
    """Yield the decoded content of `parts`, at most 64 KiB at a time; unencoded parts unchanged.

    encoding: the Content-Encoding. is_text: a text is wanted; what begins as gzip is decoded
    without an encoding, too, as some servers don't say it. Raises SourceUnreachable for another
    coding, and for a body that is broken or ends early.
    """
    used = [name for name in map(str.strip, encoding.lower().split(",")) if name in _CODINGS]
    if not used:
        return _unzip_unsaid(iter(parts), url) if is_text else iter(parts)
    if len(used) == 1 and used[0] in _DECODERS:
        return _DECODERS[used[0]](parts, url)
    raise SourceUnreachable(
        f"{url}: encoded with {', '.join(used[:3])}, where {ACCEPTED} was requested"
    )


def _unzip_unsaid(parts: Iterator[bytes], url: str) -> Iterator[bytes]:
    begin = b""
    for part in parts:
        begin += part
        if len(begin) >= len(_MAGIC):
            break
    rest = chain([begin], parts)
    yield from _unzip(rest, url) if begin.startswith(_MAGIC) else rest


def _unzip(parts: Iterable[bytes], url: str, *, window: int = _WITH_HEADER) -> Iterator[bytes]:
    unzipping = zlib.decompressobj(window)
    begun = False
    try:
        for part in parts:
            left = part
            while left:
                if unzipping.eof:
                    if window != _WITH_HEADER or not _MAGIC.startswith(left[: len(_MAGIC)]):
                        return  # padding
                    unzipping = zlib.decompressobj(window)  # RFC 1952, 2.2: several members
                begun = True
                yield unzipping.decompress(left, _STEP_BYTES)
                left = unzipping.unconsumed_tail or unzipping.unused_data
    except zlib.error as e:
        raise SourceUnreachable(f"{url}: broken gzip ({e})") from e
    if begun and not unzipping.eof:
        raise SourceUnreachable(f"{url}: gzip that ends early")


def _inflate(parts: Iterable[bytes], url: str) -> Iterator[bytes]:
    """Decode "deflate": zlib's format, or without its header, as some servers send it."""
    whole = iter(parts)
    begin = next(whole, b"")
    is_zlib = begin[:1] and begin[0] & 15 == zlib.DEFLATED
    return _unzip(chain([begin], whole), url, window=zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)


_DECODERS: Final[dict[str, Callable[[Iterable[bytes], str], Iterator[bytes]]]] = {
    "gzip": _unzip,
    "x-gzip": _unzip,
    "deflate": _inflate,
}
