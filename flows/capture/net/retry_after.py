"""The Retry-After header (RFC 9110, 10.2.3)."""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx


def retry_after_s(response: httpx.Response) -> float | None:
    """Return a response's Retry-After in seconds; None without a valid one."""
    return parse_retry_after(response.headers.get("retry-after", ""))


def parse_retry_after(header: str) -> float | None:
    """Return the header's value in seconds from now; None if it is malformed."""
    text = header.strip()[:40]
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
        return max(0.0, (at - datetime.now(at.tzinfo)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
