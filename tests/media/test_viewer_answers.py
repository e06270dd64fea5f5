"""Offers of one kind are read once, and everybody's answer is what it would be by itself."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace

import pytest

from media.webrtc import viewer_answers
from media.webrtc.ice import IceCredentials
from media.webrtc.negotiation import OfferRejected, ViewerAnswer, answer_viewer
from media.webrtc.sdp import MalformedSdp, parse_sdp_untrusted
from media.webrtc.viewer_answers import ViewerAnswers
from tests.media.offers import LOCAL, VIEWERS, offer_text
from tests.media.test_negotiation import AV1, OPUS, VP8, mutated

UFRAG, PASSWORD = re.compile(r"(?<=a=ice-ufrag:)\S+"), re.compile(r"(?<=a=ice-pwd:)\S+")
DIGEST = re.compile(r"(?<=a=fingerprint:sha-256 )\S+")


def of_another(offer: str) -> str:
    """Return the same offer of another viewer."""
    offer = UFRAG.sub(secrets.token_hex(4), offer)
    offer = PASSWORD.sub(secrets.token_hex(16), offer)
    return DIGEST.sub(secrets.token_bytes(32).hex(":").upper(), re.sub(r"(?<=\no=- )\d+", "4711", offer))


def plainly(answer: ViewerAnswer) -> ViewerAnswer:
    """Return an answer with the numbers that are fresh each time in their order."""
    sdp = re.sub(r"(?<=^o=- )\d+", "1", answer.sdp, flags=re.MULTILINE)
    tracks = []
    for number, track in enumerate(answer.tracks):
        sdp = sdp.replace(str(track.ssrc), f"ssrc{number}").replace(str(track.rtx_ssrc or "none"), f"rtx{number}")
        tracks.append(replace(track, ssrc=number, rtx_ssrc=None if track.rtx_ssrc is None else number))
    return replace(answer, sdp=sdp, tracks=tuple(tracks))


@pytest.mark.parametrize("name", VIEWERS)
def test_a_known_offer_is_answered_as_one_that_is_read_whole(name: str) -> None:
    answers = ViewerAnswers()
    for offer in [offer_text(name), *(of_another(offer_text(name)) for _ in range(3))]:
        local = replace(LOCAL, ice=IceCredentials.random())
        found = answers.answer(offer, local, [VP8, OPUS], stream="s").answer
        assert plainly(found) == plainly(answer_viewer(parse_sdp_untrusted(offer), local, [VP8, OPUS], stream="s"))
    assert answers.learned == 1


def test_everybody_gets_numbers_of_his_own() -> None:
    answers, offer = ViewerAnswers(), offer_text(VIEWERS[0])
    found = [answers.answer(offer, LOCAL, [VP8, OPUS], stream="s").answer for _ in range(20)]
    ssrcs = {ssrc for answer in found for track in answer.tracks for ssrc in (track.ssrc, track.rtx_ssrc)}
    assert len(ssrcs - {None}) == 3 * 20
    assert len({answer.sdp for answer in found}) == 20


def test_what_is_lacking_is_told_and_another_stream_or_another_codec_is_another_answer() -> None:
    answers, offer = ViewerAnswers(), offer_text("chromium156-vp8-sub")
    assert answers.answer(offer, LOCAL, [OPUS], stream="s").lacks == {"video"}
    assert answers.answer(offer, LOCAL, [VP8, OPUS], stream="s").lacks == frozenset()
    assert "a=msid:t video" in answers.answer(offer, LOCAL, [AV1, OPUS], stream="t").answer.sdp
    elsewhere = replace(LOCAL, candidates=(("192.0.2.9", 9),))
    assert "192.0.2.9" in answers.answer(offer, elsewhere, [VP8, OPUS], stream="s").answer.sdp


def test_credentials_that_are_written_otherwise_and_those_that_look_like_a_stand_in_are_taken_as_they_are() -> None:
    answers, offer = ViewerAnswers(), offer_text(VIEWERS[0])
    for ufrag, password in (("0000", f"{1:024}"), ("0001", f"{0:024}"), ("url-safe_", "_" * 22), ("0002", "0" * 24)):
        text = PASSWORD.sub(password, UFRAG.sub(ufrag, offer))
        assert answers.answer(text, LOCAL, [VP8], stream="s").answer.remote_ice == IceCredentials(ufrag, password)


def test_what_is_wrong_with_an_offer_is_said_of_the_offer_itself() -> None:
    answers, offer = ViewerAnswers(), offer_text(VIEWERS[0])
    with pytest.raises(MalformedSdp, match="ice-ufrag"):
        answers.answer(UFRAG.sub("x!", offer), LOCAL, [VP8], stream="s")
    with pytest.raises(OfferRejected, match="no_common_codec"):
        answers.answer(offer_text("roamhq-wrtc010-sub1"), LOCAL, [AV1], stream="s")
    assert answers.learned == 0


def test_so_many_shapes_are_remembered_and_what_is_too_large_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_answers, "MAX_KNOWN", 2)
    answers, offer = ViewerAnswers(), offer_text(VIEWERS[0])
    for stream in "ababcab":
        answers.answer(offer, LOCAL, [VP8], stream=stream)
    assert answers.learned == 5
    assert len(answers._known) == 2
    monkeypatch.setattr(viewer_answers, "MAX_SHAPE", len(offer) - 1)
    answers.answer(offer, LOCAL, [VP8], stream="c")
    monkeypatch.setattr(viewer_answers, "MAX_SHAPE", len(offer))
    monkeypatch.setattr(viewer_answers, "MAX_OWN", 1)
    answers.answer(offer, LOCAL, [VP8], stream="c")
    assert answers.learned == 5


@pytest.mark.parametrize("name", VIEWERS)
def test_damaged_offers_are_answered_or_refused_as_they_are_when_read_whole(name: str) -> None:
    answers = ViewerAnswers()
    for seed in range(60):
        offer = mutated(name, seed)
        try:
            expected: object = plainly(answer_viewer(parse_sdp_untrusted(offer), LOCAL, [VP8, OPUS], stream="s"))
        except (MalformedSdp, OfferRejected) as refusal:
            expected = str(refusal)
        try:
            found: object = plainly(answers.answer(offer, LOCAL, [VP8, OPUS], stream="s").answer)
        except (MalformedSdp, OfferRejected) as refusal:
            found = str(refusal)
        assert found == expected
