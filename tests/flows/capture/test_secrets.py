"""Signatures of requests are never disclosed by errors and logs of real failures."""

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flows.capture import processes as process
from flows.capture.net.address import AddressPolicy
from flows.capture.segment import CaptureError, Gap, Segment
from flows.capture.source.resolve import resolve
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.server import HttpServer, Reply

TOKEN = "?token=SECRET&expires=99"
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
TS = "application/x-mpegurl"


class Signed:
    """Serves an origin's show with signed addresses, some of them broken."""

    def __init__(self, origin: LiveOrigin) -> None:
        self.origin = origin
        self.broken: dict[str, Reply] = {}
        self.refused: list[str] = []
        self.server = HttpServer(self.reply, host="127.0.0.1", port=0, log=lambda request: None)
        self.server.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def stream(self) -> Stream:
        return Stream(
            page_url=f"{self.base}/live.m3u8{TOKEN}",
            url=f"{self.base}/live.m3u8{TOKEN}",
            protocol="hls",
            live=True,
            live_status="is_live",
            source_id="live",
            title="live",
            headers=(("Cookie", "SECRET"), ("Authorization", "SECRET")),
        )

    def reply(self, path: str) -> Reply:
        kind = "playlist" if path.endswith(".m3u8") else "segment"
        if kind in self.broken:
            self.refused.append(path)
            return self.broken[kind]
        reply = self.origin._reply(path)
        if kind == "segment":
            return reply
        lines = reply.body.decode().splitlines()
        signed = [x if x.startswith("#") else f"{self.base}/{x}{TOKEN}" for x in lines]
        return Reply(body="\n".join(signed).encode(), content_type=TS)


@pytest.fixture
def signed(make_origin: Callable[..., LiveOrigin]) -> Iterator[Signed]:
    made = Signed(make_origin())
    yield made
    made.server.stop()


@pytest.fixture(autouse=True)
def _all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def told(error: BaseException | None) -> str:
    """The text of an error in a log, with its causes."""
    return "" if error is None else "".join(traceback.format_exception(error))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def command_lines() -> str:
    """Command lines of this process's descendants, visible to all users."""
    said = ""
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended
            said += " ".join(each.cmdline())
    return said


def told_and_enclosed() -> tuple[str, set[str]]:
    """The secret of our proxy as passed to ffmpeg, and both network namespaces."""
    [tool] = [
        each
        for each in psutil.Process().children(recursive=True)
        if each.ppid() != os.getpid() and "@" in each.environ().get("http_proxy", "")
    ]
    links = {str(Path(f"/proc/{pid}/ns/net").readlink()) for pid in (os.getpid(), tool.pid)}
    return tool.environ()["http_proxy"].partition("//")[2].partition("@")[0], links


FAILURES = {
    "playlist 403": {"playlist": Reply(status=403)},
    "playlist that is none": {"playlist": Reply(body=b"<html>")},
    "playlist that is broken": {
        "playlist": Reply(body=f"{HEAD}#EXTINF:1,\n//u:SECRET@[x/{TOKEN}\n".encode())
    },
    "playlist that moved inwards": {
        "playlist": Reply(status=302, location=f"http://u:SECRET@10.0.0.1/{TOKEN}")
    },
    "playlist that moves for ever": {"playlist": Reply(status=302, location=f"/a.m3u8{TOKEN}")},
    "playlist that leads inwards": {
        "playlist": Reply(body=f"{HEAD}#EXTINF:1,\nhttp://10.0.0.1/a{TOKEN}\n".encode())
    },
    "playlist with a user": {
        "playlist": Reply(body=f"{HEAD}#EXTINF:1,\nhttp://u:SECRET@a.example/a\n".encode())
    },
    "key that is none": {
        "playlist": Reply(
            body=f'{HEAD}#EXT-X-KEY:METHOD=AES-128,URI="k{TOKEN}"\n#EXTINF:1,\na{TOKEN}\n'.encode()
        ),
        "segment": Reply(body=b"short"),
    },
    "segment 500": {"segment": Reply(status=500)},
    "segment that is no media": {"segment": Reply(body=b"<html>" * 100)},
    "segment that breaks off": {"segment": Reply(body=b"x" * 1000, keep_bytes=100)},
    "segment that moved inwards": {
        "segment": Reply(status=302, location=f"http://10.0.0.1/{TOKEN}")
    },
    "connections reset": {"segment": Reply(reset=True), "playlist": Reply(reset=True)},
}


@pytest.mark.parametrize("broken", [pytest.param(v, id=k) for k, v in FAILURES.items()])
@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
def test_no_error_discloses_a_signature(
    engine: str,
    broken: dict[str, Reply],
    signed: Signed,
    policy: AddressPolicy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    signed.broken, gaps = broken, ""
    capture = Capture(
        signed.stream.page_url,
        directory=tmp_path,
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=signed.stream,
        segment_s=0.5,
        stall_s=1.0,
        duration_s=0.5,
        engine=engine,
    )
    with capture:
        while not (capture.finished or warnings(caplog)):
            event = capture.get(0.02)
            assert not isinstance(event, Segment)
            gaps += event.why if event else ""
        said = capture.state + gaps
    said += told(capture.failure) + told(capture.last_error) + caplog.text
    said += "".join(path.read_text() for path in tmp_path.rglob("*.*") if path.suffix != ".ts")
    assert warnings(caplog) or capture.failure
    assert "SECRET" not in said


@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
def test_gaps_files_and_command_lines_have_no_signature(
    engine: str,
    signed: Signed,
    policy: AddressPolicy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    capture = Capture(
        signed.stream.page_url,
        directory=tmp_path,
        channel="demo",
        broadcast=1,
        policy=policy,
        stream=signed.stream,
        segment_s=0.5,
        engine=engine,
    )
    with capture:
        assert capture.get(60.0) is not None, capture.last_error
        seen = command_lines()
        if engine == "ffmpeg":
            known_to, namespaces = told_and_enclosed()
            assert known_to not in seen
            assert len(namespaces) == (2 if process.can_isolate else 1)
        signed.broken = {"segment": Reply(status=500)}
        signed.origin.list_only(2)
        # More than are listed at once: some are missed.
        while len(set(signed.refused)) < 4:
            capture.get(0.05)
        signed.broken = {}
        gaps: list[Gap] = []
        while not gaps:
            gaps += [event for event in [capture.get(60.0)] if isinstance(event, Gap)]
    assert ("HTTP status 500" if engine == "hls" else "Failed to open segment") in gaps[0].why
    assert ("stream.test/0.m3u8" in seen) is (engine == "ffmpeg")
    assert "SECRET" not in seen + "".join(gap.why for gap in gaps) + caplog.text
    written = [path.read_text() for path in tmp_path.rglob("*.*") if path.suffix != ".ts"]
    assert "SECRET" not in "".join(written)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(Reply(status=404), id="404"),
        pytest.param(Reply(status=403), id="403"),
        pytest.param(Reply(body=b"<html>", content_type="text/html"), id="no video"),
        pytest.param(Reply(body=b"<html>", content_type="video/mp4"), id="video of nothing"),
        pytest.param(Reply(reset=True), id="reset"),
        pytest.param(Reply(status=302, location=f"http://10.0.0.1/{TOKEN}"), id="inwards"),
        pytest.param(Reply(status=302, location=f"/again{TOKEN}"), id="for ever"),
        pytest.param(
            Reply(body=f"{HEAD}#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n".encode(), content_type=TS),
            id="over",
        ),
    ],
)
def test_no_error_of_a_page_discloses_a_signature(
    page: Reply, policy: AddressPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    server = HttpServer(lambda path: page, host="127.0.0.1", port=0, log=lambda request: None)
    server.start()
    try:
        with pytest.raises(CaptureError) as caught:
            resolve(f"http://127.0.0.1:{server.port}/show/live{TOKEN}", policy=policy)
    finally:
        server.stop()
    assert "SECRET" not in told(caught.value) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:SECRET@a.example/{TOKEN}",
        f"http://user:SE#SECRET@a.example/{TOKEN}",
        f"http://[user:SECRET@a.example/{TOKEN}",
        f"ftp://user:SECRET@a.example/{TOKEN}",
        f"http://127.0.0.1:1/{TOKEN}",
        f"http://nowhere.invalid/{TOKEN}",
        f"http://10.0.0.1/{TOKEN}",
        f"http://a.example/{TOKEN} ",
        "user:SECRET@a.example",
    ],
)
def test_no_refused_address_is_disclosed(
    url: str, policy: AddressPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CaptureError) as caught:
        resolve(url, policy=policy)
    assert "SECRET" not in told(caught.value) + caplog.text
