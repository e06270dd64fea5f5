from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.webrtc.attributes import Direction, Setup
from media.webrtc.sdp import MAX_BYTES, MAX_LINES, MAX_MEDIA, MalformedSdp, parse_sdp_untrusted
from media.webrtc.sdpfrag import answer_fragment, parse_sdpfrag_untrusted
from tests.media.offers import LOCAL, PUBLISHERS, VIEWERS, offer_text

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\n"


@pytest.mark.parametrize("name", PUBLISHERS + VIEWERS)
def test_the_offers_of_all_recorded_clients_are_understood(name: str) -> None:
    offer = parse_sdp_untrusted(offer_text(name))
    assert {media.kind for media in offer.media} == {"audio", "video"}
    assert all(media.live and media.ice is not None and media.fingerprints for media in offer.media)
    assert offer.bundles == (tuple(str(media.mid) for media in offer.media),)


def test_what_an_m_line_says_is_read_whole() -> None:
    audio, video = parse_sdp_untrusted(offer_text("chromium156-vp8-pub")).media
    assert (audio.mid, audio.direction, audio.setup) == ("0", Direction.SENDONLY, Setup.ACTPASS)
    assert audio.codecs[0].name == "opus"
    assert (audio.codecs[0].clock_rate, audio.codecs[0].channels) == (48_000, 2)
    assert audio.codecs[0].parameter("useinbandfec") == "1"
    assert [codec.payload_type for codec in video.codecs][:4] == [96, 97, 102, 103]
    assert video.codecs[0].feedback == {"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"}
    assert {"rtcp-mux", "rtcp-rsize"} <= video.flags
    assert len(video.ssrcs) == 2


def test_session_level_attributes_count_for_every_m_line() -> None:
    offer = parse_sdp_untrusted(offer_text("firefox153-pub"))
    assert [media.fingerprints[0].algorithm for media in offer.media] == ["sha-256", "sha-256"]
    assert len(offer.media[1].fingerprints[0].digest) == 32


def test_a_bundle_only_m_line_with_port_0_is_alive_and_one_without_is_not() -> None:
    assert parse_sdp_untrusted(offer_text("gstreamer122-pub")).media[1].live
    assert not parse_sdp_untrusted(HEAD + AUDIO.replace("audio 9", "audio 0")).media[0].live


def test_lines_may_end_without_carriage_return() -> None:
    text = offer_text("chromium156-vp8-pub")
    assert parse_sdp_untrusted(text.replace("\r\n", "\n")) == parse_sdp_untrusted(text)


def test_feedback_for_all_payload_types_is_given_to_each() -> None:
    offer = parse_sdp_untrusted(HEAD + AUDIO + "a=rtcp-fb:* NACK\r\n")
    assert offer.media[0].codecs[0].feedback == {"nack"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "not of the form"),
        ("hello", 1, "not of the form"),
        ("o=-\r\nv=0\r\n", 1, "begins with v=0"),
        ("v=1\r\n", 1, "version"),
        (HEAD + "v=0\r\n", 5, "once"),
        ("v=0\r\ns=-\r\nt=0 0\r\n" + AUDIO, 6, "o= line is missing"),
        (HEAD + "a=x\x00y\r\n", 5, "control character 0x00"),
        (HEAD + "a=x\ry\r\n", 5, "control character 0x0d"),
        (HEAD + "\r\n" + AUDIO, 5, "not of the form"),
        (HEAD + "m=audio 9 UDP/TLS/RTP/SAVPF\r\n", 5, "at least one format"),
        (HEAD + "m=audio 70000 UDP/TLS/RTP/SAVPF 1\r\n", 5, "'70000' is no port"),
        (HEAD + "m=audio 9 UDP/TLS/RTP/SAVPF 128\r\n", 5, "'128' is no payload type"),
        (HEAD + "m=audio 9 UDP/TLS/RTP/SAVPF 96 96\r\n", 5, "listed twice"),
        (HEAD + AUDIO + "a=rtpmap:111 opus/48000\r\n", 8, "a second rtpmap"),
        (HEAD + AUDIO + "a=rtpmap:112 opus\r\n", 8, "clock rate"),
        (HEAD + AUDIO + "a=mid:1\r\n", 8, "a second mid"),
        (HEAD + AUDIO + "a=mid\r\n", 8, "has no value"),
        (HEAD + AUDIO + AUDIO, 8, "two m-lines with the mid 0"),
        (HEAD + AUDIO + "a=ice-ufrag:abcd\r\n", 8, "only together"),
        (HEAD + AUDIO + "a=ice-ufrag:abc\r\na=ice-pwd:0123456789012345678901\r\n", 8, "ice-ufrag"),
        (HEAD + AUDIO + "a=ice-ufrag:abcd\r\na=ice-pwd:short\r\n", 8, "ice-pwd"),
        (HEAD + AUDIO + "a=fingerprint:sha-256 AB:CD\r\n", 8, "has 32 bytes, this one has 2"),
        (HEAD + AUDIO + "a=fingerprint:sha-256 hello\r\n", 8, "hex pairs"),
        (HEAD + AUDIO + "a=setup:maybe\r\n", 8, "'maybe' is no setup role"),
        (HEAD + AUDIO + "a=ssrc:4294967296 cname:x\r\n", 8, "SSRC"),
        (HEAD + AUDIO + "a=ssrc:²³ cname:x\r\n", 8, "SSRC"),
        (HEAD + AUDIO + "a=extmap:1/both urn:x\r\n", 8, "'both' is no direction"),
        (HEAD + "a=" + "x" * 3000 + "\r\n", 5, "longer than"),
        (HEAD + "a=x\r\n" * MAX_LINES, MAX_LINES + 1, "more than"),
        (HEAD + AUDIO.replace("a=mid:0\r\n", "") * (MAX_MEDIA + 1), 5 + 2 * MAX_MEDIA, "m-lines"),
        (HEAD + AUDIO + "a=candidate:x\r\n" * 257, 264, "candidates"),
        (HEAD + AUDIO + "".join(f"a=ssrc:{n} cname:x\r\n" for n in range(65)), 72, "SSRCs"),
        (HEAD + AUDIO + "a=fingerprint:md5 AB\r\n" * 17, 24, "fingerprints"),
        (HEAD + AUDIO + "a=extmap:1 urn:x\r\n" * 65, 72, "header extensions"),
        (HEAD + "a=group:BUNDLE 0\r\n" * 17, 21, "too many groups"),
        (HEAD + "a=group:BUNDLE 0 0\r\n", 5, "twice"),
        (HEAD + AUDIO.replace("mid:0", "mid:" + "0" * 65), 6, "identification tag"),
        (HEAD + "m=audio 9 X " + " ".join(map(str, range(129))) + "\r\n", 5, "formats"),
        ("v=0\r\n" + "x" * MAX_BYTES, 1, "longer than"),
        ("v=0\r\ns=" + "é" * (MAX_BYTES // 2), 1, "longer than"),
    ],
)
def test_an_error_names_the_line_and_says_what_is_wrong(text: str, line: int, words: str) -> None:
    with pytest.raises(MalformedSdp) as caught:
        parse_sdp_untrusted(text)
    assert caught.value.line == line
    assert words in str(caught.value)


@given(st.text())
def test_any_text_is_a_description_or_malformed(text: str) -> None:
    for parse in (parse_sdp_untrusted, parse_sdpfrag_untrusted):
        with suppress(MalformedSdp):
            parse(text)


def test_an_ice_restart_fragment_is_read_and_answered() -> None:
    fragment = parse_sdpfrag_untrusted(
        "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:ysXw\r\n"
        "a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
        "a=candidate:1 1 udp 1 abcd.local 9 typ host\r\n"
    )
    assert fragment.ice is not None
    assert fragment.ice.ufrag == "ysXw"
    assert fragment.candidates == 2
    answer = answer_fragment(LOCAL.ice, LOCAL.candidates, fragment)
    again = parse_sdpfrag_untrusted(answer)
    assert again.ice == LOCAL.ice
    assert again.candidates == 2
    assert "a=ice-lite\r\n" in answer
    assert "a=mid:0\r\n" in answer


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" * 17, 17, "m-lines"),
        ("a=ice-lite\r\na=ice-ufrag:abcd\r\n", 2, "only together"),
        ("a=mid:0\r\na=mid:0\r\n", 2, "a second mid"),
        ("m=audio\r\n", 1, "at least one format"),
    ],
)
def test_an_error_in_a_fragment_names_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(MalformedSdp, match=words) as caught:
        parse_sdpfrag_untrusted(text)
    assert caught.value.line == line


def test_a_trickle_fragment_without_credentials_carries_none() -> None:
    assert parse_sdpfrag_untrusted("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates").ice is None


def test_credentials_may_stand_above_the_m_lines_of_a_fragment() -> None:
    text = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
    fragment = parse_sdpfrag_untrusted(text)
    assert fragment.ice is not None
    assert parse_sdpfrag_untrusted(answer_fragment(LOCAL.ice, LOCAL.candidates)).ice == LOCAL.ice
