"""A live channel on this machine: plays a clip as HLS at its real time, for the demo and tests."""

import argparse
import contextlib
import math
import os
import re
import signal
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from flows.demo.errors import DemoError
from flows.demo.pieces import cut, read_pieces
from flows.demo.programme import make_programme
from flows.demo.server import Reply, Request, Server

_PAGE: Final = b"""<!doctype html>
<html><head><title>Demo channel</title></head>
<body><video controls src="live.m3u8" type="application/vnd.apple.mpegurl"></video></body></html>
"""
_PLAYLIST_TYPE: Final = "application/vnd.apple.mpegurl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What the origin does wrong with the requests it concerns.

    on: which requests. times: how many of them; None for all until `heal`.
    status: answer this HTTP status. body: send this instead. keep_bytes: send only so much of
    the body, then close the connection (or stall). stall: then send nothing more until `heal`.
    reset: cut the connection off with a TCP reset before any answer.
    """

    on: Literal["playlist", "segment", "any"] = "any"
    times: int | None = None
    status: int | None = None
    body: bytes | None = None
    keep_bytes: int | None = None
    stall: bool = False
    reset: bool = False


def _now() -> datetime:
    return datetime.now(UTC)


class LiveOrigin:
    """Serves a clip, or a directory of media segments, as a live HLS stream over HTTP.

    source: a video file, cut once into pieces of about `segment_s`; or a directory with MPEG-TS
        segments and the playlist that lists them.
    started_at: when the show begins (aware); its first frame has this date. Default: three
        segments ago, so that a player finds some. A segment is listed once its time has passed.
    window: how many segments the playlist lists. loop: begin the clip again at its end, with a
        discontinuity; else the playlist ends there (EXT-X-ENDLIST). pause_s: nothing is on air for
        so long before it begins again.
    dated: give EXT-X-PROGRAM-DATE-TIME. port: 0 takes a free one.
    clock: what the time is (aware), for tests.

    Use as a context manager, or `start` and `stop`; started again it keeps its port. Raises
    DemoError for a clip that is no video, OSError for a port in use.
    """

    def __init__(
        self,
        source: Path,
        *,
        segment_s: float = 2.0,
        started_at: datetime | None = None,
        window: int = 6,
        loop: bool = True,
        pause_s: float = 0.0,
        dated: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        ffmpeg_path: str | os.PathLike[str] | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """Cut the clip; nothing is served yet."""
        self._cut_dir: tempfile.TemporaryDirectory[str] | None = None
        if source.is_dir():
            self._pieces = read_pieces(source)
        else:
            self._cut_dir = tempfile.TemporaryDirectory(prefix="showmood-demo-")
            try:
                self._pieces = cut(
                    source, Path(self._cut_dir.name), segment_s=segment_s, ffmpeg_path=ffmpeg_path
                )
            except BaseException:
                self._cut_dir.cleanup()
                raise
        self._starts_us = [0]
        for piece in self._pieces:
            self._starts_us.append(self._starts_us[-1] + piece.duration_us)
        self._round_us = self._starts_us[-1] + round(pause_s * 1e6)
        self._clock = clock
        self.started_at = started_at or clock() - timedelta(
            microseconds=self._starts_us[min(3, len(self._pieces))]
        )
        self._window, self._loop, self._dated = window, loop, dated
        self._lock = threading.Lock()
        self._faults: list[list[object]] = []
        self._healed = threading.Event()
        self._held_at: datetime | None = None
        self._ended = False
        self._first_number = 0
        self.requests: deque[Request] = deque(maxlen=10_000)
        self._server = Server(self._reply, host=host, port=port, log=self.requests.append)

    # -- serving

    def start(self) -> Self:
        """Begin to serve."""
        self._healed.clear()
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving: connections are cut and threads joined. `start` goes on."""
        self._healed.set()
        self._server.stop()

    def close(self) -> None:
        """Stop, and delete the pieces that were cut."""
        self.stop()
        if self._cut_dir is not None:
            self._cut_dir.cleanup()

    def __enter__(self) -> Self:
        """Begin to serve."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
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
    def segment_s(self) -> float:
        """The duration of the longest piece."""
        return max(piece.duration_us for piece in self._pieces) / 1e6

    # -- what can go wrong

    def inject(self, fault: Fault) -> None:
        """Do this wrong from now on."""
        with self._lock:
            self._healed.clear()
            self._faults.append([fault, fault.times])

    def heal(self) -> None:
        """Do nothing wrong any more, and let go of what stalls."""
        with self._lock:
            self._faults.clear()
            self._healed.set()

    def freeze(self) -> None:
        """List nothing new from now on."""
        self._held_at = self._clock()

    def end(self) -> None:
        """Close the playlist with EXT-X-ENDLIST where it is."""
        self._held_at = self._clock()
        self._ended = True

    def resume(self) -> None:
        """Undo `freeze` and `end`: what has passed meanwhile has passed."""
        self._held_at, self._ended = None, False

    def reset_sequence(self) -> None:
        """Number the media segments from 0 again, as an encoder does that was restarted."""
        self._first_number = self._listed()[0]

    # -- the playlist

    def start_of(self, index: int) -> datetime:
        """Return the date of the first frame of the show's `index`-th segment."""
        rounds, piece = divmod(index, len(self._pieces))
        return self.started_at + timedelta(
            microseconds=rounds * self._round_us + self._starts_us[piece]
        )

    def _published(self) -> int:
        """Return how many segments of the show have passed."""
        passed = (self._held_at or self._clock()) - self.started_at
        rounds, rest = divmod(passed // timedelta(microseconds=1), self._round_us)
        if rounds < 0:
            return 0
        if rounds and not self._loop:
            return len(self._pieces)
        return rounds * len(self._pieces) + sum(end <= rest for end in self._starts_us[1:])

    def _listed(self) -> tuple[int, int]:
        """Return the half-open range of segments in the window."""
        end = self._published()
        return max(0, end - self._window), end

    def playlist(self) -> str:
        """Return the media playlist as of now (RFC 8216, section 4.3)."""
        first, end = self._listed()
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            f"#EXT-X-TARGETDURATION:{math.ceil(self.segment_s)}",
            f"#EXT-X-MEDIA-SEQUENCE:{max(0, first - self._first_number)}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{max(0, first - 1) // len(self._pieces)}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        for index in range(first, end):
            piece = index % len(self._pieces)
            if index and piece == 0:
                lines.append("#EXT-X-DISCONTINUITY")
            if self._dated:
                date = self.start_of(index).isoformat(timespec="milliseconds")
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date}")
            lines.append(f"#EXTINF:{self._pieces[piece].duration_us / 1e6:.6f},")
            lines.append(f"segment-{index:06d}.ts")
        if self._ended or (not self._loop and end == len(self._pieces)):
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def _reply(self, path: str) -> Reply:
        """Answer a request, rightly or as the faults say."""
        segment = re.fullmatch(r"/segment-(\d{6,})\.ts", path)
        fault = self._fault_for("segment" if segment else "playlist")
        reply = self._right_reply(path, segment)
        if fault is None:
            return reply
        if fault.reset:
            return Reply(reset=True)
        if fault.status is not None:
            return Reply(status=fault.status)
        return Reply(
            status=reply.status,
            content_type=reply.content_type,
            body=reply.body if fault.body is None else fault.body,
            keep_bytes=0 if fault.stall and fault.keep_bytes is None else fault.keep_bytes,
            stall=self._healed.wait if fault.stall else None,
        )

    def _right_reply(self, path: str, segment: re.Match[str] | None) -> Reply:
        if segment:
            index = int(segment[1])
            first, end = self._listed()
            # RFC 8216, 6.2.2: what left the playlist stays for as long as the playlist was.
            if not max(0, first - self._window) <= index < end:
                return Reply(status=404)
            piece = self._pieces[index % len(self._pieces)]
            return Reply(content_type="video/mp2t", body=piece.path.read_bytes())
        if path == "/live.m3u8":
            if not self._published():
                return Reply(status=404)
            return Reply(content_type=_PLAYLIST_TYPE, body=self.playlist().encode())
        if path == "/":
            return Reply(content_type="text/html", body=_PAGE)
        return Reply(status=404)

    def _fault_for(self, kind: str) -> Fault | None:
        with self._lock:
            for entry in self._faults:
                fault, left = entry
                assert isinstance(fault, Fault)
                if fault.on not in (kind, "any") or left == 0:
                    continue
                if isinstance(left, int):
                    entry[1] = left - 1
                return fault
        return None


def main(arguments: list[str] | None = None) -> int:
    """Serve the demo channel until SIGINT or SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.demo.channel", description="Play a clip as a live HLS channel."
    )
    parser.add_argument("--video", type=Path, help="the clip (default: the built-in programme)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8799, help="0 takes a free one")
    parser.add_argument("--segment", type=float, default=2.0, help="seconds (default: 2)")
    parser.add_argument("--ffmpeg", help="the ffmpeg to cut with (default: the built-in)")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.ExitStack() as stack:
        try:
            clip = options.video
            if clip is None:
                work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                clip = make_programme(work / "programme.mp4", ffmpeg_path=options.ffmpeg)
            origin = LiveOrigin(
                clip,
                segment_s=options.segment,
                host=options.host,
                port=options.port,
                ffmpeg_path=options.ffmpeg,
            )
            stack.callback(origin.close)
            origin.start()
        except (DemoError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 2
        sys.stdout.write(f"{origin.url}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
