"""Recording of a camera of sources.toml: an RTSP server with a password."""

import hashlib
import re
import secrets
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.capture.processes import find_ffmpeg
from flows.capture.segment import Segment, SourceUnreachable
from flows.capture.source.operator.sources import BadSources
from flows.capture.source.resolve import resolve
from flows.capture.supervisor.capture import Capture
from flows.live.source_check import check
from flows.live.way_to_source import WayToSource
from flows.settings import Settings
from flows.show import make_show

# Unique, because command lines of parallel tests are read too.
PASSWORD, KEY = secrets.token_hex(8), secrets.token_hex(8)
SDP = "v=0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"


class Camera(socketserver.ThreadingTCPServer):
    daemon_threads = False

    def __init__(self, ts: bytes) -> None:
        self.ts, self.asked, self.command_lines = ts, [], []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    timeout = 10
    server: Camera

    def handle(self) -> None:
        while line := self.rfile.readline():
            method, url, _ = line.decode().split(" ")
            lines = iter(self.rfile.readline, b"\r\n")
            headers = dict(each.decode().strip().split(": ", 1) for each in lines)
            self.server.asked.append((method, url))
            answer = f"CSeq: {headers['CSeq']}\r\n"
            if not self.knows(method, url, headers.get("Authorization", "")):
                self.say(f'401 No\r\n{answer}WWW-Authenticate: Digest realm="cam", nonce="n0"')
                continue
            if method == "DESCRIBE":
                size = f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}"
                self.say(f"200 OK\r\n{answer}{size}", SDP)
            elif method == "SETUP":
                self.say(f"200 OK\r\n{answer}Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            else:
                self.say(f"200 OK\r\n{answer}Session: 1")
            if method == "PLAY":
                for each in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        self.server.command_lines.append(each.read_bytes())
                    except OSError:
                        continue
                self.play()

    def knows(self, method: str, url: str, said: str) -> bool:
        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        wanted = md5(f"{md5(f'studio:cam:pa/{PASSWORD}')}:n0:{md5(f'{method}:{url}')}")
        found = re.search(r'response="(\w+)"', said)
        return found is not None and found[1] == wanted

    def say(self, head: str, body: str = "") -> None:
        self.wfile.write(f"RTSP/1.0 {head}\r\n\r\n{body}".encode())

    def play(self) -> None:
        ts = self.server.ts
        for number, begin in enumerate(range(0, len(ts), 1316)):
            packet = ts[begin : begin + 1316]
            rtp = b"\x80\x21" + number.to_bytes(2, "big") + bytes(8) + packet
            self.wfile.write(b"$\0" + len(rtp).to_bytes(2, "big") + rtp)


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    path = tmp_path / "x.ts"
    source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-t", "6", "-g", "5"]
    command = [find_ffmpeg(), "-v", "error", *source, "-c:v", "libx264", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with Camera(path.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_camera_is_recorded_by_its_name_without_disclosing_its_password(
    camera: Camera, tmp_path: Path
) -> None:
    sources = tmp_path / "sources.toml"
    address = f"127.0.0.1:{camera.server_address[1]}"
    line = f'url = "rtsp://studio:pa%2F{PASSWORD}@{address}/{KEY}?x=1"\n'
    sources.write_text(f"[camera.studio-2]\n{line}")
    sources.chmod(0o600)
    settings = Settings(home=tmp_path, sources=sources, _env_file=None)
    show = make_show(url="camera:studio-2")
    assert show.slug == "camera-studio-2"
    way = WayToSource.of(settings, show.url)
    way.check(show.url)
    stream = resolve(show.url, policy=way.policy, access=way.access())
    assert PASSWORD not in repr(stream)
    capture = Capture(
        show.url,
        directory=tmp_path / "rec",
        channel="demo",
        broadcast=1,
        policy=way.policy,
        access=way.access,
        stream=stream,
        segment_s=0.5,
    )
    with capture:
        segment = capture.get(60.0)
        assert isinstance(segment, Segment), capture.last_error
        assert (segment.width_px, segment.height_px) == (64, 48)
    assert ("PLAY", f"rtsp://{address}/{KEY}?x=1/") in camera.asked or any(
        url.startswith(f"rtsp://{address}/{KEY}") for _, url in camera.asked
    )
    seen = [each for each in camera.command_lines if b"ffmpeg" in each and b"rtsp:" in each]
    assert seen
    hidden = PASSWORD.encode(), KEY.encode()
    assert not any(word in each for each in camera.command_lines for word in hidden)
    logs = [path.read_text(errors="replace") for path in (tmp_path / "rec").glob("*.log")]
    assert all(PASSWORD not in each for each in logs)


def test_an_unknown_or_unreachable_camera_is_a_one_line_error(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, _env_file=None)
    with pytest.raises(BadSources, match="camera:attic: no such camera"):
        WayToSource.of(settings, "camera:attic")
    file = tmp_path / "sources.toml"
    file.write_text('[camera.attic]\nurl = "rtsp://nowhere.invalid/x"\n')
    file.chmod(0o600)
    with pytest.raises(SourceUnreachable, match="no such host"):
        WayToSource.of(settings, "camera:attic")


def test_a_camera_that_is_off_is_found_by_the_check(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    (tmp_path / "sources.toml").write_text(f"[camera.a]\nurl = 'rtsp://cam:KEY@127.0.0.1:{free}'")
    (tmp_path / "sources.toml").chmod(0o600)
    settings = Settings(home=tmp_path, _env_file=None)
    with pytest.raises(SourceUnreachable, match=r"nothing could be recorded: .*refused") as caught:
        list(check(settings, make_show(url="camera:a")))
    assert "KEY" not in str(caught.value)
