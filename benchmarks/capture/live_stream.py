"""A live stream for measurements, without yt-dlp's delay of a second."""

from flows.capture.stream import Stream


def live_stream(page_url: str, url: str) -> Stream:
    """Return a live HLS stream, like yt-dlp for a page."""
    return Stream(
        page_url=page_url,
        url=url,
        protocol="hls",
        live=True,
        live_status="is_live",
        source_id="live",
        title="live",
    )
