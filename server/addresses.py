"""Addresses as the configuration says them: where media arrives, how "HOST:PORT" is read, which ones a machine has."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.complaints import ConfigError
from server.cores import usable_cores

Port = Annotated[int, Meta(ge=0, le=65_535)]
Host = Annotated[str, Meta(min_length=1, max_length=253)]
AUTO = "auto"  # of the media address: see `outward_address`
MAX_MEDIA_HOSTS = 8  # sockets that one forwarding thread reads
MAX_WORKERS = 16  # forwarding threads; on more cores one Python can't keep up with who comes and goes
LAST_PORT = 65_535


class MediaAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where media arrives: one UDP port on each address; `advertise` lists "ip:port" told besides (1:1 NAT).

    With `tcp`, connections of clients without UDP are taken, too: on `tcp_port`, 0 for the number of the UDP port.
    There are as many forwarding threads as `workers` says ("auto": one a core); each has the port after the last one's.
    """

    host: Host | Annotated[tuple[Host, ...], Meta(min_length=1, max_length=MAX_MEDIA_HOSTS)] = AUTO
    port: Port = 7882
    workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] | Literal["auto"] = 1
    tcp: bool = True
    tcp_port: Port = 0
    advertise: Annotated[tuple[str, ...], Meta(max_length=8)] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses, the best first."""
        return (self.host,) if isinstance(self.host, str) else self.host

    @property
    def threads(self) -> int:
        """How many forwarding threads there are; "auto" is one for each core that may be used."""
        return self.workers if isinstance(self.workers, int) else min(usable_cores(), MAX_WORKERS)

    @property
    def ports(self) -> tuple[int, ...]:
        """The UDP ports on each address."""
        return tuple(range(self.port, self.port + self.threads)) if self.port else (0,)


def parse_address(text: str, name: str) -> tuple[str, int]:
    """Split "HOST:PORT" or "[IPv6]:PORT"; raises ConfigError."""
    split = re.fullmatch(r"\[(?P<six>[^\]]+)\]:(?P<six_port>\d{1,5})|(?P<host>[^:\s]+):(?P<port>\d{1,5})", text)
    port = int(split["six_port"] or split["port"]) if split else -1
    if split is None or not 0 <= port <= 65_535:
        raise ConfigError(f"{name} {text}: must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    return split["six"] or split["host"], port


def bracketed(host: str) -> str:
    """Return a host as it stands in an address with a port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def check_media(media: MediaAddress) -> list[tuple[tuple[str, str], str]]:
    """Return (where, what is wrong) for each address that clients could not reach."""
    problems = [(("media", "host"), words) for words in map(_wrong_with, media.hosts) if words]
    if len(set(media.hosts)) < len(media.hosts):
        problems.append((("media", "host"), "names an address twice"))
    if media.ports[-1] > LAST_PORT:
        problems.append((("media", "port"), f"leaves no numbers for {media.threads} workers, which take one each"))
    for extra in media.advertise:
        try:
            ipaddress.ip_address(parse_address(extra, "advertise")[0])
        except (ConfigError, ValueError):
            problems.append((("media", "advertise"), f'"{extra}" must be "IP:PORT", such as "203.0.113.7:7882"'))
    return problems


def _wrong_with(host: str) -> str:
    try:
        if host == AUTO or not ipaddress.ip_address(host).is_unspecified:
            return ""
    except ValueError:
        return f"must be an IP address, such as 127.0.0.1; {host} is a name"
    # Replies would leave from whatever address the kernel picks, and browsers drop them.
    return f"must be addresses of this machine, not a wildcard: any of {', '.join(own_addresses())}"


def outward_address() -> str:
    """Return the IPv4 address that a packet to another network would leave from; without a way there, the loopback.

    Firefox pairs no candidate of its own with a loopback address, so a page of this machine could not play from there.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # which sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def own_addresses() -> list[str]:
    """Return this machine's IP addresses, loopback first."""
    found = {"127.0.0.1"}
    # The address that a packet to elsewhere would leave from; connecting a UDP socket sends nothing.
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.add(probe.getsockname()[0])
        except OSError:
            continue
    with contextlib.suppress(OSError):
        found |= {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(found, key=lambda address: (not ipaddress.ip_address(address.split("%")[0]).is_loopback, address))
