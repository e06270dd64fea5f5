"""What a streamer writes about a stream: nothing in it hides or turns the direction of writing."""

from __future__ import annotations

from unicodedata import category, normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signalling.policy.wording import INVISIBLE, JOINERS, description_untrusted, title_untrusted
from signalling.refusals import Refused


def test_a_title_is_one_line_without_what_can_t_be_seen() -> None:
    assert title_untrusted(" An\u200b even\u202eing\n\twith\ufeff  a\u0308 song\u2066 ") == "An evening with ä song"
    assert title_untrusted("<b>5 < 6</b>") == "<b>5 < 6</b>"
    assert title_untrusted("\U0001f469\u200d\U0001f4bb می\u200cخواهم") == "\U0001f469\u200d\U0001f4bb می\u200cخواهم"


@pytest.mark.parametrize("title", ["\u200b", "\u200d\u200c", " \n ", "\u202e\u2069", "\x00"], ids=ascii)
def test_a_title_of_which_nothing_can_be_seen_is_refused(title: str) -> None:
    with pytest.raises(Refused, match="invalid_title"):
        title_untrusted(title)


def test_a_description_keeps_its_lines() -> None:
    said = "One-to-one:\u2067 500\u200b\r\n\n\n\n  five\u200d minutes\x07 \n"
    assert description_untrusted(said) == "One-to-one: 500\n\nfive\u200d minutes"
    assert description_untrusted("\u200f") == ""


@example("a\u200b\u0308")
@given(st.text())
def test_whatever_is_written_comes_out_visible_and_in_one_form(text: str) -> None:
    told = description_untrusted(text)
    assert not [each for each in told if category(each) in INVISIBLE and each not in (*JOINERS, "\n")]
    assert normalize("NFC", told) == told == told.strip()
    assert description_untrusted(told) == told
