"""rtsp, rtmp and srt: only from servers allowed by the operator."""

import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.capture.processes import find_ffmpeg
from flows.capture.proxy.rtsp_replies import Replies
from flows.capture.segment import SourceUnreachable, UnsafeURL

Stand = Callable[..., Any]
Reply = Callable[[str], bytes]

SDP = b"v=0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
INTERLEAVED = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"


def say(*headers: str, status: str = "200 OK", body: bytes = b"") -> bytes:
    lines = [
        f"RTSP/1.0 {status}",
        "CSeq: SEQUENCE",
        *headers,
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


REDIRECT = say("Location: rtsp://CANARY/inner", status="302 Moved")


class Rtsp(socketserver.ThreadingTCPServer):
    """Answers by method; after PLAY it sends an MPEG-TS file in a loop."""

    daemon_threads = True

    def __init__(self, replies: dict[str, bytes], ts: bytes) -> None:
        self.replies, self.ts = replies, ts
        super().__init__(("127.0.0.1", 0), RtspHandler)
        self.url = f"rtsp://127.0.0.1:{self.server_address[1]}/x"
        self.named = f"127.0.0.1:{self.server_address[1]}"


class RtspHandler(socketserver.StreamRequestHandler):
    server: Rtsp

    def handle(self) -> None:
        while line := self.rfile.readline():
            method = line.split(b" ")[0].decode()
            headers = dict(
                each.decode().strip().split(": ", 1) for each in iter(self.rfile.readline, b"\r\n")
            )
            reply = self.server.replies.get(method, say())
            self.wfile.write(reply.replace(b"SEQUENCE", headers["CSeq"].encode()))
            if method == "PLAY":
                self.play()

    def play(self) -> None:
        packets = [self.server.ts[i : i + 1316] for i in range(0, len(self.server.ts), 1316)]
        for number, packet in zip(count(), packets, strict=False):
            rtp = b"\x80\x21" + number.to_bytes(2, "big") + bytes(8) + packet
            self.wfile.write(b"$\0" + len(rtp).to_bytes(2, "big") + rtp)
        self.connection.recv(1)


PLAYS = {"DESCRIBE": say("Content-Type: application/sdp", body=SDP), "SETUP": say(INTERLEAVED)}


@pytest.fixture
def rtsp(ts: Path, canary: Any) -> Iterator[Callable[[dict[str, bytes]], Rtsp]]:
    made: list[Rtsp] = []

    def make(replies: dict[str, bytes]) -> Rtsp:
        inner = f"127.0.0.1:{canary.port}".encode()
        port = str(canary.port).encode()
        replies = {
            k: v.replace(b"CANARY", inner).replace(b"PORT", port) for k, v in replies.items()
        }
        made.append(Rtsp(PLAYS | replies, ts.read_bytes()))
        threading.Thread(target=made[-1].serve_forever, args=(0.05,), daemon=True).start()
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def ts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a test picture."""
    path = tmp_path_factory.mktemp("servers") / "x.ts"
    source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-t", "6", "-g", "5"]
    command = [find_ffmpeg(), "-v", "error", *source, "-c:v", "libx264", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "rtmp", "rtmps", "srt"])
def test_a_server_that_is_not_allowed_gets_no_request(
    stand: Stand, canary: Any, scheme: str
) -> None:
    address = f"{scheme}://127.0.0.1:{canary.port}/x"
    stand(b"", "recorded:server", "UnsafeURL: .* internal address", address, most_mb=200)
    public = f"{scheme}://93.184.215.14:{canary.port}/x"
    stand(b"", "recorded:server", "UnsafeURL: .* only from allowed servers", public, most_mb=200)


def test_a_server_that_is_named_is_recorded(
    stand: Stand, rtsp: Callable[[dict[str, bytes]], Rtsp]
) -> None:
    server = rtsp({})
    url = f"{server.url}?udp"  # would choose another transport
    stand(b"", "recorded:server", "a segment of 64x48", url, server.named, most_mb=400, most_s=20)


LEADS: dict[str, dict[str, bytes]] = {
    "options": {"OPTIONS": REDIRECT},
    "describe": {"DESCRIBE": REDIRECT},
    "setup": {"SETUP": REDIRECT},
    "play": {"PLAY": REDIRECT},
    "permanently": {"DESCRIBE": REDIRECT.replace(b"302", b"301")},
}


@pytest.mark.parametrize("replies", [pytest.param(v, id=k) for k, v in LEADS.items()])
def test_no_redirect_is_followed(
    stand: Stand, rtsp: Callable[[dict[str, bytes]], Rtsp], replies: dict[str, bytes]
) -> None:
    server = rtsp(replies)
    says = "UnsafeURL: .* redirects"
    stand(b"", "recorded:server", says, server.url, server.named, most_mb=400, most_s=20)


TRANSPORTS = {
    "source": "Transport: RTP/AVP/UDP;unicast;source=127.0.0.1;server_port=PORT-PORT",
    "destination": "Transport: RTP/AVP;multicast;destination=127.0.0.1;port=PORT-PORT;ttl=1",
    "both": f"{INTERLEAVED};source=127.0.0.1;server_port=PORT-PORT",
}


@pytest.mark.parametrize("transport", [pytest.param(v, id=k) for k, v in TRANSPORTS.items()])
def test_no_transport_leads_inwards(
    stand: Stand, rtsp: Callable[[dict[str, bytes]], Rtsp], transport: str
) -> None:
    control = SDP.replace(b"a=control:track", b"a=control:rtsp://CANARY/track")
    describe = say("Content-Base: rtsp://CANARY/", "Content-Type: application/sdp", body=control)
    describe = describe.replace(str(len(control)).encode(), b"%d" % (len(control) + 9))
    server = rtsp({"SETUP": say(transport), "DESCRIBE": describe})
    says = "(a segment|CaptureFailed|SourceUnreachable)"
    stand(b"", "recorded:server", says, server.url, server.named, most_mb=400, most_s=20)


@pytest.mark.parametrize("form", ["srt", "rtmp"])
def test_other_servers_that_are_named_are_recorded(
    stand: Stand, ts: Path, form: str, until: Callable[..., Any]
) -> None:
    kind = socket.SOCK_DGRAM if form == "srt" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {
        "srt": f"srt://127.0.0.1:{port}?mode=listener&passphrase=word-of-16-chars&pbkeylen=16",
        "rtmp": f"rtmp://127.0.0.1:{port}/a/x",
    }[form]
    listens = ["-f", "mpegts"] if form == "srt" else ["-f", "flv", "-listen", "1"]
    command = [
        find_ffmpeg(),
        "-v",
        "error",
        "-re",
        "-stream_loop",
        "-1",
        "-i",
        str(ts),
        "-c",
        "copy",
    ]
    with subprocess.Popen([*command, *listens, there], stdin=subprocess.DEVNULL) as server:
        try:
            listening = psutil.Process(server.pid)
            until(
                lambda: any(each.laddr.port == port for each in listening.net_connections()),
                what="its listening",
            )
            query = "passphrase=word-of-16-chars&pbkeylen=16&streamid=a&latency=1000&transtype=live"
            url = f"{form}://127.0.0.1:{port}" + (f"?{query}" if form == "srt" else "/a/x")
            named = f"127.0.0.1:{port}"
            stand(b"", "recorded:server", "a segment", url, named, most_mb=400, most_s=20)
        finally:
            server.kill()


@pytest.mark.parametrize("query", ["mode=listener", "mode=rendezvous", "localport=1", "adapter=0"])
def test_an_srt_address_says_nothing_of_who_listens(stand: Stand, query: str) -> None:
    url = f"srt://127.0.0.1:9?{query}"
    stand(b"", "recorded:server", "UnsafeURL: .* is not allowed", url, "127.0.0.1:9", most_mb=200)


PACKET = b"$\0\0\x05RTSP/"


def test_replies_and_packets_are_separated_at_any_cut() -> None:
    said = (
        say("Session: 1", "Location: rtsp://x/")
        + PACKET
        + say(body=b"RTSP/1.0 302 -\r\n\r\n")
        + PACKET
    )
    for size in (1, 3, 1000):
        replies = Replies("x")
        passed = b"".join(replies.feed(said[i : i + size]) for i in range(0, len(said), size))
        assert b"Location" not in passed
        assert passed.endswith(b"RTSP/1.0 302 -\r\n\r\n" + PACKET)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"RTSP/1.0 302 Moved\r\n\r\n", UnsafeURL),
        (PACKET + b"RTSP/1.0 305 -\r\n\r\n", UnsafeURL),
        (b"RTSP/1.0 200 OK\r\n302\r\n\r\n", SourceUnreachable),
        (b"RTSP/1.0 200 OK\r\nContent-Length : 9\r\n\r\n", SourceUnreachable),
        (b"RTSP/1.0 200 OK\r\nContent-Length: -9\r\n\r\n", SourceUnreachable),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 9\r\ncontent-length: 0\r\n\r\n", SourceUnreachable),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 999999\r\n\r\n", SourceUnreachable),
        (b"RTSP/1.0 200 OK\n\nRTSP/1.0 302 Moved\nLocation: x\n\n\r\n\r\n", SourceUnreachable),
        (b"REDIRECT rtsp://x/ RTSP/1.0\r\nLocation: rtsp://x/\r\n\r\n", SourceUnreachable),
        (b"HTTP/1.0 302 Moved\r\nLocation: http://x/\r\n\r\n", SourceUnreachable),
        (b"x" * 20_000, SourceUnreachable),
    ],
)
def test_what_is_no_plain_reply_of_rtsp_is_refused(said: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        Replies("x").feed(said)
