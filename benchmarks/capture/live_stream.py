"""A live stream as measurements give it to a capture, without the second that yt-dlp takes."""

from flows.capture.stream import Stream


def live_stream(page_url: str, url: str) -> Stream:
    """Return a live HLS stream, as yt-dlp finds one behind a page."""
    return Stream(
        page_url=page_url,
        url=url,
        protocol="hls",
        live=True,
        live_status="is_live",
        source_id="live",
        title="live",
    )
