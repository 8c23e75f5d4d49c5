"""When a server wants to be asked again (RFC 9110, 10.2.3)."""

from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx


def retry_after_s(response: httpx.Response) -> float | None:
    """Return in how many seconds to ask again; None where it is not said."""
    return seconds_said(response.headers.get("retry-after", ""))


def seconds_said(header: str) -> float | None:
    """Return in how many seconds to ask again by that header's text; None where it is none."""
    said = header.strip()[:40]
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        at = parsedate_to_datetime(said)
        return max(0.0, (at - datetime.now(at.tzinfo)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
