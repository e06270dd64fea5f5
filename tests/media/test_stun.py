"""STUN: the RFC 5769 vectors, and any bytes at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from media.webrtc import stun

PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"  # of RFC 5769
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36"
    "00060009"
    "6576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
RESPONSE_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd9e90c3"
    "8c7489f92af9ba53f06be7d780280004c07d4c96"
)
RESPONSE_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)


def test_the_sample_request_of_rfc_5769_is_read_and_authentic() -> None:
    assert stun.username_untrusted(REQUEST) == ("evtj", "h6vY")
    message = stun.parse_untrusted(REQUEST)
    assert message is not None
    assert message.is_authentic(PASSWORD)
    assert not message.is_authentic(PASSWORD + "x")


def test_the_sample_responses_of_rfc_5769_are_read_and_authentic() -> None:
    for raw, ip in ((RESPONSE_V4, "192.0.2.1"), (RESPONSE_V6, "2001:db8:1234:5678:11:2233:4455:6677")):
        message = stun.parse_untrusted(raw)
        assert message is not None
        assert message.is_authentic(PASSWORD)
        assert message.mapped_address == (ip, 32853)


def test_a_response_maps_back_to_the_address_it_was_made_for() -> None:
    for address in (("203.0.113.7", 1), ("2001:db8::1", 65535)):
        message = stun.parse_untrusted(stun.success_response(bytes(range(12)), address, PASSWORD))
        assert message is not None
        assert message.mapped_address == address


def test_one_changed_bit_is_noticed_wherever_integrity_covers() -> None:
    for position in range(len(REQUEST) - 8):
        changed = bytearray(REQUEST)
        changed[position] ^= 1
        message = stun.parse_untrusted(bytes(changed))
        assert message is None or not message.is_authentic(PASSWORD)


def test_unknown_required_attributes_are_named() -> None:
    odd = bytearray(stun.binding_request(bytes(12), "a:b", PASSWORD, priority=1, tie_breaker=1, nominates=False))
    odd[20:22] = b"\x7f\xff"
    odd[-8:] = b""
    odd[2:4] = (len(odd) - 20).to_bytes(2)
    message = stun.parse_untrusted(bytes(odd))
    assert message is not None
    assert message.unknown_required == (0x7FFF,)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_nothing(datagram: bytes) -> None:
    stun.parse_untrusted(datagram)
    stun.username_untrusted(datagram)


@given(st.data())
def test_any_mutation_of_a_request_gives_a_message_or_nothing(data: st.DataObject) -> None:
    changed = bytearray(REQUEST)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    message = stun.parse_untrusted(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    if message is not None:
        assert message.username is None or isinstance(message.username, str)
        assert message.mapped_address is None or message.mapped_address[1] >= 0
