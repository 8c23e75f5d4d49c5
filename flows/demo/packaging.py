"""Ways in which packagers and sites list and send the same segments, for `LiveOrigin.pack`."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from flows.demo.server import Reply

KEY: Final = bytes(range(16))
_PICTURE: Final = b"\x89PNG\r\n\x1a\n" + bytes(180)
_PACKET: Final = 188
_TABLES: Final = (0, 17, 4096)
"""The packet identifiers that ffmpeg gives a stream's tables."""

_DATE: Final = re.compile(r"#EXT-X-PROGRAM-DATE-TIME:[^\n]*\n")
_NAME: Final = re.compile(r"segment-(\d+)\.ts")
_LENGTH: Final = re.compile(r"#EXTINF:([\d.]+),")


class Packaging:
    """Changes nothing; subclasses change what they name. May be used by any thread."""

    def playlist(self, text: str) -> str:
        """Return the playlist as it is sent."""
        return text

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return the response to a request for a segment; path: the requested one."""
        return reply

    def other(self, path: str) -> Reply | None:
        """Return what is at another address; None where there is nothing."""
        return None

    def refusal(self) -> Reply | None:
        """Return the response to a playlist request that is refused; else None."""
        return None


class Listed(Packaging):
    """Changes the playlist's text."""

    def __init__(self, change: Callable[[str], str]) -> None:
        """Keep the change."""
        self._change = change

    def playlist(self, text: str) -> str:
        """Return the text changed."""
        return self._change(text)


class Signed(Packaging):
    """Each playlist has new URL signatures, old ones expire, and every third segment is late."""

    def __init__(self) -> None:
        """Sign nothing yet."""
        self._lock = threading.Lock()
        self._stamp = 0
        self._held: dict[str, int] = {}

    def playlist(self, text: str) -> str:
        """Return it with addresses that are valid until the playlist after the next one."""
        with self._lock:
            self._stamp += 1
            return _NAME.sub(rf"s-{self._stamp}/\g<0>", text)

    def segment(self, path: str, reply: Reply) -> Reply:
        """Refuse old addresses; answer for every third segment only at a newer address."""
        stamp, name = re.findall(r"/s-(\d+)/([^/]+)$", path)[0] if "/s-" in path else ("", path)
        with self._lock:
            if stamp and int(stamp) < self._stamp - 1:
                return Reply(status=403)
            if stamp and int(name[8:-3]) % 3 == 0:
                first = self._held.setdefault(name, int(stamp))
                if int(stamp) == first:
                    return Reply(status=503)
        return reply


class Disguised(Packaging):
    """Each segment is declared as an image."""

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return it behind the header of a picture."""
        return replace(reply, body=_PICTURE + reply.body)


class Sealed(Packaging):
    """Segments are encrypted with AES-128, their numbers are the IV."""

    def playlist(self, text: str) -> str:
        """Return it with the key's address, and an IV for each."""

        def with_iv(found: re.Match[str]) -> str:
            iv = int(found[1])
            return f'#EXT-X-KEY:METHOD=AES-128,URI="secret.key",IV=0x{iv:032x}\n{found[0]}'

        return re.sub(r"#EXTINF:[^\n]*\nsegment-(\d+)\.ts", with_iv, text)

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return it encrypted."""
        if reply.status != 200:
            return reply
        number = int(_NAME.findall(path)[0])
        seal = Cipher(algorithms.AES128(KEY), modes.CBC(number.to_bytes(16, "big"))).encryptor()
        return replace(reply, body=seal.update(self.pad(reply.body, number)) + seal.finalize())

    def pad(self, data: bytes, number: int) -> bytes:
        """Return whole blocks of a segment, padded by RFC 8216, 4.3.2.4."""
        padder = PKCS7(128).padder()
        return padder.update(data) + padder.finalize()

    def other(self, path: str) -> Reply | None:
        """Return the key."""
        return Reply(body=KEY) if path.endswith("/secret.key") else None


class TablesApart(Packaging):
    """The tables of the transport stream are at an address of their own, and in no segment."""

    def __init__(self) -> None:
        """Hold no tables yet."""
        self._tables = b""
        self._came = threading.Event()

    def playlist(self, text: str) -> str:
        """Return it with the tables' address."""
        return re.sub(r"(#EXT-X-MEDIA-SEQUENCE)", r'#EXT-X-MAP:URI="tables.ts"\n\1', text, count=1)

    def keep(self, segment: bytes) -> None:
        """Take the tables out of a whole segment."""
        self._tables = b"".join(_packets(segment, tables=True))

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return it without tables."""
        return replace(reply, body=b"".join(_packets(reply.body, tables=False)))

    def other(self, path: str) -> Reply | None:
        """Return the tables."""
        return Reply(body=self._tables) if path.endswith("/tables.ts") else None


class Banning(Packaging):
    """A playlist requested too early is refused, for longer with each request."""

    def __init__(self, least_s: float, ban_s: float) -> None:
        """least_s: between two requests. ban_s: how long is refused, counted from the last one."""
        self._least_s, self._ban_s = least_s, ban_s
        self._lock = threading.Lock()
        self._asked_at = self._banned_until = 0.0
        self.n_refused = 0

    def refusal(self) -> Reply | None:
        """Return 429 to a request that is too early."""
        with self._lock:
            now, before = time.monotonic(), self._asked_at
            self._asked_at = now
            if now - before < self._least_s or now < self._banned_until:
                self._banned_until = now + self._ban_s
                self.n_refused += 1
                return Reply(status=429, headers=(("Retry-After", f"{self._ban_s:.0f}"),))
        return None


def _packets(data: bytes, *, tables: bool) -> list[bytes]:
    found = []
    for at in range(0, len(data), _PACKET):
        packet = data[at : at + _PACKET]
        if (int.from_bytes(packet[1:3], "big") & 0x1FFF in _TABLES) == tables:
            found.append(packet)
    return found


# -- playlists


def without_numbers(text: str) -> str:
    """Return it without sequence numbers."""
    return re.sub(r"#EXT-X-(MEDIA|DISCONTINUITY)-SEQUENCE:\d+\n", "", text)


def in_steps_of_three(text: str) -> str:
    """Return it with a number that moves by three with each segment."""
    return re.sub(r"(MEDIA-SEQUENCE:)(\d+)", lambda m: f"{m[1]}{3 * int(m[2])}", text)


def without_dates(text: str) -> str:
    """Return it without dates."""
    return _DATE.sub("", text)


def of_1970(text: str) -> str:
    """Return the playlist with dates of an encoder whose clock was never set."""
    return re.sub(r"(DATE-TIME:)\d{4}-\d\d-\d\d", r"\g<1>1970-01-01", text)


def in_local_time(text: str) -> str:
    """Return it with dates five and a half hours off, and without a zone."""
    return re.sub(r"(DATE-TIME:[\d-]+T)(\d\d)([^\n]*?)(\+00:00|Z)", r"\g<1>05\g<3>", text)


def too_short(text: str) -> str:
    """Return it with lengths that are a tenth too short."""
    return _LENGTH.sub(lambda m: f"#EXTINF:{0.9 * float(m[1]):.3f},", text)


def with_one_absurd(text: str) -> str:
    """Return it with one length of nearly three hours."""
    return _LENGTH.sub(lambda m: "#EXTINF:9999,", text, count=1)


def dirty(text: str) -> str:
    """Return it as a text editor may leave it, and with spaces in the names."""
    named = _NAME.sub(lambda m: f"segment {m[1]}.ts", text)
    return "\ufeff" + named.replace("\n", " \t\r\n\r\n")


def with_variables(text: str) -> str:
    """Return it with the names of its segments in a variable."""
    defined = '#EXT-X-DEFINE:NAME="what",VALUE="segment"\n#EXT-X-MEDIA-SEQUENCE'
    return text.replace("#EXT-X-MEDIA-SEQUENCE", defined).replace("\nsegment-", "\n{$what}-")


def with_parts(text: str) -> str:
    """Return it with parts, as low-latency ones are."""
    parts = r'#EXT-X-PART:DURATION=0.2,URI="part-\2.0.ts"\n\1\n\2'
    return re.sub(r"(#EXTINF:[^\n]*)\n(segment[^\n]*)", parts, text)


def with_cues(text: str) -> str:
    """Return it with every second segment marked as an advertisement."""
    return re.sub(
        r"#EXTINF:([\d.]+),[^\n]*\nsegment-(\d+)",
        lambda m: ("#EXT-X-CUE-OUT:" + m[1] if int(m[2]) % 2 else "#EXT-X-CUE-IN") + "\n" + m[0],
        text,
    )
