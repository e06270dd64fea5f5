"""WebTransport sessions that are one byte stream: the first bidirectional stream that the client opens, both ways.

For protocols that are no MoQ and have a path of their own. What such a session carries is its service's business; here
is the stream, in bounds, and an end with a code that the client learns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
import trio

from media.moq.carriers.carrier import Code
from media.moq.carriers.quic_carrier import QuicCarrier
from media.moq.protocol.requests import Refusal

MAX_UNREAD_BYTES = 262_144  # aioquic widens the windows whether we read or not; as much as waits for a slow reader
MAX_STREAMS_ASTRAY = 64  # besides the one; the first draft of a client opens one or two by mistake
LAST_WORDS_S = 1.0  # for the client to acknowledge them, before the end of the session overtakes them

log = structlog.get_logger("quic")


class TooMuchUnread(trio.BrokenResourceError):
    """The client sent more than is kept, or opened streams without end."""


class ByteSession(trio.abc.Stream):
    """One session as a stream of bytes. The connection feeds it and has it `write`; its service does the rest."""

    def __init__(self, carrier: QuicCarrier) -> None:
        self._carrier = carrier
        self._stream: int | None = None
        self._unread, self._unsent = bytearray(), bytearray()
        self._has_ended = self._is_broken = False
        self._flooded = False
        self._astray = 0
        self._stirred = trio.Event()
        self.heard_at = trio.current_time()  # when the client last showed that it is there (s of Trio's clock)
        self.is_closed = False

    # -- the connection's side -----------------------------------------------------------------------------------------

    def receive_untrusted(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """Take a part of a stream, in order; all but the first are turned away."""
        self.heard()
        if self._stream is None and stream % 4 == 0:
            self._stream = stream
        if stream != self._stream:
            self._turn_away(stream)
            return
        if not self._flooded:
            self._unread += data
            self._has_ended |= is_last
            if len(self._unread) > MAX_UNREAD_BYTES:
                self._flood()
        self._stir()

    def reset_untrusted(self, stream: int) -> None:
        """Take note that the client gave up its half, which it would have ended, had it said all it wanted."""
        if stream == self._stream:
            self.lose()

    def stopped_untrusted(self, stream: int) -> None:
        """Take note that the client reads no more."""
        if stream == self._stream:
            self.lose()

    def heard(self) -> None:
        """Take note that the client is there."""
        self.heard_at = trio.current_time()

    def lose(self) -> None:
        """Break: the client has gone."""
        self._is_broken = True
        self._unsent.clear()
        self._stir()

    def write(self) -> None:
        """Pass on what waits, as far as it would leave soon."""
        if self._stream is None or self._is_broken:
            return
        room = min(self._carrier.room(), self._carrier.stream_room(self._stream))
        if self._unsent and room > 0:
            if not self._carrier.write(self._stream, bytes(self._unsent[:room])):
                self.lose()
                return
            del self._unsent[:room]
        self._stir()

    # -- the service's side --------------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; returns when all of it is with QUIC. Raises BrokenResourceError, ClosedResourceError."""
        self._check()
        self._unsent += data
        self._carrier.wake()
        await trio.lowlevel.checkpoint()
        while self._unsent:
            await self._stirred.wait()
        self._check()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until nothing waits."""
        while self._unsent:
            await self._stirred.wait()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what came, b"" at its end. Raises TooMuchUnread when the client floods, and as `send_all` does."""
        await trio.lowlevel.checkpoint()
        while not (self._unread or self._has_ended or self._is_broken or self._flooded or self.is_closed):
            await self._stirred.wait()
        if self._flooded:
            raise TooMuchUnread("the client sends more than is read")
        self._check()
        taken = bytes(self._unread[:max_bytes])
        del self._unread[: len(taken)]
        return taken

    def ping(self) -> None:
        """Have the client show that it is there: `heard_at` tells."""
        self._carrier.ping()

    async def aclose(self) -> None:
        """End with code 0."""
        await self.end(Code.CANCELLED, "")

    async def end(self, code: int, reason: str, patience_s: float = LAST_WORDS_S) -> None:
        """End the session once the client has what was sent, or has not acknowledged it for so long."""
        if self.is_closed:
            await trio.lowlevel.checkpoint()
            return
        stream = self._stream
        try:
            with trio.move_on_after(patience_s):
                if stream is not None and not self._is_broken:
                    await self.wait_send_all_might_not_block()
                    self._carrier.write(stream, b"", is_last=True)
                    while not (self._is_broken or self._carrier.is_done(stream)):
                        await self._stirred.wait()
        finally:
            self.is_closed = True
            self._carrier.close(code, reason)
            self._unsent.clear()
            self._stir()

    def _turn_away(self, stream: int) -> None:
        self._astray += 1
        self._carrier.stop(stream, Code.CANCELLED)
        if stream % 4 == 0:
            self._carrier.reset(stream, Code.CANCELLED)
        if self._astray > MAX_STREAMS_ASTRAY:
            self._flood()

    def _flood(self) -> None:
        self._flooded = True
        self._unread.clear()
        self._stir()

    def _check(self) -> None:
        if self._is_broken:
            raise trio.BrokenResourceError("the client has gone")
        if self.is_closed:
            raise trio.ClosedResourceError

    def _stir(self) -> None:
        stirred, self._stirred = self._stirred, trio.Event()
        stirred.set()


@dataclass(frozen=True, slots=True)
class ByteService:
    """What serves the sessions at one path.

    `serve` gets the session, the protocol agreed on and the token of `?jwt=`; the session ends when it returns.
    A client that offers no protocol gets the first.
    """

    protocols: Sequence[str]
    serve: Callable[[ByteSession, str, str | None], Awaitable[None]]


class ByteServices:
    """All that is served besides MoQ, by path; `nursery` holds who serves, as long as the endpoint runs."""

    def __init__(self, by_path: Mapping[str, ByteService]) -> None:
        self._by_path = by_path
        self.nursery: trio.Nursery | None = None
        self.counts = Counter[str]()

    def begin(
        self, path: str, token: str | None, offered: Sequence[str], carrier: QuicCarrier
    ) -> tuple[ByteSession, str] | Refusal | None:
        """Begin a session and return it with its protocol; None when the path is not ours."""
        service = self._by_path.get(path)
        if service is None or self.nursery is None:
            return None
        protocol = next((name for name in offered if name in service.protocols), None)
        if offered and protocol is None:
            return Refusal(400, f"Offer one of {', '.join(service.protocols)}.")
        session = ByteSession(carrier)
        protocol = protocol or service.protocols[0]
        self.nursery.start_soon(self._serve, service, session, protocol, token)
        return session, protocol

    async def _serve(self, service: ByteService, session: ByteSession, protocol: str, token: str | None) -> None:
        try:
            await service.serve(session, protocol, token)
        except Exception:
            # A fault of ours in one session ends that session and nothing else.
            self.counts["session_faults"] += 1
            log.exception("session_fault", protocol=protocol)
            await session.end(Code.INTERNAL, "internal error")
        else:
            await session.aclose()
