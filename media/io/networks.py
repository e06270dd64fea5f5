"""What an address says of who is behind it."""

from __future__ import annotations

import ipaddress


def network_of(address: str) -> str:
    """Return what stands for one asker: an IPv4 address, or the /64 that one IPv6 customer has whole."""
    ip = _parse(address)
    if isinstance(ip, ipaddress.IPv6Address) and not ip.is_loopback:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return address if ip is None else str(ip)


def is_loopback(address: str) -> bool:
    """Whether a peer's address is this machine's own."""
    ip = _parse(address)
    return ip is not None and ip.is_loopback


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
