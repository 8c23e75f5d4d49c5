"""Reports what would be recorded of a URL, and with which settings, without recording."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.capture.hls.feed import Feed
from flows.capture.hls.pieces import Pieces
from flows.capture.net.cookies import read_cookies
from flows.capture.net.for_stream import fetcher_for
from flows.capture.recorded.media import measure
from flows.capture.segment import CaptureError, NotLive
from flows.capture.source.operator.access import Access
from flows.capture.source.operator.sources_values import SecretOf, no_secrets
from flows.capture.stream import Stream
from flows.live.way_to_source import WayToSource
from flows.settings import Settings
from flows.show import Show

Line = tuple[str, str]


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
    yield from _settings_of(access)
    stream = way.find(show, extractors)
    yield "title", stream.title or "(none)"
    yield "protocol", {"hls": "HLS", "http": "an endless file"}.get(stream.protocol, "other")
    yield "live", {True: "yes", False: "no", None: "unknown"}[stream.live]
    width, height = stream.width_px, stream.height_px
    more: tuple[Line, ...] = ()
    if stream.protocol == "hls":
        width, height, more = _look_into(stream, way, show)
    yield "size", f"{width}x{height}" if width and height else "unknown"
    yield "frame rate", f"{stream.fps:g}" if stream.fps else "unknown"
    yield "codecs", stream.codecs or "unknown"
    yield from more
    if stream.expires_at is not None:
        yield "URL expires", f"{stream.expires_at:%Y-%m-%d %H:%M} UTC"


def _settings_of(access: Access) -> Iterator[Line]:
    yield "set for", access.site or "nothing in sources.toml"
    n_cookies = len(read_cookies(access.cookies)) if access.cookies else 0
    where = f" of {access.cookies_file}" if access.cookies_file else " of a secret"
    yield "cookies", f"{n_cookies}{where}" if n_cookies else "none"
    yield "proxy", str(access.upstream) if access.upstream else "none"
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
