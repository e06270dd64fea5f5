"""The forwarding tables: NumPy record arrays that Python writes and the kernel reads, and the other way round.

Who writes a column is said beside it: P (Python, between two checkpoints), K (a worker, that is a forwarding thread).
Every cell has one writer, except where a comment says otherwise: of a transport and its subscriptions it is the worker
on whose socket it is, of a track that of its publisher. Capacities are fixed; memory is touched only where rows are
used, and is shared by all workers except for the tables that are said to be each one's own (see memory.py).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from media.forwarding.layouts import LINE as LINE
from media.forwarding.layouts import in_whole_lines
from media.forwarding.rows import Limits as Limits

CACHE = 512  # packets kept of each track: 4 s at 1 Mbit/s, 1 s at 4 Mbit/s; a power of two
PAYLOAD = 1504  # bytes of one cached payload
# Its first are kept apart from the others: a packet of sound has no more, so that the others' pages are never touched.
PAYLOAD_HEAD = 256
PAYLOAD_TAIL = PAYLOAD - PAYLOAD_HEAD
DATAGRAM = 2048  # bytes of one receive buffer and of one slot in the control ring
BATCH = 64  # datagrams of one recvmmsg
PENDINGS = 256  # packets gathered before they are fanned out: several batches of one frame
MESSAGES = 64  # messages of one sendmmsg: below 1 ms of queueing at 10 us each
ARENA = 65_536 * 4  # bytes of ciphertext between two flushes
RING = 1024  # control datagrams waiting for Python; what comes on top is dropped and counted
TWCC = 1024  # transport-wide sequence numbers remembered of each publisher
ADDRESSES = 65_536  # slots of the address table; a power of two, four times the transports
REPORTS = 32_768  # publishers to be told what arrived: twice the transports, for rows that were given up meanwhile
PROBES = 64  # slots looked at for one address
SSRCS = 32  # sources of one transport, RTX and RTCP included: each is looked for, and has a window of what came
ADDRESSES_OF_OURS = 8  # on which media arrives
WORKERS = 16  # forwarding threads of a node; a machine with more cores runs several nodes
SOCKETS = ADDRESSES_OF_OURS * WORKERS  # UDP sockets, one for each address of each worker
NEWCOMERS = 256  # transports that wait for the thread to see them; more begin with the next packet of their tracks
NOTICES = 4096  # packets that one worker has yet to hear of from another: more than a core forwards in 10 ms
FOREVER = 2**63 - 1
RID = 8  # octets of a layer's name that are told apart (RFC 8852 allows more; clients use one to three)
ICE_NAME = 64  # bytes of a username that the kernel answers checks for; a longer one is Python's
EXTENSIONS = 32  # octets of header extensions kept with a packet: every kind that is passed on, at its longest
LEVELS = 64  # of sound, kept of each track: more than a second of packets


class Shared(IntEnum):
    """Cells of `Tables.shared` (int64)."""

    STOP = 0  # P: 1 ends the thread
    FENCE_ASKED = 1  # P: number of the newest fence
    FENCE_DONE = 2  # K: every batch begun before this fence is out
    RING_HEAD = 3  # K: control datagrams written so far
    RING_TAIL = 4  # P: control datagrams taken so far
    USE_GSO = 5  # P sets 1 at start, K sets 0 for good when the kernel or the path refuses it
    SOCKET = 6  # K: the number of the socket that is read now
    WAKE = 7  # P: eventfd that ends the thread's poll
    NOTIFY = 8  # P: eventfd that wakes the Trio thread
    ATTENTION = 9  # K within one turn: something for Python to look at
    MESSAGES_QUEUED = 10  # K
    ARENA_USED = 11  # K
    OPEN_TRANSPORT = 12  # K: destination of the message that still grows, or -1
    SEGMENT_SIZE = 13  # K: of that message
    NOW = 14  # K: monotonic ns, read anew at least every message
    WAY_CUTS = 15  # K: how often the estimate of any viewer's way was lowered at once
    SOCKET_COUNT = 16  # P
    FIRST_SOCKET = 17  # P: the number of this worker's first
    WORKER = 18  # P: the number of this worker
    WORKERS = 19  # P: how many there are
    WAITING = 20  # K: how many of `waiting` are taken
    WAITING_DUE = 21  # K: when they are looked at next
    REPORTS_HEAD = 22  # K: how many reports to publishers were queued ...
    REPORTS_TAIL = 23  # K: ... and taken from the queue
    NEWCOMERS_HEAD = 24  # P: how many of `newcomers` were written so far
    NEWCOMERS_TAIL = 25  # K: how many of them were taken so far
    CELLS = 26


class Count(IntEnum):
    """Cells of `Tables.counters` (uint64), each written by the kernel alone."""

    RECEIVED = 0
    SENT = 1
    SENT_BYTES = 2
    SEND_CALLS = 3
    GSO_MESSAGES = 4
    CONTROL = 5
    KEYFRAMES = 6
    REPLAYED = 7
    RETRANSMITTED = 8
    SENDER_REPORTS = 9
    UPSTREAM_RTX = 10
    # drops, each with its reason
    TOO_SHORT = 11
    UNKNOWN_FIRST_BYTE = 12
    UNKNOWN_ADDRESS = 13
    NO_KEYS = 14
    UNPROTECT_AUTH = 15
    UNPROTECT_REPLAY = 16
    UNPROTECT_OTHER = 17
    RTCP_UNPROTECT = 18
    MALFORMED_RTP = 19
    MALFORMED_RTCP = 20
    UNKNOWN_PAYLOAD_TYPE = 21
    SECOND_SSRC = 22
    PUBLISH_LAPSED = 23
    DUPLICATE = 24
    TOO_OLD = 25
    TOO_LARGE = 26
    NOT_ADMITTED = 27
    LAPSED = 28
    ROOM_CLOSED = 29
    AWAITING_KEYFRAME = 30
    BEFORE_ANCHOR = 31
    NO_DESTINATION = 32
    PROTECT_FAILED = 33
    SEND_FAILED = 34
    SEND_BUSY = 35
    GSO_REFUSED = 36
    RING_FULL = 37
    RETRANSMISSION_BUDGET = 38
    RETRANSMISSION_GONE = 39
    FROM_VIEWER = 40
    PADDING = 41
    TOO_MANY_SSRCS = 42
    NACKS_IGNORED = 43
    OVERTAKEN = 44
    CONSENTS = 45  # no drop: checks answered by the kernel
    UNKNOWN_LAYER = 46
    SWITCHES = 47  # no drop: subscriptions that went over to another layer
    WAY_REPORTS = 48  # no drop: transport-wide feedback of viewers
    PROBES = 49  # no drop: packets sent again to see what a way carries
    MALFORMED_RED = 50
    OTHER_LAYER = 51  # of an encoding with layers within itself, and not for this viewer
    LAYERS_MOVED = 52  # no drop: subscriptions that went over to other layers within their encoding
    MIRRORED = 53  # no drop: packets that another worker was told of, for viewers of its own
    MIRROR_FULL = 54
    WAITED = 55  # no drop: packets that waited for a viewer's way to have room
    SKIPPED = 56  # what waited was left out, up to the next keyframe
    CONTROL_PACED = 57
    RECEIVER_REPORTS = 58  # no drop, nor the next: sent to publishers
    TRANSPORT_FEEDBACK = 59
    REPORTS_FULL = 60
    CELLS = 61


AUDIO, VIDEO = 1, 2


ROOM = np.dtype(
    [
        ("active", "u1"),  # P
        ("requires", "u1"),  # P: grants
        ("open_until", "i8"),  # P: monotonic ns
        ("opened_ns", "i8"),  # P: when it last began to require less; nothing older is replayed
    ],
    align=True,
)

TRANSPORT = in_whole_lines(
    np.dtype(
        [
            ("active", "u1"),  # P
            ("publishes", "u1"),  # P
            ("holds", "u1"),  # P: grants before `until`
            ("keeps", "u1"),  # P: grants from `until` on
            ("twcc_id", "u1"),  # P: header extension id of transport-wide sequence numbers, 0 none
            ("rid_id", "u1"),  # P: header extension id of RtpStreamId (RFC 8852), 0 none
            ("repaired_rid_id", "u1"),  # P: and of RepairedRtpStreamId
            ("passes", "u1"),  # P: whether anything is in its row of `passed_ids`
            ("room", "i4"),  # P
            ("until", "i8"),  # P: monotonic ns
            ("publish_until", "i8"),  # P: monotonic ns
            ("rx", "u8"),  # P: libsrtp context for what arrives, 0 none
            ("opener", "u8"),  # P: AES-GCM context for RTP that arrives, 0 for libsrtp to do it
            ("tx", "u8"),  # P: libsrtp context for what leaves, 0 none
            ("sealer", "u8"),  # P: AES-GCM context for RTP that leaves, 0 for libsrtp to do it
            ("ice_name_size", "u1"),  # P: bytes of `ice_names[row]`, 0 while Python answers all checks
            ("gso_refused", "u1"),  # K: the way to it takes no merged packets; P clears it with a new address
            ("address_size", "u4"),  # P: bytes of `sockaddrs[row]`, 0 before a nomination
            ("socket", "i4"),  # P: number of the socket through which it is reached
            ("twcc_slot", "i4"),  # P: row of the arrival log, -1 none
            ("twcc_highest", "i8"),  # K: extended transport-wide sequence number
            ("twcc_next", "i8"),  # K: first transport-wide number not yet reported; P sets -1 at birth
            ("twcc_count", "i4"),  # K: of reports
            ("reported", "u1"),  # P: a publisher that is told what arrived
            ("report_ns", "i8"),  # K: when its report is due that is queued, 0 none
            ("reported_ns", "i8"),  # K: when a receiver report was last sent
            ("ssrc_count", "i4"),  # K: how many of `ssrcs[row]` are taken; P sets 0 at birth
            ("control_ns", "i8"),  # K: up to when what it had Python look at is paid off; see kernel/receiving.py
            ("last_media_ns", "i8"),  # K: last authenticated packet from it
            ("delivered_ns", "i8"),  # K: media last forwarded to it, or accepted from it
            ("packets", "u8"),  # K
            ("octets", "u8"),  # K
            ("stamped", "i8"),  # K: extended transport-wide number of the newest packet sent to it
            ("octet_ns", "i8"),  # K: for how long an octet takes its way, 0 unknown
            ("taken_ns", "i8"),  # K: until when what was sent takes it
        ],
        align=True,
    )
)

# A row is one encoding of a track. The first of simulcast's, or the only one, is the head: it has the subscriptions.
TRACK = in_whole_lines(
    np.dtype(
        [
            ("active", "u1"),  # P
            ("kind", "u1"),  # P: AUDIO or VIDEO
            ("codec", "u1"),  # P
            ("nack", "u1"),  # P: the publisher repairs losses
            ("keyframe_wanted", "u1"),  # K sets it, P clears it
            ("gap", "u1"),  # K sets it when packets are missing behind the newest, P clears it
            ("tapped", "u1"),  # P: Python reads the cache of it, and wants to hear when there is more
            ("layer_requires", "u1"),  # P: grants that this encoding takes beside those of the room ...
            ("reserved_from", "u1"),  # P: ... for its spatial layers from this one on
            ("layered", "u1"),  # K: it has several layers within itself
            ("room", "i4"),  # P
            ("transport", "i4"),  # P: the publisher's row, -1 none
            ("head", "i4"),  # P: row of the first layer
            ("next_layer", "i4"),  # P: row of the next, -1 none
            ("subscriptions", "i4"),  # P: how many; of the head, as the next but one
            ("nap_credit", "i4"),  # K: whether waiting for the rest of a frame has paid lately
            ("workers", "u4"),  # P: those with subscriptions, a bit for each; of the head, too
            ("restarts", "i4"),  # K: a new source began; every subscription anchors anew
            ("clock_rate", "i8"),  # P
            ("rid", "u8"),  # P: the layer's name, its octets read as a big-endian number; 0 none
            ("ssrc", "u8"),  # K latches it; P sets 0 to let it latch anew
            ("rtx_ssrc", "u8"),  # K and P as the SSRC; of layers alone
            ("first_ext_seq", "i8"),  # K: this and the next nine, but `octets`, describe the source since its restart
            ("highest_ext_seq", "i8"),
            ("received", "i8"),
            ("octets", "i8"),  # K: of all payloads, ever
            ("jitter_q4", "i8"),  # RFC 3550 A.8, scaled by 16
            ("transit", "i8"),
            ("reported_expected", "i8"),  # K: by the last receiver report
            ("reported_received", "i8"),
            ("last_ts", "i8"),
            ("last_ns", "i8"),  # K: arrival of the newest packet
            ("levels", "i8"),  # K: how many were written to `levels[row]` in a ring
            ("playout_delay", "i4"),  # K: its newest, in 24 bits, -1 none
            ("frame_no", "i8"),  # K: rises by one with each timestamp
            ("key_ext_seq", "i8"),  # K: first packet of the newest keyframe, -1 none
            ("key_ts", "i8"),
            ("last_keyframe_ns", "i8"),  # K
            ("sr_version", "i8"),  # K: odd while the four that follow are written
            ("sr_ssrc", "u8"),  # K: whose report follows
            ("sr_ntp", "u8"),  # K: of the publisher's newest sender report, 0 none
            ("sr_rtp", "i8"),
            ("sr_arrival_ns", "i8"),
        ],
        align=True,
    )
)

SUBSCRIPTION = in_whole_lines(
    np.dtype(
        [
            ("active", "u1"),  # P
            ("anchored", "u1"),  # K: 0 = the next packet that may start anchors it; P sets 0 at birth
            ("payload_type", "u1"),  # P
            ("rtx_payload_type", "u1"),  # P: 0 none
            ("red_payload_type", "u1"),  # P: of redundant sound, 0 none
            ("stamp", "u1"),  # P: what stamps.py puts before the payload, 0 nothing
            ("fraction_lost", "u1"),  # K: of the newest receiver report
            ("waits", "u1"),  # K: something is in its backlog; P sets 0 at birth
            ("track", "i4"),  # K: the layer that it gets; P at birth
            ("head", "i4"),  # P
            ("wanted", "i4"),  # P: the layer that it is to get, from where a decoder can start with it
            ("transport", "i4"),  # P
            ("next", "i4"),  # P
            ("restarts", "i4"),  # K: of the track when it anchored
            ("ssrc", "u4"),  # P
            ("rtx_ssrc", "u4"),  # P
            ("seq_delta", "i8"),  # K: outgoing = source + delta, both extended
            ("ts_delta", "i8"),  # K
            ("anchor_ext_seq", "i8"),  # K: nothing older is forwarded
            ("anchor_frame", "i8"),  # K: frames up to this one were replayed ...
            ("anchor_ts", "i8"),  # K: ... with timestamps squeezed towards this one
            ("floor_frame", "i8"),  # K: this frame, captured before what was sent last, and some after it leave ...
            ("floor_ts", "i8"),  # K: ... behind this outgoing timestamp; -1 where none has to
            ("last_seq", "i8"),  # K: highest outgoing; P sets the first below 2**15
            ("last_ts", "i8"),  # K
            ("last_ns", "i8"),  # K: 0 = nothing sent yet
            ("picture_delta", "i4"),  # K: outgoing picture ids of VP8 = source + delta
            ("last_picture", "i4"),  # K: of the newest packet
            ("base_delta", "i4"),  # K: the same of TL0PICIDX
            ("last_base", "i4"),  # K
            ("frame_delta", "i4"),  # K: the same of the frame numbers of dependency descriptors
            ("last_frame", "i4"),  # K
            ("rtx_seq", "i8"),  # K
            ("rtx_tokens", "i8"),  # K: bytes of retransmission allowed now
            ("rtx_refilled_ns", "i8"),  # K
            ("sr_due_ns", "i8"),  # K
            ("packets", "u8"),  # K
            ("octets", "u8"),  # K: payload octets, as sender reports count
            ("rtt_ns", "i8"),  # K
        ],
        align=True,
    )
)

UNPLANNED = 255  # padding of a cached packet before it is fanned out


class Tables(NamedTuple):
    """Every array that the kernel of one worker sees, in one value."""

    whole: npt.NDArray[np.void]  # [1]: the record of which all others are views
    # common to all workers
    rooms: npt.NDArray[np.void]
    transports: npt.NDArray[np.void]
    tracks: npt.NDArray[np.void]
    subscriptions: npt.NDArray[np.void]
    payload_types: npt.NDArray[np.int32]  # [transport, 128]: track + 1, with RTX_BIT or RED_BIT beside; P
    passed_ids: npt.NDArray[np.uint8]  # [transport, Passed]: a publisher's ids of what is passed on, 0 none; P
    extension_ids: npt.NDArray[np.uint8]  # [subscription, Passed]: and a viewer's; P
    levels: npt.NDArray[np.uint8]  # [track, LEVELS]: of sound, as RFC 6464 has them; K
    salts: npt.NDArray[np.uint8]  # [transport, 12]: for `sealer`; P
    opening_salts: npt.NDArray[np.uint8]  # [transport, 12]: for `opener`; P
    windows: npt.NDArray[np.void]  # [transport, SSRCS]: see replays.py; K
    choices: npt.NDArray[np.void]  # [subscription]: see choices.py
    given: npt.NDArray[np.void]  # [subscription, NUMBERS], by outgoing number; K
    backlogs: npt.NDArray[np.void]  # [subscription]: see backlogs.py; K
    layer_octets: npt.NDArray[np.int64]  # [track, spatial, temporal]: of all payloads, ever; K
    sockaddrs: npt.NDArray[np.uint8]  # [transport, 32]: where media is sent; P
    ssrcs: npt.NDArray[np.uint32]  # [transport, SSRCS]: from which authentic packets came, `ssrc_count` of them; K
    ice_names: npt.NDArray[np.uint8]  # [transport, ICE_NAME]: USERNAME of its checks; P
    ice_keys: npt.NDArray[np.uint8]  # [transport, 64]: our ice-pwd, padded with zeros to a block of SHA-1; P
    cache_seq: npt.NDArray[np.int64]  # [track, CACHE]: extended sequence number held there; K
    cache_info: npt.NDArray[np.void]  # [track, CACHE]
    cache_extensions: npt.NDArray[np.uint8]  # [track, CACHE, EXTENSIONS]: as RFC 8285 one-byte elements, by Passed; K
    structures: npt.NDArray[np.void]  # [track]: the newest that such a descriptor brought; K
    cache_heads: npt.NDArray[np.uint8]  # [track, CACHE, PAYLOAD_HEAD]: where decrypted payloads begin; K
    # [track, CACHE, PAYLOAD_TAIL]: the rest of longer ones, and at the end the packet's dependency descriptor; K
    cache_tails: npt.NDArray[np.uint8]
    twcc_seq: npt.NDArray[np.int64]  # [slot, TWCC]; K
    twcc_arrival_ns: npt.NDArray[np.int64]  # [slot, TWCC]; K
    sent_log: npt.NDArray[np.void]  # [transport, SENT_LOG], by transport-wide number
    estimates: npt.NDArray[np.void]  # [transport]: see estimates.py
    trends: npt.NDArray[np.float64]  # [transport, TREND_POINTS, 2]: when a group arrived (ms) and its delay (ms); K
    sockets: npt.NDArray[np.int64]  # [SOCKETS]: file descriptors; P
    wakes: npt.NDArray[np.int64]  # [WORKERS]: eventfd that ends the poll of each; P
    asleep: npt.NDArray[np.int64]  # [worker, LINE]: 1 = has to be woken for notices; K (who sleeps, and who wakes it)
    notice_heads: npt.NDArray[np.int64]  # [to, from, LINE]: how many were written; K (from)
    notice_tails: npt.NDArray[np.int64]  # [to, from, LINE]: how many were taken; K (to)
    notices: npt.NDArray[np.void]  # [to, from, NOTICES]: rings of packets for the viewers of another worker; K (from)
    # each worker's own
    shared: npt.NDArray[np.int64]
    counters: npt.NDArray[np.uint64]
    polls: npt.NDArray[np.int64]  # [ADDRESSES_OF_OURS + 1]: struct pollfd of each socket, after that of WAKE; K
    scratch: npt.NDArray[np.int64]  # lengths, timespecs and pollfds handed to C
    iv: npt.NDArray[np.uint8]  # [12]: of the packet that is sealed
    hash_input: npt.NDArray[np.uint8]  # [448]: a padded message of SHA-1
    hash_words: npt.NDArray[np.int64]  # [80]: its message schedule
    hash_digest: npt.NDArray[np.uint8]  # [20]
    pending: npt.NDArray[np.void]
    drawn: npt.NDArray[np.void]  # [1]: the structure of a descriptor that is being read
    plan_sizes: npt.NDArray[np.int64]  # [PENDINGS]: payloads of one run
    plan_pads: npt.NDArray[np.int64]  # [PENDINGS]: and the padding chosen for them
    first_subscriptions: npt.NDArray[np.int32]  # [track]: of this worker, head of the list through `next`, -1 none; P
    told: npt.NDArray[np.int64]  # [track, CACHE]: which source and packet its viewers were told of there; K
    waiting: npt.NDArray[np.int32]  # [subscription]: those with a backlog; K
    due_reports: npt.NDArray[np.void]  # [REPORTS]: a ring of publishers, by when they are told what arrived; K
    newcomers: npt.NDArray[np.int32]  # [NEWCOMERS]: transports that can be sent to from now on, in a ring; P
    addresses: npt.NDArray[np.void]
    ring: npt.NDArray[np.void]
    ring_data: npt.NDArray[np.uint8]  # [RING, DATAGRAM]; K
    ring_address: npt.NDArray[np.uint8]  # [RING, 32]; K
    inbox: npt.NDArray[np.uint8]  # [BATCH, DATAGRAM]
    inbox_address: npt.NDArray[np.uint8]  # [BATCH, 32]
    inbox_headers: npt.NDArray[np.uint64]  # [BATCH, 8]: struct mmsghdr
    inbox_vectors: npt.NDArray[np.uint64]  # [BATCH, 2]: struct iovec
    arena: npt.NDArray[np.uint8]
    outbox_headers: npt.NDArray[np.uint64]  # [MESSAGES, 8]
    outbox_vectors: npt.NDArray[np.uint64]  # [MESSAGES, 2]
    outbox_segments: npt.NDArray[np.uint8]  # [MESSAGES, 24]: struct cmsghdr with the segment size
    outbox_counts: npt.NDArray[np.int64]  # [MESSAGES]: packets in each message
    outbox_transports: npt.NDArray[np.int64]  # [MESSAGES]: rows of the destinations


RTX_BIT, RED_BIT = 1 << 30, 1 << 29
ROW_BITS = RED_BIT - 1
