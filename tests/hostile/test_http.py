"""Hostile HTTP answers: for playlists, pages, segments and keys."""

import gzip
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli
import pytest

ZEROS = bytes(80 * 1024 * 1024)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
REQUEST_S = 0.5


def reply(body: bytes, *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def encoded(encoding: str, body: bytes) -> bytes:
    return reply(body, f"Content-Encoding: {encoding}")


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Answers whose bodies are 80 MB once decoded, by their encoding."""
    once = gzip.compress(ZEROS, 6)
    return {
        "gzip": encoded("gzip", once),
        "x-gzip": encoded("X-GZIP", once),
        "gzip, gzip": encoded("gzip, gzip", gzip.compress(once)),
        "twice gzip": reply(
            gzip.compress(once), "Content-Encoding: gzip", "Content-Encoding: gzip"
        ),
        "deflate": encoded("deflate", zlib.compress(ZEROS, 6)),
        "unsaid": reply(once),
        "br": encoded("br", brotli.compress(ZEROS, quality=1)),
        "gzip, br": encoded("gzip, br", brotli.compress(once)),
        "identity, br": encoded("identity, br", brotli.compress(ZEROS, quality=1)),
        "zstd": encoded("zstd", b"\x28\xb5\x2f\xfd"),
    }


TOO_LARGE = "NoStream: http://127.0.0.1:.*: larger than"
NOT_ASKED = "SourceUnreachable: http://127.0.0.1:.*: encoded with .*, where gzip was requested"
BOMBS = {
    # outcomes of a playlist, a page (only its head is read), a segment, a key
    "gzip": (TOO_LARGE, "65536 bytes", TOO_LARGE, TOO_LARGE),
    "x-gzip": (TOO_LARGE, "65536 bytes", TOO_LARGE, TOO_LARGE),
    "gzip, gzip": (NOT_ASKED,) * 4,
    "twice gzip": (NOT_ASKED,) * 4,
    "deflate": (TOO_LARGE, "65536 bytes", TOO_LARGE, TOO_LARGE),
    "unsaid": (TOO_LARGE, "65536 bytes", r"\d+ bytes", r"\d+ bytes"),
    "br": (NOT_ASKED,) * 4,
    "gzip, br": (NOT_ASKED,) * 4,
    "identity, br": (NOT_ASKED,) * 4,
    "zstd": (NOT_ASKED,) * 4,
}


@pytest.mark.parametrize("asks", ["playlist", "page", "segment", "key"])
@pytest.mark.parametrize("encoding", BOMBS)
def test_a_bomb_does_not_go_off(
    encoding: str, asks: str, bombs: dict[str, bytes], stand: Callable[..., Any]
) -> None:
    says = BOMBS[encoding][("playlist", "page", "segment", "key").index(asks)]
    stand(bombs[encoding], asks, says, most_mb=50)


PLAYLIST = b"#EXTM3U\n#EXTINF:2,\na.ts\n"
CUT_OFF = gzip.compress(PLAYLIST)[:-9]
CODED = {
    # answers of correct or misconfigured servers
    "gzip": (encoded("gzip", gzip.compress(PLAYLIST)), "1 entries"),
    "as it is": (encoded("identity", PLAYLIST), "1 entries"),
    "a character set": (encoded("utf-8", PLAYLIST), "1 entries"),
    "nothing": (encoded("", PLAYLIST), "1 entries"),
    "gzip, and more after it": (encoded("gzip", gzip.compress(PLAYLIST) + b"x"), "1 entries"),
    "gzip in two members": (
        encoded("gzip", gzip.compress(PLAYLIST[:9]) + gzip.compress(PLAYLIST[9:])),
        "1 entries",
    ),
    "gzip that nobody names": (reply(gzip.compress(PLAYLIST)), "1 entries"),
    "deflate": (encoded("deflate", zlib.compress(PLAYLIST)), "1 entries"),
    "deflate without its header": (
        encoded("deflate", zlib.compress(PLAYLIST, wbits=-zlib.MAX_WBITS)),
        "1 entries",
    ),
    "gzip that is none": (encoded("gzip", PLAYLIST), "SourceUnreachable: .*: broken gzip"),
    "gzip that ends early": (encoded("gzip", CUT_OFF), "SourceUnreachable: .* ends early"),
}


@pytest.mark.parametrize(("serves", "says"), CODED.values(), ids=CODED)
def test_what_is_encoded_is_read_or_refused(
    serves: bytes, says: str, stand: Callable[..., Any]
) -> None:
    stand(serves, "playlist", says, most_mb=20)


# -- answers that do not end


def for_ever(begin: bytes, again: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """Return an answer of some bytes, followed by others repeated for ever, at full speed."""

    def answer(_: bytes) -> Iterator[bytes]:
        yield begin
        block = again * max(1, 65536 // len(again))
        while True:
            yield block

    return answer


def dripped(begin: bytes, again: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """Return the same, slowly."""
    pause = threading.Event()

    def answer(_: bytes) -> Iterator[bytes]:
        yield begin
        while not pause.wait(0.02):
            yield again

    return answer


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
NAMED = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"  # a gzip header, followed by a file name
LONG_GZIP = OK + b"Content-Encoding: gzip\r\nContent-Length: 99999999\r\n\r\n" + NAMED
ENDLESS = {
    # start, and repeated part
    "early hints": (b"", EARLY),
    "a status line": (b"HTTP/1.1 200 ", b"x"),
    "headers": (OK, b"X-A: b\r\n"),
    "one header": (OK + b"X-A: ", b"b"),
    "a body": (OK + b"Content-Length: 99999999\r\n\r\n#EXTM3U\n", b"#\n"),
    "a body without a length": (OK + b"\r\n#EXTM3U\n", b"#\n"),
    "a gzip file name": (LONG_GZIP, b"n"),
    "empty gzip blocks": (LONG_GZIP + b"\0", b"\0\0\0\xff\xff"),
    "a chunk extension": (CHUNKED + b"1;", b"x"),
    "chunk extensions": (CHUNKED, b"1;" + b"x" * 999 + b"\r\n#\r\n"),
    "chunks of a byte": (CHUNKED, b"1\r\n#\r\n"),
    "a chunk's length": (CHUNKED, b"0"),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: b\r\n"),
}
GIVEN_UP = "(SourceUnreachable|NoStream): http://127.0.0.1:.*: "


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
def test_what_does_not_end_is_given_up(
    begin: bytes, again: bytes, stand: Callable[..., Any]
) -> None:
    stand(for_ever(begin, again), "playlist", GIVEN_UP, 10.0, most_mb=60)


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
def test_what_drips_is_given_up_at_the_deadline(
    begin: bytes, again: bytes, stand: Callable[..., Any]
) -> None:
    says = "SourceUnreachable: .*: not complete within 0.5 s"
    stand(dripped(begin, again), "playlist", says, REQUEST_S, most_mb=20)


def test_redirects_have_one_deadline_together(stand: Callable[..., Any]) -> None:
    def answer(_: bytes) -> Iterator[bytes]:
        threading.Event().wait(0.2)
        yield b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"

    says = "SourceUnreachable: .*: not complete within 0.5 s"
    stand(answer, "playlist", says, REQUEST_S, most_mb=20)


def test_a_name_that_is_looked_up_for_ever_is_given_up(stand: Callable[..., Any]) -> None:
    says = "SourceUnreachable: .*: not complete within 0.5 s"
    stand(b"", "slow_name", says, REQUEST_S, most_mb=20)


def test_a_large_segment_is_decrypted_in_steps(stand: Callable[..., Any]) -> None:
    serves = {"/key": reply(bytes(16)), "/a.ts": reply(ZEROS[: 60 * 1024 * 1024])}
    stand(serves, "encrypted", "UnreadableMedia: .*", most_mb=20)


# -- cookies


def test_cookies_are_few_and_small(
    box: Any, site: Callable[..., Any], stand: Callable[..., Any]
) -> None:
    many = [f"Set-Cookie: name-{n}={'v' * 20}; Path=/" for n in range(1500)]
    kinds = [*many, "Set-Cookie2: " + "a;" * 5000, "Set-Cookie: long=" + "v" * 9000]
    made = site({"": reply(PLAYLIST, *kinds)})
    assert box.ask("asked:playlists", made.url, 4).said == "4"
    for head in made.asked:
        sent = [line for line in head.split(b"\r\n") if line.lower().startswith(b"cookie:")]
        assert sum(map(len, sent)) <= 50 * 60
    assert b"name-49=" in made.asked[-1]
    big = [f"Set-Cookie: {n}={'v' * 4000}; Path=/" for n in range(20)]
    made = site({"": reply(PLAYLIST, *big)})
    assert box.ask("asked:playlists", made.url, 2).said == "2"
    assert b"0=vvv" in made.asked[-1]
    assert len(made.asked[-1]) < 18_000
