"""The network of the fleet: a bridge, an address for each service, a link for each machine."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BRIDGE: Final = "smfleet"
NET: Final = "10.77.0"
NOBODY: Final = f"{NET}.250"

DATABASE: Final = f"{NET}.2"
SERVER: Final = f"{NET}.3"
STORE: Final = f"{NET}.4"
SOURCE: Final = f"{NET}.5"
"""Addresses of the services, one each, so that each can be made unavailable alone."""


def ip(*arguments: str) -> None:
    """Run `ip`; raises subprocess.CalledProcessError."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def bridge() -> Iterator[None]:
    """Create the bridge with all service addresses."""
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        for address in (DATABASE, SERVER, STORE, SOURCE):
            give_back(address)
        ip("link", "set", BRIDGE, "up")
        yield
    finally:
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)


def take_away(address: str) -> None:
    """Make a service unreachable for all machines: packets to it are dropped."""
    ip("addr", "del", f"{address}/32", "dev", BRIDGE)


def give_back(address: str) -> None:
    """Make a service reachable again."""
    ip("addr", "add", f"{address}/32", "dev", BRIDGE)


class Cable:
    """The network of one machine: a namespace, and its link to the bridge."""

    def __init__(self, name: str, number: int) -> None:
        """Store the arguments; number: unique part of its address."""
        self.space, self._link = f"sm-{name}", f"sm{name}"
        self._address = f"{NET}.{10 + number}/24"

    def lay(self) -> None:
        """Create it."""
        ip("netns", "add", self.space)
        ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("link", "set", self._link, "master", BRIDGE, "up")
        ip("-n", self.space, "addr", "add", self._address, "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.space, "link", "set", device, "up")

    def remove(self) -> None:
        """Remove it."""
        subprocess.run(["ip", "netns", "del", self.space], check=False, capture_output=True)

    def pull(self) -> None:
        """Disconnect the machine."""
        ip("link", "set", self._link, "down")

    def plug(self) -> None:
        """Connect it again."""
        ip("link", "set", self._link, "up")

    def lose(self, *addresses: str) -> None:
        """Cut the machine off from these services only, with blackhole routes."""
        for address in addresses:
            way = ("via", NOBODY, "dev", "eth0", "onlink")
            ip("-n", self.space, "route", "add", f"{address}/32", *way)

    def find(self, *addresses: str) -> None:
        """Undo `lose`."""
        for address in addresses:
            ip("-n", self.space, "route", "del", f"{address}/32")
