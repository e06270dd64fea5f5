"""Where connections, packets in flight, streams and groups stand in the tables of media/moq/quic/table.py.

Names of aioquic's stand for what they are there. A column that may hold nothing says so with its kind.
"""

from __future__ import annotations

# -- a connection: whole numbers -------------------------------------------------------------------------------------
(
    IS_USED,
    IS_PLAIN,  # nothing is going on that packets of another kind, or other keys, are needed for
    ID,  # ours, as the peer writes it: 8 bytes
    NUMBER,  # of the next packet
    PACKET_BYTES,
    IN_FLIGHT,  # bytes
    WINDOW,
    THRESHOLD,  # of slow start; NONE
    STASH,
    ELICITING,  # packets in flight that ask for an acknowledgement
    LARGEST_ACKED,
    EXPECTED,
    LARGEST_RECEIVED,
    SPIN,
    SPIN_NUMBER,
    PTO_COUNT,
    MAX_DATA,
    DATA_USED,
    HAS_ELICITED,  # since something arrived
    DELAY_EXPONENT,
    KEY_PHASE,
    PEER_ID_BYTES,
    SEALER,  # contexts of media/io/cipher.py
    SEALING_MASK,
    OPENER,
    OPENING_MASK,
    ADDRESS_BYTES,
    HEAD,  # of its ring of packets in flight
    TAIL,
    LOST,  # entries of the ring to be sent again
    IS_HELD,  # what it has to send waits for room
    IS_PROBING,
    FIRST_STREAM,  # of those it sends, the most urgent; NONE
    RUNS,  # of packets received that aioquic has not heard of
    IS_CONFIRMED,
    HAS_RTT,
    SAMPLE,
    ARE_SAMPLES_READY,
    INCREASES,
    INTS,
) = range(40)

# -- a connection: times in s, and what is reckoned of them ------------------------------------------------------------
(
    RECOVERY_START,
    RTT_FIRST,
    RTT_LATEST,
    RTT_MIN,
    RTT_SMOOTHED,
    RTT_VARIANCE,
    RTT_INITIAL,
    LAST_ELICITING,
    CLOSE_AT,  # NaN
    IDLE,
    LOSS_AT,  # NaN
    PACING_AT,  # NaN
    BUCKET,
    BUCKET_MAX,
    BUCKET_AT,
    PACKET_TIME,  # NaN
    MAX_DELAY,
    RECEIVED_AT,  # NaN
    SAMPLED_AT,
    FILTERED_MIN,  # NaN
    SAMPLES,
) = range(21)
SAMPLE_COUNT = 5
REALS = SAMPLES + SAMPLE_COUNT
NONE = -1

# -- a connection: octets ----------------------------------------------------------------------------------------------
SEALING_IV, OPENING_IV, PEER_ID, ADDRESS, HEAD_BYTES = 0, 12, 24, 44, 72
IV_BYTES, ID_BYTES, MAX_ADDRESS_BYTES = 12, 8, 28

# -- a connection: its ring of frames in flight, and runs of packets received ------------------------------------------
ENTRIES = 1_024
# As much may be in flight of streams; aioquic is asked for packets while there are no more than that, of which it makes
# no more at once than fit a window.
STREAM_ENTRIES, MAX_WINDOW_PACKETS = 448, 384
ENTRY_NUMBER, ENTRY_BYTES, ENTRY_FLAGS, ENTRY_STREAM, ENTRY_START, ENTRY_STOP, ENTRY_INTS = range(7)
FLIES, ELICITS, FOREIGN, ENDS, IS_DONE, IS_LOST, IS_FIRST = 1, 2, 4, 8, 16, 32, 64  # flags; IS_FIRST in its packet
MAX_RUNS = 16

# -- a stream that carries a group -------------------------------------------------------------------------------------
(
    STREAM_ROW,
    STREAM_ID,
    STREAM_BUFFER,
    STREAM_PREFIX,  # bytes in front of the group's
    STREAM_SENT,  # up to where
    STREAM_ACKED,  # bytes
    STREAM_MAX,  # what the peer takes
    STREAM_REFS,  # entries of the ring
    IS_CLOSED,  # nothing more of it leaves
    IS_END_SENT,
    IS_END_ACKED,
    NEXT_STREAM,  # the next most urgent of the connection's
    STREAM_INTS,
) = range(13)
PREFIX_BYTES = 64

# -- a group's bytes ---------------------------------------------------------------------------------------------------
GROUP_AT, GROUP_BYTES, IS_GROUP_WHOLE, GROUP_INTS = range(4)

# -- what compiled code tells ------------------------------------------------------------------------------------------
FOREIGN_ACKED, FOREIGN_LOST, STREAM_OVER, STIRRED, PROBE = range(5)  # (which, row, packet or stream)
EVENT_INTS = 3
MAX_EVENTS = 8_192
EVENT_SPACE = ENTRIES + 8  # what one connection may have to tell in one call

(
    EVENTS,  # to be read
    MESSAGES,  # to be sent
    ACKNOWLEDGEMENTS,
    PACKETS_LOST,
    PROBES,
    SEAL_ERRORS,
    PACKETS_SENT,
    SEND_CALLS,
    SEND_BUFFER_FULL,
    SEND_ERRORS,
    OFFLOADS_REFUSED,
    COUNTS,
) = range(12)

MESSAGE_ROW, MESSAGE_AT, MESSAGE_BYTES, MESSAGE_SIZE, MESSAGE_INTS = range(5)

UNKNOWN, TAKEN = -1, -2  # of a datagram: no connection's, done with
