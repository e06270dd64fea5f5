"""Says what a command has done, as the view that answers it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from signalling.identifiers import AccountId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.showing import Now, Scene, one_to_one_answer
from signalling.wire import views as v


def reply(scene: Scene, command: c.Command, events: Iterable[e.Event], fenced_ns: int, now: Now) -> v.Reply:
    """Return the answer to a command that made these events of a room that is now as the scene shows it."""
    for event in events:
        match event:
            case e.ModePrepared(mode, token, removed, stay, expires_ns, paying):
                return v.Prepared(
                    mode,
                    _names(scene, removed),
                    len(removed),
                    _names(scene, stay),
                    len(stay),
                    token,
                    now.wall_of(expires_ns),
                    _names(scene, paying),
                    len(paying),
                    scene.state.offer,
                )
            case e.ModeAnnounced(mode, at_ns) | e.AlreadyAnnounced(mode, at_ns):
                return v.ModeChanged(mode, scene.state.epoch, (), 0, fenced_ns, now.wall_of(at_ns))
            case e.ModeSwitched(mode, epoch, removed) | e.AlreadySwitched(mode, epoch, removed) if isinstance(
                command, c.ConfirmMode
            ):
                return v.ModeChanged(mode, epoch, _names(scene, removed), len(removed), fenced_ns)
            case e.TimeLimitSet(until_ns):
                return v.TimeLimitChanged(None if until_ns is None else now.wall_of(until_ns))
    if isinstance(command, c.AcceptOneToOne | c.ConfirmOneToOne):
        return one_to_one_answer(scene.state, now)
    return v.Done(scene.state.epoch)


def _names(scene: Scene, accounts: tuple[AccountId, ...]) -> tuple[str, ...]:
    return tuple(scene.person(account).name for account in accounts[: v.MAX_NAMES])
