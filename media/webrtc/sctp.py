"""One SCTP association inside DTLS, as WebRTC's data channels use it (RFC 9260, RFC 8261, RFC 8831). Sans-IO.

It is the subset that data channels need: one path, so heartbeats are answered and none are sent; both ends can begin,
and ours ends by what DTLS says. Every packet is acknowledged at once. Messages may be given up by either
end (RFC 3758), streams are reset (RFC 6525), messages are not interleaved (RFC 8260 is not offered).
"""

from __future__ import annotations

import secrets
import struct
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto

from media.webrtc import sctp_chunks as wire
from media.webrtc.sctp_chunks import Chunk, Init
from media.webrtc.sctp_events import Ended, Established, Event, StreamsReset
from media.webrtc.sctp_handshake import LIFE_NS, Handshake
from media.webrtc.sctp_inbound import STREAMS, WINDOW, Inbound, Violation
from media.webrtc.sctp_outbound import FIRST_RTO_NS, LARGEST_RTO_NS, MAX_RETRANSMISSIONS, NEVER_NS, Outbound
from media.webrtc.sctp_reliability import RELIABLE, Reliability
from media.webrtc.sctp_resets import Resets
from media.wire.malformed import MalformedPacket

PORT = 5000  # what every browser uses (RFC 8841 section 5)
MAX_INIT_TRIES = 8  # RFC 9260 section 16: Max.Init.Retransmits
MAX_ANSWERS = 16  # control chunks that one packet may be answered with; honest ones need two
COUNTERS = ("malformed", "strays", "aborted", "lost", "violations", "retransmitted", "abandoned", "dropped")


class State(Enum):
    """Where an association stands (RFC 9260 section 4)."""

    CLOSED = auto()
    COOKIE_WAIT = auto()
    COOKIE_ECHOED = auto()
    ESTABLISHED = auto()
    SHUTDOWN_RECEIVED = auto()
    SHUTDOWN_ACK_SENT = auto()


BEGINNING = (State.COOKIE_WAIT, State.COOKIE_ECHOED)
OPEN = (State.ESTABLISHED, State.SHUTDOWN_RECEIVED)


class Association:
    """One end; `take_packets` has what it sends. `counters` counts what kept it from working, by COUNTERS."""

    def __init__(
        self, *, own_port: int = PORT, peer_port: int = PORT, random_bits: Callable[[int], int] = secrets.randbits
    ) -> None:
        self.state = State.CLOSED
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self._own_port, self._peer_port = own_port, peer_port
        self._handshake = Handshake(random_bits)
        self._own_tag = self._peer_tag = 0
        self._init = Init(0, 0, 0, 0, 0)
        self._cookie = b""  # of the peer, to be given back
        self._tries = 0
        self._handshake_due_ns = NEVER_NS
        self._packets: list[bytes] = []
        self._control: list[bytes] = []
        self._owes_sack = False
        self._begin(1, 1, WINDOW)
        self.outgoing_streams = 0

    # -- the two ends --------------------------------------------------------------------------------------------------

    def connect(self, now_ns: int) -> None:
        """Begin; the other end may wait for it, or begin as well."""
        assert self.state is State.CLOSED, "an association begins once"
        self._init = self._handshake.own_init()
        self._own_tag, self.state, self._tries = self._init.tag, State.COOKIE_WAIT, 0
        self._handshake_due_ns = now_ns
        self._repeat_handshake(now_ns)

    def send(
        self,
        stream: int,
        protocol: int,
        data: bytes,
        *,
        unordered: bool = False,
        reliability: Reliability = RELIABLE,
        key: str | None = None,
    ) -> None:
        """Queue a message on a stream below `outgoing_streams`; see `buffered`."""
        if self.state is State.ESTABLISHED:
            self._outbound.send(stream, protocol, data, unordered=unordered, reliability=reliability, key=key)

    def drop(self, stream: int) -> None:
        """Send no more of what waits on a stream."""
        self._outbound.drop(stream)

    def reset(self, stream: int) -> None:
        """Send no more on a stream, once what is on its way has left, and have it begin anew."""
        if self.state in OPEN:
            self._resets.request(stream)

    @property
    def is_established(self) -> bool:
        """Whether messages can be sent."""
        return self.state is State.ESTABLISHED

    @property
    def buffered(self) -> int:
        """How many bytes wait or are on their way."""
        return self._outbound.buffered

    def abort(self, reason: str = "aborted") -> list[Event]:
        """End at once, and say so."""
        if self.state in (State.CLOSED, State.COOKIE_WAIT):
            return self._end(reason)
        self._packets.append(self._packet([wire.build_chunk(wire.ABORT)]))
        return self._end(reason)

    # -- what arrives --------------------------------------------------------------------------------------------------

    def receive_untrusted(self, packet: bytes, now_ns: int) -> list[Event]:
        """Take one packet out of the DTLS session."""
        try:
            parsed = wire.parse_packet_untrusted(packet)
            if (parsed.source, parsed.destination) != (self._peer_port, self._own_port) or not parsed.chunks:
                raise MalformedPacket("of other ports, or of nothing")
            if not self._is_for_us(parsed):
                return self._turn_away(parsed)
            return self._receive_chunks(parsed, now_ns)
        except MalformedPacket:
            self.counters["malformed"] += 1
        except Violation:
            self.counters["violations"] += 1
            cause = wire.build_parameter(wire.PROTOCOL_VIOLATION)
            self._packets.append(self._packet([wire.build_chunk(wire.ABORT, cause)]))
            return self._end("violation")
        return []

    def _is_for_us(self, packet: wire.Packet) -> bool:
        """Whether the verification tag is right (section 8.5)."""
        first = packet.chunks[0]
        if any(chunk.kind == wire.INIT for chunk in packet.chunks):
            return packet.tag == 0 and len(packet.chunks) == 1
        if first.kind in (wire.ABORT, wire.SHUTDOWN_COMPLETE) and first.flags & wire.REFLECTED:
            return packet.tag == self._peer_tag != 0
        if first.kind == wire.COOKIE_ECHO:
            cookie = self._handshake.open_untrusted(first.value)
            return cookie is not None and cookie.own_tag == packet.tag
        return packet.tag == self._own_tag != 0 and self.state is not State.CLOSED

    def _turn_away(self, packet: wire.Packet) -> list[Event]:
        """Tell who believes in an association that there is none (section 8.4); strays else are dropped."""
        self.counters["strays"] += 1
        silent = (wire.INIT, wire.ABORT, wire.SHUTDOWN_COMPLETE, wire.COOKIE_ECHO, wire.COOKIE_ACK, wire.ERROR)
        if self.state is State.CLOSED and not any(chunk.kind in silent for chunk in packet.chunks):
            abort = wire.build_chunk(wire.ABORT, flags=wire.REFLECTED)
            self._packets.append(wire.build_packet(self._own_port, self._peer_port, packet.tag, [abort]))
        return []

    def _receive_chunks(self, packet: wire.Packet, now_ns: int) -> list[Event]:
        events: list[Event] = []
        for chunk in packet.chunks:
            if chunk.kind not in self._READERS:
                if chunk.kind & 0x40:
                    whole = wire.build_chunk(chunk.kind, chunk.value, chunk.flags)
                    self._report(wire.UNRECOGNISED_CHUNK, whole[: wire.MAX_PACKET // 2])
                if not chunk.kind & 0x80:
                    break
                continue
            events += self._READERS[chunk.kind](self, chunk, now_ns)
            if self.state is State.CLOSED and chunk.kind != wire.INIT:
                break
        return events

    # -- the handshake -------------------------------------------------------------------------------------------------

    def _take_init(self, chunk: Chunk, now_ns: int) -> list[Event]:
        """Answer with a cookie, and remember nothing (sections 5.1.3, 5.2.1 and 5.2.2)."""
        init = wire.parse_init_untrusted(chunk.value)
        own = self._init if self.state in BEGINNING else self._handshake.own_init()
        ack = self._handshake.answer(init, own, (self._own_tag, self._peer_tag), now_ns)
        self._packets.append(wire.build_packet(self._own_port, self._peer_port, init.tag, [ack]))
        return []

    def _take_init_ack(self, chunk: Chunk, now_ns: int) -> list[Event]:
        if self.state is not State.COOKIE_WAIT:
            return []
        init = wire.parse_init_untrusted(chunk.value)
        cookie = init.parameter(wire.COOKIE)
        if not cookie:
            raise MalformedPacket("INIT ACK without a cookie")
        self._peer_tag, self.outgoing_streams = init.tag, min(init.incoming, STREAMS)
        self._begin(self._init.tsn, init.tsn, init.window, forwards=init.forwards)
        self._cookie, self.state, self._tries = cookie, State.COOKIE_ECHOED, 0
        self._handshake_due_ns = now_ns
        self._repeat_handshake(now_ns)
        return []

    def _take_cookie(self, chunk: Chunk, now_ns: int) -> list[Event]:
        """Establish what a cookie says, or see that it is so already (sections 5.1.5 and 5.2.4)."""
        cookie = self._handshake.open_untrusted(chunk.value)
        assert cookie is not None, "its tag was compared"
        is_same = (cookie.own_tag, cookie.peer_tag) == (self._own_tag, self._peer_tag)
        if is_same and self.state not in BEGINNING:
            self._control.append(wire.build_chunk(wire.COOKIE_ACK))
            return []
        if now_ns - cookie.made_ns > LIFE_NS:
            stale = wire.build_parameter(wire.STALE_COOKIE, struct.pack("!I", 0))
            error = [wire.build_chunk(wire.ERROR, stale)]
            self._packets.append(wire.build_packet(self._own_port, self._peer_port, cookie.peer_tag, error))
            return []
        is_restart = (cookie.former_own_tag, cookie.former_peer_tag) == (self._own_tag, self._peer_tag)
        is_collision = cookie.own_tag == self._own_tag and self.state is not State.CLOSED
        if self.state is not State.CLOSED and not (is_restart or is_collision or is_same):
            return []  # of an association that others have replaced
        self._own_tag, self._peer_tag, self.outgoing_streams = cookie.own_tag, cookie.peer_tag, cookie.outgoing
        self._begin(cookie.own_tsn, cookie.peer_tsn, cookie.window, forwards=cookie.forwards)
        self._control.append(wire.build_chunk(wire.COOKIE_ACK))
        return self._establish()

    def _take_cookie_ack(self, chunk: Chunk, now_ns: int) -> list[Event]:
        return self._establish() if self.state is State.COOKIE_ECHOED else []

    def _establish(self) -> list[Event]:
        self.state, self._handshake_due_ns = State.ESTABLISHED, NEVER_NS
        return [Established()]

    # -- data and what belongs to it -----------------------------------------------------------------------------------

    def _take_data(self, chunk: Chunk, now_ns: int) -> list[Event]:
        if self.state not in OPEN:
            return []
        data = wire.parse_data_untrusted(chunk)
        self._owes_sack = True
        if data.stream >= STREAMS:
            self._report(wire.INVALID_STREAM, struct.pack("!HH", data.stream, 0))
        return list(self._inbound.take(data))

    def _take_sack(self, chunk: Chunk, now_ns: int) -> list[Event]:
        if self.state in OPEN:
            self._outbound.acknowledge(wire.parse_sack_untrusted(chunk.value), now_ns)
        return []

    def _take_forward(self, chunk: Chunk, now_ns: int) -> list[Event]:
        if self.state not in OPEN:
            return []
        self._owes_sack = True
        return list(self._inbound.forward(*wire.parse_forward_untrusted(chunk.value)))

    def _take_reset(self, chunk: Chunk, now_ns: int) -> list[Event]:
        if self.state not in OPEN:
            return []
        answers, theirs, ours = self._resets.receive_untrusted(chunk.value)
        self._answer(*answers)
        events: list[Event] = [StreamsReset(tuple(theirs), ours=False)] if theirs else []
        return events + ([StreamsReset(tuple(ours), ours=True)] if ours else [])

    def _take_heartbeat(self, chunk: Chunk, now_ns: int) -> list[Event]:
        self._answer(wire.build_chunk(wire.HEARTBEAT_ACK, chunk.value))
        return []

    def _take_nothing(self, chunk: Chunk, now_ns: int) -> list[Event]:
        return []

    def _report(self, cause: int, value: bytes) -> None:
        self._answer(wire.build_chunk(wire.ERROR, wire.build_parameter(cause, value)))

    def _answer(self, *chunks: bytes) -> None:
        fitting = [chunk for chunk in chunks if len(chunk) <= wire.MAX_PACKET - wire.HEADER]
        self._control += fitting[: max(0, MAX_ANSWERS - len(self._control))]

    # -- the end -------------------------------------------------------------------------------------------------------

    def _take_abort(self, chunk: Chunk, now_ns: int) -> list[Event]:
        self.counters["aborted"] += 1
        return self._end("aborted_by_peer")

    def _take_shutdown(self, chunk: Chunk, now_ns: int) -> list[Event]:
        """Let what is on its way arrive, and then agree (section 9.2)."""
        if self.state in OPEN and len(chunk.value) == 4:
            cumulative = int.from_bytes(chunk.value)
            self._outbound.acknowledge(wire.Sack(cumulative, WINDOW), now_ns)
            self.state = State.SHUTDOWN_RECEIVED
        return []

    def _take_shutdown_complete(self, chunk: Chunk, now_ns: int) -> list[Event]:
        return self._end("shut_down_by_peer") if self.state is State.SHUTDOWN_ACK_SENT else []

    def _end(self, reason: str) -> list[Event]:
        was_open = self.state is not State.CLOSED
        self.state, self._handshake_due_ns = State.CLOSED, NEVER_NS
        self._control, self._owes_sack = [], False
        self._count_halves()
        self._begin(1, 1, WINDOW)
        self._own_tag = self._peer_tag = 0
        return [Ended(reason)] if was_open else []

    _READERS = {  # noqa: RUF012  (a table of methods)
        wire.DATA: _take_data,
        wire.INIT: _take_init,
        wire.INIT_ACK: _take_init_ack,
        wire.SACK: _take_sack,
        wire.HEARTBEAT: _take_heartbeat,
        wire.HEARTBEAT_ACK: _take_nothing,
        wire.ABORT: _take_abort,
        wire.SHUTDOWN: _take_shutdown,
        wire.SHUTDOWN_ACK: _take_nothing,
        wire.ERROR: _take_nothing,
        wire.COOKIE_ECHO: _take_cookie,
        wire.COOKIE_ACK: _take_cookie_ack,
        wire.SHUTDOWN_COMPLETE: _take_shutdown_complete,
        wire.RE_CONFIG: _take_reset,
        wire.FORWARD_TSN: _take_forward,
    }

    # -- what leaves ---------------------------------------------------------------------------------------------------

    def take_packets(self, now_ns: int) -> list[bytes]:
        """Return the packets to send now."""
        if self.state in OPEN:
            self._fill_packets(now_ns)
        packets, self._packets = self._packets, []
        return packets

    def _fill_packets(self, now_ns: int) -> None:
        if (request := self._resets.next_chunk(now_ns)) is not None:
            self._control.append(request)
        if self._owes_sack:
            self._control.append(wire.build_sack(self._inbound.sack()))
            self._owes_sack = False
        chunks: list[bytes] = []
        room = wire.MAX_PACKET - wire.HEADER
        while (chunk := self._next_chunk(room, now_ns)) is not None or chunks:
            if chunk is None or len(chunk) > room:
                self._packets.append(self._packet(chunks))
                chunks, room = [], wire.MAX_PACKET - wire.HEADER
            if chunk is not None:
                chunks.append(chunk)
                room -= len(chunk)
        if self.state is State.SHUTDOWN_RECEIVED and self._outbound.is_empty:
            self.state, self._tries = State.SHUTDOWN_ACK_SENT, 0
            self._handshake_due_ns = now_ns
            self._repeat_handshake(now_ns)

    def _next_chunk(self, room: int, now_ns: int) -> bytes | None:
        if self._control:
            return self._control.pop(0)
        return self._outbound.next_chunk(room, now_ns)

    def _packet(self, chunks: list[bytes]) -> bytes:
        return wire.build_packet(self._own_port, self._peer_port, self._peer_tag, chunks)

    # -- time ----------------------------------------------------------------------------------------------------------

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        return min(self._handshake_due_ns, self._outbound.deadline_ns(), self._resets.deadline_ns())

    def handle_timeout(self, now_ns: int) -> list[Event]:
        """Send again what was not answered in time; end where it never is."""
        self._outbound.handle_timeout(now_ns)
        is_silent = self._outbound.failures > MAX_RETRANSMISSIONS or self._resets.is_lost
        if is_silent or (now_ns >= self._handshake_due_ns and self._tries > MAX_INIT_TRIES):
            self.counters["lost"] += 1
            return self.abort("lost")
        self._repeat_handshake(now_ns)
        return []

    def _repeat_handshake(self, now_ns: int) -> None:
        """Send, or send again, what begins or ends the association (timers T1 and T2)."""
        if now_ns < self._handshake_due_ns:
            return
        self._handshake_due_ns = now_ns + min(FIRST_RTO_NS << self._tries, LARGEST_RTO_NS)
        self._tries += 1
        match self.state:
            case State.COOKIE_WAIT:
                init = [wire.build_chunk(wire.INIT, wire.build_init(self._init))]
                self._packets.append(wire.build_packet(self._own_port, self._peer_port, 0, init))
            case State.COOKIE_ECHOED:
                self._packets.append(self._packet([wire.build_chunk(wire.COOKIE_ECHO, self._cookie)]))
            case State.SHUTDOWN_ACK_SENT:
                self._packets.append(self._packet([wire.build_chunk(wire.SHUTDOWN_ACK)]))

    # -- small things --------------------------------------------------------------------------------------------------

    def _begin(self, own_tsn: int, peer_tsn: int, window: int, *, forwards: bool = False) -> None:
        self._inbound, self._outbound = Inbound(peer_tsn), Outbound(own_tsn, window, forwards=forwards)
        self._resets = Resets(own_tsn, peer_tsn, self._inbound, self._outbound)

    def _count_halves(self) -> None:
        self.counters.update(self._of_halves())

    def counted(self) -> dict[str, int]:
        """Return the counters, those of what is open now among them."""
        current = self._of_halves()
        return {name: self.counters[name] + current.get(name, 0) for name in COUNTERS}

    def _of_halves(self) -> dict[str, int]:
        sent, received = self._outbound, self._inbound
        return {"retransmitted": sent.retransmitted, "abandoned": sent.abandoned, "dropped": received.dropped}
