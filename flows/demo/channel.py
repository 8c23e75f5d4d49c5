"""A live channel on this machine: plays a clip as HLS in real time, for the demo and tests."""

import os
import re
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote

from flows.demo.airing import Airing, now
from flows.demo.faults import Fault, Faults, Kind
from flows.demo.packaging import Packaging, TablesApart
from flows.demo.pieces import Piece, cut, read_pieces
from flows.demo.server import HttpServer, Reply, Request

_PAGE: Final = b"""<!doctype html>
<html><head><title>Demo channel</title></head>
<body><video controls src="live.m3u8" type="application/vnd.apple.mpegurl"></video></body></html>
"""
_PLAYLIST_TYPE: Final = "application/vnd.apple.mpegurl"
_PATH: Final = re.compile(
    r"(/key-(?P<key>\d+))?(/s-\d+)?/(live\.m3u8|segment[- ](?P<index>\d{6,})\.ts)"
)
_WAITED_FOR: Final = re.compile(r"_HLS_msn=(\d+)")
_MAX_HELD_SEGMENTS: Final = 3.0
"""Most lengths of a segment that a request is held for."""

_HOLDS: Final = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-TARGETDURATION"


class LiveOrigin(Airing):
    """Serves a clip, or a directory of media segments, as a live HLS stream over HTTP.

    source: a video file, cut once into pieces of about `segment_s`; or a directory with MPEG-TS
        segments and the playlist that lists them.
    started_at: when the show begins (aware); its first frame has this date. Default: three
        segments ago, so that a player finds some. A segment is listed once its time has passed.
    variants: directories as `source`, cut at the same times, that `play` can change to.
    window: how many segments the playlist lists. loop: begin the clip again at its end, with a
        discontinuity; else the playlist ends there (EXT-X-ENDLIST). pause_s: seconds without
        segments before it begins again.
    dated: give EXT-X-PROGRAM-DATE-TIME. port: 0 takes a free one.
    clock: returns the time (aware), for tests. holds: support blocking playlist reload
        (CAN-BLOCK-RELOAD).

    Use as a context manager, or `start` and `stop`; started again it keeps its port. Raises
    DemoError for a clip that is no video, OSError for a port in use.
    """

    def __init__(
        self,
        source: Path,
        *,
        segment_s: float = 2.0,
        started_at: datetime | None = None,
        variants: Mapping[str, Path] | None = None,
        window: int = 6,
        loop: bool = True,
        pause_s: float = 0.0,
        dated: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        ffmpeg_path: str | os.PathLike[str] | None = None,
        clock: Callable[[], datetime] = now,
        holds: bool = False,
    ) -> None:
        """Cut the clip; nothing is served yet."""
        self._cut_dir: tempfile.TemporaryDirectory[str] | None = None
        super().__init__(
            self._pieces_of(source, segment_s, ffmpeg_path),
            started_at=started_at,
            variants={name: read_pieces(path) for name, path in (variants or {}).items()},
            window=window,
            loop=loop,
            pause_s=pause_s,
            dated=dated,
            clock=clock,
        )
        self._faults = Faults()
        self._key, self._gone = 0, 403
        self._packaging = Packaging()
        self._holds, self._stopped = holds, threading.Event()
        self.requests: deque[Request] = deque(maxlen=10_000)
        self._server = HttpServer(
            self._reply, host=host, port=port, log=self.requests.append, whole=True
        )

    def _pieces_of(
        self, source: Path, segment_s: float, ffmpeg_path: str | os.PathLike[str] | None
    ) -> list[Piece]:
        if source.is_dir():
            return read_pieces(source)
        self._cut_dir = tempfile.TemporaryDirectory(prefix="showmood-demo-")
        try:
            directory = Path(self._cut_dir.name)
            return cut(source, directory, segment_s=segment_s, ffmpeg_path=ffmpeg_path)
        except BaseException:
            self._cut_dir.cleanup()
            raise

    # -- serving

    def start(self) -> Self:
        """Begin to serve."""
        self._stopped.clear()
        self._faults.hold()
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving: connections are cut and threads joined. `start` serves again."""
        self._stopped.set()
        self._faults.release()
        self._server.stop()

    def close(self) -> None:
        """Stop, and delete the pieces that were cut."""
        self.stop()
        if self._cut_dir is not None:
            self._cut_dir.cleanup()

    def __enter__(self) -> Self:
        """Begin to serve."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def base_url(self) -> str:
        """Where the origin is, without a slash at the end."""
        return f"http://{self._server.host}:{self._server.port}"

    @property
    def url(self) -> str:
        """The live playlist."""
        return f"{self.base_url}/live.m3u8"

    @property
    def page_url(self) -> str:
        """A page with a player in it."""
        return f"{self.base_url}/"

    @property
    def share_url(self) -> str:
        """Redirects to the current `keyed_url`."""
        return f"{self.base_url}/watch"

    @property
    def keyed_url(self) -> str:
        """The live playlist at an address that works until `renew_addresses`."""
        return f"{self.base_url}/key-{self._key}/live.m3u8"

    # -- faults, beside what an Airing can change

    def inject(self, fault: Fault) -> None:
        """Show this fault from now on."""
        self._faults.inject(fault)

    def heal(self) -> None:
        """Remove all faults, and release stalled requests."""
        self._faults.heal()

    def renew_addresses(self, status: int = 403) -> None:
        """Refuse the addresses below `keyed_url` from now on, and make a new one."""
        self._key, self._gone = self._key + 1, status

    def pack(self, packaging: Packaging | None = None) -> None:
        """List and send the show this way from now on; None: as at the beginning."""
        self._packaging = packaging or Packaging()
        if isinstance(packaging, TablesApart):
            packaging.keep(self.bytes_of(max(0, self.published - 1)))

    @property
    def packaging(self) -> Packaging:
        """How the show is listed and sent now."""
        return self._packaging

    def hold(self, holds: bool = True) -> None:
        """Support blocking playlist reload from now on, or not."""
        self._holds = holds

    # -- answering

    def _reply(self, target: str) -> Reply:
        """Answer a request, correctly or with the configured faults."""
        path, _, query = target.partition("?")
        path = unquote(path)
        found = _PATH.fullmatch(path)
        kind: Kind = "page"
        if found:
            kind = "segment" if found["index"] else "playlist"
        if kind == "playlist":
            self._wait(query)
        return self._faults.spoil(self._right_reply(path, found), kind, path)

    def _right_reply(self, path: str, found: re.Match[str] | None) -> Reply:
        if found is None:
            if path == "/watch":
                return Reply(status=302, location=self.keyed_url)
            if path == "/":
                return Reply(content_type="text/html", body=_PAGE)
            return self._packaging.other(path) or Reply(status=404)
        if found["key"] and int(found["key"]) != self._key:
            return Reply(status=self._gone)
        if found["index"]:
            index = int(found["index"])
            first, end = self.listed
            # RFC 8216, 6.2.2: what left the playlist stays for as long as the playlist was.
            if not max(0, first - self._window) <= index < end:
                return Reply(status=404)
            whole = Reply(content_type="video/mp2t", body=self.bytes_of(index))
            return self._packaging.segment(path, whole)
        if not self.published:
            return Reply(status=404)
        if (refusal := self._packaging.refusal()) is not None:
            return refusal
        text = self.playlist()
        text = text.replace("#EXT-X-TARGETDURATION", _HOLDS) if self._holds else text
        text = self._packaging.playlist(text)
        return Reply(content_type=_PLAYLIST_TYPE, body=text.encode())

    def _wait(self, query: str) -> None:
        """Hold a request until the segment is listed that it names."""
        named = _WAITED_FOR.search(query) if self._holds else None
        if named is None:
            return
        index = int(named[1]) + self._first_number
        end = time.monotonic() + _MAX_HELD_SEGMENTS * self.segment_s
        while self.published <= index and (left_s := end - time.monotonic()) > 0:
            if self._stopped.wait(min(left_s, 0.005)):
                return
