"""Reports what would be recorded of a URL, and with which settings, without recording."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from flows.capture.hls.feed import Feed
from flows.capture.hls.pieces import Pieces
from flows.capture.net.address import read_host
from flows.capture.net.cookies import read_cookies
from flows.capture.net.for_stream import fetcher_for
from flows.capture.recorded.media import measure
from flows.capture.segment import CaptureError, NotLive, Segment, SourceUnreachable
from flows.capture.source.operator.access import Access
from flows.capture.source.operator.sources_values import SecretOf, no_secrets
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.live.way_to_source import WayToSource
from flows.settings import Settings
from flows.show import Show

Line = tuple[str, str]

_RECORD_S: Final = 20.0
"""Seconds within which a stream that ffmpeg records must send a picture."""

_LOOK_S: Final = 0.5


def check(
    settings: Settings,
    show: Show,
    *,
    secret_of: SecretOf = no_secrets,
    extractors: Sequence[type] = (),
) -> Iterator[Line]:
    """Yield the findings as pairs of name and text; raises CaptureError.

    Without secrets: cookies only by number, headers by name, proxies by host.
    """
    way = WayToSource.of(settings, show.url, secret_of)
    way.check(show.url)
    access = way.access()
    yield from _settings_of(access, way, show.url)
    stream = way.find(show, extractors)
    yield "title", stream.title or "(none)"
    yield "protocol", {"hls": "HLS", "http": "an endless file"}.get(stream.protocol, "other")
    if stream.protocol == "hls":
        width, height, more = _look_into(stream, way, show)
    else:
        (width, height), more = _record(stream, way, show, settings), ()
    yield "live", "yes"  # what has ended raises NotLive
    yield "size", f"{width}x{height}" if width and height else "unknown"
    yield "frame rate", f"{stream.fps:g}" if stream.fps else "unknown"
    yield "codecs", stream.codecs or "unknown"
    yield from more
    if stream.expires_at is not None:
        yield "URL expires", f"{stream.expires_at:%Y-%m-%d %H:%M} UTC"


def _settings_of(access: Access, way: WayToSource, url: str) -> Iterator[Line]:
    yield "set for", access.site or "nothing in sources.toml"
    cookies = read_cookies(access.cookies) if access.cookies else []
    where = f" of {access.cookies_file or 'a secret'}"
    if n_expired := sum(each.is_expired() for each in cookies):
        where += f", {n_expired} of them expired"
    yield "cookies", f"{len(cookies)}{where}" if cookies else "none"
    yield "proxy", _proxy_of(access, way, url)
    for name, value in (
        ("user agent", access.user_agent),
        ("headers", ", ".join(name for each in access.headers for name, _ in each.pairs)),
        ("netrc", str(access.netrc or "")),
        ("extractor arguments", ", ".join(access.extractor_arguments)),
        ("plugins", ", ".join(map(str, access.plugins))),
        ("impersonates", access.impersonate),
    ):
        if value:
            yield name, value


def _proxy_of(access: Access, way: WayToSource, url: str) -> str:
    if access.upstream is None:
        return "none"
    if not way.policy.upstream_for(*read_host(url)):
        return f"none: NO_PROXY names this host (else {access.upstream})"
    return str(access.upstream)


def _record(stream: Stream, way: WayToSource, show: Show, settings: Settings) -> tuple[int, int]:
    """Return the size of what ffmpeg records of a stream; the file is deleted at once."""
    with tempfile.TemporaryDirectory(prefix="showmood-check-") as folder:
        with Capture(
            show.url,
            directory=Path(folder),
            channel="check",
            broadcast=0,
            policy=way.policy,
            access=way.access,
            quality=show.limits,
            stream=stream,
            segment_s=1.0,
            duration_s=_RECORD_S,
            stall_s=_RECORD_S / 2,
            ffmpeg_path=settings.ffmpeg,
            min_free_bytes=0,
        ) as capture:
            ends_at = time.monotonic() + _RECORD_S
            while not capture.finished and capture.last_error is None:
                left_s = ends_at - time.monotonic()
                found = capture.get(min(_LOOK_S, max(0.0, left_s)))
                if isinstance(found, Segment):
                    return found.width_px, found.height_px
                if left_s <= 0:
                    break
        why = capture.last_error or f"no picture within {_RECORD_S:g} s"
        raise SourceUnreachable(f"{show.url}: nothing could be recorded: {why}")


def _look_into(stream: Stream, way: WayToSource, show: Show) -> tuple[int, int, tuple[Line, ...]]:
    """Return the newest segment's size, and lines on the playlist."""
    with fetcher_for(stream, way.policy, timeout_s=8.0) as fetcher:
        feed = Feed(stream, fetcher, show.limits)
        playlist = feed.load()
        if playlist.ended:
            raise NotLive(f"{stream.page_url}: the stream has ended", over=True)
        lines: list[Line] = []
        if (audio := feed.audio(show.audio_language)) is not None:
            said = audio.language or audio.name or "unnamed"
            lines.append(("audio", f"has a playlist of its own: {said}"))
        if playlist.keys:
            lines.append(("encrypted", "AES-128, which is decrypted"))
        if not playlist.entries:
            return stream.width_px, stream.height_px, (*lines, ("segments", "none yet"))
        entry = playlist.entries[-1]
        listed = f"{entry.duration_s:g} s, {len(playlist.entries)} listed"
        lines.append(("segments", f"{listed}, {'dated' if entry.date else 'without dates'}"))
        with tempfile.TemporaryDirectory(prefix="showmood-check-") as folder:
            path = Path(folder) / "segment"
            try:
                head_bytes = Pieces(fetcher).fetch(entry, path)
                extent = measure(path, fragmented=head_bytes is not None)
            except CaptureError as e:
                return stream.width_px, stream.height_px, (*lines, ("newest segment", str(e)))
    return extent.width_px, extent.height_px, tuple(lines)
