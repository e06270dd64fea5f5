"""People in a database, and what they do in conversations there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from server.events import eventlog
from server.events.eventlog import Happened
from server.talk import belonging, changing, marking, opening, posting, reading, searching, showing
from server.talk.belonging import Doing
from server.talk.changing import Target
from server.talk.marking import Kept, Settings
from server.talk.opening import Shape
from server.talk.posting import Draft, Posted
from server.talk.reading import Edges
from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId, Role
from signalling.messenger.quotas import Quotas
from signalling.messenger.views import ConversationView, MessageSent, MessageView
from signalling.refusals import Refused
from tests.money.databases import AnyStore
from tests.money.test_tips import open_accounts

T = TypeVar("T")
NOW = 1_700_000_000_000


async def people(store: AnyStore, *names: str) -> list[Talker]:
    """Make accounts whose ids are their names."""
    await store.write(open_accounts, *names)
    return [Talker(store, AccountId(name)) for name in names]


async def code(doing: Any) -> str:
    """Return with which code something is refused."""
    try:
        await doing
    except Refused as refused:
        return refused.code
    return "done"


@dataclass
class Talker:
    """Somebody on a store; `now` is the time."""

    store: AnyStore
    id: AccountId
    now: int = NOW
    quotas: Quotas = field(default_factory=Quotas)
    count: int = 0

    async def direct(self, other: str) -> str:
        wanted = ConversationId(f"c_{self.id}{other}")
        return (await self.store.write(opening.open_direct, wanted, self.id, other, self.now))[0]

    async def group(self, *members: Talker, id: str = "c_group", **shape: Any) -> str:
        await self.store.write(opening.open_group, ConversationId(id), self.id, Shape("A group", **shape), self.now)
        for member in members:
            await self.invite(id, member)
            await member.join(id)
        return id

    def doing(self, conversation: str) -> Doing:
        return Doing(self.id, conversation, self.now)

    async def invite(self, conversation: str, other: Talker) -> None:
        await self.store.write(belonging.invite, self.doing(conversation), other.id)

    async def join(self, conversation: str) -> None:
        await self.store.write(belonging.join, self.doing(conversation))

    async def leave(self, conversation: str) -> None:
        await self.store.write(belonging.leave, self.doing(conversation))

    async def remove(self, conversation: str, other: Talker, *, ban: bool = False) -> None:
        doing = self.doing(conversation)
        await self.store.write(lambda connection: belonging.remove(connection, doing, other.id, ban=ban))

    async def give_role(self, conversation: str, other: Talker, role: Role) -> None:
        await self.store.write(belonging.give_role, self.doing(conversation), other.id, role)

    async def send(self, conversation: str, text: str, txn: str = "", **more: Any) -> MessageSent:
        return (await self.post(conversation, text, txn, **more)).sent

    async def post(self, conversation: str, text: str, txn: str = "", **more: Any) -> Posted:
        self.count += 1
        name = txn or f"{self.id}.{self.count}"
        draft = Draft(ConversationId(conversation), self.id, text, name, self.now, self.quotas, **more)
        return await self.store.write_each(posting.post_each, draft)

    async def change(self, work: Callable[..., T], conversation: str, seq: int, *more: Any) -> T:
        return await self.store.write(work, Target(self.id, conversation, seq, self.now), *more)

    async def edit(self, conversation: str, seq: int, text: str) -> None:
        await self.change(changing.edit, conversation, seq, text)

    async def erase(self, conversation: str, seq: int) -> None:
        await self.change(changing.erase, conversation, seq)

    async def hide(self, conversation: str, seq: int) -> None:
        await self.change(changing.hide, conversation, seq)

    async def react(self, conversation: str, seq: int, reaction: str) -> None:
        await self.change(changing.react, conversation, seq, reaction)

    async def mark(self, conversation: str, read: int, delivered: int = 0, *, private: bool = False) -> None:
        mark = marking.Mark(self.doing(conversation), delivered, read, private)
        await self.store.write_each(marking.mark_each, mark)

    async def keep(self, conversation: str, **kept: Any) -> None:
        await self.store.write(marking.keep, self.doing(conversation), Kept(**kept))

    async def set(self, **settings: Any) -> None:
        await self.store.write(marking.set_settings, self.id, Settings(**settings))

    async def block(self, other: Talker) -> None:
        await self.store.write(
            lambda connection: connection.execute(
                sa.text(f"INSERT INTO blocks (blocker, blocked, since) VALUES ('{self.id}', '{other.id}', 1)")
            )
        )

    async def unblock(self, other: Talker) -> None:
        await self.store.write(
            lambda connection: connection.execute(
                sa.text(f"DELETE FROM blocks WHERE blocker = '{self.id}' AND blocked = '{other.id}'")
            )
        )

    # -- what they see -------------------------------------------------------------------------------------------------

    async def sees(self, conversation: str) -> ConversationView:
        return await self.store.read(reading.show, self.id, conversation, self.now)

    async def list(self) -> list[str]:
        page = await self.store.read(reading.page, self.id, None, 200, self.now)
        return [view.id for view in page.conversations]

    async def messages(self, conversation: str, **edges: Any) -> list[MessageView]:
        wanted = Edges(**{"after": None, "before": None, "limit": 100, **edges})
        return list((await self.store.read(reading.messages, self.id, conversation, wanted, self.now)).messages)

    async def texts(self, conversation: str, **edges: Any) -> list[str]:
        return [message.text for message in await self.messages(conversation, **edges)]

    async def unread(self, conversation: str) -> int:
        return (await self.sees(conversation)).unread

    async def finds(self, text: str, conversation: str | None = None) -> list[str]:
        found = await self.store.read(searching.search, self.id, text, conversation, 2**53, 50, self.now)
        return [message.text for message in found]

    async def hears(self, after: int = 0) -> list[tuple[int, Happened]]:
        """Return the events of the log that they may see, with the messages in them."""

        def read(connection: sa.Connection) -> list[tuple[int, Happened]]:
            events = showing.fill(connection, eventlog.read_from(connection, after, 1000, None, self.id), self.id)
            return [(logged.id, logged.event) for logged in events]

        return await self.store.read(read)

    async def hears_types(self, after: int = 0) -> list[str]:
        return [event.type for _, event in await self.hears(after)]
