"""The rules of the house: imports go one way, deciding is pure, names keep their meaning."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOWER_FOLDERS = {"media": set[str](), "signalling": {"media"}, "server": {"signalling", "media"}}
ALL_FOLDERS = {"media", "signalling", "server", "bench", "tests"}
# What people and rooms may know of packets: the door, the words of admission, and how an offer can be refused.
DOOR = {"media.door", "media.forwarding.admission", "media.webrtc.negotiation", "media.webrtc.sdp"}
# Modules whose functions are values in, values out.
PURE = [
    "media/wire",
    "media/webrtc/stun.py",
    "media/webrtc/ice.py",
    "media/webrtc/sdp.py",
    "media/webrtc/sdpfrag.py",
    "media/webrtc/extensions.py",
    "media/webrtc/negotiation.py",
    "media/webrtc/peer.py",
    "media/webrtc/dtls.py",
    "media/webrtc/sctp.py",
    "media/webrtc/sctp_chunks.py",
    "media/webrtc/sctp_events.py",
    "media/webrtc/sctp_handshake.py",
    "media/webrtc/sctp_inbound.py",
    "media/webrtc/sctp_outbound.py",
    "media/webrtc/sctp_reliability.py",
    "media/webrtc/sctp_resets.py",
    "media/webrtc/dcep.py",
    "media/webrtc/data_channel.py",
    "media/webrtc/data_section.py",
    "media/webrtc/data_transport.py",
    "media/moq/varint.py",
    "media/moq/versions.py",
    "media/moq/messages.py",
    "media/moq/frames.py",
    "media/moq/streams.py",
    "media/moq/session.py",
    "media/moq/origin.py",
    "media/moq/cursor.py",
    "media/moq/delivery.py",
    "media/moq/upstream.py",
    "media/moq/relay.py",
    "media/moq/rights.py",
    "media/moq/capsules.py",
    "media/moq/containers.py",
    "media/moq/hang.py",
    "media/moq/packets.py",
    "media/moq/keyring.py",
    "media/moq/cells.py",
    "media/moq/tabled.py",
    "media/moq/group_streams.py",
    "media/moq/quic_carrier.py",
    "media/moq/connection.py",
    "media/moq/qmux.py",
    "media/moq/qmux_frames.py",
    "media/moq/newcomers.py",
    "media/bridge/avc.py",
    "media/bridge/renditions.py",
    "media/bridge/packetising.py",
    "media/speakers.py",
    "media/rooms.py",
    "media/forwarding/placement.py",
    "media/forwarding/feedback.py",
    "media/forwarding/reference/estimation.py",
    "media/forwarding/layers/allocation.py",
    "media/forwarding/layers/wishes.py",
    "media/forwarding/layers/ladder.py",
    "media/forwarding/reference/choice.py",
    "media/forwarding/reference/turn.py",
    "media/forwarding/layers/resting.py",
    "media/forwarding/estimates.py",
    "signalling/wording.py",
    "signalling/policy.py",
    "signalling/admitting.py",
    "signalling/rights.py",
    "signalling/writing.py",
    "signalling/members.py",
    "signalling/measuring.py",
    "signalling/attending.py",
    "signalling/hosting.py",
    "signalling/describing.py",
    "signalling/calling.py",
    "signalling/preparing.py",
    "signalling/switching.py",
    "signalling/timing.py",
    "signalling/one_to_one.py",
    "signalling/extensions.py",
    "signalling/state.py",
    "signalling/commands.py",
    "signalling/events.py",
    "signalling/refusals.py",
    "signalling/verdicts.py",
    "signalling/messenger",
    "signalling/calls/state.py",
    "signalling/calls/commands.py",
    "signalling/calls/policy.py",
    "signalling/calls/views.py",
    "server/plain_frames.py",
    "server/files/sniffing.py",
    "server/files/naming.py",
    "server/files/tus.py",
    "server/files/ranges.py",
    "server/access/rules.py",
    "server/access/judging.py",
    "server/access/entitlement.py",
    "server/money/amounts.py",
    "server/money/assets.py",
    "server/bids/rules.py",
    "server/money/ledger.py",
    "server/money/payments.py",
    "server/money/quotes.py",
    "server/money/tickets.py",
    "server/money/one_to_one_terms.py",
    "server/money/one_to_ones.py",
    "server/review/cases.py",
]
IMPURE_IMPORTS = {"trio", "socket", "time", "random", "os", "threading", "sqlalchemy", "structlog", "logging", "httpx2"}
VAGUE_WORDS = ("manager", "handler", "helper", "util")


def modules() -> list[Path]:
    return sorted(path for folder in LOWER_FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def under(prefix: str) -> list[Path]:
    target = ROOT / prefix
    return [target] if target.suffix else sorted(target.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    forbidden = ALL_FOLDERS - {folder} - LOWER_FOLDERS[folder]
    assert not [name for name in imports_of(path) if name.split(".")[0] in forbidden]


@pytest.mark.parametrize("path", under("signalling"), ids=lambda path: path.name)
def test_rooms_reach_media_only_through_its_door(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.startswith("media") and name not in DOOR]


@pytest.mark.parametrize("path", [path for prefix in PURE for path in under(prefix)], ids=lambda path: path.name)
def test_deciding_is_pure(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] in IMPURE_IMPORTS]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_vague_names(path: Path) -> None:
    names = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    assert not [name for name in [*names, path.stem] if any(word in name.lower() for word in VAGUE_WORDS)]


def test_only_one_module_of_media_knows_the_codec_library() -> None:
    assert {path.name for path in under("media") if "av" in imports_of(path)} <= {"testpicture.py"}
