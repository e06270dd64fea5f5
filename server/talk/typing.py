"""Who is writing in which conversation just now: shown to the others, written down nowhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

import trio

from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId
from signalling.rooms.rooms import Rooms
from signalling.wire.events import TypingShown
from signalling.wire.views import Person

TYPING_S = 10.0  # without a word of it nobody is writing any more; pages say so every few seconds
LOOK_S = 1.0
MAX_CONVERSATIONS = 10_000  # of which it is known; beyond, where somebody wrote least recently is forgotten
MAX_SHOWN = 8  # people: more are a crowd, and each change is shown to all


class Typing:
    """Knows who is writing; `run` it to have it end. `audience` are the accounts to whom it is shown."""

    def __init__(self, rooms: Rooms, wall_ms: Callable[[], int]) -> None:
        self._rooms, self._wall_ms = rooms, wall_ms
        self._writing: OrderedDict[ConversationId, dict[Person, float]] = OrderedDict()
        self._audiences: dict[ConversationId, tuple[AccountId, ...]] = {}

    def __len__(self) -> int:
        """How many conversations somebody is writing in."""
        return len(self._writing)

    async def run(self) -> None:
        """Forget those who say nothing of it any more, until cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            now = trio.current_time()
            for conversation, writing in tuple(self._writing.items()):
                for person in [person for person, until in writing.items() if until <= now]:
                    self.end(conversation, person)

    def begin(self, conversation: ConversationId, person: Person, audience: Iterable[AccountId]) -> None:
        """Somebody is writing."""
        writing = self._writing.setdefault(conversation, {})
        self._writing.move_to_end(conversation)
        self._audiences[conversation] = tuple(audience)
        is_new = person not in writing
        writing[person] = trio.current_time() + TYPING_S
        if is_new:
            self._show(conversation)
        if len(self._writing) > MAX_CONVERSATIONS:
            self._forget(next(iter(self._writing)))

    def end(self, conversation: ConversationId, person: Person) -> None:
        """Somebody is not writing any more; nothing happens where that was known."""
        writing = self._writing.get(conversation, {})
        if writing.pop(person, None) is not None:
            self._show(conversation)
            if not writing:
                self._forget(conversation)

    def _forget(self, conversation: ConversationId) -> None:
        del self._writing[conversation], self._audiences[conversation]

    def _show(self, conversation: ConversationId) -> None:
        writing = list(self._writing[conversation])[:MAX_SHOWN]
        for account in self._audiences[conversation]:
            others = tuple(person for person in writing if person.id != account)
            shown = TypingShown(server_now=self._wall_ms(), conversation=conversation, accounts=others)
            self._rooms.show_now(account, shown, f"typing.{conversation}")
