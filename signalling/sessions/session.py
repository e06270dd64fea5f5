"""One client's signalling session: answers what it asks, numbers what it must hear, repeats what was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum

import structlog

from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy.verdicts import Sight, sees_all
from signalling.ports import Clock, Outbox
from signalling.refusals import Refused
from signalling.wire.events import Gap, Welcome, WireEvent
from signalling.wire.messages import (
    Encoded,
    Encoding,
    MalformedMessage,
    decode_request_untrusted,
    encode_error,
    encode_ok,
)
from signalling.wire.requests import Request
from signalling.wire.views import Person

REPLAYED = 128  # events kept for a connection that comes back; enough for a change of network in a busy chat
RESUME_NS = 60_000_000_000  # how long; a page that is gone for longer fetches anew
MAX_FAULTS = 20  # messages that are none; a broken client is told so often, then closed

# Begins to do what is asked, and has the outcome told later; False where that is for a task. Raises Refused.
AnswerSoon = Callable[["Session", Request, Callable[[object], None]], bool]

log = structlog.get_logger("signalling")


class Soon(Enum):
    """What became of a request that came while no task waited for it."""

    ANSWERED = 0
    UNDER_WAY = 1
    NOT_TAKEN = 2


class Session:
    """A session outlives its connection by RESUME_NS; `joined` are the streams whose events it gets.

    `sight` says which streams it may find in the directory, once it watches that; `in_sight` that somebody looks at
    its page, and `watched` are the people whose presence it is told. `media` is the media session in whose data channel
    it goes on.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_answer_soon",
        "_clock",
        "_faults",
        "_number",
        "_outbox",
        "_sent",
        "_unfollow",
        "actor",
        "encoding",
        "id",
        "in_sight",
        "joined",
        "lost_at_ns",
        "media",
        "sight",
        "watched",
        "watches_directory",
    )

    def __init__(
        self,
        id: str,
        actor: Actor,
        encoding: Encoding,
        clock: Clock,
        answer: Callable[[Session, Request], Awaitable[object]],
        answer_soon: AnswerSoon | None = None,
    ) -> None:
        self.id, self.actor, self.encoding = id, actor, encoding
        self.joined: set[StreamId] = set()
        self.watched: frozenset[AccountId] = frozenset()
        self.watches_directory = self.in_sight = False
        self.sight: Sight = sees_all
        self.lost_at_ns: int | None = None
        self.media: str | None = None
        self._clock, self._answer, self._answer_soon = clock, answer, answer_soon
        self._outbox: Outbox | None = None
        self._number = 0
        self._sent: list[Encoded] = []  # the last is `_number`; a list, as most sessions hear little
        self._faults = 0
        self._unfollow: Callable[[], None] | None = None

    # -- coming and going ----------------------------------------------------------------------------------------------

    def attach(self, outbox: Outbox, encoding: Encoding, after: int | None) -> None:
        """Go on over a connection: `after` is the last event that arrived over the former one, None for a new session.

        A connection that is still open is closed as `replaced`.
        """
        self.unfollow()
        if self._outbox is not None:
            self._outbox.close("replaced")
        self._outbox, self.encoding, self.lost_at_ns = outbox, encoding, None
        self.in_sight, self.watched = False, frozenset()
        resumed = after is not None
        person = Person(self.actor.account, self.actor.name)
        welcome = Welcome(server_now=self._clock.wall_ms(), session=self.id, account=person, resumed=resumed)
        self._write(welcome, min(after or 0, self._number))
        if after is not None:
            self._repeat(after)

    def detach(self, outbox: Outbox) -> None:
        """Go on without this connection, for RESUME_NS; one that was replaced means nothing any more."""
        if self._outbox is outbox:
            self.unfollow()
            self._outbox, self.lost_at_ns = None, self._clock.now_ns()
            self.in_sight, self.watched = False, frozenset()

    def is_over(self, now_ns: int) -> bool:
        """Whether the session was lost for too long to be resumed."""
        return self.lost_at_ns is not None and now_ns - self.lost_at_ns > RESUME_NS

    def close(self, reason: str) -> None:
        """End the connection, if there is one."""
        if self._outbox is not None:
            self._outbox.close(reason)

    # -- events out ----------------------------------------------------------------------------------------------------

    def tell(self, event: Encoded) -> None:
        """Send an event that must arrive."""
        outbox, number = self.note(event)
        if outbox is not None:
            outbox.offer(event.frame(self.encoding, number))

    def note(self, event: Encoded) -> tuple[Outbox | None, int]:
        """Have an event repeated if need be; returns to whom it must be sent now, and under what number."""
        self._number += 1
        if event.told_ns is None:
            event.told_ns = self._clock.now_ns()
        self._sent.append(event)
        if len(self._sent) > REPLAYED:
            del self._sent[0]
        return self._outbox, self._number

    def show(self, event: Encoded, key: str | None = None) -> None:
        """Send an event that this session does not repeat.

        Of those with one `key` only the newest matters: an older one that still waits is not sent.
        """
        if self._outbox is not None:
            self._outbox.offer(event.frame(self.encoding), key=key)

    @property
    def outbox(self) -> Outbox | None:
        """The connection, if there is one."""
        return self._outbox

    def waiting(self) -> int:
        """Return how many frames, or KiB, wait for a slow connection."""
        return 0 if self._outbox is None else self._outbox.waiting()

    def follow(self, stop: Callable[[], None]) -> None:
        """Something is sent over this connection until `stop` is called: when it is lost, or another follows."""
        self.unfollow()
        self._unfollow = stop

    def unfollow(self) -> None:
        """Let what is sent over this connection end."""
        stop, self._unfollow = self._unfollow, None
        if stop is not None:
            stop()

    def _repeat(self, after: int) -> None:
        now_ns = self._clock.now_ns()
        numbered = enumerate(self._sent, self._number - len(self._sent) + 1)
        kept = [(number, event) for number, event in numbered if now_ns - (event.told_ns or 0) <= RESUME_NS]
        oldest = kept[0][0] if kept else self._number + 1
        if after < oldest - 1:
            self._write(Gap(server_now=self._clock.wall_ms(), after=after), oldest - 1)
        for number, event in kept:
            if number > after and self._outbox is not None:
                self._outbox.offer(event.frame(self.encoding, number))

    def _write(self, event: WireEvent, number: int) -> None:
        if self._outbox is not None:
            self._outbox.offer(Encoded(event).frame(self.encoding, number))

    # -- requests in ---------------------------------------------------------------------------------------------------

    async def receive_untrusted(self, data: bytes) -> None:
        """Answer one request; whatever it is, the connection goes on, but after MAX_FAULTS that were none."""
        try:
            request = decode_request_untrusted(data, self.encoding)
        except MalformedMessage as fault:
            self._refuse(fault.id, Refused("malformed_message", fault.detail))
            self._faults += 1
            if self._faults >= MAX_FAULTS:
                self.close("malformed")
            return
        try:
            outcome = await self._answer(self, request)
        except Exception as failure:
            outcome = failure
        self._conclude(request, outcome)

    def receive_soon_untrusted(self, data: bytes, done: Callable[[], None]) -> Soon:
        """Answer one request without a task, where that is possible.

        `done` is called once one that is under way is answered. One that is not taken is as if it had not come.
        """
        try:
            request = decode_request_untrusted(data, self.encoding)
        except MalformedMessage:
            return Soon.NOT_TAKEN

        def conclude(outcome: object) -> None:
            self._conclude(request, outcome)
            done()

        try:
            is_taken = self._answer_soon is not None and self._answer_soon(self, request, conclude)
            return Soon.UNDER_WAY if is_taken else Soon.NOT_TAKEN
        except Refused as refusal:
            self._refuse(request.id, refusal)
            return Soon.ANSWERED

    def _conclude(self, request: Request, outcome: object) -> None:
        if isinstance(outcome, Refused):
            self._refuse(request.id, outcome)
        elif isinstance(outcome, Exception):
            log.error("request_fault", request=type(request).__name__, exc_info=outcome)
            self._refuse(request.id, Refused("internal_error"))
        else:
            self._reply(encode_ok(request.id, outcome, self._clock.wall_ms(), self.encoding))

    def _refuse(self, id: int | None, refusal: Refused) -> None:
        self._reply(encode_error(id, refusal, self._clock.wall_ms(), self.encoding))

    def _reply(self, frame: bytes) -> None:
        if self._outbox is not None:
            self._outbox.offer(frame)
