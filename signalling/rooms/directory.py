"""The list of streams that are on: pages of it, and its changes for those who follow it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

from signalling.identifiers import Actor, Mode, StreamId
from signalling.policy.showing import Now, Scene, card, is_listed
from signalling.policy.verdicts import Sight, sees_all
from signalling.refusals import Refused
from signalling.sessions.fanning import show_newest
from signalling.sessions.session import Session
from signalling.wire.events import DirectoryDelta, DirectorySnapshot
from signalling.wire.messages import Encoded
from signalling.wire.views import Kind, Page

SNAPSHOT = 100  # streams in the first message; a screen or two, and it fits an outbox


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams someone looks for: of a kind, in a mode, with a text in the title or the streamer's name."""

    kind: Kind | None = None
    mode: Mode | None = None
    text: str = ""

    def fits(self, scene: Scene) -> bool:
        """Whether a stream is such a one."""
        stream = scene.stream
        return (
            self.kind in (None, stream.kind)
            and self.mode in (None, scene.state.mode)
            and any(self.text.casefold() in said.casefold() for said in (scene.state.title, stream.owner.name))
        )


ALL = Wanted()


class Directory:
    """Knows the running streams by number, which orders them; newest first.

    Who has a page, or the first message, and applies what is told with a higher version has the list as it is. Versions
    rise by one with each change that is told, from `version` on, which is to be higher than any of a restart before.
    """

    def __init__(self, version: int) -> None:
        self._version = version
        self._numbers: list[int] = []  # ascending, so that the newest are at the end
        self._scenes: dict[int, Scene] = {}
        self._told: dict[int, list[Scene]] = {}  # as one or the other of its followers knows it
        self._watching: set[Session] = set()

    def put(self, scene: Scene) -> None:
        """Take a stream in, or its newest state."""
        number = scene.stream.number
        if number not in self._scenes:
            insort(self._numbers, number)
        self._scenes[number] = scene

    def remove(self, number: int) -> None:
        """Forget a stream, once its end has been told."""
        self._told.pop(number, None)
        if self._scenes.pop(number, None) is not None:
            del self._numbers[bisect_left(self._numbers, number)]

    def page(
        self,
        viewer: Actor | None,
        cursor: str | None,
        limit: int,
        now: Now,
        sight: Sight = sees_all,
        wanted: Wanted = ALL,
    ) -> Page:
        """Return up to `limit` streams older than the cursor. A stream that comes or goes shifts no other.

        Raises Refused("invalid_cursor").
        """
        found, older = self._find(viewer, cursor, limit, sight, wanted)
        self._note_shown(found)
        return Page(tuple(card(scene, now) for scene in found), older, now.wall_ms, self._version)

    def _note_shown(self, found: Iterable[Scene]) -> None:
        """Remember what somebody was shown before the others were told: whoever saw it has to hear when it goes."""
        for scene in found:
            told = self._told.setdefault(scene.stream.number, [])
            if not told or told[-1].state is not scene.state:
                told.append(scene)

    def _find(
        self, viewer: Actor | None, cursor: str | None, limit: int, sight: Sight, wanted: Wanted = ALL
    ) -> tuple[list[Scene], str | None]:
        end = len(self._numbers)
        if cursor is not None:
            end = bisect_left(self._numbers, _number_untrusted(cursor))
        found: list[Scene] = []
        for index in range(end - 1, -1, -1):
            scene = self._scenes[self._numbers[index]]
            if wanted.fits(scene) and is_listed(scene.state, viewer, sight):
                if len(found) == limit:
                    return found, str(found[-1].stream.number)
                found.append(scene)
        return found, None

    def watch(self, session: Session, now: Now) -> None:
        """Send the list, and from now on its changes."""
        self._watching.add(session)
        session.watches_directory = True
        found, older = self._find(session.actor, None, SNAPSHOT, session.sight)
        self._note_shown(found)
        cards = tuple(card(scene, now) for scene in found)
        snapshot = DirectorySnapshot(server_now=now.wall_ms, streams=cards, next_cursor=older, version=self._version)
        session.show(Encoded(snapshot), "directory")

    def unwatch(self, session: Session) -> None:
        """No more of that."""
        self._watching.discard(session)
        session.watches_directory = False

    def tell(self, changed: Iterable[Scene], now: Now) -> None:
        """Send what changed to those who follow; each sees only what is listed for him."""
        for scene in changed:
            self._version += 1
            stream, told = scene.stream.id, card(scene, now)
            at, version = now.wall_ms, self._version
            here = Encoded(DirectoryDelta(server_now=at, stream=stream, card=told, version=version))
            gone = Encoded(DirectoryDelta(server_now=at, stream=stream, card=None, version=version))
            known = self._told.get(scene.stream.number, [])
            seeing = [each for each in self._watching if is_listed(scene.state, each.actor, each.sight)]
            others = self._watching.difference(seeing)
            losing = [each for each in others if any(is_listed(b.state, each.actor, each.sight) for b in known)]
            show_newest(seeing, here, _key(stream))
            show_newest(losing, gone, _key(stream))
            self._told[scene.stream.number] = [scene]


def _key(stream: StreamId) -> str:
    return f"directory {stream}"


def _number_untrusted(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 20):
        raise Refused("invalid_cursor")
    return int(cursor)
