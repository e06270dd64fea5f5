"""H.264 in RTP (RFC 6184): where a decoder can start, and which profile-level-ids mean the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_SLICE_IDR, _SPS, _STAP_A, _FU_A = 5, 7, 24, 28
_FU_START = 0x80
_PROFILE_LEVEL_ID = re.compile(r"[0-9A-Fa-f]{6}")
_LEVEL_1B_FLAG = 0x10  # constraint_set3_flag: turns level 1.1 into 1b in these profiles (section 8.1)
DEFAULT_PROFILE_LEVEL_ID = "420010"  # what an absent parameter means: Baseline, level 1 (section 8.1)


class Profile(Enum):
    """The profiles that profile_idc and the constraint flags select (RFC 6184 table 5)."""

    CONSTRAINED_BASELINE = "constrained baseline"
    BASELINE = "baseline"
    MAIN = "main"
    EXTENDED = "extended"
    CONSTRAINED_HIGH = "constrained high"
    HIGH = "high"
    HIGH_444_PREDICTIVE = "high 4:4:4 predictive"


# Table 5, and the constrained high profile of H.264 annex A. (profile_idc, mask over profile-iop, its bits there).
_PATTERNS = (
    (0x42, 0x4F, 0x40, Profile.CONSTRAINED_BASELINE),
    (0x4D, 0x8F, 0x80, Profile.CONSTRAINED_BASELINE),
    (0x58, 0xCF, 0xC0, Profile.CONSTRAINED_BASELINE),
    (0x42, 0x4F, 0x00, Profile.BASELINE),
    (0x58, 0xCF, 0x80, Profile.BASELINE),
    (0x4D, 0xAF, 0x00, Profile.MAIN),
    (0x58, 0xCF, 0x00, Profile.EXTENDED),
    (0x64, 0xFF, 0x0C, Profile.CONSTRAINED_HIGH),
    (0x64, 0xFF, 0x00, Profile.HIGH),
    (0xF4, 0xFF, 0x00, Profile.HIGH_444_PREDICTIVE),
)
_WITH_LEVEL_1B = {Profile.CONSTRAINED_BASELINE, Profile.BASELINE, Profile.MAIN, Profile.EXTENDED}


@dataclass(frozen=True, slots=True)
class ProfileLevel:
    """A profile-level-id taken apart; `text` is in lower case."""

    profile: Profile
    text: str

    @property
    def level(self) -> int:
        """The level times 100, so that level 1b lies between 1 (100) and 1.1 (110)."""
        number, flags = int(self.text[4:], 16), int(self.text[2:4], 16)
        if number == 9 or (number == 11 and flags & _LEVEL_1B_FLAG and self.profile in _WITH_LEVEL_1B):
            return 105
        return number * 10

    def limited_to(self, other: ProfileLevel) -> str:
        """Return our profile-level-id with the lower of both levels (RFC 6184 section 8.2.2)."""
        if self.level <= other.level:
            return self.text
        if other.level == 105 and other.text.endswith("0b"):
            return f"{self.text[:2]}{int(self.text[2:4], 16) | _LEVEL_1B_FLAG:02x}0b"
        return self.text[:4] + other.text[4:]


def parse_profile_level_id(text: str) -> ProfileLevel | None:
    """Take a profile-level-id apart; None when it is none or its profile is not known."""
    if not _PROFILE_LEVEL_ID.fullmatch(text):
        return None
    idc, flags = int(text[:2], 16), int(text[2:4], 16)
    for profile_idc, mask, bits, profile in _PATTERNS:
        if idc == profile_idc and flags & mask == bits:
            return ProfileLevel(profile, text.lower())
    return None


def starts_keyframe(payload: bytes) -> bool:
    """Whether a sequence parameter set or an IDR slice begins in this packet (RFC 6184 sections 5.6 to 5.8)."""
    if not payload:
        return False
    kind = payload[0] & 0x1F
    if kind == _STAP_A:
        return any(_begins_sequence(unit) for unit in _aggregated(payload))
    if kind == _FU_A:
        return len(payload) > 1 and bool(payload[1] & _FU_START) and _begins_sequence(payload[1] & 0x1F)
    return _begins_sequence(kind)


def _aggregated(payload: bytes) -> Iterator[int]:
    at = 1
    while at + 3 <= len(payload):
        yield payload[at + 2] & 0x1F
        at += 2 + int.from_bytes(payload[at : at + 2], "big")


def _begins_sequence(kind: int) -> bool:
    return kind in (_SLICE_IDR, _SPS)
