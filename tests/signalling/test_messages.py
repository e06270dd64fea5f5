"""The wire messages: both subprotocols say the same, and bad input is an error with a reason."""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused
from signalling.wire import events as w
from signalling.wire import requests as r
from signalling.wire import tickets as wire_tickets
from signalling.wire.messages import (
    MAX_MESSAGE_BYTES,
    MAX_SPLICED_FIELDS,
    Encoded,
    Encoding,
    MalformedMessage,
    decode_hello_untrusted,
    decode_request_untrusted,
    encode_error,
    encode_ok,
)
from signalling.wire.views import Done, Person

LOADS = {Encoding.MSGPACK: msgspec.msgpack.decode, Encoding.JSON: msgspec.json.decode}
DUMPS = {Encoding.MSGPACK: msgspec.msgpack.encode, Encoding.JSON: msgspec.json.encode}
both = pytest.mark.parametrize("encoding", list(Encoding))


def said() -> w.ChatMessage:
    ann = Person(AccountId("a1"), "ann")
    return w.ChatMessage(
        server_now=5, stream=StreamId("s"), seq=3, circle="main", sender=ann, text="hello \u00e4 \U0001f600", at=5
    )


@both
def test_an_event_is_encoded_once_and_numbered_for_each_session(encoding: Encoding) -> None:
    encoded = Encoded(said())
    plain = LOADS[encoding](encoded.frame(encoding))
    assert plain["type"] == "chat.message"
    assert plain["from"] == {"id": "a1", "name": "ann"}
    for number in (0, 1, 127, 128, 70_000, 2**32 - 1):
        numbered = LOADS[encoding](encoded.frame(encoding, number))
        assert numbered == {**plain, "event": number}
    assert encoded.frame(encoding) is encoded.frame(encoding)


def test_every_event_leaves_room_for_its_number_in_the_head() -> None:
    kinds = w.every_event_type()
    assert {*wire_tickets.OF_SALES.values(), *wire_tickets.OF_TICKETS.values()} < set(kinds)
    for kind in kinds:
        assert len(kind.__struct_fields__) + 1 <= MAX_SPLICED_FIELDS, kind
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags) >= 56


@both
def test_hello_carries_a_token_and_where_to_resume(encoding: Encoding) -> None:
    hello = DUMPS[encoding]({"type": "hello", "token": "t", "resume": {"session": "x", "after": 17}})
    assert decode_hello_untrusted(hello, encoding) == r.Hello("t", r.Resume("x", 17))
    fresh = DUMPS[encoding]({"type": "hello", "token": "t", "resume": None})
    assert decode_hello_untrusted(fresh, encoding) == r.Hello("t")


@both
def test_every_request_is_read_by_its_type(encoding: Encoding) -> None:
    extra = {
        "chat": {"text": "hi", "client_txn": "1"},
        "message.send": {"text": "hi", "client_txn": "1"},
        "prepare_mode": {"mode": "paid"},
        "confirm_mode": {"confirm_token": "t", "allow_empty": True},
        "set_time_limit": {"seconds": None},
        "set_best_picture": {"best_picture": "entitled"},
        "request_one_to_one": {"seconds": 300},
        "confirm_one_to_one": {},
        "accept_one_to_one": {"account": "a", "seconds": 300},
        "decline_one_to_one": {"account": "a"},
        "request_extension": {"seconds": 300},
        "accept_extension": {"seconds": 300},
        "eject": {"account": "a"},
        "readmit": {"account": "a"},
        "page.in_sight": {"in_sight": True},
        "presence.watch": {"accounts": ["a"]},
    }
    for kind in get_args(r.Request):
        tag = kind.__struct_config__.tag
        fields = {"type": tag, "id": 1, **extra.get(tag, {})}
        if "stream" in kind.__struct_fields__:
            fields["stream"] = "s"
        if "conversation" in kind.__struct_fields__:
            fields["conversation"] = "c"
        assert type(decode_request_untrusted(DUMPS[encoding](fields), encoding)) is kind


@both
@pytest.mark.parametrize(
    "fields",
    [
        {"type": "accept_one_to_one", "id": 1, "stream": "s", "account": "a", "seconds": 300.0},
        {"type": "accept_one_to_one", "id": 1, "stream": "s", "account": "a", "seconds": True},
        {"type": "accept_one_to_one", "id": 1, "stream": "s", "account": "a", "seconds": "300"},
        {"type": "set_time_limit", "id": 1, "stream": "s", "seconds": 2**60},
        {"type": "prepare_mode", "id": 1, "stream": "s", "mode": "secret"},
        {"type": "join", "id": 1},
        {"type": "join", "id": 1, "stream": ""},
        {"type": "join", "id": 1, "stream": "s" * 129},
        {"type": "join", "id": 1, "stream": "s", "sudo": True},
        {"type": "chat", "id": 1, "stream": "s", "text": "x" * 4001, "client_txn": "1"},
        {"type": "conquer", "id": 1},
    ],
)
def test_a_field_out_of_range_is_an_error_that_names_the_request(encoding: Encoding, fields: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_request_untrusted(DUMPS[encoding](fields), encoding)
    assert caught.value.id == 1
    assert caught.value.detail


@both
def test_a_message_that_is_too_large_is_not_even_read(encoding: Encoding) -> None:
    with pytest.raises(MalformedMessage, match="at most"):
        decode_request_untrusted(b" " * (MAX_MESSAGE_BYTES + 1), encoding)
    with pytest.raises(MalformedMessage):
        decode_request_untrusted(b"\x91" * MAX_MESSAGE_BYTES, encoding)
    with pytest.raises(MalformedMessage):
        decode_request_untrusted(b"[" * MAX_MESSAGE_BYTES, encoding)


@both
@given(data=st.binary(max_size=200))
def test_no_bytes_do_more_than_fail(encoding: Encoding, data: bytes) -> None:
    for decode in (decode_request_untrusted, decode_hello_untrusted):
        with suppress(MalformedMessage):
            decode(data, encoding)


@both
def test_answers_repeat_the_id_and_say_what_would_help(encoding: Encoding) -> None:
    assert LOADS[encoding](encode_ok(7, Done(3), 9, encoding)) == {
        "type": "ok",
        "id": 7,
        "server_now": 9,
        "result": {"epoch": 3},
    }
    refused = Refused("ticket_required", readmit=("ticket",))
    error = LOADS[encoding](encode_error(7, refused, 9, encoding))
    assert (error["type"], error["id"], error["code"], error["readmit"]) == ("error", 7, "ticket_required", ["ticket"])
    assert error["title"]
    assert error["detail"]
