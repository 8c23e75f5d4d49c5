"""Whatever a capture waits for, it ends when it is told to stop."""

import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flows.capture import processes as process
from flows.capture.ffmpeg.inputs import open_input
from flows.capture.net import fetch
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.proxy.guard import Guard
from flows.capture.segment import Segment
from flows.capture.source.resolve import resolve
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.capture.waits import Stopped, WaitLimit, background_thread
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault

LONG_S = 600.0
"""What is not interrupted waits so long, and the test fails."""

PATIENCE_S = 60.0


@pytest.fixture
def mute() -> Iterator[tuple[int, threading.Event]]:
    """The port of a server that takes connections and what they send, and says nothing.

    The event is set once something has come.
    """
    came, taken = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                    if taken[-1].recv(1):
                        came.set()
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield listener.getsockname()[1], came
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)
    for each in taken:
        each.close()


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a server whose queue is full: connections are neither taken nor refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        queued = [socket.socket() for _ in range(3)]
        for each in queued:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for each in queued:
            each.close()


def ends_when_stopped(wait: Callable[[], object], begun: Callable[[], object], end: Callable):
    """Run what waits, end it from here, and return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            wait()
        except (Exception, Stopped) as e:  # noqa: BLE001
            raised.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun()
    end()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    return raised[0] if raised else None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_fetch_that_waits_for_an_answer_ends(mute, policy: AddressPolicy, scheme: str) -> None:
    port, came = mute
    stopping = threading.Event()
    with Fetcher(policy, timeout_s=LONG_S, stopping=stopping) as fetcher:
        ask = partial(fetcher.get, f"{scheme}://127.0.0.1:{port}/", max_bytes=10)
        wait = partial(came.wait, PATIENCE_S)
        assert isinstance(ends_when_stopped(ask, wait, stopping.set), Stopped)


def test_a_fetch_that_waits_for_a_connection_ends(full: int, policy: AddressPolicy) -> None:
    stopping = threading.Event()
    with Fetcher(policy, timeout_s=LONG_S, stopping=stopping) as fetcher:
        ask = partial(fetcher.get, f"http://127.0.0.1:{full}/", max_bytes=10)
        assert isinstance(ends_when_stopped(ask, lambda: True, stopping.set), Stopped)


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Name servers that answer at the end of the test; set once they were asked."""
    asked, answer = threading.Event(), threading.Event()

    def look_up(*args: object, **options: object) -> list[object]:
        asked.set()
        answer.wait(LONG_S)
        return []

    before = set(threading.enumerate())
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    answer.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)


def test_a_fetch_that_waits_for_a_name_ends(
    slow_names: threading.Event, policy: AddressPolicy
) -> None:
    stopping = threading.Event()
    wait = partial(slow_names.wait, PATIENCE_S)
    with Fetcher(policy, timeout_s=LONG_S, stopping=stopping) as fetcher:
        ask = partial(fetcher.get, "http://slow.example/", max_bytes=10)
        assert isinstance(ends_when_stopped(ask, wait, stopping.set), Stopped)


@pytest.mark.parametrize("scheme", ["srt", "rtsp", "rtmp"])
def test_the_way_of_ffmpeg_to_a_server_whose_name_is_looked_up_ends(
    slow_names: threading.Event, policy: AddressPolicy, scheme: str
) -> None:
    stopping = threading.Event()
    url = f"{scheme}://slow.example:9/live"
    stream = Stream(
        page_url=url,
        url=url,
        protocol="other",
        live=True,
        live_status="is_live",
        source_id="live",
        title="live",
    )
    look = partial(open_input, stream, policy, wait_limit=WaitLimit(stopping))
    wait = partial(slow_names.wait, PATIENCE_S)
    assert isinstance(ends_when_stopped(look, wait, stopping.set), Stopped)


def test_finding_the_stream_of_a_page_that_does_not_answer_ends(
    mute, policy: AddressPolicy
) -> None:
    port, came = mute
    stopping = threading.Event()
    page = f"http://127.0.0.1:{port}/show"
    look = partial(resolve, page, policy=policy, timeout_s=LONG_S, stopping=stopping)
    wait = partial(came.wait, PATIENCE_S)
    assert isinstance(ends_when_stopped(look, wait, stopping.set), Stopped)


@pytest.mark.parametrize("port_of", ["mute", "full"])
def test_a_proxy_whose_connections_wait_closes(
    request: pytest.FixtureRequest, policy: AddressPolicy, port_of: str
) -> None:
    port = request.getfixturevalue(port_of)
    port = port if isinstance(port, int) else port[0]
    guard = Guard(policy).open()
    where = urlsplit(guard.url)
    with socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S) as client:
        known = b64encode(where.netloc.rpartition("@")[0].encode()).decode()
        head = (
            f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nProxy-Authorization: Basic {known}\r\n\r\n"
        )
        client.sendall(head.encode())
        guard.close()
        # Nothing interrupts a look-up of a name, which ends by itself.
        names = {t.name for t in threading.enumerate() if t.name.startswith("capture-")}
        assert names <= {"capture-name"}


def test_work_that_ends_before_it_is_told_to_stop_gives_its_result() -> None:
    assert WaitLimit().run(lambda: 3, name="three") == 3
    with pytest.raises(ValueError, match="none"):
        WaitLimit().run(partial(int, "none"), name="none")
    wait_limit = WaitLimit()
    wait_limit.ends_at = 0.0
    with pytest.raises(TimeoutError):
        wait_limit.step_s(LONG_S)


@pytest.mark.parametrize("engine", ["hls", "ffmpeg"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(on="segment", over_s=LONG_S), id="drips"),
        pytest.param(Fault(on="segment", keep_bytes=20_000, stall=True), id="stalls"),
        pytest.param(Fault(on="playlist", stall=True), id="playlist"),
    ],
)
def test_a_capture_of_a_source_that_holds_it_up_ends_with_what_came(
    fault: Fault,
    engine: str,
    origin: LiveOrigin,
    stream_of: Callable[[LiveOrigin], Stream],
    policy: AddressPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., object],
) -> None:
    monkeypatch.setattr(fetch, "MAX_SECONDS", LONG_S)
    monkeypatch.setattr(process, "SECOND_TERM_S", LONG_S)
    monkeypatch.setattr(process, "GRACE_S", LONG_S)
    with Capture(
        origin.url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=policy,
        segment_s=0.5,
        stream=stream_of(origin),
        stall_s=LONG_S,
        engine=engine,
    ) as capture:
        assert isinstance(capture.get(PATIENCE_S), Segment)
        asked = len(origin.requests)
        origin.inject(fault)
        kind = "live.m3u8" if fault.on == "playlist" else "segment"
        until(lambda: kind in str(list(origin.requests)[asked:]), what="a request")
        capture.stop()
        assert capture.finished or isinstance(capture.get(0.0), Segment)
        # Nothing interrupts a look-up of a name, which ends by itself.
        names = {t.name for t in threading.enumerate() if t.name.startswith("capture-")}
        assert names <= {"capture-name"}
    assert capture.failure is None
    assert capture.last_error is None
    assert not list((tmp_path / "rec").glob("*.tmp"))


def test_error_that_ends_a_thread_beside_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise RuntimeError("a bug")

    with background_thread(work, threading.Event(), name="retention", end_s=PATIENCE_S):
        pass
    (said,) = caplog.records
    assert said.getMessage() == "retention: an internal error ended this thread"
    assert said.exc_info is not None
