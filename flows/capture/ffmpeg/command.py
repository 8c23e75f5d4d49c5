"""Builds ffmpeg's command line: a stream in, a rolling HLS recording of MPEG-TS segments out.

For each kind of stream, only the protocols and containers that it needs are allowed, so that a
stream can't make ffmpeg open anything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import ffmpeg

from flows.capture.stream import Stream

# Segments are cut at the first keyframe after this share of the wanted length: else keyframes that
# come slightly early would be skipped, and segments be twice as long.
_CUT_EARLY: Final = 0.9

_RELAY_WAITS_US: Final = 40_000_000
"""Longer than our proxy takes to answer with a segment or an error."""

_SERVER_WAITS_US: Final = 6_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """protocols, formats: ffmpeg's allow lists. options: further ones of the input."""

    protocols: str
    formats: str
    options: tuple[tuple[str, str | int], ...] = ()


_HTTP: Final = "http,tcp"
"""Only through our proxy (`http_proxy`), which knows the names: no TLS, no tunnel."""

_WAIT_FOR_RELAY: Final = ("rw_timeout", _RELAY_WAITS_US)
_PLAYLIST: Final = _Kind(
    protocols=_HTTP,
    formats="hls,mpegts,mov",
    options=(
        ("format", "hls"),
        _WAIT_FOR_RELAY,
        ("max_reload", 1000),
        # The proxy lists only segments that are to be recorded.
        ("live_start_index", 0),
        # The proxy takes one request a connection.
        ("http_persistent", 0),
        ("m3u8_hold_counters", 30),
        # File name extensions prove nothing: the allow lists above protect.
        ("extension_picky", 0),
        ("allowed_segment_extensions", "ALL"),
    ),
)
_MANIFEST: Final = _Kind(
    protocols=_HTTP,
    formats="dash,mov,matroska",
    options=(("format", "dash"), _WAIT_FOR_RELAY),
)
_ENDLESS: Final = _Kind(
    protocols=_HTTP,
    formats="mpegts,flv,live_flv,matroska,mov,ogg,mpeg,mpjpeg",
    options=(("rw_timeout", _SERVER_WAITS_US),),
)
_RTMP: Final = _Kind(
    protocols="rtmp,tcp", formats="flv,live_flv", options=(("rw_timeout", _SERVER_WAITS_US),)
)
_RTSP: Final = _Kind(
    protocols="tcp",
    formats="rtsp,mpegts",
    options=(("format", "rtsp"), ("rtsp_transport", "tcp"), ("timeout", _SERVER_WAITS_US)),
)
_SRT: Final = _Kind(protocols="srt", formats="mpegts")


def _kind_of(stream: Stream) -> _Kind:
    scheme = urlsplit(stream.url).scheme
    if scheme in ("http", "https"):
        return {"hls": _PLAYLIST, "other": _MANIFEST, "http": _ENDLESS}[stream.protocol]
    return {"rtmp": _RTMP, "rtmps": _RTMP, "rtsp": _RTSP, "rtsps": _RTSP, "srt": _SRT}[scheme]


def build_arguments(
    stream: Stream,
    url: str,
    *,
    ffmpeg_path: str,
    directory: Path,
    run: str,
    segment_s: float,
    more: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the command line of a run.

    url: of the stream on loopback: ffmpeg logs it, so it holds no secret. more: options of the
    input.
    """
    kind = _kind_of(stream)
    options: dict[str, Any] = {
        "protocol_whitelist": kind.protocols,
        "format_whitelist": kind.formats,
        **dict(kind.options),
        **(more or {}),
    }
    # Without -map, ffmpeg takes video and audio as a player would: the default, then the largest,
    # and no cover picture.
    source = ffmpeg.input(url, **options)
    pattern = str(directory).replace("%", "%%") + f"/{run}-%06d.ts"
    output = ffmpeg.output(
        source,
        str(directory / f"{run}.m3u8"),
        codec="copy",
        sn=None,
        dn=None,
        # Titles and names of the source are not kept.
        map_metadata=-1,
        # Audio that fails must not delay the video (microseconds).
        max_interleave_delta=500_000,
        format="hls",
        hls_time=round(segment_s * _CUT_EARLY, 3),
        hls_list_size=30,
        hls_flags="temp_file+independent_segments+omit_endlist+program_date_time",
        hls_segment_type="mpegts",
        hls_segment_filename=pattern,
    ).global_args("-nostdin", "-hide_banner", "-nostats", "-loglevel", "info")
    arguments: list[str] = output.compile(cmd=ffmpeg_path, overwrite_output=True)
    return arguments
