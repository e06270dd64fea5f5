"""What WHIP, WHEP, ICE and DTLS-SRTP ask of a server, and the tests that show it here.

W: RFC 9725 and draft-ietf-wish-whep-04. I: RFC 8445, 8489, 7675 and their kin. D: RFC 8827, 8842, 5764, 6347. R: RFC
3550, 3711, 8285, 4588, 2198. C: RFC 3550, 4585, 5104, 5506 and the drafts of transport-wide feedback and REMB. L: RFC
8851 to 8853, 6184, 7741, 6464 and the extensions that browsers have beside them. S: RFC 9260, 3758, 6525, 8261, 8831,
8832 and 8841.
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
SRTP, RTP, RULES, HARD = (
    "media/test_srtp.py",
    "media/test_rtp.py",
    "media/test_rtp_rules.py",
    "media/test_kernel_robustness.py",
)
MODEL, EXTENSIONS, RED = "media/test_reference.py", "media/test_extensions.py", "media/test_redundancy.py"
RTCP, FEEDBACK, REPORTING, STAMPS, WAY = (
    "media/test_rtcp.py",
    "media/test_feedback.py",
    "media/test_reporting.py",
    "media/test_stamps.py",
    "media/test_way_feedback.py",
)
ESTIMATE, PROBES, ALLOCATION = "media/test_estimation.py", "media/test_probing.py", "media/test_allocation.py"
PLAYOUT, CODECS, SPEAKERS = "media/test_playout.py", "media/test_codecs.py", "media/test_speakers.py"
LAYERS, RESTING, DOWNLINK = "media/test_layers.py", "media/test_resting.py", "clients/test_downlink.py"

SCTP, CHANNELS, EVENTS = "media/test_sctp.py", "media/test_data_channels.py", "server/test_data_channels.py"
PARTIAL = "media/test_partial_reliability.py"

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
    "R1 replays are refused, counted and no end": [
        (RULES, "test_what_is_a_thousand_packets_late_is_opened_once"),
        (RULES, "test_a_packet_that_comes_twice_is_counted_and_forwarded_once"),
        (SRTP, "test_a_replayed_packet_has_its_own_status"),
        (HARD, "test_datagrams_of_any_size_without_a_valid_tag_are_dropped_and_counted"),
    ],
    "R2 rollover counters go on at both ends": [
        (SRTP, "test_the_rollover_counter_goes_on_where_numbers_wrap"),
        (KERNEL, "test_a_sequence_that_wraps_twice_loses_nothing"),
        (KERNEL, "test_numbers_stay_contiguous_across_every_edge"),
    ],
    "R3 headers are read strictly": [
        (RTP, "test_malformed_packets_are_named_so"),
        (RTP, "test_padding_between_elements_is_skipped_and_id_15_stops"),
        (RTP, "test_a_two_byte_header_holds_what_a_one_byte_header_cannot"),
        (RTP, "test_the_first_packet_of_chromium_is_a_probe_without_payload"),
        (HARD, "test_authentic_garbage_changes_only_its_senders_rows_and_stops_nobody"),
        (HARD, "test_an_extension_of_an_unknown_profile_is_not_read"),
    ],
    "R4 ids of extensions are the receiver's own, unknown ones are stripped": [
        (EXTENSIONS, "test_ids_are_the_viewers_own_and_what_is_for_one_hop_stays_there"),
        (EXTENSIONS, "test_who_asked_for_one_gets_one_and_who_asked_for_none_gets_no_header_for_them"),
        (OFFERS, "test_a_viewer_gets_of_the_publishers_header_extensions_what_it_offered_under_its_own_ids"),
        (OFFERS, "test_every_recorded_publisher_gets_both_of_its_tracks"),
    ],
    "R5 SSRC, payload type, number and time are each viewer's own, and gaps stay": [
        (KERNEL, "test_every_viewer_gets_what_the_publisher_sent_under_its_own_numbers"),
        (KERNEL, "test_loss_reordering_and_repetition_upstream_are_passed_on_as_they_are"),
        (MODEL, "test_the_kernel_sends_what_the_reference_sends"),
        (MODEL, "test_a_viewer_goes_over_to_another_layer_at_its_keyframe_and_notices_no_gap"),
    ],
    "R6 a publisher that begins anew goes on": [
        (KERNEL, "test_a_publishers_restart_goes_on_in_number_and_time"),
        (HARD, "test_a_source_that_begins_anew_within_one_turn_goes_on_for_those_who_watch"),
        (DOOR, "test_a_publisher_that_comes_back_takes_over_and_viewers_go_on"),
    ],
    "R7 sources are few, and latched by name": [
        (HARD, "test_a_transport_has_a_bounded_number_of_sources"),
        (HARD, "test_a_forged_ssrc_takes_none_of_the_places"),
        (MODEL, "test_a_packet_that_names_no_layer_before_its_ssrc_is_known_goes_nowhere"),
    ],
    "R8 repairs have a stream of their own, both ways, and a budget": [
        (KERNEL, "test_a_lost_packet_is_sent_again_through_rtx_and_a_replayed_one_looks_the_same"),
        (KERNEL, "test_upstream_rtx_fills_the_gap"),
        (STAMPS, "test_one_count_goes_through_sound_picture_and_repairs_and_wraps"),
        (MODEL, "test_retransmission_stops_at_its_budget_and_flows_again_later"),
        (HARD, "test_a_repair_never_begins_a_source_anew"),
        (HARD, "test_one_datagram_asks_for_a_bounded_number_of_packets"),
    ],
    "R9 without RTX the very packet is sent again": [
        (KERNEL, "test_a_viewer_without_rtx_gets_the_packet_itself_again"),
        (MODEL, "test_who_has_no_rtx_gets_the_same_octets_again_padding_included"),
        (STAMPS, "test_what_is_stamped_is_never_sent_again_under_its_own_number"),
    ],
    "R10 redundant sound, in-band FEC and pauses pass, ulpfec and flexfec are not negotiated": [
        (RED, "test_who_takes_redundant_sound_gets_it_whole_and_the_others_its_newest_block"),
        (RED, "test_blocks_that_do_not_fit_are_dropped_and_counted"),
        (OFFERS, "test_redundant_sound_is_taken_of_who_prefers_it_and_given_to_who_knows_it"),
        (OFFERS, "test_no_plane_of_the_offer_that_we_cannot_serve_is_negotiated"),
        (RULES, "test_a_pause_in_sound_is_no_loss_and_keeps_its_place_in_time"),
    ],
    "C1 compounds are read by their own lengths, and no count in them is trusted": [
        (RTCP, "test_what_follows_a_malformed_packet_is_dropped"),
        (RTCP, "test_extended_reports_are_skipped_whatever_their_blocks_claim"),
        (RTCP, "test_any_bytes_are_packets_or_malformed"),
        (HARD, "test_compounds_that_crashed_others_change_nothing_here"),
    ],
    "C2 sender reports are made for each viewer, on the publisher's clock": [
        (KERNEL, "test_sender_reports_carry_the_publishers_clock_and_the_viewers_numbers"),
        (KERNEL, "test_no_source_is_given_anothers_report_nor_its_own_of_before_it_began_anew"),
        (KERNEL, "test_a_report_that_comes_before_its_sources_first_packet_counts"),
        (PLAYOUT, "test_sound_and_picture_stay_together_while_the_layer_changes"),
    ],
    "C3 receiver reports to publishers, those of viewers go no further": [
        (REPORTING, "test_a_receiver_report_covers_every_track_once_a_second"),
        (REPORTING, "test_the_sender_report_is_echoed_with_its_age_for_the_round_trip_time"),
        (RULES, "test_a_viewers_reports_go_no_further_and_a_publishers_only_as_our_own"),
    ],
    "C4 losses upstream are asked for within limits": [
        (FEEDBACK, "test_reordering_is_not_taken_for_loss"),
        (FEEDBACK, "test_requests_are_a_round_trip_apart_ten_at_most_and_then_a_keyframe_is_asked_for"),
        (FEEDBACK, "test_losses_ask_exactly_for_what_did_not_arrive"),
    ],
    "C5 keyframes are asked for once for all, and not for ever": [
        (FEEDBACK, "test_a_storm_of_wishes_costs_one_request_per_half_second"),
        (FEEDBACK, "test_a_publisher_without_keyframes_is_left_in_peace_for_ten_seconds_and_then_asked_again"),
        (FEEDBACK, "test_fir_with_rising_numbers_goes_where_nothing_else_was_negotiated"),
        (HARD, "test_every_entry_of_a_full_intra_request_counts"),
        (DOOR, "test_a_keyframe_is_asked_of_the_publisher_and_arrivals_are_reported_to_it"),
    ],
    "C6 arrivals are reported transport-wide": [
        (REPORTING, "test_arrivals_are_told_ten_times_a_second_without_gaps"),
        (RTCP, "test_every_arrival_is_told_once_to_the_quarter_millisecond"),
        (RTCP, "test_chunks_take_the_form_that_covers_most"),
        (RTCP, "test_a_report_with_1024_packets_of_large_deltas_is_split"),
        (KERNEL, "test_the_arrival_log_holds_transport_wide_numbers"),
    ],
    "C7 each viewer's way is estimated from its feedback, or REMB, and REMB limits publishers": [
        (WAY, "test_the_kernel_draws_from_reports_what_the_reference_does"),
        (WAY, "test_a_receivers_own_estimate_is_read"),
        (ESTIMATE, "test_the_compiled_estimate_is_the_reference"),
        (ALLOCATION, "test_remb_bounds_and_a_layer_more_is_tried_where_it_shows_no_limit"),
        (RTCP, "test_a_remb_is_written_as_it_is_read_and_never_says_more"),
    ],
    "C8 probes go out only where more is wanted": [
        (PROBES, "test_nobody_is_probed_who_wants_no_more_or_of_whom_nothing_is_known_or_within_a_frame"),
        (PROBES, "test_a_probe_takes_15_ms_at_what_it_is_to_show_whatever_the_picture"),
        (PROBES, "test_a_probe_is_bounded"),
    ],
    "C10 a goodbye ends a source, not the session": [
        (RULES, "test_a_goodbye_ends_a_source_and_neither_the_session_nor_another_source"),
    ],
    "C11 no RTCP in the clear": [
        (RULES, "test_rtcp_in_the_clear_is_not_read_and_none_is_sent"),
    ],
    "L1 simulcast is answered with the layers that were offered": [
        (OFFERS, "test_simulcast_is_taken_with_all_its_layers"),
        (OFFERS, "test_simulcast_that_is_not_taken_is_answered_with_one_plain_encoding"),
    ],
    "L2 layers change at keyframes, and by the publisher's clock": [
        (MODEL, "test_a_viewer_goes_over_to_another_layer_at_its_keyframe_and_notices_no_gap"),
        (PLAYOUT, "test_sound_and_picture_stay_together_while_the_layer_changes"),
        (PLAYOUT, "test_rtp_times_only_rise_while_the_layer_changes_also_without_reports"),
        (LAYERS, "test_viewers_get_the_layer_they_wish_for_and_go_over_without_a_gap"),
    ],
    "L3 VP8's picture numbers go on": [
        (MODEL, "test_picture_numbers_wrap"),
        (MODEL, "test_both_find_the_same_picture_numbers"),
    ],
    "L6 H264 is matched by profile": [
        (OFFERS, "test_h264_is_matched_by_profile_and_answered_at_the_lower_level"),
        (OFFERS, "test_of_h264_constrained_baseline_is_taken_as_it_plays_everywhere"),
        (CODECS, "test_profiles_are_told_by_the_table_of_rfc_6184"),
        (CODECS, "test_each_form_of_payload_is_told_apart"),
    ],
    "L7 nobody gets what was not negotiated": [
        (OFFERS, "test_a_viewer_without_the_codec_is_told_so"),
        (OFFERS, "test_what_the_publisher_does_not_send_gets_port_0_in_the_viewers_answer"),
        (DOOR, "test_a_viewer_in_another_codec_and_a_broken_offer_are_refused_and_leave_nothing_behind"),
    ],
    "L8 levels of sound pass, and say who speaks": [
        (EXTENSIONS, "test_the_newest_levels_of_sound_are_there_to_read"),
        (SPEAKERS, "test_who_speaks_is_the_speaker_and_the_next_one_within_a_second_and_a_half"),
        (SPEAKERS, "test_a_pause_and_a_cough_of_somebody_else_change_nothing"),
    ],
    "L9 the playout delay passes": [
        (EXTENSIONS, "test_the_playout_delay_is_told_again_with_each_keyframe"),
    ],
    "L10 capture times pass as they come, in line with the sender reports": [
        (EXTENSIONS, "test_ids_are_the_viewers_own_and_what_is_for_one_hop_stays_there"),
        (EXTENSIONS, "test_a_repair_has_them_too_and_a_packet_sent_twice_has_the_same_octets"),
    ],
    "L11 pictures are upright for everybody": [
        (OFFERS, "test_the_picture_is_turned_by_who_publishes_it_for_all_who_do_not_know_how"),
        ("bridge/test_intake.py", "test_how_the_picture_is_to_be_turned_goes_with_the_last_packet_of_each_frame"),
    ],
    "L12 times of sending are our own": [
        (STAMPS, "test_who_answers_with_remb_gets_the_time"),
    ],
    "L14 layers that nobody gets are not sent": [
        (RESTING, "test_what_nobody_gets_rests_after_a_while_from_the_best_down_and_the_least_never"),
        (DOWNLINK, "test_a_publisher_leaves_out_what_nobody_watches_and_has_it_back_for_who_comes"),
    ],
    "L15 sound alone, picture alone and muted": [
        (RULES, "test_who_watches_without_sound_or_listens_without_a_picture_needs_nothing_of_the_other"),
        (KERNEL, "test_audio_starts_at_once"),
    ],
    "S1 nothing of an INIT is kept until its cookie comes back, sealed, within its life": [
        (SCTP, "test_an_init_is_answered_with_a_cookie_and_nothing_is_remembered"),
        (SCTP, "test_a_cookie_is_taken_only_from_us_whole_and_within_its_life"),
        (SCTP, "test_of_unknown_parameters_those_are_told_that_ask_for_it"),
    ],
    "S2 the handshake survives any loss, and two that begin at once or anew": [
        (SCTP, "test_any_packet_of_the_handshake_may_be_lost"),
        (SCTP, "test_both_ends_may_begin_at_once"),
        (SCTP, "test_a_repeated_init_harms_nothing_and_a_peer_may_begin_anew"),
        (SCTP, "test_who_never_answers_is_given_up_in_the_end"),
    ],
    "S3 tags, ports and checksums are compared, strays told": [
        (SCTP, "test_packets_with_a_wrong_tag_checksum_or_port_change_nothing"),
        (SCTP, "test_who_believes_in_an_association_that_is_not_there_is_told"),
        (SCTP, "test_the_checksum_is_crc32c_with_the_least_octet_first"),
    ],
    "S4 unknown chunks by the bits of their type, heartbeats answered": [
        (SCTP, "test_unknown_chunks_are_skipped_or_told_as_their_type_asks"),
        (SCTP, "test_a_heartbeat_is_answered_with_what_it_says"),
    ],
    "S5 messages whole, once and in order, or out of it": [
        (SCTP, "test_messages_both_ways_arrive_once_whole_and_in_order"),
        (SCTP, "test_every_message_arrives_once_ordered_or_not"),
        (SCTP, "test_tsns_numbers_and_messages_go_on_across_their_wraps"),
    ],
    "S6 SACK with gaps, duplicates and a window that is kept to": [
        (SCTP, "test_gaps_and_duplicates_are_told"),
        (SCTP, "test_what_is_far_ahead_or_too_much_is_not_taken_and_what_is_next_always_is"),
        (SCTP, "test_a_shut_window_lets_one_packet_out_to_look"),
    ],
    "S7 retransmission after three reports or a timer that doubles, and an end to it": [
        (SCTP, "test_what_three_reports_miss_is_sent_again_at_once"),
        (SCTP, "test_the_timer_doubles_and_after_ten_the_peer_is_lost"),
    ],
    "S8 congestion control": [
        (SCTP, "test_the_congestion_window_opens_by_what_arrives_and_has_an_end"),
        (SCTP, "test_a_loss_halves_the_window_and_a_timer_shuts_it_to_one_packet"),
    ],
    "S9 ABORT, SHUTDOWN, and what breaks the rules": [
        (SCTP, "test_a_shutdown_lets_what_is_on_its_way_arrive"),
        (SCTP, "test_a_violation_ends_the_association_and_says_so"),
        (SCTP, "test_a_message_that_is_too_long_and_one_that_never_ends_are_violations"),
        (SCTP, "test_data_on_a_stream_that_there_is_not_is_acknowledged_and_told"),
    ],
    "S10 FORWARD TSN": [
        (SCTP, "test_what_a_peer_gives_up_is_not_waited_for"),
        (SCTP, "test_of_what_a_peer_gives_up_the_whole_messages_are_delivered"),
        (PARTIAL, "test_a_message_is_sent_again_as_often_as_it_may_be_and_those_behind_it_do_not_wait"),
        (PARTIAL, "test_a_message_is_given_up_when_its_time_is_over_and_not_before"),
        (PARTIAL, "test_all_is_sent_reliably_where_the_peer_skips_nothing"),
        (PARTIAL, "test_what_arrives_is_whole_once_and_in_order_and_all_that_has_to_does"),
    ],
    "S11 RE-CONFIG: streams are reset, all else denied": [
        (SCTP, "test_a_stream_is_reset_behind_its_messages_and_begins_anew"),
        (SCTP, "test_other_requests_to_reconfigure_are_denied_and_old_numbers_refused"),
    ],
    "S12 packets fit DTLS records, in either role of DTLS": [
        (SCTP, "test_no_packet_is_larger_than_a_dtls_record_carries"),
        (CHANNELS, "test_channels_work_in_either_role_of_dtls"),
    ],
    "S13 DCEP, and empty messages": [
        (CHANNELS, "test_a_channel_opens_says_text_both_ways_and_closes_whatever_is_lost"),
        (CHANNELS, "test_what_is_refused_is_closed_and_counted"),
        (CHANNELS, "test_every_type_of_channel_is_read_and_written"),
        (CHANNELS, "test_what_a_channel_asked_for_is_how_we_send_on_it"),
    ],
    "S14 channels close by resets of both directions": [
        (CHANNELS, "test_a_client_that_closes_is_answered_with_a_reset_of_our_direction"),
        (EVENTS, "test_channels_of_another_label_and_too_many_are_closed_and_media_go_on"),
    ],
    "S15 the m-line of data channels": [
        (CHANNELS, "test_data_channels_are_accepted_in_the_bundle_with_our_port_and_limit"),
        (CHANNELS, "test_the_longest_message_is_what_the_peer_says"),
        (CHANNELS, "test_other_offers_of_data_are_refused_and_media_go_on"),
    ],
}
NOT_DONE = {
    "W18": "a viewer without a common codec is refused (406) and gets no counter-offer: optional, and no player asks",
    "W19": "server-sent events and layer selection over WHEP: extensions that the signalling socket makes needless",
    "I11": "candidates of clients are never used: a lite server answers where the checks come from",
    "D11": "no session lives for the 2^48 packets after which keys must change",
    "C9": "frames leave as they come, unpaced",
    "L4": "the layers within VP9 are not told apart: everybody gets all of them",
    "L5": "nor those within AV1: the dependency descriptor is not negotiated",
    "L13": "which layers there are is seen by what arrives: video-layers-allocation is not negotiated",
}


@pytest.mark.parametrize("item", SHOWN)
def test_each_item_is_shown_by_tests_that_exist(item: str) -> None:
    assert SHOWN[item]
    for module, name in SHOWN[item]:
        assert name in names_in(module), f"{module} has no {name}"


def test_every_item_is_shown_or_left_out_for_a_reason() -> None:
    wanted = [
        f"{letter}{number}"
        for letter, last in (("W", 21), ("I", 12), ("D", 11), ("R", 10), ("C", 11), ("L", 15), ("S", 15))
        for number in range(1, last + 1)
    ]
    said = [word for item in SHOWN for word in item.split() if word[0] in "WIDRCLS" and word[1:].isdigit()]
    assert sorted([*said, *NOT_DONE]) == sorted(wanted)


@cache
def names_in(module: str) -> set[str]:
    tree = ast.parse((TESTS / module).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
