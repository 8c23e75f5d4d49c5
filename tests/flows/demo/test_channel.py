import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import httpx
import pytest

from flows.capture.playlists.playlist import Playlist, parse_playlist
from flows.capture.processes import find_ffmpeg
from flows.demo.__main__ import main
from flows.demo.channel import LiveOrigin
from flows.demo.errors import DemoError
from flows.demo.faults import Fault
from flows.demo.pieces import cut

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PIECE = timedelta(seconds=0.5)


class Clock:
    """A clock set by the test."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def __call__(self) -> datetime:
        return NOON + timedelta(seconds=self.passed_s)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of an odd-sized test picture, without sound, with one keyframe."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=161x91:rate=24"]
    command += ["-t", "2", "-pix_fmt", "yuv444p", "-g", "999", "-y", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def pieces(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pieces")
    cut(clip, directory, segment_s=0.5)
    return directory


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def origin(pieces: Path, clock: Clock) -> Iterator[LiveOrigin]:
    """A looping show of four pieces that starts at noon; three are listed."""
    with LiveOrigin(pieces, started_at=NOON, window=3, clock=clock) as origin:
        yield origin


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60) as client:
        yield client


def ask(client: httpx.Client, origin: LiveOrigin) -> Playlist:
    answer = client.get(origin.url)
    assert answer.status_code == 200
    return parse_playlist(answer.text, origin.url)


def names(playlist: Playlist) -> list[int]:
    return [int(entry.url[-9:-3]) for entry in playlist.entries]


def test_any_clip_is_cut_into_pieces_that_begin_with_keyframes(clip: Path, tmp_path: Path) -> None:
    found = cut(clip, tmp_path, segment_s=0.5)
    assert [piece.duration_us for piece in found] == [500_000] * 4
    for piece in found:
        with av.open(str(piece.path)) as container:
            packets = [p for p in container.demux(container.streams.video[0]) if p.dts is not None]
        assert packets[0].is_keyframe
        assert len(packets) == 12


def test_segments_appear_when_their_time_has_passed(
    origin: LiveOrigin, clock: Clock, client: httpx.Client
) -> None:
    assert client.get(origin.url).status_code == 404
    clock.passed_s = 0.5
    assert names(ask(client, origin)) == [0]
    clock.passed_s = 1.4
    assert names(ask(client, origin)) == [0, 1]
    clock.passed_s = 6.0
    playlist = ask(client, origin)
    assert (names(playlist), playlist.sequence) == ([9, 10, 11], 9)


def test_every_segment_has_its_date_in_each_loop(
    origin: LiveOrigin, clock: Clock, client: httpx.Client
) -> None:
    clock.passed_s = 4.5
    playlist = ask(client, origin)
    assert [entry.date for entry in playlist.entries] == [NOON + i * PIECE for i in (6, 7, 8)]
    assert [entry.discontinuity for entry in playlist.entries] == [False, False, True]
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1" in origin.playlist()
    assert origin.start_of(8) == NOON + 8 * PIECE


def test_a_segment_stays_available_for_a_while_after_the_playlist(
    origin: LiveOrigin, clock: Clock, client: httpx.Client, pieces: Path
) -> None:
    url = f"{origin.base_url}/segment-000005.ts"
    clock.passed_s = 2.9
    assert client.get(url).status_code == 404
    clock.passed_s = 3.0
    answer = client.get(url)
    assert answer.content == (pieces / "piece-00001.ts").read_bytes()
    assert answer.headers["content-type"] == "video/mp2t"
    clock.passed_s = 9.0
    assert client.get(url).status_code == 404


def test_a_show_that_is_not_repeated_ends(pieces: Path, clock: Clock, client: httpx.Client) -> None:
    with LiveOrigin(pieces, started_at=NOON, loop=False, clock=clock) as origin:
        clock.passed_s = 1.9
        assert not ask(client, origin).ended
        clock.passed_s = 60.0
        playlist = ask(client, origin)
    assert playlist.ended
    assert names(playlist) == [0, 1, 2, 3]


def test_a_clip_without_dates(pieces: Path, clock: Clock, client: httpx.Client) -> None:
    with LiveOrigin(pieces, dated=False, clock=clock) as origin:
        assert [entry.date for entry in ask(client, origin).entries] == [None] * 3


def test_a_show_can_freeze_end_and_continue(
    origin: LiveOrigin, clock: Clock, client: httpx.Client
) -> None:
    clock.passed_s = 2.0
    origin.freeze()
    clock.passed_s = 4.0
    assert names(ask(client, origin)) == [1, 2, 3]
    origin.resume()
    assert names(ask(client, origin)) == [5, 6, 7]
    origin.end()
    clock.passed_s = 6.0
    ended = ask(client, origin)
    assert (ended.ended, names(ended)) == (True, [5, 6, 7])
    origin.resume()
    assert not ask(client, origin).ended


def test_the_sequence_can_be_reset(origin: LiveOrigin, clock: Clock, client: httpx.Client) -> None:
    clock.passed_s = 5.0
    origin.reset_sequence()
    assert ask(client, origin).sequence == 0
    clock.passed_s = 6.0
    playlist = ask(client, origin)
    assert (playlist.sequence, names(playlist)) == (2, [9, 10, 11])


def test_faults_affect_the_named_requests_and_number(
    origin: LiveOrigin, clock: Clock, client: httpx.Client
) -> None:
    clock.passed_s = 2.0
    segment = f"{origin.base_url}/segment-000002.ts"
    origin.inject(Fault(on="segment", status=503, times=2))
    origin.inject(Fault(on="playlist", body=b"<html>"))
    statuses = [client.get(url).status_code for url in (segment, origin.url, segment, segment)]
    assert statuses == [503, 200, 503, 200]
    assert client.get(origin.url).text == "<html>"
    origin.heal()
    assert ask(client, origin).sequence == 1
    asked = [(request.path, request.status) for request in origin.requests]
    assert asked[:2] == [("/segment-000002.ts", 503), ("/live.m3u8", 200)]


@pytest.mark.parametrize("fault", [Fault(keep_bytes=100), Fault(reset=True)], ids=["cut", "reset"])
def test_a_connection_can_break(
    origin: LiveOrigin, clock: Clock, client: httpx.Client, fault: Fault
) -> None:
    clock.passed_s = 2.0
    origin.inject(fault)
    with pytest.raises(httpx.TransportError):
        client.get(origin.url)
    origin.heal()
    assert ask(client, origin).sequence == 1


def test_a_stall_lasts_until_it_is_healed(
    origin: LiveOrigin, clock: Clock, client: httpx.Client
) -> None:
    clock.passed_s = 2.0
    origin.inject(Fault(stall=True, keep_bytes=100))
    with client.stream("GET", origin.url) as answer:
        chunks = answer.iter_raw()
        assert len(next(chunks)) == 100
        origin.heal()
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)


def test_stopping_leaves_no_thread_and_no_connection(
    pieces: Path, clock: Clock, client: httpx.Client
) -> None:
    def serving() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name.startswith("demo-origin")}

    before = serving()
    with LiveOrigin(pieces, clock=clock) as origin:
        ask(client, origin)
        origin.inject(Fault(on="segment", stall=True))
        with client.stream("GET", f"{origin.base_url}/segment-000000.ts"):
            origin.stop()
        assert serving() <= before
        with pytest.raises(httpx.ConnectError):
            client.get(origin.url)
        port = httpx.URL(origin.url).port
        origin.heal()
        origin.start()
        assert httpx.URL(origin.url).port == port
        ask(client, origin)
    assert serving() <= before


def test_a_port_in_use_is_an_error(origin: LiveOrigin, pieces: Path) -> None:
    port = httpx.URL(origin.url).port
    with pytest.raises(OSError, match="in use"), LiveOrigin(pieces, port=port):
        pass


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"", "not a video"), (b"hello" * 99, "not a video"), (None, "no such file")],
    ids=["empty", "text", "missing"],
)
def test_a_file_without_video_is_a_one_line_error(
    tmp_path: Path, body: bytes | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.mp4"
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(DemoError, match=says) as caught:
        LiveOrigin(path)
    assert "\n" not in str(caught.value)


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.m4a"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "sine", "-t", "1", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(DemoError, match="not a video"):
        LiveOrigin(path)


@pytest.mark.parametrize(
    ("lists", "says"), [([], "one .m3u8 playlist, not 0"), (["a.m3u8"], "lists no segments")]
)
def test_a_directory_needs_one_playlist(tmp_path: Path, lists: list[str], says: str) -> None:
    for name in lists:
        (tmp_path / name).write_text("#EXTM3U\n")
    with pytest.raises(DemoError, match=says):
        LiveOrigin(tmp_path)


def test_as_a_command_it_prints_its_url_and_ends_on_a_signal(clip: Path) -> None:
    command = [sys.executable, "-m", "flows.demo", "--port", "0", "--video", str(clip)]
    with subprocess.Popen([*command, "--segment", "0.5"], stdout=subprocess.PIPE) as channel:
        assert channel.stdout is not None
        url = channel.stdout.readline().decode().strip()
        assert httpx.get(url, trust_env=False, timeout=60).text.startswith("#EXTM3U")
        channel.send_signal(signal.SIGTERM)
        assert channel.wait(60) == 0


@pytest.mark.parametrize("busy", [False, True], ids=["no video", "port in use"])
def test_as_a_command_it_says_what_is_wrong(
    origin: LiveOrigin,
    clip: Path,
    tmp_path: Path,
    busy: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    port = httpx.URL(origin.url).port if busy else 0
    video = clip if busy else tmp_path
    assert main(["--port", str(port), "--video", str(video)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
