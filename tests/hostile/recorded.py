"""Functions that tests of recording call in the box: one run of ffmpeg, and its end."""

import tempfile
from pathlib import Path

from asked import policy_for

from flows.capture import processes as process
from flows.capture.net.address import AddressPolicy
from flows.capture.segment import Segment
from flows.capture.stream import Stream
from flows.capture.supervisor import recorder
from flows.capture.supervisor.capture import Capture

_WITHIN_S = 50.0
"""Timeout in seconds, for busy machines."""


def hls(url: str, starts: int = 1) -> str:
    """Record a playlist; starts: runs of ffmpeg until it is given up."""
    return _record(url + "live.m3u8", "hls", policy_for(url), starts)


def hls_on(url: str, starts: int = 1) -> str:
    """Record a playlist, and go on after the first segment."""
    return _record(url + "live.m3u8", "hls", policy_for(url), starts, first=1)


def dash(url: str, starts: int = 1) -> str:
    """Record a manifest."""
    return _record(url + "live.mpd", "other", policy_for(url), starts)


def endless(url: str, starts: int = 1) -> str:
    """Record an endless file, in any container."""
    return _record(url + "live", "http", policy_for(url), starts)


def server(url: str, address: str, named: str = "") -> str:
    """Record a stream of another protocol than HTTP, from a server that is allowed or not."""
    return _record(address, "other", AddressPolicy.of(filter(None, [named])))


def _record(
    url: str, protocol: str, policy: AddressPolicy, starts: int = 1, *, first: int = 0
) -> str:
    process.can_isolate = False  # The first protection must suffice.
    recorder._FALSE_STARTS = starts
    stream = Stream(
        page_url=url,
        url=url,
        protocol=protocol,  # type: ignore[arg-type]
        live=True,
        live_status="is_live",
        source_id="live",
        title="live",
    )
    with tempfile.TemporaryDirectory() as folder:
        capture = Capture(
            url,
            directory=Path(folder) / "rec",
            channel="demo",
            broadcast=1,
            policy=policy,
            stream=stream,
            segment_s=0.5,
            stall_s=_WITHIN_S,
            engine="ffmpeg",
        )
        with capture:
            event = capture.get(_WITHIN_S)
            for _ in range(first):
                if isinstance(event, Segment):
                    event = capture.get(_WITHIN_S)
        if isinstance(event, Segment):
            return f"a segment of {event.width_px}x{event.height_px}"
        failure = capture.failure or capture.last_error
        return f"{type(failure).__name__}: {failure}"
