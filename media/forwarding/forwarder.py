"""The forwarding path as the rest of media sees it: rows given out, keys and addresses set, fences passed."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import trio
from pylibsrtp import Error as SrtpError

from media.forwarding.addresses import Address, pack_sockaddr, unpack_sockaddr
from media.forwarding.admission import Admission, Grant, Holding
from media.forwarding.choices import ALL_LAYERS
from media.forwarding.estimates import ESTIMATE
from media.forwarding.keys import TransportKeys
from media.forwarding.placement import Placement
from media.forwarding.rows import NoCapacity, Rows
from media.forwarding.sockets import end_of, number_of, path_through, same_place
from media.forwarding.subscribed import SubscribedTrack
from media.forwarding.tables import AUDIO, FOREVER, ICE_NAME, RED_BIT, ROW_BITS, RTX_BIT, VIDEO, Limits
from media.forwarding.workers import ControlDatagram, Workers
from media.webrtc.ice import Path
from media.webrtc.srtp import SrtpKeys
from media.wire.extensions import Passed

__all__ = ["ControlDatagram", "Forwarder", "Limits", "NoCapacity", "SubscribedTrack"]

NO_ROW = -1


class Forwarder:
    """Workers and one set of rows for all; methods belong to the Trio thread, and only the async ones wait."""

    def __init__(self, address: Address, limits: Limits, also: Sequence[Address] = (), workers: int = 1) -> None:
        self.workers = Workers((address, *also), limits, workers)
        self.tables = self.workers.tables[0]  # each worker's own are those of the first
        self.placement = Placement(workers)
        self.admission = Admission(self.tables)
        self._rooms, self._transports = Rows(limits.rooms), Rows(limits.transports)
        self._tracks, self._subscriptions = Rows(limits.tracks), Rows(limits.subscriptions)
        self._arrival_logs = Rows(limits.tracks)
        self._keys: dict[int, TransportKeys] = {}
        self._bound: dict[int, set[Path]] = {}
        self._worker_of: dict[int, int] = {}  # transports' rows
        self._listeners: Counter[tuple[int, int]] = Counter()  # subscriptions by head of the track, and worker
        self.after_fence = self.workers.fences.after
        self.control_send_failed = 0
        self.feedback_failed = 0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The UDP addresses of the first worker."""
        return self.workers.addresses(0)

    # -- running -----------------------------------------------------------------------------------------------------

    async def run(  # noqa: ASYNC128  (the workers themselves report that they have started)
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the threads until cancelled; raises RuntimeError when one ends by itself."""
        await self.workers.run(task_status=task_status)

    async def control(self) -> list[ControlDatagram]:
        """Wait until something needs attention; return the STUN and DTLS datagrams that came (perhaps none)."""
        return await self.workers.control()

    async def fence(self) -> None:
        """Return when every batch begun before this call is out: nothing decided earlier is still on its way."""
        passed = trio.Event()
        self.after_fence(passed.set)
        await passed.wait()

    def send(self, datagram: bytes, destination: Path) -> None:
        """Send a control datagram; never blocks, failures are counted."""
        try:
            self.workers.send(datagram, destination)
        except OSError:
            self.control_send_failed += 1

    def send_rtcp(self, transport: int, rtcp: bytes) -> None:
        """Protect RTCP for a publisher and send it to its nominated address; failures are counted."""
        keys = self._keys.get(transport)
        size = int(self.tables.transports["address_size"][transport])
        if keys is None or keys.feedback is None or size == 0:
            return
        try:
            datagram = keys.feedback.protect_rtcp(rtcp)
        except SrtpError:
            self.feedback_failed += 1
            return
        address = unpack_sockaddr(self.tables.sockaddrs[transport].tobytes())
        self.send(datagram, path_through(address, int(self.tables.transports["socket"][transport])))

    # -- rows --------------------------------------------------------------------------------------------------------

    def open_room(self) -> int:
        """Open a room that admits nobody until `admission.require` says whom; it has no time limit."""
        row = self._rooms.take()
        self.tables.rooms["requires"][row] = 0xFF
        self.tables.rooms["open_until"][row] = FOREVER
        self.tables.rooms["active"][row] = 1
        return row

    def close_room(self, room: int) -> None:
        """Let nothing leave the room any more; its row is free a fence later."""
        self.tables.rooms["open_until"][room] = 0
        self.tables.rooms["active"][room] = 0
        self.after_fence(lambda: self._rooms.free.append(room))

    def open_transport(self, room: int, *, publishes: bool, worker: int = 0) -> int:
        """Open a transport that holds nothing, may not publish, and has neither keys nor address yet."""
        row = self._transports.take()
        record = self.tables.transports[row : row + 1]
        record[:] = 0
        record["room"], record["publishes"], record["twcc_slot"], record["twcc_highest"] = room, publishes, NO_ROW, -1
        record["twcc_next"] = -1
        self.tables.payload_types[row] = self.tables.passed_ids[row] = 0
        self.tables.estimates[row : row + 1] = np.zeros(1, ESTIMATE)
        record["active"] = 1
        self._bound[row] = set()
        self._worker_of[row] = worker
        self.placement.enter(worker)
        return row

    def worker_of(self, transport: int) -> int:
        """Return the worker on which a transport is."""
        return self._worker_of[transport]

    def close_transport(self, transport: int) -> None:
        """Stop everything of a transport; its row and its SRTP contexts are free a fence later."""
        record = self.tables.transports
        self.admission.hold(transport, Holding(Grant(0)))
        self.admission.publish_until(transport, 0)
        record["active"][transport] = 0
        record["tx"][transport] = record["rx"][transport] = 0
        for path in self._bound.pop(transport):
            self.workers.unbind(path, transport)
        self.placement.leave(self._worker_of[transport])
        keys = self._keys.pop(transport, None)
        log = int(record["twcc_slot"][transport])
        record["twcc_slot"][transport] = NO_ROW

        def free(_kept_alive: TransportKeys | None = keys) -> None:
            self._transports.free.append(transport)
            if log != NO_ROW:
                self._arrival_logs.free.append(log)

        self.after_fence(free)

    def bind_address(self, transport: int, path: Path) -> None:
        """Take media and DTLS from where a path leads for this transport, through a socket of its worker."""
        assert self.workers.at(path) == self._worker_of[transport], "two workers would write one transport"
        self.workers.bind(path, transport)
        self._bound[transport].add(path)

    def unbind_address(self, transport: int, path: Path) -> None:
        """Take nothing from where a path leads, unless another leads there, and send nothing along it any more."""
        bound = self._bound[transport]
        bound.discard(path)
        if end_of(path) not in map(end_of, bound):
            self.workers.unbind(path, transport)
        record = self.tables.transports
        goes_there = same_place(self.tables.sockaddrs[transport].tobytes(), path)
        if goes_there and record["socket"][transport] == number_of(path):
            record["address_size"][transport] = 0

    def owner(self, path: Path) -> int:
        """Return the transport that takes media and DTLS from where a path leads, or -1."""
        return self.workers.owner(path)

    def send_to(self, transport: int, path: Path) -> None:
        """Send media along `path` from now on."""
        raw, record = pack_sockaddr(end_of(path)), self.tables.transports
        record["address_size"][transport] = 0  # no packet leaves to the one address through the socket of the other
        self.tables.sockaddrs[transport, : len(raw)] = memoryview(raw)
        record["socket"][transport] = number_of(path)
        record["address_size"][transport] = len(raw)
        record["gso_refused"][transport] = 0

    def answer_checks(self, transport: int, username: str, password: str) -> None:
        """Let the kernel answer checks with this USERNAME (RFC 8445 section 7.3), from where media goes to."""
        name, key = username.encode(), password.encode()
        self.tables.transports["ice_name_size"][transport] = 0
        if len(name) > ICE_NAME or len(key) > self.tables.ice_keys.shape[1]:
            return
        for row, value in ((self.tables.ice_names[transport], name), (self.tables.ice_keys[transport], key)):
            row[:] = 0
            row[: len(value)] = memoryview(value)
        self.tables.transports["ice_name_size"][transport] = len(name)

    def set_keys(self, transport: int, keys: SrtpKeys) -> None:
        """Give a transport its SRTP keys; media flows from now on, and a picture begins at once with what is cached."""
        publishes = bool(self.tables.transports["publishes"][transport])
        held = self._keys[transport] = TransportKeys(keys, publishes=publishes)
        held.give_to(self.tables, transport)
        if not publishes:
            self.workers.welcome(self._worker_of[transport], transport)

    def open_track(self, room: int, kind: str, codec: int, clock_rate: int, rids: Sequence[str] = ()) -> int:
        """Open a track of a room, with a layer for each of `rids` if it is simulcast; nobody feeds it yet.

        Returns the row of the first layer, which stands for all. Names are ASCII, of at most `tables.RID` octets.
        """
        tracks = self.tables.tracks
        rows = [self._open_layer(room, kind, codec, clock_rate) for _ in rids or [""]]
        tracks["head"][rows] = rows[0]
        tracks["next_layer"][rows] = [*rows[1:], NO_ROW]
        for row, rid in zip(rows, rids, strict=False):
            tracks["rid"][row] = int.from_bytes(rid.encode())
        return rows[0]

    def layers(self, track: int) -> list[int]:
        """Return the rows of a track's layers, in the order of their names; of a track without, its own."""
        rows = [track]
        while (row := int(self.tables.tracks["next_layer"][rows[-1]])) != NO_ROW:
            rows.append(row)
        return rows

    def _open_layer(self, room: int, kind: str, codec: int, clock_rate: int) -> int:
        row = self._tracks.take()
        record = self.tables.tracks[row : row + 1]
        restarts = int(record["restarts"][0])
        record[:] = 0
        record["room"], record["kind"] = room, AUDIO if kind == "audio" else VIDEO
        record["codec"], record["clock_rate"] = codec, clock_rate
        record["transport"] = record["next_layer"] = NO_ROW
        record["head"] = row
        record["restarts"], record["last_ts"], record["key_ext_seq"] = restarts, -1, -1
        record["playout_delay"] = -1
        self.tables.cache_seq[row] = -1
        self.tables.layer_octets[row] = 0
        record["active"] = 1
        return row

    def feed_track(
        self,
        track: int,
        transport: int,
        *,
        payload_type: int,
        rtx_payload_type: int | None,
        twcc_extension_id: int | None,
        nack: bool,
        rid_extension_id: int | None = None,
        repaired_rid_extension_id: int | None = None,
        passed: Mapping[Passed, int] | None = None,
        red_payload_type: int | None = None,
    ) -> None:
        """Connect a publisher's m-line to a track with all its layers; a former publisher is disconnected."""
        tracks, payload_types = self.tables.tracks, self.tables.payload_types
        self._starve(track)
        for row in self.layers(track):
            tracks["transport"][row] = transport
            tracks["nack"][row] = nack
            tracks["ssrc"][row] = tracks["rtx_ssrc"][row] = tracks["sr_ssrc"][row] = 0
        if rid_extension_id is not None:
            self.tables.transports["rid_id"][transport] = rid_extension_id
        if repaired_rid_extension_id is not None:
            self.tables.transports["repaired_rid_id"][transport] = repaired_rid_extension_id
        for kind, identifier in (passed or {}).items():
            self.tables.passed_ids[transport, kind] = identifier
            self.tables.transports["passes"][transport] = 1
        if twcc_extension_id is not None:
            self._open_arrival_log(transport, twcc_extension_id)
        if rtx_payload_type is not None:
            payload_types[transport, rtx_payload_type] = (track + 1) | RTX_BIT
        if red_payload_type is not None:
            payload_types[transport, red_payload_type] = (track + 1) | RED_BIT
        payload_types[transport, payload_type] = track + 1

    def report_to(self, transport: int) -> None:
        """Tell a publisher from now on what arrives of it."""
        self.tables.transports["reported"][transport] = 1

    def _open_arrival_log(self, transport: int, extension_id: int) -> None:
        if self.tables.transports["twcc_slot"][transport] == NO_ROW:
            slot = self._arrival_logs.take()
            self.tables.twcc_seq[slot] = -1
            self.tables.transports["twcc_slot"][transport] = slot
        self.tables.transports["twcc_id"][transport] = extension_id

    def _starve(self, track: int) -> None:
        former = int(self.tables.tracks["transport"][track])
        if former != NO_ROW:
            row = self.tables.payload_types[former]
            row[row & ROW_BITS == track + 1] = 0

    def close_track(self, track: int) -> None:
        """End a track; its row is free a fence later. Its subscriptions must be gone."""
        tracks = self.tables.tracks
        self._starve(track)
        rows = self.layers(track)
        for row in rows:
            tracks["active"][row] = 0
        self.after_fence(lambda: self._tracks.free.extend(rows))

    def subscribe(
        self,
        track: int,
        transport: int,
        sent: SubscribedTrack,
        *,
        layer: int | None = None,
        within: tuple[int, int] = (ALL_LAYERS, ALL_LAYERS),
        first_seq: int | None = None,
    ) -> int:
        """Forward a track to a viewer's transport, beginning with `layer`, else with its first.

        `within` says up to which spatial and temporal layer of that encoding.
        `first_seq` is random below 2**15 (libsrtp's rollover rule).
        """
        row = self._subscriptions.take()
        record = self.tables.subscriptions[row : row + 1]
        record[:] = 0
        record["track"] = record["wanted"] = track if layer is None else layer
        record["head"], record["transport"] = track, transport
        record["payload_type"], record["rtx_payload_type"] = sent.payload_type, sent.rtx_payload_type or 0
        record["red_payload_type"] = sent.red_payload_type or 0
        record["ssrc"], record["rtx_ssrc"], record["stamp"] = sent.ssrc, sent.rtx_ssrc or 0, sent.stamp
        record["last_seq"] = (secrets.randbelow(1 << 15) if first_seq is None else first_seq) - 1
        record["rtx_seq"] = secrets.randbelow(1 << 15)
        worker = self._worker_of[transport]
        first = self.workers.tables[worker].first_subscriptions
        record["next"] = first[track]
        self.tables.extension_ids[row] = 0
        for kind, identifier in sent.passed.items():
            self.tables.extension_ids[row, kind] = identifier
        self.limit_layers(row, *within)
        record["active"] = 1
        self._list_subscription(transport, row)
        first[track] = row
        self.tables.tracks["subscriptions"][track] += 1
        self._listeners[track, worker] += 1
        self.tables.tracks["workers"][track] |= 1 << worker
        return row

    def _list_subscription(self, transport: int, row: int) -> None:
        # A viewer has no payload types to map: its row of that table lists its subscriptions, for incoming RTCP.
        listed = self.tables.payload_types[transport]
        listed[int((listed != 0).sum())] = row + 1

    def want_layer(self, subscription: int, layer: int) -> None:
        """Have a subscription get this layer from where a decoder can start with it; it keeps its own until then."""
        self.tables.subscriptions["wanted"][subscription] = layer

    def limit_layers(self, subscription: int, spatial: int, temporal: int) -> None:
        """Have a subscription get at most these layers within its encoding, from where a decoder can go on."""
        self.tables.choices["most_spatial"][subscription] = spatial
        self.tables.choices["most_temporal"][subscription] = temporal

    def unsubscribe(self, subscription: int) -> None:
        """Forward no more; the row is free a fence later."""
        subscriptions, tracks = self.tables.subscriptions, self.tables.tracks
        track, following = int(subscriptions["head"][subscription]), int(subscriptions["next"][subscription])
        worker = self._worker_of[int(subscriptions["transport"][subscription])]
        first = self.workers.tables[worker].first_subscriptions
        subscriptions["active"][subscription] = 0
        tracks["subscriptions"][track] -= 1
        self._listeners[track, worker] -= 1
        if not self._listeners[track, worker]:
            del self._listeners[track, worker]
            tracks["workers"][track] = int(tracks["workers"][track]) & ~(1 << worker)
        before = int(first[track])
        if before == subscription:
            first[track] = following
        else:
            while subscriptions["next"][before] != subscription:
                before = int(subscriptions["next"][before])
            subscriptions["next"][before] = following
        self.after_fence(lambda: self._subscriptions.free.append(subscription))

    # -- what the kernel saw -------------------------------------------------------------------------------------------

    def delivered_ns(self, transport: int) -> int:
        """When media was last forwarded to, or accepted from, a transport (monotonic ns; 0 never)."""
        return int(self.tables.transports["delivered_ns"][transport])

    def last_media_ns(self, transport: int) -> int:
        """When the last authenticated packet came from a transport (monotonic ns; 0 never)."""
        return int(self.tables.transports["last_media_ns"][transport])

    def counters(self) -> dict[str, int]:
        """Every counter of the path by its name in lower case, and what each worker does."""
        each = {f"worker_transports_{number}": load for number, load in enumerate(self.placement.loads)}
        times = {f"worker_cpu_ms_{number}": ns // 1_000_000 for number, ns in enumerate(self.workers.cpu_ns())}
        return {
            **self.workers.counters(),
            **each,
            **times,
            "control_send_failed": self.control_send_failed,
            "feedback_failed": self.feedback_failed,
            "uses_gso": int(self.workers.uses_gso()),
            "srtp_contexts": sum(keys.contexts for keys in self._keys.values()),
            "rows_rooms": self._rooms.in_use,
            "rows_transports": self._transports.in_use,
            "rows_tracks": self._tracks.in_use,
            "rows_subscriptions": self._subscriptions.in_use,
            "rows_arrival_logs": self._arrival_logs.in_use,
        }
