"""A short clip cut into half-second pieces, origins that play it, and a configurable site."""

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import av
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.capture.live_stream import live_stream
from benchmarks.up import until
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.processes import find_ffmpeg
from flows.capture.source.resolve import SANDBOX
from flows.capture.stream import Stream
from flows.demo.channel import LiveOrigin
from flows.demo.pieces import cut

PIECE_S = 0.5
CLIP_S = 3.0


class Show(LiveOrigin):
    """A live origin whose show can be moved forward in time.

    Its time starts with the first request of its playlist, and the playlist is long, so that a
    slow machine misses nothing.
    """

    def __init__(self, source: Path, **options: object) -> None:
        self._ahead = timedelta(0)
        self._stands_at: datetime | None = datetime.now(UTC)
        super().__init__(source, clock=self._time, **({"window": 30} | options))

    def _time(self) -> datetime:
        return (self._stands_at or datetime.now(UTC)) + self._ahead

    def playlist(self) -> str:
        if self._stands_at is not None:
            self._ahead += self._stands_at - datetime.now(UTC)
            self._stands_at = None
        return super().playlist()

    def list_only(self, n: int) -> None:
        """List this many segments from now on."""
        self._window = n

    def skip(self, seconds: float) -> None:
        """Move forward in the show by this time."""
        self._ahead += timedelta(seconds=seconds)


MakeOrigin = Callable[..., Show]


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a test picture with audio, in pieces that start with keyframes."""
    directory = tmp_path_factory.mktemp("pieces")
    clip = tmp_path_factory.mktemp("clip") / "clip.mp4"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=24"]
    command += ["-f", "lavfi", "-i", "sine=frequency=300", "-t", str(CLIP_S), "-y", str(clip)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    cut(clip, directory, segment_s=PIECE_S)
    return directory


@pytest.fixture
def make_origin(pieces: Path) -> Iterator[MakeOrigin]:
    with ExitStack() as stack:

        def make(source: Path = pieces, **options: object) -> Show:
            return stack.enter_context(Show(source, **options))

        yield make


@pytest.fixture
def origin(make_origin: MakeOrigin) -> Show:
    """A live show on air."""
    return make_origin()


@pytest.fixture(scope="session")
def policy() -> AddressPolicy:
    return AddressPolicy(allow_networks=LOOPBACK)


@pytest.fixture(scope="session")
def stream_of() -> Callable[[LiveOrigin], Stream]:
    """The stream at an origin, like yt-dlp, but without its delay."""

    def make(origin: LiveOrigin) -> Stream:
        return live_stream(origin.url, origin.url)

    return make


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request: its path, with the query, and its headers by lower-case name."""

    path: str
    headers: dict[str, str]


Pairs = tuple[tuple[str, str], ...]
Answer = bytes | int | tuple[bytes, Pairs] | tuple[bytes, Pairs, int]
"""A body, a status, or a body and headers, and a status; Location makes it a redirect."""


@dataclass
class Site:
    """answer: returns the answer to a request; must not raise."""

    answer: Callable[[Asked], Answer] = lambda asked: 404
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Answering(BaseHTTPRequestHandler):
    timeout = 60

    def do_GET(self) -> None:
        site: Site = self.server.site
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path=self.path, headers=headers)
        site.asked.append(asked)
        answer = site.answer(asked)
        status, body, more = 200, b"", ()
        if isinstance(answer, int):
            status = answer
        elif isinstance(answer, tuple):
            body, more = answer[:2]
            status = answer[2] if len(answer) == 3 else 200
        else:
            body = answer
        status = 302 if any(name == "Location" for name, _ in more) else status
        self.send_response(status)
        for name, value in more:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    server.daemon_threads = False  # closing waits for running answers
    server.site = Site(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trusted self-signed certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    path = tmp_path / "server.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


@pytest.fixture
def video_packets() -> Callable[[Path], list[tuple[str, timedelta]]]:
    """Each video packet of a file: hash of its content, and time after the first one."""

    def read(path: Path) -> list[tuple[str, timedelta]]:
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(container.streams.video[0]) if p.pts is not None]
            first = packets[0].pts
            return [
                (
                    hashlib.md5(bytes(packet)).hexdigest(),
                    timedelta(seconds=float((packet.pts - first) * packet.time_base)),
                )
                for packet in packets
            ]

    return read


def children() -> set[str]:
    """This process's children, except the one that forks children for yt-dlp."""
    found: set[str] = set()
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # it has ended
            found |= set(thread.read_text().split())
    return found - {str(SANDBOX.pid)}


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Assert that every test leaves no threads and children of the capture."""
    before = set(threading.enumerate()), children()
    yield
    # Work that cannot be interrupted ends soon by itself; so do a running server's threads for
    # closed connections, and killed processes.
    for thread in set(threading.enumerate()) - before[0]:
        thread.join(60)
    assert set(threading.enumerate()) <= before[0]
    until(lambda: children() <= before[1], what="the end of all children")
