"""Tests of the stand itself: it detects violations."""

import socket
from collections.abc import Callable
from typing import Any

import pytest


def test_a_canary_hears_connections_and_datagrams(canary: Any) -> None:
    assert canary.heard() == 0
    socket.create_connection(("127.0.0.1", canary.port)).close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"x", ("127.0.0.1", canary.port))
    assert canary.heard() == 2
    assert canary.heard() == 0


def test_exceeded_limits_are_reported(box: Any) -> None:
    assert box.ask("builtins:bytearray", 64 * 1024 * 1024, grow_mb=16).said == "MemoryError"
    taken = box.ask("asked:take_mb", 100)
    assert 70 < taken.grew_mb < 130


def test_what_does_not_end_is_ended(box: Any) -> None:
    assert box.ask("signal:pause", within_s=0.3).said == "no end"


REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://CANARY/\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("asks", ["playlist", "page", "segment", "key"])
def test_a_redirect_inwards_is_refused(asks: str, stand: Callable[..., Any]) -> None:
    stand(REDIRECT, asks, "UnsafeURL: 127.0.0.1: 127.0.0.1 is an internal address", most_mb=8)
