import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.capture.segment import NotLive, NotWatchable
from flows.capture.source.waiting import MIN_PAUSE_S, Waiting, wait_for_show
from flows.demo.server import HttpServer, Reply
from flows.live.way_to_source import WayToSource
from flows.settings import Settings
from flows.show import make_show

EMPTY = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
KEY = b'#EXT-X-KEY:METHOD=SAMPLE-AES,URI="key"\n'
SEGMENT = b"#EXTINF:2,\n0.ts\n"


@pytest.fixture
def said() -> Iterator[list[bytes]]:
    """The answers of a playlist; the last one stays."""
    bodies: list[bytes] = []
    server = HttpServer(
        lambda _: Reply(body=bodies[0], content_type="application/vnd.apple.mpegurl"),
        host="127.0.0.1",
        port=0,
        log=lambda _: None,
    )
    server.start()
    bodies.append(f"http://127.0.0.1:{server.port}/live.m3u8".encode())
    yield bodies
    server.stop()


def test_an_empty_playlist_is_waited_for_but_not_an_encrypted_one(
    said: list[bytes], tmp_path: Path
) -> None:
    show = make_show(url=said.pop().decode(), give_up_after="1m")
    settings = Settings(home=tmp_path, allow_networks="127.0.0.0/8", _env_file=None)
    way = WayToSource.of(settings, show.url)
    said.append(EMPTY)
    told: list[Waiting] = []
    looks = iter([EMPTY] * 20 + [EMPTY + SEGMENT])

    def pause(seconds: float) -> None:
        assert seconds <= MIN_PAUSE_S
        said[0] = next(looks)

    began = time.monotonic()
    stream = wait_for_show(
        show.url,
        lambda: way.find(show),
        give_up_after=show.max_wait,
        on_waiting=told.append,
        pause=pause,
    )
    assert stream.url == show.url
    assert began < stream.off_air_at < time.monotonic()
    assert "its playlist is empty" in told[0].why
    said[0] = EMPTY + KEY + SEGMENT
    with pytest.raises(NotWatchable, match="encrypted by SAMPLE-AES"):
        way.find(show)
    said[0] = EMPTY
    with pytest.raises(NotLive, match="has not begun"):
        way.find(show)
