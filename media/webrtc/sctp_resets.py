"""Resets the streams of an SCTP association, which is how data channels are closed (RFC 6525, RFC 8831 section 6.7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from media.webrtc.sctp_chunks import (
    ADD_INCOMING,
    ADD_OUTGOING,
    INCOMING_RESET,
    OUTGOING_RESET,
    RE_CONFIG,
    RESET_RESPONSE,
    TSN_RESET,
    build_chunk,
    build_parameter,
    parameters_untrusted,
    tsn_after,
)
from media.webrtc.sctp_inbound import STREAMS, Inbound
from media.webrtc.sctp_outbound import LARGEST_RTO_NS, MAX_RETRANSMISSIONS, NEVER_NS, Outbound
from media.wire.malformed import MalformedPacket

PERFORMED, DENIED, BAD_NUMBER, IN_PROGRESS = 1, 2, 5, 6  # RFC 6525 section 4.4


class Resets:
    """Both directions: `request` resets streams of ours, and what the peer resets of its own is answered."""

    def __init__(self, first_own: int, first_peers: int, inbound: Inbound, outbound: Outbound) -> None:
        self._number, self._expected = first_own & 0xFFFFFFFF, first_peers & 0xFFFFFFFF
        self._inbound, self._outbound = inbound, outbound
        self._wanted: dict[int, None] = {}
        self._asked: tuple[int, ...] = ()  # those of the request that is not answered yet
        self._request = b""
        self._answer: tuple[int, int] | None = None  # the last request of the peer that is done, and its result
        self._tries = 0
        self._due_ns = NEVER_NS

    def request(self, stream: int) -> None:
        """Reset a stream of ours, once every message on it is on its way."""
        if stream not in self._asked:
            self._wanted[stream] = None

    def next_chunk(self, now_ns: int) -> bytes | None:
        """Return the request that is due now, None when there is none."""
        if not self._asked:
            self._ask(now_ns)
            return self._request or None
        if now_ns < self._due_ns:
            return None
        self._tries += 1
        self._due_ns = now_ns + min(self._outbound.rto_ns << self._tries, LARGEST_RTO_NS)
        return self._request

    def _ask(self, now_ns: int) -> None:
        ready = tuple(stream for stream in self._wanted if self._outbound.has_begun_all(stream))
        self._request = b""
        if not ready:
            return
        for stream in ready:
            del self._wanted[stream]
        head = struct.pack(
            "!III", self._number, (self._expected - 1) & 0xFFFFFFFF, (self._outbound.next_tsn - 1) & 0xFFFFFFFF
        )
        value = head + struct.pack(f"!{len(ready)}H", *ready)
        self._asked, self._tries = ready, 0
        self._request = build_chunk(RE_CONFIG, build_parameter(OUTGOING_RESET, value))
        self._due_ns = now_ns + self._outbound.rto_ns

    def receive_untrusted(self, value: bytes) -> tuple[list[bytes], list[int], list[int]]:
        """Take RE-CONFIG; returns chunks that answer, streams that the peer has reset, and those of ours that are.

        Raises MalformedPacket.
        """
        answers: list[bytes] = []
        theirs: list[int] = []
        ours: list[int] = []
        parameters = parameters_untrusted(value)
        if not 0 < len(parameters) <= 2:
            raise MalformedPacket("RE-CONFIG has one parameter or two")
        for kind, body in parameters:
            if kind == RESET_RESPONSE:
                ours += self._take_response(body)
            elif kind == OUTGOING_RESET:
                answer, streams = self._take_reset(body)
                answers.append(answer)
                theirs += streams
            elif kind in (INCOMING_RESET, TSN_RESET, ADD_OUTGOING, ADD_INCOMING):
                answers.append(self._deny(body))
        return answers, theirs, ours

    def _take_reset(self, body: bytes) -> tuple[bytes, Sequence[int]]:
        if len(body) < 12 or len(body) % 2:
            raise MalformedPacket("a request to reset of a wrong length")
        number, _, last = struct.unpack_from("!III", body)
        streams = struct.unpack_from(f"!{(len(body) - 12) // 2}H", body, 12)
        if (repeated := self._repeated(number)) is not None:
            return repeated, ()
        if tsn_after(self._inbound.cumulative, last) > self._inbound.cumulative:
            return _response(number, IN_PROGRESS), ()  # it asks again, and then the rest may have come
        self._finish(number, PERFORMED)
        self._inbound.reset(streams)
        return _response(number, PERFORMED), [stream for stream in streams if stream < STREAMS] or range(STREAMS)

    def _deny(self, body: bytes) -> bytes:
        if len(body) < 4:
            raise MalformedPacket("a request without a number")
        number = int.from_bytes(body[:4])
        if (repeated := self._repeated(number)) is not None:
            return repeated
        self._finish(number, DENIED)
        return _response(number, DENIED)

    def _repeated(self, number: int) -> bytes | None:
        """Return the answer to a request that is not the one expected, None for the one that is."""
        if number == self._expected:
            return None
        is_last = self._answer is not None and self._answer[0] == number
        return _response(number, self._answer[1] if is_last and self._answer else BAD_NUMBER)

    def _finish(self, number: int, result: int) -> None:
        self._answer, self._expected = (number, result), (number + 1) & 0xFFFFFFFF

    def _take_response(self, body: bytes) -> Sequence[int]:
        if len(body) < 8:
            raise MalformedPacket("a response is cut short")
        number, result = struct.unpack_from("!II", body)
        if not self._asked or number != self._number or result == IN_PROGRESS:
            return ()
        # Whatever else it says, there is nothing more to ask for.
        done, self._asked = self._asked, ()
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._due_ns = NEVER_NS
        for stream in done:
            self._outbound.reset(stream)
        return done

    @property
    def is_lost(self) -> bool:
        """Whether the peer was asked too often and never answered."""
        return self._tries > MAX_RETRANSMISSIONS

    def deadline_ns(self) -> int:
        """When `next_chunk` has something again."""
        return self._due_ns if self._asked else NEVER_NS


def _response(number: int, result: int) -> bytes:
    return build_chunk(RE_CONFIG, build_parameter(RESET_RESPONSE, struct.pack("!II", number, result)))
