"""Counters as text for Prometheus: what each is called there, and what it means.

Names are kept: dashboards and alarms are built on them. A counter that is not described here is exported all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily

# What is so now: counter -> (metric, help).
GAUGES = {
    "connections": ("connections", "Open TCP connections."),
    "parked": ("sockets_parked", "Those that are silent just now, and take no task."),
    "sockets": ("sockets", "Open signalling sockets."),
    "signalling_sessions": ("signalling_sessions", "Signalling sessions, with those that may still be resumed."),
    "signalling_sessions_lost": ("signalling_sessions_lost", "Signalling sessions without a connection just now."),
    "rooms": ("rooms", "Rooms of streams that have not ended."),
    "rooms_unwritten": ("rooms_unwritten", "Rooms whose last change is not on the disk yet."),
    "media_sessions": ("media_sessions", "WHIP and WHEP sessions."),
    "transports": ("transports", "WebRTC transports."),
    "data_channels": ("data_channels", "Open data channels of WebRTC clients."),
    "access_coming": ("access_coming", "People who are being judged on their way in."),
    "access_timetable": ("access_timetable", "Times at which somebody is to be judged anew."),
    "feed_followers": ("feed_followers", "Signalling sessions that follow the log of events."),
    "feed_waiting": ("feed_waiting", "Readers of the log that wait for the next event."),
    "conversations_typed_in": ("conversations_typed_in", "Conversations in which somebody is writing now."),
    "calls": ("calls", "Calls that ring, or go on."),
    "calls_unwritten": ("calls_unwritten", "Calls of which the last change is not on the disk yet."),
    "conversations_live": ("conversations_live", "Groups that are live."),
    "people_watched": ("people_watched", "People of whom somebody is told whether they are here."),
    "uploads_sending": ("uploads_sending", "Requests that carry bytes of files now."),
    "files_looked_at": ("files_looked_at", "Uploads that wait to be made harmless, or are."),
    "push_devices": ("push_devices", "Devices that notices are pushed to."),
    "accounts_suspended": ("accounts_suspended", "Accounts that are shut out."),
    "moq_sessions": ("moq_sessions", "MoQ sessions."),
    "quic_connections": ("quic_connections", "QUIC connections, with those that have no session yet."),
    "qmux_connections": ("qmux_connections", "WebSocket connections with a MoQ session."),
    "bridged_broadcasts": ("bridged_broadcasts", "WebRTC publishers whose streams MoQ players may watch."),
    "bridged_broadcasts_read": ("bridged_broadcasts_read", "Those that somebody watches over MoQ now."),
    "ice_tcp_connections": ("ice_tcp_connections", "TCP connections that carry WebRTC now."),
    "incoming_broadcasts": ("incoming_broadcasts", "Streams that are published over MoQ now."),
    "tasks": ("tasks", "Tasks of the node's loop."),
    "srtp_contexts": ("media_srtp_contexts", "SRTP contexts of transports that are secured."),
    "rows_rooms": ("media_rows_rooms", "Rows in use of the forwarding table of rooms."),
    "rows_transports": ("media_rows_transports", "Rows in use of that of transports."),
    "rows_tracks": ("media_rows_tracks", "Rows in use of that of tracks, one for each layer."),
    "rows_subscriptions": ("media_rows_subscriptions", "Rows in use of that of subscriptions."),
    "rows_arrival_logs": ("media_rows_arrival_logs", "Rows in use of that of publishers' arrivals."),
    "uses_gso": ("media_uses_gso", "1 while packets for one viewer are sent merged (UDP GSO), 0 where it is refused."),
}

# What only rises: counter -> (metric, help); "_total" is added to the name.
COUNTERS = {
    "one_to_one_failures": ("one_to_one_failures", "Times that a one-to-one could not be settled; it is tried again."),
    "one_to_one_unheard": ("one_to_one_unheard", "What rooms said of one-to-ones when too much was unwritten."),
    "one_to_one_recovered": ("one_to_one_recovered", "One-to-ones settled that no room knew any more."),
    "parked_woken": ("sockets_woken", "Times that a silent signalling socket was woken."),
    "parked_heard": ("sockets_heard", "Times that what a silent signalling socket was sent needed no task."),
    "parked_refused": ("sockets_not_parked", "Signalling sockets that the system did not watch, and a task did."),
    "fanout_calls": ("fanout_calls", "Times that many signalling sockets were written to in one call."),
    "fanout_copies": ("fanout_copies", "Frames that sockets took whole in such calls."),
    "fanout_queued": ("fanout_queued", "Frames that waited, as something else did already or the socket was full."),
    "sockets_opened": ("sockets_opened", "Signalling sockets whose handshake succeeded."),
    "sockets_refused": ("sockets_refused", "Signalling sockets whose handshake failed."),
    "moq_sessions_admitted": ("moq_sessions_admitted", "MoQ sessions that were let in."),
    "moq_sessions_refused": ("moq_sessions_refused", "MoQ sessions that were not."),
    "moq_sessions_ended": ("moq_sessions_ended", "MoQ sessions ended with their token, or their stream."),
    "bridged_frames": ("bridged_frames", "Frames passed on from WebRTC publishers to MoQ players."),
    "incoming_frames": ("incoming_frames", "Frames of MoQ publishers passed on to WebRTC viewers."),
    "store_writes": ("store_writes", "Writes to the database that are on the disk."),
    "store_commits": ("store_commits", "Transactions on the database; one holds many writes."),
    "store_shared": ("store_shared_writes", "Writes to the database that were done in one go with others."),
    "store_parted": ("store_parted", "Writes in one go that failed, and were done one by one."),
    "store_failures": ("store_failures", "Transactions that the disk or a lock refused."),
    "access_judged": ("access_judged", "Times that an account was judged for a stream."),
    "access_looks": ("access_looks", "Looks into the database in which those on their way in were judged, together."),
    "access_failures": ("access_failures", "Times that it could not be judged, and who was in doubt was put out."),
    "store_collisions": ("store_collisions", "Transactions that were done anew as another had been faster."),
    "store_timeouts": ("store_timeouts", "Transactions that waited too long, for a row or for their end, and failed."),
    "payment_webhooks": ("payment_webhooks", "Webhooks of payment providers that were understood."),
    "payment_webhooks_refused": ("payment_webhooks_refused", "Those that were not signed, or not understood."),
    "deposits_started": ("deposits_started", "Deposits that people were sent to a payment provider for."),
    "deposits_not_started": ("deposits_not_started", "Deposits for which the provider did not answer."),
    "withdrawals": ("withdrawals", "Withdrawals that people asked for."),
    "tips": ("tips", "Tips that were given."),
    "tips_reversed": ("tips_reversed", "Tips that were taken back."),
    "tips_late": ("tips_late", "Tips, or reversals, that were answered before their giver was judged anew."),
    "duties_done": ("duties_done", "Things that were due, such as expired holds, and were done."),
    "duty_failures": ("duty_failures", "Times that what was due could not be done; tried again."),
    "tickets_bought": ("tickets_bought", "Tickets that were paid for."),
    "tickets_refused": ("tickets_refused", "Reservations and purchases that were refused; nobody was charged."),
    "tickets_carried": ("tickets_carried", "Seats that were carried from the box office into a room."),
    "tickets_late": ("tickets_late", "Times that a room was not told of seats in time; what was bought was answered."),
    "ticket_failures": ("ticket_failures", "Times that seats or news of them could not be carried; tried again."),
    "tickets_paid_back": ("tickets_paid_back", "Tickets of shows that were not delivered, and were paid back."),
    "shows_paid_out": ("shows_paid_out", "Times that a streamer was paid for a show that was delivered."),
    "payouts_told": ("payouts_told", "Withdrawals that a payment provider was told of."),
    "payout_failures": ("payout_failures", "Times that a provider could not be told; tried again."),
    "idempotency_replays": (
        "idempotency_replays",
        "Requests that came again with their key and got their first answer.",
    ),
    "idempotency_mismatches": ("idempotency_mismatches", "Keys that came again with another request."),
    "idempotency_collisions": ("idempotency_collisions", "Keys that came again while their request was being done."),
    "messages_sent": ("messages_sent", "Messages that were written in conversations."),
    "messages_replayed": ("messages_replayed", "Messages that came again, and were written once."),
    "messages_refused": ("messages_refused", "Messages that were refused; nothing was written."),
    "messages_gathered": ("messages_gathered", "Messages that were written in one go with what else came meanwhile."),
    "message_batches": ("message_batches", "Times that gathered messages were written."),
    "messages_paced": ("messages_paced", "Times that somebody wrote, changed or reached people too fast."),
    "messages_dropped": ("messages_dropped", "Messages dropped as their conversation keeps them no longer."),
    "presence_told": ("presence_told", "Times that a session was told whether somebody is here."),
    "presence_failures": ("presence_failures", "Times that it could not be looked up who may see it; tried again."),
    "message_duty_failures": ("message_duty_failures", "Times that what is due in conversations failed; tried again."),
    "streams_taken_down": ("streams_taken_down", "Streams that ended by a decision of reviewers."),
    "streams_reopened": ("streams_reopened", "Streams that were open again after an appeal against their removal."),
    "bids_asked": ("bids_asked", "Requests for paid chats."),
    "bids_refused": ("bids_refused", "Requests for paid chats that were refused."),
    "bids_answered": ("bids_answered", "Paid chats that one of the two accepted, declined, withdrew or confirmed."),
    "bids_run_out": ("bids_run_out", "Paid chats that were settled as their time was over."),
    "bid_duty_failures": ("bid_duty_failures", "Times that settling paid chats in time failed; tried again."),
    "reports_filed": ("reports_filed", "Reports that opened a case."),
    "reports_refused": ("reports_refused", "Reports that were refused: too many, paused, or of nothing one can see."),
    "cases_opened_by_blocks": ("cases_opened_by_blocks", "Cases that a block opened, in the middle of what was paid."),
    "cases_decided": ("cases_decided", "Cases that were decided and may be appealed against."),
    "cases_appealed": ("cases_appealed", "Decisions that a side did not accept."),
    "cases_closed": ("cases_closed", "Cases that were decided for good."),
    "suspensions_ended": ("suspensions_ended", "Suspensions that ended by their time."),
    "review_duty_failures": ("review_duty_failures", "Times that what is due in reviews failed; tried again."),
    "calls_begun": ("calls_begun", "Calls that were begun."),
    "calls_unrung": ("calls_unrung", "Times that somebody called too often, and rang nobody."),
    "call_write_failures": ("call_write_failures", "Times that a call could not be written down; tried again."),
    "conversations_gone_live": ("conversations_gone_live", "Times that a group went live."),
    "conversation_live_failures": ("conversation_live_failures", "Times that its end was not written; tried again."),
    "uploads_begun": ("uploads_begun", "Uploads of files that were begun."),
    "uploads_whole": ("uploads_whole", "Those of which every byte arrived."),
    "uploads_broken": ("uploads_broken", "Times that a connection ended, or stood still, within an upload."),
    "uploads_refused": ("uploads_refused", "Times that bytes of an upload were refused."),
    "upload_bytes": ("upload_bytes", "Bytes of uploads that were written down."),
    "files_taken": ("files_taken", "Files that were made harmless, and kept."),
    "files_refused": ("files_refused", "Files that are none of the kinds taken, broken, or take too much."),
    "file_workers_killed": ("file_workers_killed", "Processes that a file was too much for."),
    "file_failures": ("file_failures", "Times that a file could not be looked at; tried again."),
    "files_collected": ("files_collected", "Uploads and files removed, as nobody wanted them any more."),
    "file_collecting_failures": ("file_collecting_failures", "Times that they could not be removed; tried again."),
    "file_bytes_served": ("file_bytes_served", "Bytes of files that were sent to people."),
    "file_reads_broken": ("file_reads_broken", "Times that a file had gone while it was sent, or could not be read."),
    "feed_fallen_behind": ("feed_fallen_behind", "Times that a session was too slow to be told, and read for itself."),
    "feed_handed": ("feed_handed", "Events that were told as they were written, and not read from the log again."),
    "feed_entries_sent": ("feed_entries_sent", "Events of the log sent to sessions that follow it."),
    "events_dropped": ("events_dropped", "Events that were kept for long enough, and dropped."),
    "event_drop_failures": ("event_drop_failures", "Times that old events could not be dropped; tried again."),
    "feed_gaps": ("feed_gaps", "Readers of the log who came too late for events that are dropped."),
    "feed_failures": ("feed_failures", "Times that the log could not be read for those who wait; tried again."),
    "webhooks_delivered": ("webhooks_delivered", "Events that a webhook took."),
    "webhooks_failed": ("webhooks_failed", "Attempts that failed to tell a webhook an event; tried again later."),
    "webhooks_disabled": ("webhooks_disabled", "Times that a webhook was given up, or wanted no more."),
    "webhook_gaps": ("webhook_gaps", "Times that a webhook came back too late for events that are dropped."),
    "webhook_faults": ("webhook_faults", "Times that the place of a webhook could not be read or kept; tried again."),
    "push_queued": ("push_queued", "Notices that were written down for devices."),
    "push_quiet": ("push_quiet", "Notices of which nothing was pushed, as a page was looked at."),
    "push_sent": ("push_sent", "Notices that a push service took."),
    "push_failed": ("push_failed", "Attempts that failed to hand a notice to a push service; tried again later."),
    "push_gone": ("push_gone", "Devices forgotten as their push service knows them no more."),
    "push_given_up": ("push_given_up", "Devices forgotten as they could not be reached for days."),
    "push_expired": ("push_expired", "Notices that were of no use any more before they could be pushed."),
    "push_faults": ("push_faults", "Times that notices could not be read or kept; tried again."),
    "disclosure_failures": (
        "disclosure_failures",
        "Times that disclosures could not be settled; tried again.",
    ),
    "received": ("media_datagrams_received", "UDP datagrams that arrived for media."),
    "control": ("media_control_datagrams", "STUN and DTLS datagrams among them that were looked at."),
    "consents": ("media_consent_checks", "Consent checks of connected clients that the forwarding thread answered."),
    "sent": ("media_packets_sent", "RTP and RTCP packets sent by the forwarding thread."),
    "sent_bytes": ("media_bytes_sent", "Their bytes, without UDP and IP headers."),
    "send_calls": ("media_send_calls", "Calls of sendmmsg."),
    "gso_messages": ("media_gso_messages", "Messages that carried more than one packet (UDP GSO)."),
    "gso_refused": (
        "media_gso_refused",
        "Merged messages that the kernel or the way refused; their packets went singly.",
    ),
    "keyframes": ("media_keyframes_received", "Keyframes that publishers sent."),
    "keyframe_requests": ("media_keyframe_requests", "Keyframes that were asked of publishers."),
    "keyframes_given_up": ("media_keyframes_given_up", "Keyframes that were asked for often and never came."),
    "losses_given_up": ("media_losses_given_up", "Packets lost on the way in that were asked for and never came."),
    "switches": ("media_layer_switches", "Times that a viewer went over to another layer of simulcast."),
    "layers_moved": ("media_layer_moves", "Times that a viewer got more or fewer layers within one encoding."),
    "way_reports": ("media_way_reports", "Reports of viewers on when packets arrived (transport-wide feedback)."),
    "mirrored": ("media_packets_mirrored", "Packets that one forwarding thread passed on to another, for its viewers."),
    "probes": ("media_packets_probing", "Packets sent again to see whether a viewer's network carries more."),
    "waited": ("media_packets_paced", "Packets of pictures that waited for a viewer's network to have room."),
    "skipped": ("media_backlogs_skipped", "Times that what waited for a viewer was left out, up to a keyframe."),
    "replayed": ("media_packets_replayed", "Packets of a cached keyframe sent to a viewer who came later."),
    "retransmitted": ("media_packets_retransmitted", "Packets sent again to a viewer who had lost them."),
    "upstream_rtx": ("media_packets_repaired", "Packets that a publisher sent again."),
    "padding": ("media_padding_received", "Packets of nothing but padding, as senders probe with."),
    "sender_reports": ("media_sender_reports", "RTCP sender reports sent to viewers."),
    "receiver_reports": ("media_receiver_reports", "RTCP receiver reports sent to publishers."),
    "transport_feedback": ("media_transport_feedback", "Reports sent to publishers on when their packets arrived."),
    "reports_full": ("media_reports_not_queued", "Times that no report to a publisher could be queued; 0 is right."),
    "control_send_failed": ("media_control_send_failed", "STUN and DTLS answers that could not be sent."),
    "newcomers_late": ("media_newcomers_late", "Viewers who began with the next packet, since too many came at once."),
    "offers_learned": ("media_offers_learned", "Offers of viewers that were read whole, as no such offer was known."),
    "feedback_failed": ("media_feedback_failed", "RTCP for publishers that could not be encrypted."),
    "peer_handshakes": ("media_handshakes", "DTLS handshakes begun."),
    "peer_repeated_flights": ("media_handshake_repeats", "DTLS flights repeated because the client asked."),
}

# Gauges whose names begin alike; what follows is the label's value: prefix -> (metric, label, help).
GAUGE_PREFIXES = {
    "worker_transports_": ("media_worker_transports", "worker", "Publishers and viewers on each forwarding thread."),
}

# Counters of one kind: (metric, label, help, counters); the label's value is the counter's name, without "_faults".
GROUPS = (
    (
        "media_datagrams_dropped",
        "reason",
        "Datagrams and packets that arrived and had no effect.",
        (
            "too_short",
            "too_large",
            "unknown_first_byte",
            "unknown_address",
            "no_keys",
            "unprotect_auth",
            "unprotect_replay",
            "unprotect_other",
            "rtcp_unprotect",
            "malformed_rtp",
            "malformed_rtcp",
            "malformed_red",
            "unknown_payload_type",
            "second_ssrc",
            "unknown_layer",
            "too_many_ssrcs",
            "publish_lapsed",
            "from_viewer",
            "duplicate",
            "too_old",
            "ring_full",
            "control_paced",
        ),
    ),
    (
        "media_packets_withheld",
        "reason",
        "Packets that were not sent to a viewer.",
        (
            "not_admitted",
            "lapsed",
            "room_closed",
            "awaiting_keyframe",
            "before_anchor",
            "other_layer",
            "overtaken",
            "mirror_full",
            "no_destination",
            "protect_failed",
            "send_failed",
            "send_busy",
        ),
    ),
    (
        "media_retransmissions_refused",
        "reason",
        "Packets that a viewer asked for again and did not get.",
        ("retransmission_budget", "retransmission_gone", "nacks_ignored"),
    ),
    (
        "faults",
        "of",
        "Faults of the server's own; each ended one connection, request, room or transport, and is in the log.",
        ("connections_faults", "request_faults", "room_faults", "call_faults", "transport_faults"),
    ),
)

# Counters whose names begin alike; what follows is the label's value: prefix -> (metric, label, help).
PREFIXES = {
    "channels_": ("data_channel_events", "event", "What became of data channels, and of messages on them."),
    "sctp_": ("sctp", "event", "What kept data channels from working; packets sent again, too."),
    "calls_over_": ("calls_over", "outcome", "Calls that are over, by how they ended."),
    "worker_cpu_ms_": ("media_worker_cpu_ms", "worker", "Processor time that each forwarding thread took, in ms."),
    "connections_": ("connections_by_outcome", "outcome", "TCP connections accepted, and what became of the others."),
    "http_responses_": ("http_responses", "status", "HTTP responses, by the first digit of their status."),
    "refused_with_": ("requests_refused", "code", "HTTP requests that got a problem, by its code."),
    "rates_refused_": ("requests_rate_limited", "whose", "Requests refused with 429, by whose rate was exceeded."),
    "rates_forgotten_": ("rates_forgotten", "whose", "Askers whose rate was forgotten because there were too many."),
    "sockets_closed_": ("sockets_closed", "reason", "Signalling sockets that ended."),
    "bridged_": ("bridged", "event", "What kept packets of WebRTC publishers from being passed on as frames."),
    "incoming_": ("incoming", "event", "What kept frames of MoQ publishers from being passed on as packets."),
    "quic_": ("quic", "event", "What became of QUIC connections and datagrams."),
    "qmux_": ("qmux", "event", "What became of WebSocket connections with a MoQ session."),
    "moq_": ("moq", "event", "What became of requests, groups and datagrams of MoQ sessions."),
    "ice_tcp_": ("ice_tcp", "event", "What became of TCP connections that carry WebRTC, and of datagrams in them."),
    "peer_": ("media_control_datagrams_dropped", "reason", "STUN and DTLS datagrams that had no effect."),
}

# Names as Prometheus takes them: letters, digits and underscores.
FOREIGN = re.compile(r"[^a-zA-Z0-9_]")


class _Collector:
    def __init__(self, counters: Mapping[str, int]) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        left = dict(self._counters)
        for counter, (name, words) in GAUGES.items():
            if counter in left:
                yield GaugeMetricFamily(f"mesi_{name}", words, value=left.pop(counter))
        for counter, (name, words) in COUNTERS.items():
            if counter in left:
                yield CounterMetricFamily(f"mesi_{name}", words, value=left.pop(counter))
        for name, label, words, members in GROUPS:
            values = {member.removesuffix("_faults"): left.pop(member) for member in members if member in left}
            yield from _labelled(name, label, words, values)
        for prefix, (name, label, words) in GAUGE_PREFIXES.items():
            gauge = GaugeMetricFamily(f"mesi_{name}", words, labels=[label])
            for counter in sorted(counter for counter in left if counter.startswith(prefix)):
                gauge.add_metric([counter[len(prefix) :]], left.pop(counter))
            yield gauge
        for prefix, (name, label, words) in PREFIXES.items():
            found = [counter for counter in left if counter.startswith(prefix)]
            yield from _labelled(name, label, words, {counter[len(prefix) :]: left.pop(counter) for counter in found})
        for counter, value in left.items():
            yield UnknownMetricFamily(f"mesi_{FOREIGN.sub('_', counter)}", "Not described.", value=value)


def render(counters: Mapping[str, int]) -> bytes:
    """Return all counters, named mesi_..., and the process' own, process_..., in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(counters))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _labelled(name: str, label: str, words: str, values: Mapping[str, int]) -> Iterable[Metric]:
    if values:
        family = CounterMetricFamily(f"mesi_{name}", words, labels=[label])
        for value, count in sorted(values.items()):
            family.add_metric([value], count)
        yield family
