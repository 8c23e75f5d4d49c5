"""Parsing of Retry-After."""

import httpx
import pytest

from flows.capture.net.retry_after import retry_after_s


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("²", None),  # a digit to str.isdigit, and no number
        ("٢", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
    ],
)
def test_valid_and_invalid_retry_after(said: str, wanted: float | None) -> None:
    headers = [(b"retry-after", said.encode())]
    assert retry_after_s(httpx.Response(503, headers=headers)) == wanted
