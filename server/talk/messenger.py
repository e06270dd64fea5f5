"""The messenger of a node: what people do in conversations is paced, written down with what tells of it, then told."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, TypeVarTuple

import msgspec
import sqlalchemy as sa
import trio

from server.database.store import Database
from server.events.eventlog import Fresh
from server.money.idempotency import Answered, Idempotent, Request
from server.talk import belonging, changing, marking, opening, posting, reading, searching
from server.talk.attendance import Attendance
from server.talk.belonging import Doing
from server.talk.changing import Target
from server.talk.marking import Kept, Settings
from server.talk.opening import Shape
from server.talk.pace import Paces
from server.talk.postbox import Postbox
from server.talk.posting import Draft, Posted
from server.talk.reading import Edges
from server.talk.typing import Typing
from signalling.identifiers import AccountId, Actor
from signalling.messenger.model import ConversationId, Role
from signalling.messenger.quotas import Quotas
from signalling.messenger.views import (
    ConversationPage,
    ConversationView,
    MemberPage,
    MessagePage,
    MessageSent,
    MessageView,
    PresencePage,
)
from signalling.messenger.wording import draft_untrusted, reaction_untrusted, text_untrusted, title_untrusted
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.sessions.session import Session
from signalling.wire.views import Person

ID_BYTES = 16  # unguessable: who knows the id of a group may ask to come in
TYPED_UP_TO = 32  # members of a conversation in which it is shown who writes

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Log(Protocol):
    """Who reads the log for others."""

    def nudge(self) -> None:
        """Something was just written to the log."""

    def hand(self, fresh: Fresh) -> None:
        """Tell what was just written to the log."""


class Messenger:
    """Conversations on a node's store, which tells the `log` what it has written; raises Refused and StoreFailed."""

    def __init__(self, store: Database, clock: Clock, rooms: Rooms, quotas: Quotas, paces: Paces, log: Log) -> None:
        self._store, self._clock, self._rooms = store, clock, rooms
        self._nudge, self._hand = log.nudge, log.hand
        self._quotas, self._paces = quotas, paces
        self._keys = Idempotent(store)
        self._postbox = Postbox(store)
        self._typing = Typing(rooms, clock.wall_ms)
        self._minded: Callable[[str], Awaitable[None]] | None = None
        self._attendance = Attendance(store, clock, rooms)
        self.sent = self.replayed = self.refused = 0

    async def run(self) -> None:
        """Let those be forgotten who write no longer, and tell who comes and goes, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._typing.run)
            nursery.start_soon(self._postbox.run)
            nursery.start_soon(self._attendance.run)

    def mind(self, look_again: Callable[[str], Awaitable[None]]) -> None:
        """Have what goes on in a conversation looked at whenever others may belong to it than before."""
        self._minded = look_again

    def counters(self) -> dict[str, int]:
        """How much was written, by name."""
        return {
            "messages_sent": self.sent,
            "messages_replayed": self.replayed,
            "messages_refused": self.refused,
            "messages_paced": self._paces.refused,
            "messages_gathered": self._postbox.gathered,
            "message_batches": self._postbox.batches,
            "conversations_typed_in": len(self._typing),
            **self._attendance.counters(),
        }

    # -- conversations -------------------------------------------------------------------------------------------------

    async def open_direct(self, actor: Actor, name: str) -> ConversationView:
        """Return one's conversation with somebody. Raises Refused like `opening.open_direct`, and too_fast."""
        self._paces.reach(actor.account)
        now_ms = self._clock.wall_ms()
        id, _ = await self._write(opening.open_direct, _new_id(), actor.account, name, now_ms)
        return await self.show(actor, id)

    async def open_group(self, actor: Actor, shape: Shape, request: Request) -> Answered:
        """Begin a group, once for each key; the answer holds a `ConversationView`."""
        self._paces.reach(actor.account)
        shape = msgspec.structs.replace(shape, title=title_untrusted(shape.title))
        now_ms = self._clock.wall_ms()
        answered = await self._keys.write(request, now_ms, _open_group, _new_id(), actor.account, shape, now_ms)
        self._nudge()
        return answered

    async def page(self, actor: Actor, cursor: str | None, limit: int) -> ConversationPage:
        """Return some of one's conversations. Raises Refused("invalid_cursor")."""
        return await self._store.read(reading.page, actor.account, cursor, limit, self._clock.wall_ms())

    async def show(self, actor: Actor, conversation: str) -> ConversationView:
        """Return a conversation. Raises Refused("conversation_unknown")."""
        return await self._store.read(reading.show, actor.account, conversation, self._clock.wall_ms())

    async def reshape(self, actor: Actor, conversation: str, shape: Shape) -> ConversationView:
        """Say what a group is like. Raises Refused like `belonging.change_shape`."""
        shape = msgspec.structs.replace(shape, title=title_untrusted(shape.title))
        await self._change(actor, belonging.change_shape, self._doing(actor, conversation), shape)
        return await self.show(actor, conversation)

    # -- members -------------------------------------------------------------------------------------------------------

    async def members(self, actor: Actor, conversation: str, after: str, limit: int) -> MemberPage:
        """Return some members, and who of them is here, where there are few."""
        found = await self._store.read(reading.members, actor.account, conversation, after, limit)
        here = await self._attendance.here(actor.account, [member.account.id for member in found.members])
        return MemberPage(
            tuple(msgspec.structs.replace(each, online=each.account.id in here) for each in found.members)
        )

    async def invite(self, actor: Actor, conversation: str, name: str) -> None:
        """Ask somebody to come in. Raises Refused like `belonging.invite`, and too_fast."""
        self._paces.reach(actor.account)
        await self._write(belonging.invite, self._doing(actor, conversation), name)
        await self._look_again(conversation)

    async def join(self, actor: Actor, conversation: str) -> ConversationView:
        """Come in, or ask for it. Raises Refused like `belonging.join`."""
        await self._let(actor, conversation, belonging.join)
        return await self.show(actor, conversation)

    async def leave(self, actor: Actor, conversation: str) -> None:
        """Go. Raises Refused like `belonging.leave`."""
        await self._let(actor, conversation, belonging.leave)

    async def remove(self, actor: Actor, conversation: str, name: str, *, ban: bool) -> None:
        """Put somebody out. Raises Refused like `belonging.remove`."""
        await self._let(actor, conversation, lambda each, doing: belonging.remove(each, doing, name, ban=ban))

    async def pardon(self, actor: Actor, conversation: str, name: str) -> None:
        """Take a ban back. Raises Refused like `belonging.pardon`."""
        await self._change(actor, belonging.pardon, self._doing(actor, conversation), name)

    async def give_role(self, actor: Actor, conversation: str, name: str, role: Role) -> None:
        """Give somebody a role. Raises Refused like `belonging.give_role`."""
        await self._change(actor, belonging.give_role, self._doing(actor, conversation), name, role)

    # -- messages ------------------------------------------------------------------------------------------------------

    async def messages(self, actor: Actor, conversation: str, edges: Edges) -> MessagePage:
        """Return some messages. Raises Refused like `policy.require_in`."""
        return await self._store.read(reading.messages, actor.account, conversation, edges, self._clock.wall_ms())

    async def search(
        self, actor: Actor, text: str, conversation: str | None, before: int, limit: int
    ) -> list[MessageView]:
        """Return the newest messages with all words of a text. Raises Refused("too_fast")."""
        self._paces.change(actor.account)
        now_ms = self._clock.wall_ms()
        return await self._store.read(searching.search, actor.account, text, conversation, before, limit, now_ms)

    async def send(
        self,
        actor: Actor,
        conversation: ConversationId,
        text: str,
        client_txn: str,
        reply_to: int | None,
        files: tuple[str, ...] = (),
    ) -> MessageSent:
        """Write a message, once for each `client_txn`; one that shows files may say nothing besides.

        Raises Refused like `posting.post_each`, and too_fast.
        """
        return await self._post(actor, self._draft(actor, conversation, text, client_txn, reply_to, files))

    def send_soon(
        self,
        actor: Actor,
        conversation: ConversationId,
        text: str,
        client_txn: str,
        reply_to: int | None,
        files: tuple[str, ...],
        done: Callable[[object], None],
    ) -> bool:
        """Write a message together with others, and call `done` with what `send` would return or raise.

        False where that does not go. Raises Refused for a text that can't be written, and too_fast.
        """
        if not self._postbox.takes:
            return False
        draft = self._draft(actor, conversation, text, client_txn, reply_to, files)
        self._paces.write(actor.account)

        def conclude(outcome: Posted | Exception) -> None:
            done(self._conclude(actor, draft, outcome))

        self._postbox.post(draft, conclude)
        return True

    async def forward(
        self, actor: Actor, conversation: ConversationId, origin: tuple[str, int], client_txn: str
    ) -> MessageSent:
        """Write what stands in another message. Raises Refused like `send`."""
        at = self._clock.wall_ms()
        draft = Draft(conversation, actor.account, "", client_txn, at, self._quotas, origin=origin)
        return await self._post(actor, draft)

    def _draft(
        self,
        actor: Actor,
        conversation: ConversationId,
        text: str,
        client_txn: str,
        reply_to: int | None,
        files: tuple[str, ...],
    ) -> Draft:
        text = draft_untrusted(text) if files else text_untrusted(text)
        at = self._clock.wall_ms()
        return Draft(conversation, actor.account, text, client_txn, at, self._quotas, reply_to, files=files)

    async def _post(self, actor: Actor, draft: Draft) -> MessageSent:
        self._paces.write(actor.account)
        outcome: Posted | Exception
        try:
            outcome = await self._store.write_each(posting.post_each, draft)
        except Refused as refused:
            outcome = refused
        concluded = self._conclude(actor, draft, outcome)
        if isinstance(concluded, Exception):
            raise concluded
        return concluded

    def _conclude(self, actor: Actor, draft: Draft, outcome: Posted | Exception) -> MessageSent | Exception:
        if isinstance(outcome, Exception):
            self.refused += isinstance(outcome, Refused)
            return outcome
        if outcome.fresh is None:
            self._nudge()
        else:
            self._hand(outcome.fresh)
        self.sent += not outcome.replayed
        self.replayed += outcome.replayed
        self._typing.end(draft.conversation, Person(actor.account, actor.name))
        return outcome.sent

    async def edit(self, actor: Actor, conversation: str, seq: int, text: str) -> None:
        """Write a message anew. Raises Refused like `changing.edit`."""
        text = text_untrusted(text)
        await self._change(actor, changing.edit, self._target(actor, conversation, seq), text)

    async def erase(self, actor: Actor, conversation: str, seq: int, *, for_all: bool) -> None:
        """Take a message back. Raises Refused like `changing.erase` and `changing.hide`."""
        work = changing.erase if for_all else changing.hide
        await self._change(actor, work, self._target(actor, conversation, seq))

    async def react(self, actor: Actor, conversation: str, seq: int, reaction: str, *, given: bool) -> None:
        """React to a message, or no longer. Raises Refused like `changing.react`."""
        work = changing.react if given else changing.unreact
        await self._change(actor, work, self._target(actor, conversation, seq), reaction_untrusted(reaction))

    async def pin(self, actor: Actor, conversation: str, seq: int, *, pinned: bool) -> None:
        """Pin a message, or no longer. Raises Refused like `changing.pin`."""
        await self._change(actor, changing.pin if pinned else changing.unpin, self._target(actor, conversation, seq))

    # -- what is one's own ---------------------------------------------------------------------------------------------

    async def mark(
        self, actor: Actor, conversation: ConversationId, delivered: int, read: int, *, private: bool
    ) -> None:
        """Move markers up to messages. Raises Refused like `policy.require_in`."""
        self._paces.change(actor.account)
        mark = marking.Mark(self._doing(actor, conversation), delivered, read, private)
        await self._store.write_each(marking.mark_each, mark)
        self._nudge()

    async def keep(self, actor: Actor, conversation: str, kept: Kept) -> None:
        """Change what belongs to a member alone. Raises Refused like `policy.require_in`."""
        if kept.draft is not None:
            kept = msgspec.structs.replace(kept, draft=draft_untrusted(kept.draft))
        await self._change(actor, marking.keep, self._doing(actor, conversation), kept)

    async def type(self, actor: Actor, conversation: ConversationId) -> None:
        """Show to the others, where they are few, that somebody is writing. Raises Refused like `require_in`."""
        self._paces.change(actor.account)
        audience = await self._store.read(marking.typed_to, actor.account, conversation, TYPED_UP_TO)
        if audience:
            self._typing.begin(conversation, Person(actor.account, actor.name), audience)

    async def watch(self, session: Session, accounts: Sequence[AccountId]) -> PresencePage:
        """Tell a session how people are, from now on. Raises Refused("too_fast")."""
        self._paces.change(session.actor.account)
        return await self._attendance.watch(session, accounts)

    async def settings(self, actor: Actor) -> Settings:
        """Return what an account has set."""
        return await self._store.read(marking.settings_of, actor.account)

    async def set_settings(self, actor: Actor, settings: Settings) -> None:
        """Set who is told what, and who may reach one."""
        await self._change(actor, marking.set_settings, actor.account, settings)
        self._rooms.sessions.stir(actor.account)

    # -- writing -------------------------------------------------------------------------------------------------------

    async def _change(self, actor: Actor, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        self._paces.change(actor.account)
        return await self._write(work, *arguments)

    async def _write(self, work: Callable[[sa.Connection, *Ts], T], *arguments: *Ts) -> T:
        done = await self._store.write(work, *arguments)
        self._nudge()
        return done

    async def _let(self, actor: Actor, conversation: str, work: Callable[[sa.Connection, Doing], object]) -> None:
        """Let somebody come or go: who goes is cut before anybody is told."""
        self._paces.change(actor.account)
        await self._store.write(work, self._doing(actor, conversation))
        await self._look_again(conversation)
        self._nudge()

    async def _look_again(self, conversation: str) -> None:
        if self._minded is not None:
            await self._minded(conversation)

    def _doing(self, actor: Actor, conversation: str) -> Doing:
        return Doing(actor.account, conversation, self._clock.wall_ms())

    def _target(self, actor: Actor, conversation: str, seq: int) -> Target:
        return Target(actor.account, conversation, seq, self._clock.wall_ms())


def _new_id() -> ConversationId:
    return ConversationId(f"c_{secrets.token_hex(ID_BYTES)}")


def _open_group(connection: sa.Connection, id: ConversationId, owner: AccountId, shape: Shape, now_ms: int) -> Answered:
    opening.open_group(connection, id, owner, shape, now_ms)
    return Answered(201, msgspec.json.encode(reading.show(connection, owner, id, now_ms)))
