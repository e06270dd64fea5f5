"""The wire messages of the signalling socket: how requests are read, and answers and events written.

Two subprotocols say the same: `mesi.v1.msgpack` in binary frames and `mesi.v1.json` in text frames. Each message is one
map with a `type`. The first of a connection is `hello`; requests carry an `id`, which their `ok` or `error` repeats.

Clients that speak only QUIC say the same over WebTransport: a session at `https://HOST:PORT/ws`, in it one
bidirectional stream that the client opens, on it each message behind its length in bytes, a varint (RFC 9000 section
16). The subprotocol is offered as WebTransport's protocols are; without an offer it is JSON. The token may be in the
URL (`/ws?jwt=TOKEN`); then `hello` needs none. What closes a WebSocket with a code and a word ends the session with
them (draft-ietf-webtrans-http3 section 6), behind the last message. Other streams are turned away, datagrams not read.

WHIP and WHEP clients need neither: in a data channel labelled `mesi.events` they get and say the same in JSON, each
message as text. It needs no `hello`: it is whoever opened the media session, and follows that one's stream from the
start. It ends with the token that opened the session, or when the client does not read or says too much.

Resuming: what must arrive carries `event`, a number that rises by one within a session and is the same in every copy. A
client remembers the highest, and after a lost connection says `hello{resume:{session, after}}`. It gets `welcome`, then
what it missed, then a fresh `stream.state` of every stream it has joined; where the server's memory does not reach back
(128 events, 60 s) `gap{after}` comes first. What is only worth its latest value (`room.presence`, `room.speaking`,
`directory.*`) has no `event` and is not repeated. `welcome` and `gap` carry the number from which the client goes on.

An event for thousands is encoded once per subprotocol; its number is spliced into the head of each copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from signalling.refusals import Refused
from signalling.wire import requests as r
from signalling.wire.events import WireEvent

MAX_MESSAGE_BYTES = 16_384  # of a request: four times the longest text, in the widest characters
PLACES = 10  # of a number in JSON: copies of one event differ in these alone
MAX_SPLICED_FIELDS = 14  # a MessagePack map of up to 15 entries has a head of one byte


class Encoding(StrEnum):
    """The subprotocols, by their names in Sec-WebSocket-Protocol."""

    MSGPACK = "mesi.v1.msgpack"
    JSON = "mesi.v1.json"


class MalformedMessage(Exception):
    """What a client sent is no message; `id` is that of the request where one could be made out."""

    def __init__(self, detail: str, id: int | None = None) -> None:
        super().__init__(detail)
        self.detail, self.id = detail, id


class _Numbered(msgspec.Struct):
    id: r.Id


class _Ok(msgspec.Struct, frozen=True, tag_field="type", tag="ok"):
    id: int
    server_now: int
    result: Any


T = TypeVar("T", covariant=True)


class _Decoder(Protocol[T]):
    def decode(self, data: bytes, /) -> T: ...


class _Encoder(Protocol):
    def encode(self, value: object, /) -> bytes: ...


_REQUESTS: dict[Encoding, _Decoder[r.Request]] = {
    Encoding.MSGPACK: msgspec.msgpack.Decoder(r.Request),
    Encoding.JSON: msgspec.json.Decoder(r.Request),
}
_HELLOS: dict[Encoding, _Decoder[r.Hello]] = {
    Encoding.MSGPACK: msgspec.msgpack.Decoder(r.Hello),
    Encoding.JSON: msgspec.json.Decoder(r.Hello),
}
_NUMBERED: dict[Encoding, _Decoder[_Numbered]] = {
    Encoding.MSGPACK: msgspec.msgpack.Decoder(_Numbered),
    Encoding.JSON: msgspec.json.Decoder(_Numbered),
}
_ENCODERS: dict[Encoding, _Encoder] = {
    Encoding.MSGPACK: msgspec.msgpack.Encoder(),
    Encoding.JSON: msgspec.json.Encoder(),
}


def decode_hello_untrusted(data: bytes, encoding: Encoding) -> r.Hello:
    """Read the first message of a connection; raises MalformedMessage."""
    try:
        _check_size(data)
        return _HELLOS[encoding].decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise MalformedMessage(str(fault)) from None


def decode_request_untrusted(data: bytes, encoding: Encoding) -> r.Request:
    """Read a request; raises MalformedMessage, with its id where that could be made out."""
    try:
        _check_size(data)
        return _REQUESTS[encoding].decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise MalformedMessage(str(fault), _id_untrusted(data, encoding)) from None


def encode_ok(id: int, result: object, server_now: int, encoding: Encoding) -> bytes:
    """Write the answer to a request that was granted; `result` is a view or None."""
    return _ENCODERS[encoding].encode(_Ok(id, server_now, result))


def encode_error(id: int | None, refused: Refused, server_now: int, encoding: Encoding) -> bytes:
    """Write the answer to a request that was refused; what would help stands beside the code, by name."""
    said = {"type": "error", "id": id, "code": refused.code, "title": refused.title, "detail": refused.detail}
    return _ENCODERS[encoding].encode({**refused.extra, **said, "server_now": server_now})


class Numbered(NamedTuple):
    """A message with room for its number at `at`: a 32-bit integer, or, where `width` is not 0, decimal places."""

    data: bytes
    at: int
    width: int


class Encoded:
    """One event on its way to any number of sessions, encoded at most once per subprotocol.

    `told_ns` is when the first of those that repeat it was told.
    """

    __slots__ = ("_bodies", "event", "told_ns")

    def __init__(self, event: WireEvent) -> None:
        self.event = event
        self.told_ns: int | None = None
        self._bodies: dict[Encoding, bytes] = {}

    def frame(self, encoding: Encoding, number: int | None = None) -> bytes:
        """Return the message, with `event` spliced in when it has a number (below 2^32).

        However large that is, a message is as long: numbers in JSON have blanks in front.
        """
        body = self._body(encoding)
        if number is None:
            return body
        if encoding is Encoding.JSON:
            return b'{"event":%*d,%b' % (PLACES, number, body[1:])
        # A fixmap's head is 0x80 + entries: one entry more, its key "event", its value a uint 32.
        return b"%c\xa5event\xce%b%b" % (body[0] + 1, number.to_bytes(4, "big"), body[1:])

    def numbered(self, encoding: Encoding) -> Numbered:
        """Return what all copies have in common, and where the number goes."""
        is_json = encoding is Encoding.JSON
        return Numbered(self.frame(encoding, 0), 9 if is_json else 8, PLACES if is_json else 0)

    def _body(self, encoding: Encoding) -> bytes:
        body = self._bodies.get(encoding)
        if body is None:
            body = self._bodies[encoding] = _ENCODERS[encoding].encode(self.event)
        return body


class Framing(Protocol):
    """Turns messages into the bytes of a connection, as all connections of its type with one encoding do."""

    def message(self, data: bytes) -> bytes:
        """Return a message as it is sent."""


class Bundle:
    """Events without numbers that are sent together: encoded and framed at most once for all who hear the same."""

    __slots__ = ("_framed", "events")

    def __init__(self, events: Sequence[Encoded]) -> None:
        self.events = events
        self._framed: dict[tuple[Encoding, type], bytes] = {}

    def framed(self, encoding: Encoding, framing: Framing) -> bytes:
        """Return all of them as they are sent."""
        key = encoding, type(framing)
        data = self._framed.get(key)
        if data is None:
            frames = [framing.message(event.frame(encoding)) for event in self.events]
            data = self._framed[key] = b"".join(frames)
        return data


class Personal(Encoded):
    """An event for one person: encoded anew when it is repeated, which is rare, so that its bytes need not be kept."""

    __slots__ = ()

    def __init__(self, event: WireEvent) -> None:
        self.event = event
        self.told_ns = None

    def _body(self, encoding: Encoding) -> bytes:
        return _ENCODERS[encoding].encode(self.event)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"a message has at most {MAX_MESSAGE_BYTES} bytes")


def _id_untrusted(data: bytes, encoding: Encoding) -> int | None:
    try:
        return _NUMBERED[encoding].decode(data).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
