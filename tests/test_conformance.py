"""What WHIP, WHEP, ICE and DTLS-SRTP ask of a server, and the tests that show it here.

W: RFC 9725 and draft-ietf-wish-whep-04. I: RFC 8445, 8489, 7675 and their kin. D: RFC 8827, 8842, 5764, 6347.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
WHIP, WHEP, NODE = "server/test_whip.py", "server/test_whep.py", "server/test_node.py"
SDP, OFFERS, STUN = "media/test_sdp.py", "media/test_negotiation.py", "media/test_stun.py"
PEER, DTLS, DOOR, KERNEL = "media/test_peer.py", "media/test_dtls.py", "media/test_door.py", "media/test_forwarder.py"
ROOMS, TCP = "signalling/test_rooms.py", "media/test_ice_tcp.py"
OWN = "media/test_own_addresses.py"

SHOWN = {
    "W1 an offer is answered 201 with SDP, Location and a strong ETag": [
        (WHIP, "test_an_offer_is_answered_with_a_session_of_its_own"),
        (WHEP, "test_a_viewers_offer_is_answered_with_a_session_of_its_own"),
    ],
    "W2 another type 415, malformed 400, unsupported 422, too large 413, nothing in part": [
        (WHIP, "test_another_content_type_is_refused"),
        (WHIP, "test_malformed_sdp_names_the_line"),
        (WHIP, "test_a_body_over_the_limit_is_refused_however_it_is_sent"),
        (OFFERS, "test_a_publishers_offer_is_taken_whole_or_refused_with_the_reason"),
    ],
    "W3 who publishes sends and who watches receives": [
        (OFFERS, "test_a_publishers_offer_is_taken_whole_or_refused_with_the_reason"),
        (OFFERS, "test_every_recorded_viewer_gets_vp8_and_opus_and_tells_of_its_network_as_it_can"),
    ],
    "W4 one bundle with rtcp-mux, its m-lines with port 0 alive": [
        (SDP, "test_a_bundle_only_m_line_with_port_0_is_alive_and_one_without_is_not"),
        (OFFERS, "test_a_publishers_offer_is_taken_whole_or_refused_with_the_reason"),
    ],
    "W5 at most one audio and one video": [
        (OFFERS, "test_a_publishers_offer_is_taken_whole_or_refused_with_the_reason"),
    ],
    "W6 the DTLS role that the client needs": [
        (OFFERS, "test_the_client_chooses_the_dtls_role_where_it_must"),
    ],
    "W7 all candidates in the answer": [
        (OFFERS, "test_every_m_line_that_lives_carries_all_our_addresses_best_first"),
        (OWN, "test_one_watches_over_ipv6_and_one_over_ipv4_what_is_published_over_ipv6"),
        (OWN, "test_a_client_reaches_two_addresses_from_one_and_hears_each_from_where_it_asked"),
    ],
    "W8 OPTIONS without a token, and CORS": [
        (WHIP, "test_a_preflight_needs_no_token_and_tells_no_secret"),
        (WHIP, "test_answers_and_refusals_can_be_read_by_any_page"),
    ],
    "W9 GET without content, HEAD of WHEP with its type": [
        (WHIP, "test_getting_an_address_gives_nothing_and_succeeds"),
        (WHEP, "test_a_head_tells_players_that_this_is_whep"),
    ],
    "W10 PATCH of candidates: If-Match 428 and 412, types 415, 204 without an ETag": [
        (WHIP, "test_trickled_candidates_are_taken_without_an_answer_or_a_new_tag"),
        (WHIP, "test_a_fragment_must_match_the_session_as_it_is"),
        (WHIP, "test_a_fragment_of_another_type_is_refused"),
        (SDP, "test_an_error_in_a_fragment_names_its_line"),
    ],
    "W11 PATCH of an ICE restart: 200, a fragment, a new ETag, the old path until the new is proven": [
        (WHIP, "test_an_ice_restart_gives_a_fragment_and_a_new_tag"),
        (DOOR, "test_an_ice_restart_answers_with_fresh_credentials"),
        (PEER, "test_the_client_goes_on_across_an_ice_restart"),
        (ROOMS, "test_who_waits_outside_a_one_to_one_may_change_the_network_and_comes_back_by_himself"),
    ],
    "W12 DELETE once, whatever If-Match says, and consent is revoked at once": [
        (WHIP, "test_a_session_is_ended_once_whatever_if_match_says"),
        (ROOMS, "test_a_session_is_deleted_once_also_by_two_requests_at_once"),
        (PEER, "test_a_closed_peer_revokes_consent"),
    ],
    "W13 a session is its owner's": [
        (WHIP, "test_a_session_of_someone_else_looks_like_none_except_to_an_administrator"),
    ],
    "W14 Bearer tokens, 401 with a challenge": [
        (WHIP, "test_every_request_but_a_preflight_needs_a_token"),
    ],
    "W15 503 and 429 with Retry-After": [
        (WHIP, "test_what_the_rooms_refuse_has_its_own_code"),
        (WHIP, "test_offers_are_limited_for_each_account"),
    ],
    "W16 ICE servers as Link": [
        (WHIP, "test_an_offer_is_answered_with_a_session_of_its_own"),
    ],
    "W17 without a publisher 409 and Retry-After": [
        (WHEP, "test_without_a_publisher_the_viewer_is_told_to_come_back"),
        (NODE, "test_a_viewer_of_what_nobody_publishes_may_try_again"),
    ],
    "W20 what never connects is forgotten": [
        (PEER, "test_an_offer_whose_client_never_comes_ends_after_half_a_minute"),
        (PEER, "test_a_client_that_came_late_still_has_half_a_minute_for_its_handshake"),
    ],
    "W21 the newest publisher takes over": [
        (DOOR, "test_a_publisher_that_comes_back_takes_over_and_viewers_go_on"),
        (ROOMS, "test_a_publisher_that_takes_over_interrupts_nothing_until_it_fails_to_come"),
    ],
    "I1 the first byte sorts": [
        (PEER, "test_any_bytes_from_anywhere_raise_nothing_and_are_counted"),
        (KERNEL, "test_garbage_is_counted_and_hurts_nobody"),
    ],
    "I2 STUN is parsed strictly": [
        (STUN, "test_any_mutation_of_a_request_gives_a_message_or_nothing"),
        (STUN, "test_unknown_required_attributes_are_named"),
    ],
    "I3 both halves of the name and the password, or no answer": [
        (PEER, "test_what_cannot_be_believed_gets_no_answer_and_validates_nothing"),
        (PEER, "test_an_unknown_required_attribute_is_refused_only_to_who_knows_the_password"),
    ],
    "I4 the answer carries the address": [
        (PEER, "test_a_check_is_answered_with_the_address_it_came_from"),
        (STUN, "test_a_response_maps_back_to_the_address_it_was_made_for"),
    ],
    "I5 media goes where it was nominated last": [
        (PEER, "test_a_nomination_moves_the_path_at_once_and_a_plain_check_does_not"),
        (PEER, "test_dtls_starts_before_any_nomination"),
    ],
    "I6 a roaming client goes on": [
        (DOOR, "test_a_viewer_that_changes_its_address_goes_on_where_it_is_now"),
        (PEER, "test_addresses_are_few_and_the_one_in_use_is_never_forgotten"),
    ],
    "I7 consent expires": [
        (PEER, "test_silence_ends_consent_and_media_extends_it"),
        (PEER, "test_junk_does_not_extend_consent"),
    ],
    "I8 ICE restart beside the old session": [
        (PEER, "test_an_ice_restart_moves_the_path_and_keeps_the_keys"),
        (PEER, "test_the_two_halves_of_old_and_new_credentials_do_not_mix"),
    ],
    "I9 ICE over TCP": [
        (TCP, "test_publisher_and_viewer_over_tcp_and_their_feedback"),
        (TCP, "test_what_waits_for_a_slow_viewer_is_dropped_with_its_right"),
        (TCP, "test_strangers_get_nothing_and_are_counted"),
    ],
    "I10 several addresses of ours": [
        (OFFERS, "test_every_m_line_that_lives_carries_all_our_addresses_best_first"),
        (OWN, "test_one_watches_over_ipv6_and_one_over_ipv4_what_is_published_over_ipv6"),
        (OWN, "test_a_client_reaches_two_addresses_from_one_and_hears_each_from_where_it_asked"),
    ],
    "I12 unknown attributes are ignored": [
        (STUN, "test_any_bytes_give_a_message_or_nothing"),
    ],
    "D1 DTLS 1.2 in both roles": [
        (PEER, "test_both_ends_agree_on_keys_in_either_dtls_role"),
        (DTLS, "test_gcm_is_chosen_where_the_client_has_it_in_any_place"),
    ],
    "D2 the promised certificate and no other": [
        (DTLS, "test_any_fingerprint_of_the_best_offered_hash_will_do"),
        (PEER, "test_a_certificate_that_was_not_promised_gets_no_keys"),
    ],
    "D3 the chosen SRTP profile, none without one": [
        (DTLS, "test_a_client_without_gcm_gets_cm"),
        (DTLS, "test_a_client_without_a_common_srtp_profile_gets_no_keys"),
    ],
    "D4 a hello in any parts, in any order": [
        (DTLS, "test_a_hello_in_many_reordered_and_repeated_fragments_connects"),
        (DTLS, "test_the_parts_of_a_real_hello_may_come_in_any_order_and_twice"),
    ],
    "D5 lost datagrams are repaired": [
        (PEER, "test_the_loss_of_any_one_datagram_is_repaired_within_half_a_second"),
        (DTLS, "test_a_flight_is_repeated_with_growing_pauses_until_the_limit"),
    ],
    "D6 handshakes only for validated addresses, within limits": [
        (PEER, "test_what_cannot_be_believed_gets_no_answer_and_validates_nothing"),
        (DTLS, "test_refused_hellos_end_the_association_at_the_limit_and_then_the_client_is_told"),
    ],
    "D7 close_notify both ways, junk afterwards ignored": [
        (DTLS, "test_close_notify_is_said_and_answered_from_either_side"),
        (PEER, "test_a_spoofed_datagram_ends_no_session"),
    ],
    "D8 and D9 no media before the handshake": [
        (DOOR, "test_before_the_handshake_media_is_dropped_from_whom_ever_it_comes"),
    ],
    "D10 a new certificate every day": [
        (DOOR, "test_a_new_session_after_a_day_gets_a_new_certificate_and_an_old_one_keeps_its_own"),
    ],
}
NOT_DONE = {
    "W18": "a viewer without a common codec is refused (406) and gets no counter-offer: optional, and no player asks",
    "W19": "server-sent events and layer selection over WHEP: extensions that the signalling socket makes needless",
    "I11": "candidates of clients are never used: a lite server answers where the checks come from",
    "D11": "no session lives for the 2^48 packets after which keys must change",
}


@pytest.mark.parametrize("item", SHOWN)
def test_each_item_is_shown_by_tests_that_exist(item: str) -> None:
    assert SHOWN[item]
    for module, name in SHOWN[item]:
        assert name in names_in(module), f"{module} has no {name}"


def test_every_item_is_shown_or_left_out_for_a_reason() -> None:
    wanted = [
        f"{letter}{number}" for letter, last in (("W", 21), ("I", 12), ("D", 11)) for number in range(1, last + 1)
    ]
    said = [word for item in SHOWN for word in item.split() if word[0] in "WID" and word[1:].isdigit()]
    assert sorted([*said, *NOT_DONE]) == sorted(wanted)


@cache
def names_in(module: str) -> set[str]:
    tree = ast.parse((TESTS / module).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
