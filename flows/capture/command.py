"""The command line of ffmpeg: a stream in, a rolling HLS recording of MPEG-TS segments out."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import ffmpeg

from flows.capture.headers import Headers
from flows.capture.source import Stream

# Segments are cut at the first keyframe after this share of the wanted length, so that a source
# whose keyframes come a little early is not cut at every second one only.
_CUT_EARLY: Final = 0.9

_HTTP: Final = "http,https,httpproxy,tcp,tls,crypto"
_RTSP: Final = "rtsp,rtsps,rtp,udp,tcp,tls"
_PROTOCOLS: Final = {
    "http": _HTTP,
    "https": _HTTP,
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "srt": "srt",
}
"""What a stream may open: what it is carried by, and no stream leads to another kind."""


def build_arguments(
    stream: Stream,
    url: str,
    *,
    ffmpeg_path: str,
    directory: Path,
    run: str,
    segment_s: float,
    start_index: int = -1,
    proxy: str | None = None,
) -> list[str]:
    """Return the command line of a run.

    url: what to open: the stream's own address, or what stands for it, so that this line, which
    everybody may see, holds no secret. Headers that tell nothing go along with the first.
    start_index: the source's segment to begin with, counted from the end of an HLS playlist (-1 is
    the newest). proxy: what all requests of HTTP go through. Only network protocols are open to
    the input, whatever the playlist says.
    """
    options: dict[str, Any] = {
        "rw_timeout": 6_000_000,  # microseconds
        "protocol_whitelist": _PROTOCOLS[urlsplit(stream.url).scheme],
    }
    if url == stream.url and url.startswith("http"):
        # They go to every server that ffmpeg is led to.
        harmless = Headers(stream.headers).of(url)
        if harmless:
            options["headers"] = "".join(f"{k}: {v}\r\n" for k, v in harmless.items())
    if proxy is not None:
        options["http_proxy"] = proxy
    if stream.protocol == "hls":
        options |= {
            "format": "hls",
            "max_reload": 1000,
            # The proxy takes one request a connection.
            "http_persistent": 0,
            "m3u8_hold_counters": 30,
            "live_start_index": start_index,
            # Names say little about what servers send; the whitelist above is what protects.
            "extension_picky": 0,
            "allowed_segment_extensions": "ALL",
        }
    if stream.url.startswith(("rtsp", "srt")):
        del options["rw_timeout"]
    source = ffmpeg.input(url, **options)
    pattern = str(directory).replace("%", "%%") + f"/{run}-%06d.ts"
    output = ffmpeg.output(
        source["v:0"],
        source["a:0?"],
        str(directory / f"{run}.m3u8"),
        codec="copy",
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
