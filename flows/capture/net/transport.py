"""httpx's requests over connections that the policy allows: names are looked up here, once each."""

from collections.abc import Iterable, Iterator
from functools import partial

import httpcore
import httpx

from flows.capture.net.address import Address, AddressPolicy
from flows.capture.net.connection import Allowance, PinnedBackend, tls_context
from flows.capture.net.cookies import without_excess
from flows.capture.stopping import Patience


class _Body(httpx.SyncByteStream):
    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        if hasattr(self._parts, "close"):
            self._parts.close()


class PinnedTransport(httpx.BaseTransport):
    """Carries httpx's requests over connections that the policy allows."""

    def __init__(self, policy: AddressPolicy, patience: Patience, allowance: Allowance) -> None:
        """Remember; nothing is opened yet."""

        def addresses_of(host: str, port: int) -> tuple[Address, ...]:
            look_up = partial(policy.addresses_of, host, port)
            try:
                return patience.run(look_up, name="capture-name")
            except TimeoutError as e:
                raise httpcore.ConnectTimeout(f"{host} is still being looked up") from e

        self._pool = httpcore.ConnectionPool(
            ssl_context=tls_context(),
            max_connections=4,
            keepalive_expiry=30.0,
            network_backend=PinnedBackend(addresses_of, patience, allowance),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request without a body; raises what httpcore raises, and as the policy does."""
        url = request.url
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        assert isinstance(response.stream, Iterable)
        return httpx.Response(
            response.status,
            headers=without_excess(response.headers),
            stream=_Body(response.stream),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
