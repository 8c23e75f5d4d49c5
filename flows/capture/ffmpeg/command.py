"""The command line of ffmpeg: a stream in, a rolling HLS recording of MPEG-TS segments out.

ffmpeg opens what it is given here, and what it is given opens nothing else: each kind of stream has
the protocols that it is carried by and the containers that it comes in, and no others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import ffmpeg

from flows.capture.stream import Stream

# Segments are cut at the first keyframe after this share of the wanted length, so that a source
# whose keyframes come a little early is not cut at every second one only.
_CUT_EARLY: Final = 0.9

_RELAY_WAITS_US: Final = 40_000_000
"""Longer than our proxy takes to give a segment, or to say that it can't."""

_SERVER_WAITS_US: Final = 6_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """protocols, formats: what may be opened, and read. options: more that is said before -i."""

    protocols: str
    formats: str
    options: tuple[tuple[str, str | int], ...] = ()


_HTTP: Final = "http,tcp"
"""All of it by way of our proxy (`http_proxy`), at names that it knows: no TLS, no tunnel."""

_WAIT_FOR_RELAY: Final = ("rw_timeout", _RELAY_WAITS_US)
_PLAYLIST: Final = _Kind(
    protocols=_HTTP,
    formats="hls,mpegts,mov",
    options=(
        ("format", "hls"),
        _WAIT_FOR_RELAY,
        ("max_reload", 1000),
        # The proxy lists what is to be recorded, and nothing before.
        ("live_start_index", 0),
        # The proxy takes one request a connection.
        ("http_persistent", 0),
        ("m3u8_hold_counters", 30),
        # Names say little about what servers send; what may be opened and read is what protects.
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
) -> list[str]:
    """Return the command line of a run.

    url: what stands for the stream on loopback, so that this line, which everybody may see, holds
    no secret of HTTP.
    """
    kind = _kind_of(stream)
    options: dict[str, Any] = {
        "protocol_whitelist": kind.protocols,
        "format_whitelist": kind.formats,
        **dict(kind.options),
    }
    # With no stream named, ffmpeg takes the picture and the sound that a player would: the default,
    # then the largest, and no cover.
    source = ffmpeg.input(url, **options)
    pattern = str(directory).replace("%", "%%") + f"/{run}-%06d.ts"
    output = ffmpeg.output(
        source,
        str(directory / f"{run}.m3u8"),
        codec="copy",
        sn=None,
        dn=None,
        # Titles and names are the source's own words, and none that we keep.
        map_metadata=-1,
        # Sound that fails must not hold the picture back (microseconds).
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
