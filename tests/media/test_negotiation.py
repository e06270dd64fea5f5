from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.webrtc.attributes import Direction
from media.webrtc.dtls import DtlsRole
from media.webrtc.negotiation import CodecDescription, OfferRejected, answer_publisher, answer_viewer
from media.webrtc.sdp import MalformedSdp, SessionDescription, parse_sdp_untrusted
from media.wire.codecs import Codec
from media.wire.extensions import Passed
from tests.media.offers import LOCAL, PUBLISHERS, VIEWERS, offer_text

OPUS = CodecDescription(Codec.OPUS, 48_000, 2, "minptime=10;useinbandfec=1")
VP8 = CodecDescription(Codec.VP8, 90_000, 1, "")
AV1 = CodecDescription(Codec.AV1, 90_000, 1, "profile=0")


def h264(profile_level_id: str) -> CodecDescription:
    fmtp = f"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile_level_id}"
    return CodecDescription(Codec.H264, 90_000, 1, fmtp)


def offer(name: str, *replacements: tuple[str, str]) -> SessionDescription:
    text = offer_text(name)
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return parse_sdp_untrusted(text)


def check_form(answer: str, of: SessionDescription) -> SessionDescription:
    """Check what RFC 8829 section 5.3.1 asks of every answer."""
    parsed = parse_sdp_untrusted(answer)
    assert [(media.kind, media.mid, media.protocol) for media in parsed.media] == [
        (media.kind, media.mid, media.protocol) for media in of.media
    ]
    live = [media for media in parsed.media if media.live]
    assert live
    numbers = list(itertools.chain.from_iterable([codec.payload_type for codec in media.codecs] for media in live))
    assert len(set(numbers)) == len(numbers)
    bundled = [tuple(mid for mid in bundle if mid in {media.mid for media in live}) for bundle in of.bundles[:1]]
    assert parsed.bundles in ((), tuple(bundled))
    for ours in live:
        theirs = of.media[parsed.media.index(ours)]
        assert {codec.payload_type for codec in ours.codecs} <= {codec.payload_type for codec in theirs.codecs}
        assert {(item.id, item.uri) for item in ours.extensions} <= {(item.id, item.uri) for item in theirs.extensions}
        assert {"rtcp-mux", "rtcp-mux-only"} <= ours.flags
        assert ("rtcp-rsize" in ours.flags) == ("rtcp-rsize" in theirs.flags)
        assert ("extmap-allow-mixed" in ours.flags) == ("extmap-allow-mixed" in theirs.flags)
        assert ours.ice == LOCAL.ice
    assert ("extmap-allow-mixed" in parsed.flags) == ("extmap-allow-mixed" in of.flags)
    assert answer.count("a=end-of-candidates") == len(live)
    assert "a=ice-lite\r\n" in answer
    return parsed


@pytest.mark.parametrize("name", PUBLISHERS)
def test_every_recorded_publisher_gets_both_of_its_tracks(name: str) -> None:
    theirs = offer(name)
    answer = answer_publisher(theirs, LOCAL)
    ours = check_form(answer.sdp, theirs)
    assert {media.direction for media in ours.media} == {Direction.RECVONLY}
    assert {track.kind for track in answer.tracks} == {"audio", "video"}
    assert answer.remote_ice == theirs.media[0].ice
    assert answer.fingerprints == theirs.media[0].fingerprints
    for track, media in zip(answer.tracks, ours.media, strict=True):
        assert track.mid == media.mid
        assert track.payload_type == media.codecs[0].payload_type
        assert track.nack == ("nack" in media.codecs[0].feedback)


@pytest.mark.parametrize("name", VIEWERS)
def test_every_recorded_viewer_gets_vp8_and_opus_and_tells_of_its_network_as_it_can(name: str) -> None:
    theirs = offer(name)
    answer = answer_viewer(theirs, LOCAL, [VP8, OPUS], stream="streamer")
    ours = check_form(answer.sdp, theirs)
    assert {media.direction for media in ours.media} == {Direction.SENDONLY}
    ssrcs = [ssrc for track in answer.tracks for ssrc in (track.ssrc, track.rtx_ssrc) if ssrc is not None]
    assert len(set(ssrcs)) == len(ssrcs)
    assert [ssrc for media in ours.media for ssrc in media.ssrcs] == ssrcs
    assert not {ssrc for media in theirs.media for ssrc in media.ssrcs} & set(ssrcs)
    for track, media in zip(answer.tracks, ours.media, strict=True):
        told = ("transport-cc", 2) if "aiortc" not in name else ("goog-remb", 3)
        is_told = name != "roamhq-wrtc010-sub1" and (track.kind == "video" or "aiortc" not in name)
        passed = {item.id for item in media.extensions} & set(track.passed.values())
        assert len(passed) == len(track.passed)
        stamps = [item for item in media.extensions if item.id not in passed]
        assert is_told == bool(stamps) == (told[0] in media.codecs[0].feedback)
        assert track.stamp == (stamps[0].id << 4 | told[1] - 1 if is_told else 0)
        assert media.codecs[0].feedback <= {"nack", "nack pli", "ccm fir", told[0]}
        assert (track.rtx_payload_type is None) == (track.rtx_ssrc is None)
        assert f"a=msid:streamer {track.kind}\r\n" in answer.sdp


@pytest.mark.parametrize(("publisher", "viewer"), list(itertools.product(PUBLISHERS, VIEWERS)))
def test_every_publisher_meets_every_viewer_at_least_in_sound(publisher: str, viewer: str) -> None:
    codecs = [track.codec for track in answer_publisher(offer(publisher), LOCAL).tracks]
    theirs = offer(viewer)
    answer = answer_viewer(theirs, LOCAL, codecs, stream="streamer")
    check_form(answer.sdp, theirs)
    assert "audio" in {track.kind for track in answer.tracks}


def test_a_viewer_gets_of_the_publishers_header_extensions_what_it_offered_under_its_own_ids() -> None:
    audio, video = answer_viewer(offer("chromium156-vp8-sub"), LOCAL, [VP8, OPUS], stream="s").tracks
    assert (audio.passed, video.passed) == (
        {Passed.AUDIO_LEVEL: 1},
        {Passed.ORIENTATION: 13, Passed.PLAYOUT_DELAY: 5},
    )
    audio, video = answer_viewer(offer("chromium156-av1svc-sub"), LOCAL, [VP8, OPUS], stream="s").tracks
    assert video.passed[Passed.CAPTURE_TIME] == 9
    audio, video = answer_viewer(offer("firefox153-sub"), LOCAL, [VP8, OPUS], stream="s").tracks
    assert (audio.passed, video.passed) == ({Passed.AUDIO_LEVEL: 1}, {Passed.PLAYOUT_DELAY: 6})


@pytest.mark.parametrize("how", ["1/sendonly", "15", "3"], ids=["not_received", "beyond_one_byte", "used_already"])
def test_a_header_extension_that_a_viewer_can_not_be_sent_is_left_out(how: str) -> None:
    level = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    theirs = offer("chromium156-vp8-sub", (f"extmap:1 {level}", f"extmap:{how} {level}"))
    answer = answer_viewer(theirs, LOCAL, [VP8, OPUS], stream="s")
    assert answer.tracks[0].passed == {}
    assert level not in answer.sdp


def test_the_picture_is_turned_by_who_publishes_it_for_all_who_do_not_know_how() -> None:
    answer = answer_publisher(offer("chromium156-vp8-pub"), LOCAL)
    assert "video-orientation" not in answer.sdp
    assert [track.passed for track in answer.tracks] == [{Passed.AUDIO_LEVEL: 1}, {Passed.PLAYOUT_DELAY: 5}]


def test_what_tells_which_frame_needs_which_is_taken_beside_av1_alone_and_where_it_fits() -> None:
    pub, sub = "chromium156-av1svc-pub", "chromium156-av1svc-sub"
    prefers_av1 = (("39 40 45 46", "39 40"), ("SAVPF 96", "SAVPF 45 46 96"))
    video = answer_publisher(offer(pub, *prefers_av1), LOCAL).tracks[1]
    assert (video.codec.codec, video.passed[Passed.DEPENDENCY]) == (Codec.AV1, 12)
    assert answer_viewer(offer(sub), LOCAL, [video.codec], stream="s").tracks[0].passed == {
        Passed.ORIENTATION: 13,
        Passed.PLAYOUT_DELAY: 5,
        Passed.CAPTURE_TIME: 9,
        Passed.DEPENDENCY: 17,
    }
    assert Passed.DEPENDENCY not in answer_viewer(offer(sub), LOCAL, [VP8], stream="s").tracks[0].passed
    one_byte = ("extmap-allow-mixed", "extmap-not-mixed")  # a keyframe's is longer than those hold
    assert Passed.DEPENDENCY not in answer_publisher(offer(pub, *prefers_av1, one_byte), LOCAL).tracks[1].passed
    assert Passed.DEPENDENCY not in answer_publisher(offer(pub), LOCAL).tracks[1].passed
    answer = answer_viewer(offer(sub, one_byte), LOCAL, [video.codec], stream="s")
    assert Passed.DEPENDENCY not in answer.tracks[0].passed
    assert "dependency-descriptor" not in answer.sdp


def test_redundant_sound_is_taken_of_who_prefers_it_and_given_to_who_knows_it() -> None:
    plain = answer_publisher(offer("chromium156-vp8-pub"), LOCAL)
    assert plain.tracks[0].red_payload_type is None
    assert "red/48000" not in plain.sdp
    preferred = offer("chromium156-vp8-pub", ("SAVPF 111 63 ", "SAVPF 63 111 "))
    answer = answer_publisher(preferred, LOCAL)
    assert (answer.tracks[0].red_payload_type, answer.tracks[0].payload_type) == (63, 111)
    assert check_form(answer.sdp, preferred).media[0].formats == ("63", "111")
    assert "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n" in answer.sdp
    viewer = answer_viewer(offer("chromium156-vp8-sub"), LOCAL, [VP8, OPUS], stream="s")
    assert viewer.tracks[0].red_payload_type == 63
    assert "a=fmtp:63 111/111\r\n" in viewer.sdp
    assert answer_viewer(offer("firefox153-sub"), LOCAL, [VP8, OPUS], stream="s").tracks[0].red_payload_type is None


@pytest.mark.parametrize("blocks", ["111", "111/110", "110/110", "111/111/111/111/111/111/111/111/111/111", "mode=1"])
def test_redundant_sound_of_anything_but_the_plain_one_is_not_taken(blocks: str) -> None:
    preferred = offer(
        "chromium156-vp8-pub", ("SAVPF 111 63 ", "SAVPF 63 111 "), ("fmtp:63 111/111", f"fmtp:63 {blocks}")
    )
    assert answer_publisher(preferred, LOCAL).tracks[0].red_payload_type is None


def test_retransmission_and_transport_cc_of_chromium_are_taken() -> None:
    audio, video = answer_publisher(offer("chromium156-vp8-pub"), LOCAL).tracks
    assert (audio.payload_type, audio.rtx_payload_type, audio.nack) == (111, None, False)
    assert (video.payload_type, video.rtx_payload_type, video.nack) == (96, 97, True)
    assert (video.pli, video.fir) == (True, True)
    assert audio.transport_cc_extension_id == video.transport_cc_extension_id == 3


def test_ids_are_those_of_the_peer() -> None:
    audio, video = answer_publisher(offer("firefox153-pub"), LOCAL).tracks
    assert (audio.payload_type, video.payload_type, video.rtx_payload_type) == (109, 120, 124)
    assert video.transport_cc_extension_id == 7


def test_without_the_extension_there_is_no_transport_cc() -> None:
    answer = answer_publisher(offer("gstreamer122-pub"), LOCAL)
    assert {track.transport_cc_extension_id for track in answer.tracks} == {None}


@pytest.mark.parametrize(
    ("setup", "role", "ours"),
    [
        ("actpass", DtlsRole.SERVER, "passive"),
        ("active", DtlsRole.SERVER, "passive"),
        ("passive", DtlsRole.CLIENT, "active"),
    ],
)
def test_the_client_chooses_the_dtls_role_where_it_must(setup: str, role: DtlsRole, ours: str) -> None:
    answer = answer_publisher(offer("chromium156-vp8-pub", ("a=setup:actpass", f"a=setup:{setup}")), LOCAL)
    assert answer.dtls_role is role
    assert answer.sdp.count(f"a=setup:{ours}\r\n") == 2


def test_simulcast_is_taken_with_all_its_layers() -> None:
    answer = answer_publisher(offer("chromium156-simulcast-pub"), LOCAL)
    video = next(track for track in answer.tracks if track.kind == "video")
    assert video.layers == ("q", "h", "f")
    assert (video.rid_extension_id, video.repaired_rid_extension_id) == (10, 11)
    for line in (
        "a=rid:q recv",
        "a=rid:f recv",
        "a=simulcast:recv q;h;f",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    ):
        assert answer.sdp.count(line) == 1


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("a=simulcast:send q;h;f", "a=simulcast:send q"),
        ("a=simulcast:send q;h;f", "a=simulcast:recv q;h;f"),
        ("a=extmap:10 ", "a=extmap:15 "),
        ("a=rid:q send\r\na=rid:h send\r\na=rid:f send", "a=rid:q recv"),
        ("a=rid:f send\r\na=simulcast:send q;h;f", "a=rid:ninechars send\r\na=simulcast:send q;h;ninechars"),
        ("VP8/90000", "VP9/90000"),
    ],
    ids=["one_layer", "for_receiving", "no_names_in_packets", "undeclared", "long_name", "vp9"],
)
def test_simulcast_that_is_not_taken_is_answered_with_one_plain_encoding(line: str, instead: str) -> None:
    answer = answer_publisher(offer("chromium156-simulcast-pub", (line, instead)), LOCAL)
    assert not any(track.layers for track in answer.tracks)
    assert "simulcast" not in answer.sdp
    assert "a=rid" not in answer.sdp
    assert "rtp-stream-id" not in answer.sdp


def test_no_plane_of_the_offer_that_we_cannot_serve_is_negotiated() -> None:
    sdp = answer_publisher(offer("chromium156-av1svc-pub"), LOCAL).sdp
    for word in ("goog-remb", "ulpfec", "red/", "video-orientation", "abs-send-time", "dependency-descriptor"):
        assert word not in sdp


def test_an_extension_that_the_publisher_only_receives_or_numbers_too_high_is_left_out() -> None:
    uri = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
    for number in ("3/recvonly", "3/inactive", "15"):
        answer = answer_publisher(
            offer("chromium156-vp8-pub", (f"a=extmap:3 {uri}", f"a=extmap:{number} {uri}")), LOCAL
        )
        assert {track.transport_cc_extension_id for track in answer.tracks} == {None}
        assert uri not in answer.sdp


def test_transport_cc_needs_the_feedback_as_well_as_the_extension() -> None:
    text = "".join(line for line in offer_text("chromium156-vp8-pub").splitlines(True) if "96 transport-cc" not in line)
    audio, video = answer_publisher(parse_sdp_untrusted(text), LOCAL).tracks
    assert (audio.transport_cc_extension_id, video.transport_cc_extension_id) == (3, None)


def test_an_id_given_to_two_extensions_counts_for_the_first() -> None:
    mid, level = "urn:ietf:params:rtp-hdrext:sdes:mid", "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
    answer = answer_publisher(offer("chromium156-vp8-pub", (f"a=extmap:4 {mid}", f"a=extmap:1 {mid}")), LOCAL)
    assert f"a=extmap:1 {level}\r\n" in answer.sdp.split("m=video")[0]
    assert mid not in answer.sdp.split("m=video")[0]


def test_codec_names_compare_without_case() -> None:
    assert "OPUS/48000/2" in offer_text("gstreamer122-pub")
    assert answer_publisher(offer("gstreamer122-pub"), LOCAL).tracks[1].codec.codec is Codec.OPUS


def test_the_first_codec_of_the_publisher_wins() -> None:
    formats = "96 97 102 103 104 107 108 109 114 115 116 117 39 40 45 46 98 99 100 101 118 119 120"
    av1_first = offer("chromium156-vp8-pub", (f"SAVPF {formats}", f"SAVPF 45 46 {formats.replace(' 45 46', '')}"))
    assert answer_publisher(av1_first, LOCAL).tracks[1].codec == AV1


def test_of_h264_constrained_baseline_is_taken_as_it_plays_everywhere() -> None:
    formats = "96 97 102 103 104 107 108 109 114 115 116 117 39 40 45 46 98 99 100 101 118 119 120"
    h264_first = offer("chromium156-vp8-pub", (f"SAVPF {formats}", "SAVPF 102 103 104 107 108 109 96 97"))
    track = answer_publisher(h264_first, LOCAL).tracks[1]
    assert (track.payload_type, track.rtx_payload_type) == (108, 109)
    assert track.codec == h264("42e01f")


@pytest.mark.parametrize(
    ("published", "payload_type", "answered"),
    [
        ("42e01f", 108, "42e01f"),
        ("42c01e", 108, "42e01e"),
        ("4d8015", 108, "42e015"),
        ("42e034", 108, "42e01f"),
        ("42001e", 102, "42001e"),
        ("4d401f", 116, "4d001f"),
        ("42f00b", 108, "42f00b"),
    ],
)
def test_h264_is_matched_by_profile_and_answered_at_the_lower_level(
    published: str, payload_type: int, answered: str
) -> None:
    answer = answer_viewer(offer("chromium156-vp8-sub"), LOCAL, [h264(published)], stream="s")
    assert answer.tracks[0].payload_type == payload_type
    assert f"profile-level-id={answered}\r\n" in answer.sdp


def test_h264_of_a_profile_that_is_not_offered_goes_to_who_decodes_h264_at_all() -> None:
    """@moq/publish makes High, Chromium offers no more than Main, and decodes it."""
    answer = answer_viewer(offer("chromium156-vp8-sub"), LOCAL, [h264("640028")], stream="s")
    assert [track.payload_type for track in answer.tracks] == [102]
    assert "profile-level-id=42001f\r\n" in answer.sdp


def test_stereo_reaches_the_publisher_and_the_viewer() -> None:
    published = answer_publisher(offer("firefox153-pub"), LOCAL)
    assert "a=fmtp:109 minptime=10;useinbandfec=1;stereo=1;maxplaybackrate=48000\r\n" in published.sdp
    watched = answer_viewer(
        offer("chromium156-vp8-sub"), LOCAL, [track.codec for track in published.tracks], stream="s"
    )
    assert "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1\r\n" in watched.sdp


def test_what_the_publisher_does_not_send_gets_port_0_in_the_viewers_answer() -> None:
    answer = answer_viewer(offer("chromium156-vp8-sub"), LOCAL, [OPUS], stream="streamer")
    audio, video = parse_sdp_untrusted(answer.sdp).media
    assert audio.live
    assert not video.live
    assert parse_sdp_untrusted(answer.sdp).bundles == (("0",),)
    assert "candidate" not in answer.sdp.split("m=video")[1]


def test_every_m_line_that_lives_carries_all_our_addresses_best_first() -> None:
    answer = answer_viewer(offer("chromium156-vp8-sub"), LOCAL, [VP8, OPUS], stream="streamer")
    for section in answer.sdp.split("m=")[1:]:
        assert "a=candidate:1 1 udp 2130706431 192.0.2.7 7882 typ host\r\n" in section
        assert "a=candidate:2 1 udp 2130706175 2001:db8::7 7882 typ host\r\n" in section


def test_an_m_line_that_is_refused_still_says_what_gstreamer_asks_of_each() -> None:
    answer = answer_viewer(offer("chromium156-vp8-sub"), LOCAL, [VP8], stream="streamer")
    live, refused = answer.sdp.split("m=video")[1], answer.sdp.split("m=audio 0 ")[1].partition("m=video")[0]
    for name in ("ice-ufrag", "ice-pwd", "fingerprint", "setup"):
        assert re.findall(f"a={name}:.*", refused) == re.findall(f"a={name}:.*", live) != []


def test_a_viewer_without_the_codec_is_told_so() -> None:
    with pytest.raises(OfferRejected) as caught:
        answer_viewer(offer("roamhq-wrtc010-sub1"), LOCAL, [AV1], stream="streamer")
    assert caught.value.reason == "no_common_codec"
    assert "AV1" in caught.value.detail


def test_a_data_channel_is_refused_by_port_0_and_nothing_else() -> None:
    text = offer_text("chromium156-vp8-pub").replace("BUNDLE 0 1", "BUNDLE 0 1 2")
    text += "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n"
    theirs = parse_sdp_untrusted(text)
    answer = answer_publisher(theirs, LOCAL)
    check_form(answer.sdp, theirs)
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n" in answer.sdp


VIDEO_FORMATS = "96 97 102 103 104 107 108 109 114 115 116 117 39 40 45 46 98 99 100 101 118 119 120"


@pytest.mark.parametrize(
    ("old", "new", "reason", "words"),
    [
        (f"SAVPF {VIDEO_FORMATS}", "SAVPF 104 118", "unsupported", "no video codec"),
        (f"SAVPF {VIDEO_FORMATS}", "SAVPF 111", "unsupported", "no video codec"),
        ("a=sendonly", "a=recvonly", "unsupported", "it must be sendonly or sendrecv"),
        ("a=sendonly", "a=inactive", "unsupported", "it must be sendonly or sendrecv"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", "unsupported", "BUNDLE"),
        ("a=rtcp-mux\r\n", "", "unsupported", "rtcp-mux"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "unsupported", "RTP/AVP"),
        ("a=mid:0\r\n", "", "malformed", "a=mid"),
        ("a=setup:actpass", "a=setup:holdconn", "unsupported", "holdconn"),
        ("m=video", "m=audio", "unsupported", "more than one audio"),
        ("m=video", "m=text", "unsupported", "neither audio nor video"),
        ("m=", "m=x", "unsupported", "neither audio nor video"),
    ],
)
def test_a_publishers_offer_is_taken_whole_or_refused_with_the_reason(
    old: str, new: str, reason: str, words: str
) -> None:
    with pytest.raises(OfferRejected) as caught:
        answer_publisher(offer("chromium156-vp8-pub", (old, new)), LOCAL)
    assert caught.value.reason == reason
    assert words in caught.value.detail


@pytest.mark.parametrize("prefix", ["a=ice-", "a=fingerprint"])
def test_an_offer_without_transport_is_malformed(prefix: str) -> None:
    lines = offer_text("chromium156-vp8-pub").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith(prefix))
    with pytest.raises(OfferRejected, match="malformed"):
        answer_publisher(parse_sdp_untrusted(text), LOCAL)


def test_payload_types_that_look_like_rtcp_are_never_taken() -> None:
    with pytest.raises(OfferRejected, match="no audio codec"):
        answer_publisher(offer("ffmpeg812-pub", ("111", "72")), LOCAL)


def test_two_m_lines_never_share_a_payload_type() -> None:
    clash = offer(
        "roamhq-wrtc010-sub1", ("SAVPF 98", "SAVPF 96 98"), ("a=rtpmap:98", "a=rtpmap:96 VP8/90000\r\na=rtpmap:98")
    )
    assert [track.payload_type for track in answer_viewer(clash, LOCAL, [VP8, OPUS], stream="s").tracks] == [96, 98]


def test_ssrcs_come_from_the_given_source_and_avoid_zero_and_the_peers_own() -> None:
    numbers = iter([0, 1554332569, 7, 7, 8])
    answer = answer_viewer(
        offer("roamhq-wrtc010-sub1"),
        LOCAL,
        [VP8, OPUS],
        stream="s",
        random_bits=lambda bits: next(numbers) if bits == 32 else 1,
    )
    assert [track.ssrc for track in answer.tracks] == [7, 8]


def mutated(name: str, seed: int) -> str:
    """Change an offer as damaged or hostile clients might: lines dropped, doubled, moved, cut, bytes replaced."""
    dice = random.Random(seed)
    lines = offer_text(name).split("\r\n")
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(lines))
        match dice.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines.insert(dice.randrange(len(lines)), lines.pop(at))
            case 3:
                lines[at] = lines[at][: dice.randrange(len(lines[at]) + 1)]
            case 4:
                where = dice.randrange(len(lines[at]) + 1)
                lines[at] = (
                    lines[at][:where] + chr(dice.choice([0, 10, 32, 47, 48, 57, 58, 178, 955])) + lines[at][where + 1 :]
                )
            case 5:
                lines[at] = lines[dice.randrange(len(lines))]
    return "\r\n".join(lines)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PUBLISHERS + VIEWERS), st.integers(0, 2**32))
def test_a_damaged_offer_gets_a_valid_answer_or_a_clear_refusal(name: str, seed: int) -> None:
    try:
        theirs = parse_sdp_untrusted(mutated(name, seed))
        if name in PUBLISHERS:
            answer = answer_publisher(theirs, LOCAL).sdp
        else:
            answer = answer_viewer(theirs, LOCAL, [VP8, OPUS, h264("42e01f")], stream="streamer").sdp
    except (MalformedSdp, OfferRejected):
        return
    check_form(answer, theirs)
