"""Which addresses are public: IANA's globally reachable ones, without those of cloud services.

Our own list, since Python's differs by version: 3.11 takes 192.0.0.0/24, 3fff::/20 and ISATAP for
public.
"""

import ipaddress
import socket
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


# IANA's IPv4 and IPv6 special-purpose address registries, both of 2025-10-09
# (iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry): networks that are
# not "globally reachable", and exceptions within them that are. Of IPv6 only 2000::/3 is assigned
# as global unicast (iana.org/assignments/ipv6-address-space), so that networks outside of it need
# no line: loopback, ::ffff:0:0/96, 64:ff9b:1::/48, 100::/64, 5f00::/16, fc00::/7 (with cloud
# metadata at fd00:ec2::254 and fd20:ce::254), fe80::/10, fec0::/10, ff00::/8.
_NOT_GLOBAL_V4: Final = _networks(
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # and Alibaba's metadata, 100.100.100.200
    "127.0.0.0/8",
    "169.254.0.0/16",  # and most clouds' metadata, 169.254.169.254
    "172.16.0.0/12",
    "192.0.0.0/24",  # and Oracle's metadata, 192.0.0.192
    "192.0.2.0/24",
    "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",
)
_GLOBAL_V4: Final = _networks("192.0.0.9/32", "192.0.0.10/32")
_UNICAST_V6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_GLOBAL_V6: Final = _networks(
    "2001::/23",  # and Teredo, 2001::/32
    "2001:db8::/32",
    "2002::/16",  # 6to4
    "3fff::/20",
)
_GLOBAL_V6: Final = _networks(
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
)

_IN_CLOUDS: Final = _networks(
    "168.63.129.16/32",  # Azure's platform services
    "161.26.0.0/16",  # IBM Cloud's services
    "166.8.0.0/14",
)
"""Public by the registries, but internal services within the cloud that owns them."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # RFC 5214, 6.1


def is_public(address: Address) -> bool:
    """Return whether an address is a public host: neither this machine nor its network."""
    if isinstance(address, ipaddress.IPv4Address):
        given, reachable = True, _GLOBAL_V4
        closed = (*_NOT_GLOBAL_V4, *_IN_CLOUDS)
    else:
        given, reachable, closed = address in _UNICAST_V6, _GLOBAL_V6, _NOT_GLOBAL_V6
    is_global = any(address in network for network in reachable) or not any(
        address in network for network in closed
    )
    return given and is_global and not _is_tunnel(address) and not _is_own(address)


def embedded(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one leads to: mapped, or by NAT64; else None."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_tunnel(address: Address) -> bool:
    """Return whether an address tunnels to the IPv4 address in it, public or not (ISATAP)."""
    return address.version == 6 and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP


def _is_own(address: Address) -> bool:
    """Return whether an address is this machine's own, even if public.

    Sends nothing: connecting a UDP socket only chooses the source address.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:  # no route
        return False
