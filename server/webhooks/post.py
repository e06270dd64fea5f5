"""Posts signed messages to endpoints: in bounds, without redirects, and to public addresses only, unless allowed.

A name is looked up here, every address it has is judged, and the connection goes to one of these: a name that leads
elsewhere a moment later leads nowhere (DNS rebinding).
"""

from __future__ import annotations

import datetime as dt
import email.utils
import ipaddress
import socket
from collections.abc import Iterable, Mapping

import httpcore2
import trio

from server.webhooks.schedule import Failed, Outcome, Taken

TIMEOUT_S = 15.0  # for a whole attempt; Standard Webhooks asks for 15 to 30 s
MAX_ANSWER = 65_536  # bytes read of an answer, so that its connection can be used again; nobody looks at them
GONE, TOO_MANY, UNAVAILABLE = 410, 429, 503
# Prefixes whose addresses carry an IPv4 address in their last 32 bits: NAT64 (RFC 6052) and IPv4-compatible (RFC 4291).
CARRIERS = (
    ipaddress.IPv6Network("64:ff9b::/96"),
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("::/96"),
)


class Poster:
    """A connection to one endpoint; `private` lets it be anywhere, also on this machine."""

    def __init__(self, url: str, *, private: bool) -> None:
        backend: httpcore2.AsyncNetworkBackend = httpcore2.TrioBackend()
        if not private:
            backend = PublicOnly(backend)
        self._url = url
        self._pool = httpcore2.AsyncConnectionPool(max_connections=1, network_backend=backend)

    async def post(self, body: bytes, headers: Mapping[str, str], now_ms: int) -> Outcome:
        """Try once."""
        with trio.move_on_after(TIMEOUT_S):
            try:
                return await self._post(body, headers, now_ms)
            except (
                httpcore2.NetworkError,
                httpcore2.ProtocolError,
                httpcore2.TimeoutException,
                httpcore2.UnsupportedProtocol,
                httpcore2.PoolTimeout,
            ) as error:
                return Failed(str(error) or type(error).__name__)
        return Failed(f"no answer within {TIMEOUT_S:.0f} s")

    async def aclose(self) -> None:
        """End the connection."""
        await self._pool.aclose()

    async def _post(self, body: bytes, headers: Mapping[str, str], now_ms: int) -> Outcome:
        given = [("Content-Type", "application/json"), ("User-Agent", "mesi-webhooks"), *headers.items()]
        async with self._pool.stream("POST", self._url, headers=given, content=body) as answer:
            read = 0
            async for part in answer.aiter_stream():
                read += len(part)
                if read > MAX_ANSWER:
                    break
            return judge(answer.status, header(answer.headers, b"retry-after"), now_ms)


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connects by another backend to hosts all of whose addresses are public; raises ConnectError for others."""

    def __init__(self, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (the library's)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look the host up, and connect to the first of its addresses that answers."""
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} can't be looked up: {error}") from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        if not addresses or not all(is_public(address) for address in addresses):
            raise httpcore2.ConnectError(f"{host} is not a public address")
        for number, address in enumerate(addresses, start=1):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore2.ConnectError:
                if number == len(addresses):
                    raise
        raise AssertionError("the last address connects or raises")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  (the library's)
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse to."""
        raise httpcore2.ConnectError("a Unix socket is not a public address")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await trio.sleep(seconds)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the whole internet, also where it carries another inside."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and any(ip in network for network in CARRIERS):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if ip.teredo is not None:
            return False
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


def judge(status: int, retry_after: str, now_ms: int) -> Outcome:
    """Return what an answer means: only 2xx is good, a redirect is a failure, 410 is a farewell."""
    if 200 <= status < 300:
        return Taken()
    pause_s = _pause_untrusted(retry_after, now_ms) if status in (TOO_MANY, UNAVAILABLE) else 0.0
    return Failed(f"answered {status}", pause_s, status == GONE)


def _pause_untrusted(text: str, now_ms: int) -> float:
    """Read Retry-After, seconds or a date (RFC 9110 section 10.2.3); 0 for none or for nonsense."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=dt.UTC)
    return max(0.0, until.timestamp() - now_ms / 1000)


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """Return what a header says, "" where there is none; `name` in small letters."""
    return next((value.decode("latin1") for key, value in headers if key.lower() == name), "")
