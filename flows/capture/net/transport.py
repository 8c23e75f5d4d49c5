"""httpx transport over connections that the policy allows; host names are resolved here."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final

import httpcore
import httpx

from flows.capture.net.address import Address, AddressPolicy, read_host
from flows.capture.net.connection import Allowance, Connection, PinnedBackend, tls_context
from flows.capture.net.cookies import without_excess
from flows.capture.net.upstream import Upstream, status_of
from flows.capture.segment import SourceUnreachable
from flows.capture.waits import WaitLimit

_LIMITS: Final[dict[str, Any]] = {"max_connections": 4, "keepalive_expiry": 30.0}
_CONNECT_S: Final = 10.0
_FAILURES: Final = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


def reason_of(error: Exception) -> str:
    """Return a failed request's cause, without the header that could not be sent."""
    if isinstance(error, httpcore.LocalProtocolError | httpx.LocalProtocolError):
        return "one of its headers or cookies can't be sent"
    return str(error) or type(error).__name__


class _Body(httpx.SyncByteStream):
    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        if hasattr(self._parts, "close"):
            self._parts.close()


class PinnedTransport(httpx.BaseTransport):
    """Sends httpx's requests over connections that the policy allows, or by its proxy."""

    def __init__(self, policy: AddressPolicy, wait_limit: WaitLimit, allowance: Allowance) -> None:
        """Keep the arguments; nothing is opened yet."""
        self._policy = policy

        def addresses_of(host: str, port: int) -> tuple[Address, ...]:
            look_up = partial(policy.addresses_of, host, port)
            try:
                return wait_limit.run(look_up, name="capture-name")
            except TimeoutError as e:
                raise httpcore.ConnectTimeout(f"{host}: the DNS lookup timed out") from e

        backend = PinnedBackend(addresses_of, wait_limit, allowance)
        self._direct = _pool(backend)
        self._by_proxy: httpcore.ConnectionPool | None = None
        if policy.upstream is not None:
            self._by_proxy = _pool_by(policy.upstream, wait_limit, allowance)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request without a body; raises what httpcore raises, and as the policy does."""
        url = request.url
        pool = self._direct
        upstream = self._policy.upstream_for(url.host, read_host(str(url))[1])
        if upstream is not None and self._by_proxy is not None:
            self._policy.check_unresolved([str(url)])
            pool = self._by_proxy
        try:
            response = pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    extensions=request.extensions,
                )
            )
        except httpcore.ProxyError as e:  # the proxy's response to CONNECT
            assert upstream is not None
            raise upstream.refused(status_of(str(e)[:3])) from e
        except _FAILURES as e:
            if upstream is None:
                raise
            raise SourceUnreachable(f"{url.host}: {reason_of(e)}{upstream.shown}") from e
        assert isinstance(response.stream, Iterable)
        if upstream is not None and response.status == 407:
            response.close()
            raise upstream.refused(407)
        return httpx.Response(
            response.status,
            headers=without_excess(response.headers),
            stream=_Body(response.stream),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close the connections."""
        self._direct.close()
        if self._by_proxy is not None:
            self._by_proxy.close()


class _UpstreamBackend(httpcore.NetworkBackend):
    """Connects to the operator's proxy; with socks5, through it to the host."""

    def __init__(self, upstream: Upstream, wait_limit: WaitLimit, allowance: Allowance) -> None:
        self._upstream, self._wait_limit, self._allowance = upstream, wait_limit, allowance

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        wait_limit, wait_s = self._wait_limit, timeout or _CONNECT_S
        if self._upstream.scheme == "socks5":
            made = self._upstream.tunnel(host, port, wait_limit=wait_limit, timeout_s=wait_s)
        else:
            made = self._upstream.connect(wait_limit=wait_limit, timeout_s=wait_s, tls=False)
            # httpcore begins TLS itself.
        made.setblocking(False)
        return Connection(made, self._wait_limit, self._allowance)


def _pool(backend: httpcore.NetworkBackend) -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(ssl_context=tls_context(), network_backend=backend, **_LIMITS)


def _pool_by(
    upstream: Upstream, wait_limit: WaitLimit, allowance: Allowance
) -> httpcore.ConnectionPool:
    backend = _UpstreamBackend(upstream, wait_limit, allowance)
    if upstream.scheme == "socks5":
        return _pool(backend)
    headers = [("Proxy-Authorization", upstream.authorization)] if upstream.authorization else []
    return httpcore.HTTPProxy(
        proxy_url=str(upstream),
        proxy_headers=headers,
        ssl_context=tls_context(),
        proxy_ssl_context=tls_context() if upstream.scheme == "https" else None,
        network_backend=backend,
        **_LIMITS,
    )
