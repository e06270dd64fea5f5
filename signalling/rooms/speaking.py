"""Tells those in a room who of its publishers speaks, by account; nobody whom the room does not admit."""

from __future__ import annotations

from media.door import Speaking
from signalling.policy.showing import Now
from signalling.rooms.registry import Live
from signalling.sessions.fanning import show_newest
from signalling.wire.messages import Encoded
from signalling.wire.speaking import SpeakingTold


def show_speaking(live: Live, fact: Speaking, now: Now) -> None:
    """Show what media heard to all sessions whose account may hear it, too."""
    room, stream = live.room, live.room.stream.id
    accounts = {member.source: member.account for member in room.members if member.publishes and member.flows}
    levels = {accounts[source]: level for source, level in fact.levels.items() if source in accounts}
    speaker = None if fact.speaker is None else accounts.get(fact.speaker)
    told = Encoded(SpeakingTold(server_now=now.wall_ms, stream=stream, speaker=speaker, levels=levels))
    hearing = (each for each in live.audience.sessions() if room.state.admits(each.actor.account, now.ns))
    show_newest(hearing, told, f"speaking {stream}")
