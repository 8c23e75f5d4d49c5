"""Live HLS by ffmpeg and by common servers is recorded completely."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.capture.live_stream import live_stream
from benchmarks.up import until
from flows.capture.net.address import AddressPolicy
from flows.capture.processes import find_ffmpeg
from flows.capture.segment import Segment
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture

SHOW_S = 30
"""More than is recorded, because a busy machine starts late."""
RECORDED_S = 3
PATIENCE_S = 60.0
LISTED = 6

RTMP_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
GSTREAMER = "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-bad"
RTMP = """load_module {module};
rtmp {{ server {{ listen 127.0.0.1:{rtmp}; application live {{
  live on; hls on; hls_path {root}; hls_fragment 500ms; hls_playlist_length 4s; hls_cleanup off;
}} }} }}
"""
NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr; {user}
events {{ worker_connections 64; }}
http {{
  access_log off; gzip on; gzip_types application/vnd.apple.mpegurl; gzip_min_length 1;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; video/iso.segment m4s; }}
  server {{ listen 127.0.0.1:{port}; root {root}; add_header Cache-Control no-cache; }}
}}
"""


@contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["nginx", "caddy"])
def server(request: pytest.FixtureRequest, tmp_path: Path, free_port) -> Iterator[tuple]:
    """A folder, and the URL at which it is served."""
    name = request.param
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if program is None:
        pytest.skip(f"{name} IS NOT INSTALLED (apt-get install nginx-light caddy)")
    root, folder, port = tmp_path / "www", tmp_path / name, free_port()
    root.mkdir()
    folder.mkdir()
    if name == "nginx":
        user = "user root;" if os.getuid() == 0 else ""
        text = NGINX.format(folder=folder, root=root, port=port, user=user)
        (folder / "nginx.conf").write_text(text)
        command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    else:
        command = [program, "file-server", "--root", str(root), "--listen", f"127.0.0.1:{port}"]
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "log").open("wb") as log, running(command, env=environment, stderr=log):
        until(lambda: answers(port), what=f"{name} answers", within_s=PATIENCE_S)
        yield root, f"http://127.0.0.1:{port}"


def test_live_hls_is_recorded_completely(server, policy: AddressPolicy, tmp_path: Path) -> None:
    root, base = server
    source = ["-re", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-t", str(SHOW_S)]
    coded = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "5", "-f", "hls", "-hls_time", "0.5"]
    coded += ["-hls_list_size", str(LISTED), "-hls_flags", "program_date_time+temp_file"]
    with ExitStack() as stack:
        captures: dict[str, Capture] = {}
        for kind in ("mpegts", "fmp4"):
            folder = root / kind
            folder.mkdir()
            packed = [*coded, "-hls_segment_type", kind, str(folder / "live.m3u8")]
            stack.enter_context(running([find_ffmpeg(), "-v", "error", *source, *packed]))
        for kind in ("mpegts", "fmp4"):
            listed = root / kind / "live.m3u8"
            until(listed.exists, what="a playlist is written", within_s=PATIENCE_S)
            url = f"{base}/{kind}/live.m3u8"
            stream = Stream(
                page_url=url,
                url=url,
                protocol="hls",
                live=True,
                live_status="is_live",
                source_id=kind,
                title=kind,
            )
            captures[kind] = stack.enter_context(
                Capture(
                    url,
                    directory=tmp_path / kind,
                    channel=kind,
                    broadcast=1,
                    policy=policy,
                    stream=stream,
                    engine="hls",
                    ended_after_s=0.0,
                    duration_s=RECORDED_S,
                )
            )
        for kind, capture in captures.items():
            events = list(capture)
            assert all(isinstance(event, Segment) for event in events), events
            assert len(events) >= 5
            assert all(a.end == b.start for a, b in pairwise(events))
            assert not any(event.start_is_estimated for event in events)
            names = sorted((root / kind).glob("live*.ts" if kind == "mpegts" else "live*.m4s"))
            head = (root / kind / "init.mp4").read_bytes() if kind == "fmp4" else b""
            served = [head + path.read_bytes() for path in sorted(names, key=number)]
            recorded = [event.path.read_bytes() for event in events]
            first = served.index(recorded[0])
            assert recorded == served[first : first + len(recorded)]


def test_hls_made_by_nginx_from_rtmp_is_recorded_completely(
    policy: AddressPolicy, tmp_path: Path, free_port
) -> None:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None or not RTMP_MODULE.is_file():
        pytest.skip("nginx's RTMP MODULE IS NOT INSTALLED (apt-get install libnginx-mod-rtmp)")
    root, folder, port, rtmp = tmp_path / "www", tmp_path / "nginx", free_port(), free_port()
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    folder.mkdir()
    user = "user root;" if os.getuid() == 0 else ""
    text = RTMP.format(module=RTMP_MODULE, rtmp=rtmp, root=root)
    text += NGINX.format(folder=folder, root=root, port=port, user=user)
    (folder / "nginx.conf").write_text(text)
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    pushed = [find_ffmpeg(), "-v", "error", "-re", "-f", "lavfi", "-i"]
    pushed += ["testsrc2=size=64x48:rate=10", "-f", "lavfi", "-i", "sine=frequency=300"]
    pushed += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "5", "-pix_fmt", "yuv420p"]
    pushed += ["-c:a", "aac", "-f", "flv", f"rtmp://127.0.0.1:{rtmp}/live/show"]
    with (folder / "log").open("wb") as log, running(command, stderr=log):
        until(lambda: answers(port), what="nginx answers", within_s=PATIENCE_S)
        with running(pushed):
            until((root / "show.m3u8").exists, what="a playlist is written", within_s=PATIENCE_S)
            url = f"http://127.0.0.1:{port}/show.m3u8"
            capture = Capture(
                url,
                directory=tmp_path / "rec",
                channel="rtmp",
                broadcast=1,
                policy=policy,
                stream=live_stream(url, url),
                engine="hls",
                duration_s=3.0,
            )
            with capture:
                events = list(capture)
    assert all(isinstance(event, Segment) for event in events), events
    assert len(events) >= 4
    assert all(a.end == b.start for a, b in pairwise(events))
    served = [path.read_bytes() for path in sorted(root.glob("show-*.ts"), key=number)]
    recorded = [event.path.read_bytes() for event in events]
    first = served.index(recorded[0])
    assert recorded == served[first : first + len(recorded)]


@pytest.mark.parametrize("sink", ["hlssink", "hlssink2"])
def test_hls_made_by_gstreamer_is_recorded_completely(
    sink: str, policy: AddressPolicy, tmp_path: Path, site, video_packets
) -> None:
    """Its playlists have no dates, and its segments the length of the one before."""
    program = shutil.which("gst-launch-1.0")
    if program is None:
        pytest.skip(f"GStreamer IS NOT INSTALLED (apt-get install {GSTREAMER})")
    root = tmp_path / "www"
    root.mkdir()
    caps = "video/x-raw,width=64,height=48,framerate=10/1"
    made = f"videotestsrc is-live=true pattern=snow ! {caps} ! openh264enc gop-size=10 ! h264parse"
    made += " ! mpegtsmux" if sink == "hlssink" else ""
    made += f" ! {sink} target-duration=1 max-files=1000 playlist-length={LISTED}"
    made += f" location={root}/live%05d.ts playlist-location={root}/live.m3u8"
    site.answer = lambda asked: read_if_there(root / asked.path.lstrip("/"))
    with ExitStack() as stack, running([program, "-q", *made.split()], env=quiet(tmp_path)):
        until((root / "live.m3u8").exists, what="a playlist is written", within_s=PATIENCE_S)
        url = f"{site.base}/live.m3u8"
        captures = {
            engine: stack.enter_context(
                Capture(
                    url,
                    directory=tmp_path / engine,
                    channel=engine,
                    broadcast=1,
                    policy=policy,
                    stream=live_stream(url, url),
                    engine=engine,
                    duration_s=4.0,
                )
            )
            for engine in ("hls", "ffmpeg")
        }
        recorded = {engine: list(capture) for engine, capture in captures.items()}
    paths = sorted(root.glob("live*.ts"), key=number)
    served = [path.read_bytes() for path in paths]
    for events in recorded.values():
        assert all(isinstance(event, Segment) for event in events), events
        assert all(a.end == b.start for a, b in pairwise(events))
    files = [event.path.read_bytes() for event in recorded["hls"]]
    first = served.index(files[0])
    assert len(files) >= 2
    assert files == served[first : first + len(files)]
    pictures = [each for path in paths[:-1] for each, _ in video_packets(path)]
    found = [each for event in recorded["ffmpeg"] for each, _ in video_packets(event.path)]
    first = pictures.index(found[0])
    assert found == pictures[first : first + len(found)]


def quiet(folder: Path) -> dict[str, str]:
    """An environment in which GStreamer writes its registry of plugins below a folder."""
    return {**os.environ, "GST_REGISTRY": str(folder / "registry.bin")}


def read_if_there(path: Path) -> bytes | int:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return 404


def number(path: Path) -> int:
    return int("".join(filter(str.isdigit, path.stem)))
