"""A proxy, and an origin's answers at other paths."""

import base64
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def airing(origin):
    """An origin's answers, at any path with the same ending."""

    def answer(path: str) -> bytes:
        name = path.partition("?")[0].rpartition("/")[2]
        if name.endswith(".ts"):
            return origin.bytes_of(int(name[8:-3]))
        return origin.playlist().encode()

    return answer


class Proxy(socketserver.ThreadingTCPServer):
    """HTTP (CONNECT and full requests) and SOCKS5 proxy for name:word; forwards to one port."""

    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, to: int, certificate: Path) -> None:
        self.to, self.seen, self.closing = to, [], threading.Event()
        self._certificate, self._tls = certificate, None
        super().__init__(("127.0.0.1", 0), _Proxying)

    def speak_tls(self) -> None:
        """Use TLS from now on."""
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self._certificate)

    def get_request(self):
        client, address = super().get_request()
        return (self._tls.wrap_socket(client, server_side=True) if self._tls else client), address


class _Proxying(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.settimeout(60)
        is_tls = isinstance(self.request, ssl.SSLSocket)
        first = b"" if is_tls else self.request.recv(1, socket.MSG_PEEK)
        with socket.create_connection(("127.0.0.1", self.server.to)) as there:
            if (self.socks() if first == b"\x05" else self.http(there)) is False:
                return
            while True:
                ready, _, _ = select.select([self.request, there], [], [], 0.1)
                for each in ready:
                    data = each.recv(65536)
                    if not data:
                        return
                    (there if each is self.request else self.request).sendall(data)
                if not ready and self.server.closing.is_set():
                    return

    def http(self, there: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(65536)
        if base64.b64encode(b"name:word") not in head:
            self.request.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            return False
        line, _, rest = head.partition(b"\r\n")
        method, url, _ = line.split(b" ")
        self.server.seen.append(url.decode())
        if method == b"CONNECT":
            self.request.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
        else:
            path = b"/" + url.split(b"/", 3)[3]
            there.sendall(b"GET " + path + b" HTTP/1.1\r\nConnection: close\r\n" + rest)
        return True

    def socks(self) -> bool:
        methods = self.request.recv(2)[1]
        if 2 not in self.request.recv(methods):
            self.request.sendall(b"\x05\xff")
            return False
        self.request.sendall(b"\x05\x02")
        user = self.request.recv(self.request.recv(2)[1])
        word = self.request.recv(self.request.recv(1)[0])
        right = (user, word) == (b"name", b"word")
        self.request.sendall(b"\x01\x00" if right else b"\x01\x01")
        if not right:
            return False
        self.request.recv(4)
        host = self.request.recv(self.request.recv(1)[0])
        port = int.from_bytes(self.request.recv(2))
        self.server.seen.append(f"{host.decode()}:{port}")
        self.request.sendall(b"\x05\x00\x00\x01" + bytes(6))
        return True


@pytest.fixture
def proxy(site, certificate: Path) -> Iterator[Proxy]:
    with Proxy(site.port, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()
