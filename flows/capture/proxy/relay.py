"""Serves a stream to ffmpeg under our own names, fetched over HTTP.

ffmpeg gets URLs of a host that does not exist, and requests them from our proxy
(`capture.proxy.guard`), which fetches the real ones: with the right headers, from the checked
address. So ffmpeg's command line and log, which other users can read, hold no secret. Playlists and
manifests are rewritten with our names. Segments are fetched whole, decrypted and checked: a body
that is not media might be another playlist.
"""

import re
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final, Literal
from urllib.parse import urlsplit

from flows.capture.hls.feed import Feed
from flows.capture.hls.pieces import Pieces
from flows.capture.net.address import AddressPolicy
from flows.capture.net.cookies import FewCookies
from flows.capture.net.fetch import Fetcher
from flows.capture.net.for_stream import fetcher_for
from flows.capture.playlists.playlist import MAX_PLAYLIST_BYTES, Entry, Key, Part
from flows.capture.proxy.m2ts import without_stamps
from flows.capture.proxy.manifest import MAX_LISTED, rename_playlist
from flows.capture.proxy.mpd import fill, rename_mpd
from flows.capture.proxy.numbers import Numbers
from flows.capture.proxy.patience import Patience
from flows.capture.proxy.sections import Sections, has_boxes, require_media
from flows.capture.quality import Quality
from flows.capture.segment import CaptureError, SourceUnreachable, UnreadableMedia, UnsafeURL
from flows.capture.stream import Stream

BAD_GATEWAY: Final = 502
"""The response for a server that can't be reached."""

_Kind = Literal["playlist", "manifest", "init", "segment", "of_many", "endless"]
_KINDS: Final[dict[str, _Kind]] = {"hls": "playlist", "other": "manifest", "http": "endless"}
_HOST: Final = "stream.test"  # RFC 6761, 6.2: reserved, resolves nowhere
_MAX_NAMES: Final = 20_000
_NUMBERS: Final = re.compile(r"/(\d{1,12})(?:-(-?\d{1,19})-(-?\d{1,19}))?(?:\.\w{1,5})?")
_REQUEST: Final = re.compile(
    rb"GET http://" + _HOST.encode() + rb"(?::80)?(/[^ ]*) HTTP/1\.[01](?:\r\n|$)"
)
_LIVE: Final = b'type="dynamic"'
_TIMELINE: Final = b"<SegmentTimeline"
_LONG_PAUSES_S: Final = 48 * (0.25,)
"""Pauses until a segment is there of which a live manifest names the number alone.

ffmpeg asks for it too early, and would take the next number instead, and run away.
"""

_NOTHING: Final = {
    False: b"\x47\x1f\xff\x10" + b"\xff" * 184,  # a null packet: ISO/IEC 13818-1, 2.4.1
    True: b"\x00\x00\x00\x08free",  # ISO/IEC 14496-12, 8.1.2
}
"""Empty media, MPEG-TS and fMP4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Resource:
    """The real resource behind a name.

    boxes: fMP4 or WebM, not MPEG-TS. entry: a segment, as the newest playlist lists it. kind
    "of_many": a template; the name has number and time.
    """

    kind: _Kind
    part: Part
    key: Key | None = None
    sequence: int = 0
    boxes: bool = False
    entry: Entry | None = field(default=None, compare=False)


class Relay:
    """Our names for one stream's URLs, and their content.

    begin: the segment of a live playlist to begin with; by default the newest. feed: of a live
    playlist, which nobody else loads from now on; by default a new one.
    """

    def __init__(
        self,
        stream: Stream,
        policy: AddressPolicy,
        begin: Entry | None = None,
        *,
        feed: Feed | None = None,
        quality: Quality | None = None,
    ) -> None:
        """Name the stream; nothing is fetched yet."""
        self._stream, self._policy = stream, policy
        self._quality = quality or Quality()
        self._cookies = FewCookies.of(stream.cookies)
        self._lock = threading.Lock()
        self._numbers: OrderedDict[_Resource, int] = OrderedDict()
        self._resources: dict[int, _Resource] = {}
        self._n_named = 0
        self._feed, self._loading = feed, threading.Lock()
        self._counted, self._sections = Numbers(begin), Sections()
        self._idle: list[Pieces] = []
        self.stopping = threading.Event()
        """Once set, ends all fetches."""
        self._patience = Patience(self.stopping)
        self._long_patience = Patience(self.stopping, pauses_s=_LONG_PAUSES_S)
        self.unreadable: deque[str] = deque(maxlen=8)
        """Errors of segments that were replaced by empty media: ffmpeg does not report them."""
        self._is_by_number = False
        self.origins: tuple[datetime, ...] = ()
        """Dates of a manifest's timestamp 0, one for each period that defines it."""
        self.url = self._name(_Resource(kind=_KINDS[stream.protocol], part=Part(url=stream.url)))
        """Our URL of the stream."""

    def entry(self, address: str) -> Entry | None:
        """Return the segment with one of our names, as it was listed; None for any other URL."""
        parts = urlsplit(address)
        found = _NUMBERS.fullmatch(parts.path) if parts.hostname == _HOST else None
        resource = self._resources.get(int(found[1])) if found else None
        return resource.entry if resource else None

    def serve(self, head: bytes, client: socket.socket) -> None:
        """Answer a request; raises OSError, and CaptureError before anything was sent."""
        request = _REQUEST.match(head)
        found = _NUMBERS.fullmatch(request[1].decode("ascii", "replace")) if request else None
        resource = self._resources.get(int(found[1])) if found else None
        if found is None or resource is None:
            raise SourceUnreachable("an unknown URL", status=404)
        with self._fetching() as pieces:
            if resource.kind == "endless":
                self._pass_on(resource.part.url, pieces.fetcher, client)
            else:
                _send(client, self._body(resource, pieces, number=found[2], time=found[3]))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for pieces in idle:
            pieces.fetcher.close()

    # -- names

    def _name(self, resource: _Resource) -> str:
        with self._lock:
            if resource not in self._numbers:
                self._numbers[resource] = self._n_named
                self._n_named += 1
                if len(self._numbers) > _MAX_NAMES:
                    del self._resources[self._numbers.popitem(last=False)[1]]
            self._numbers.move_to_end(resource)
            self._resources[self._numbers[resource]] = resource
            return f"http://{_HOST}/{self._numbers[resource]}{_suffix(resource.part.url)}"

    def _name_entry(self, entry: Entry) -> str:
        sequence = entry.sequence if entry.key and entry.key.iv is None else 0
        boxes = has_boxes(entry)
        resource = _Resource(
            kind="segment",
            part=entry.media,
            key=entry.key,
            sequence=sequence,
            boxes=boxes,
            entry=entry,
        )
        return self._name(resource)

    def _name_many(self, template: str, values: tuple[str, ...]) -> str:
        name = self._name(_Resource(kind="of_many", part=Part(url=template), boxes=True))
        name, dot, suffix = name.partition(f"{_HOST}/")[2].partition(".")
        number, time = (f"${key}$" if key in values else "0" for key in ("Number", "Time"))
        return f"http://{_HOST}/{name}-{number}-{time}{dot}{suffix}"

    # -- content

    @contextmanager
    def _fetching(self) -> Iterator[Pieces]:
        """Lend a fetcher with its open connections to one thread at a time."""
        with self._lock:
            pieces = self._idle.pop() if self._idle else None
        if pieces is None:
            fetcher = fetcher_for(
                self._stream, self._policy, cookies=self._cookies, stopping=self.stopping
            )
            pieces = Pieces(fetcher)
        try:
            yield pieces
        finally:
            with self._lock:
                self._idle.append(pieces)

    def _body(self, resource: _Resource, pieces: Pieces, *, number: str, time: str) -> bytes:
        url = resource.part.url
        if resource.kind == "playlist":
            return self._playlist(pieces)
        if resource.kind == "manifest":
            found = pieces.fetcher.get(url, max_bytes=MAX_PLAYLIST_BYTES)
            body, self.origins = rename_mpd(
                found.body,
                found.url,
                name=lambda part: self._name(_Resource(kind="segment", part=part, boxes=True)),
                name_of_many=self._name_many,
                quality=self._quality,
            )
            self._is_by_number = _LIVE in body and _TIMELINE not in body
            return body
        part = resource.part
        if resource.kind == "of_many":
            part = Part(url=fill(url, number=number, time=time))
        try:
            return self._media(resource, part, pieces)
        except UnreadableMedia as e:
            if resource.entry is None or resource.key is None:
                return self._nothing(resource, e)
        pieces.forget(resource.entry)  # another key may be at its address now
        try:
            return self._media(resource, part, pieces)
        except UnreadableMedia as e:
            return self._nothing(resource, e)

    def _media(self, resource: _Resource, part: Part, pieces: Pieces) -> bytes:
        entry = resource.entry
        if entry is not None and entry.missing:
            raise UnreadableMedia(f"{part.url}: the source has no media for it (EXT-X-GAP)")
        if resource.kind == "init":
            body = pieces.init(part)
        else:
            key, sequence = resource.key, resource.sequence
            is_next = resource.kind == "of_many" and self._is_by_number
            patience = self._long_patience if is_next else self._patience
            body = patience.wait_for(lambda: pieces.media(part, key=key, sequence=sequence))
            body = without_stamps(body)
            if entry is not None and resource.boxes and body.startswith(b"\x47"):
                self._sections.refuse(entry)
                raise SourceUnreachable(f"{part.url}: MPEG-TS where fMP4 is expected")
        require_media(body, url=part.url)
        return body

    def _nothing(self, resource: _Resource, error: UnreadableMedia) -> bytes:
        self.unreadable.append(str(error))
        return _NOTHING[resource.boxes]

    def _playlist(self, pieces: Pieces) -> bytes:
        """Return the media playlist as it is now, through a master playlist if there is one."""
        with self._loading:
            if self._feed is None:
                self._feed = Feed(self._stream, pieces.fetcher, self._quality)
            self._feed.fetcher = pieces.fetcher
            playlist = self._feed.load()
            if self._counted.begin is None and playlist.entries:
                self._counted.begin = playlist.entries[-1]
            numbers = self._counted.of(playlist)
            listed = tuple(numbers)[-MAX_LISTED:]
            entries, ends = self._sections.cut(listed, numbers, pieces)
        return rename_playlist(
            replace(playlist, entries=entries, ended=playlist.ended or ends),
            init=lambda part: self._name(_Resource(kind="init", part=part, boxes=True)),
            media=self._name_entry,
            first=numbers[listed[0]] if listed else None,
        )

    def _pass_on(self, url: str, fetcher: Fetcher, client: socket.socket) -> None:
        """Send an endless file as it arrives, in chunks; if its source breaks off, so does this."""
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        with fetcher.streaming(url) as parts:
            client.sendall(head)
            try:
                for part in parts:
                    client.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            except CaptureError:
                return
        client.sendall(b"0\r\n\r\n")


def _suffix(url: str) -> str:
    suffix = PurePosixPath(urlsplit(url).path).suffix
    return suffix if re.fullmatch(r"\.\w{1,5}", suffix, re.ASCII) else ""


def _send(client: socket.socket, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    client.sendall(head.encode())
    client.sendall(body)


def answer_of(error: CaptureError) -> bytes:
    """Return the HTTP response for an error."""
    status = 403 if isinstance(error, UnsafeURL) else getattr(error, "status", None) or BAD_GATEWAY
    body = f"{error}\n".encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
