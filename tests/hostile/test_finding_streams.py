"""Hostile pages for yt-dlp: at most they end its child process."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brotli
import psutil
import pytest

from benchmarks.origin.site import SaidIE
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.segment import NoStream, NotLive, SourceUnreachable, UnsafeURL
from flows.capture.source.resolve import resolve
from flows.capture.source.ytdlp import request as source
from flows.capture.source.ytdlp.sandbox import Sandbox
from flows.capture.stream import Stream
from flows.capture.waits import Stopped

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts on Linux alone")
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
MB = 1 << 20


@pytest.fixture(scope="module")
def _small_box() -> Iterator[Sandbox]:
    box = Sandbox("flows.capture.source.ytdlp.extraction", memory_bytes=256 * MB, cpu_s=2)
    yield box
    box.close()


@pytest.fixture(autouse=True)
def small_box(_small_box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setattr(source, "SANDBOX", _small_box)
    return _small_box


def find(url: str, **options: Any) -> Stream:
    policy = AddressPolicy(allow_networks=LOOPBACK)
    return resolve(url, policy=policy, extractors=[SaidIE], **options)


def endless(head: bytes) -> Iterator[bytes]:
    yield HTML + b"\r\n<html>"
    while True:
        yield b"<p>more</p>" * 6000


def dripping(head: bytes) -> Iterator[bytes]:
    yield HTML + b"\r\n<html>"
    while True:
        time.sleep(0.05)
        yield b"<p>"


def compressed(name: bytes, body: bytes) -> bytes:
    return HTML + b"Content-Encoding: " + name + b"\r\n\r\n" + body


def zeros_in_brotli(n_mb: int) -> bytes:
    packer = brotli.Compressor(quality=1, lgwin=24)
    return b"".join(
        [
            packer.process(b"<html>"),
            *(packer.process(bytes(MB)) for _ in range(n_mb)),
            packer.finish(),
        ]
    )


def require_no_child(box: Sandbox) -> None:
    left = psutil.Process(box.pid).children(recursive=True)
    assert psutil.wait_procs(left, timeout=60)[1] == []


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        pytest.param(endless, NoStream, "more than 32 MB", id="endless"),
        pytest.param(dripping, SourceUnreachable, "not read within 2 s", id="dripping"),
        pytest.param(
            compressed(b"br", zeros_in_brotli(400)), NoStream, "memory|more than", id="brotli"
        ),
        pytest.param(
            compressed(b"gzip, gzip", gzip.compress(gzip.compress(b"<html>" + bytes(64 * MB), 1))),
            NoStream,
            "memory|more than",
            id="gzip in gzip",
        ),
        pytest.param(
            HTML + b"\r\n<html><body><video " + b"a='" * 200_000,
            (NoStream, SourceUnreachable),
            "exceeded its limits|takes more memory than allowed|no video|not read within",
            id="attributes",
        ),
    ],
)
@LINUX
def test_a_bomb_in_a_page_ends_its_child_alone(
    answer: Any, error: type[Exception], says: str, site: Callable[..., Any], small_box: Sandbox
) -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(error, match=says) as caught:
        find(site({"": answer}).url, timeout_s=0.5 if answer is dripping else 10.0)
    assert "\n" not in str(caught.value)
    assert psutil.Process().memory_info().rss - before < 24 * MB
    require_no_child(small_box)


def test_a_page_may_have_so_many_bytes_in_all(
    site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 4 * MB)
    with pytest.raises(NoStream, match="more than 4 MB of it"):
        find(site({"": endless}).url)


def said(info: Any) -> bytes:
    body = info if isinstance(info, bytes) else json.dumps(info).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


LIVE = {
    "id": "x",
    "title": "x",
    "live_status": "is_live",
    "formats": [{"url": "https://192.0.2.1/live.m3u8", "protocol": "m3u8_native", "ext": "mp4"}],
}
UPCOMING = {"id": "x", "title": "x", "live_status": "is_upcoming", "formats": []}


@pytest.fixture
def find_said(site: Callable[..., Any]) -> Callable[[Any], Stream]:
    def ask(info: Any) -> Stream:
        made = site({"": said(info)})
        networks = (*LOOPBACK, *AddressPolicy.of(["192.0.2.0/24"]).allow_networks)
        policy = AddressPolicy(allow_networks=networks)
        return resolve(f"{made.url}said/x", policy=policy, extractors=[SaidIE])

    return ask


@pytest.mark.parametrize(
    "title",
    [
        pytest.param("\x1b]0;owned\x07\x1b[2Jgone", id="escape"),
        pytest.param("a\nERROR forged line\r\n", id="lines"),
        pytest.param("a\x00b", id="NUL"),
        pytest.param("a\ud800b", id="surrogate"),
        pytest.param("\u202egpj.exe\u2066", id="bidi"),
        pytest.param(
            "<img src=x> <!channel> [x](javascript:x) ![](https://a.example)", id="markup"
        ),
        pytest.param("x" * 100_000, id="long"),
    ],
)
def test_a_title_is_one_line_that_all_can_show(title: str, find_said: Any) -> None:
    shown = find_said(LIVE | {"title": title}).title
    assert shown.isprintable()
    assert 0 < len(shown) <= 500
    assert not {"<", "](", "\n"} & {shown[i : i + n] for i in range(len(shown)) for n in (1, 2)}
    shown.encode()


@pytest.mark.parametrize("when", [253402300799, 1e300, float("inf"), float("nan"), -1, "x", [1]])
def test_a_start_that_can_not_be_is_none(when: Any, find_said: Any) -> None:
    with pytest.raises(NotLive, match="has not begun") as caught:
        find_said(UPCOMING | {"release_timestamp": when})
    assert caught.value.starts_at is None


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(b"[" * 100_000, id="deep JSON"),
        pytest.param(b'{"id": 1' + b"0" * 100_000 + b"}", id="long number"),
        pytest.param([], id="list"),
        pytest.param({"_type": "url", "url": "file:///etc/passwd"}, id="file"),
        pytest.param({"_type": "url", "url": "http://169.254.169.254/"}, id="inward"),
        pytest.param(LIVE | {"formats": [{"url": "https://a\ud800.example/"}]}, id="surrogate"),
        pytest.param(LIVE | {"formats": [{"url": f"https://{'a' * 70}.example/"}]}, id="IDNA"),
        pytest.param(
            {"_type": "url", "url": "http://127.0.0.1/#__youtubedl_smuggle=%5B"}, id="smuggled"
        ),
    ],
)
def test_what_a_site_says_in_place_of_a_stream_is_one_line(info: Any, find_said: Any) -> None:
    with pytest.raises((NoStream, UnsafeURL, SourceUnreachable)) as caught:
        find_said(info)
    assert str(caught.value).isprintable()


def test_headers_that_are_none_are_left_out(find_said: Any) -> None:
    headers = {"Good": "1", "Bad": "a\r\nX: 1", "Bad name": "1", "Long": "x" * 10_000}
    headers |= {f"N{i}": "x" for i in range(1000)}
    stream = find_said(LIVE | {"http_headers": headers})
    names = dict(stream.headers)
    assert not {"Bad", "Bad name", "Long"} & set(names)
    assert len(names) <= 50


def test_orders_for_yt_dlp_in_a_url_are_refused() -> None:
    with pytest.raises(UnsafeURL, match="remove the part"):
        find("http://127.0.0.1:9/#__youtubedl_smuggle=%7B%7D")


def test_a_stop_ends_it_and_its_child_at_once(site: Callable[..., Any], small_box: Sandbox) -> None:
    stopping = threading.Event()

    def answer(head: bytes) -> Iterator[bytes]:
        stopping.set()
        yield from dripping(head)

    with pytest.raises(Stopped):
        find(site({"": answer}).url, timeout_s=60, stopping=stopping)
    require_no_child(small_box)


WATCHER = """
import sys
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.source.resolve import resolve
print("begin", flush=True)
resolve(sys.stdin.readline().strip(), policy=AddressPolicy(allow_networks=LOOPBACK))
"""


def test_it_ends_with_its_watcher_and_does_not_disclose_the_url(site: Callable[..., Any]) -> None:
    asked = threading.Event()

    def answer(head: bytes) -> Iterator[bytes]:
        asked.set()
        yield from dripping(head)

    made = site({"": answer})
    environment = os.environ | {"SHOWMOOD_DATABASE_URL": "postgresql://u:hidden@127.0.0.1/x"}
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    assert watcher.stdin is not None
    watcher.stdin.write(f"{made.url}?token=hidden\n")
    watcher.stdin.close()
    assert asked.wait(60)
    family = psutil.Process(watcher.pid).children(recursive=True)
    assert len(family) == 2
    for each in family:
        assert "hidden" not in " ".join(each.cmdline())
        assert "hidden" not in Path(f"/proc/{each.pid}/environ").read_text(errors="replace")
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    assert psutil.wait_procs(family, timeout=60)[1] == []
