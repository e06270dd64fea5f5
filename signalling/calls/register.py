"""The calls that go on, by id, by conversation and by account: looking one up costs the same however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from signalling.calls.room import CallRoom
from signalling.calls.state import CallId
from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId

Key = TypeVar("Key")


class Register:
    """Rooms of calls."""

    def __init__(self) -> None:
        self._rooms: dict[CallId, CallRoom] = {}
        self._within: dict[ConversationId, dict[CallId, CallRoom]] = {}
        self._of: dict[AccountId, dict[CallId, CallRoom]] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[CallRoom]:
        return iter(tuple(self._rooms.values()))

    def keep(self, room: CallRoom) -> None:
        """Take in a call, or whoever has come to it since."""
        id = room.call.id
        self._rooms[id] = room
        self._within.setdefault(room.call.conversation, {})[id] = room
        for account in room.call.parties:
            self._of.setdefault(account, {})[id] = room

    def drop(self, room: CallRoom) -> None:
        """Forget a call. Twice is no error."""
        id = room.call.id
        if self._rooms.pop(id, None) is not None:
            _take(self._within, room.call.conversation, id)
            for account in room.call.parties:
                _take(self._of, account, id)

    def find(self, id: str) -> CallRoom | None:
        """Return a call by its id."""
        return self._rooms.get(CallId(id))

    def within(self, conversation: ConversationId) -> list[CallRoom]:
        """Return the calls of a conversation."""
        return list(self._within.get(conversation, {}).values())

    def of(self, account: AccountId) -> list[CallRoom]:
        """Return the calls in which an account has, or had, a part."""
        return list(self._of.get(account, {}).values())

    def active_of(self, account: AccountId) -> CallRoom | None:
        """Return the call in which an account is."""
        return next((room for room in self.of(account) if account in room.call.active), None)


def _take(index: dict[Key, dict[CallId, CallRoom]], key: Key, id: CallId) -> None:
    within = index.get(key, {})
    within.pop(id, None)
    if not within:
        index.pop(key, None)
