"""Leads each request of the signalling socket to what answers it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from media.door import Quality, Wish
from signalling.policy import commands as c
from signalling.sessions.session import Session
from signalling.wire import requests as r

if TYPE_CHECKING:
    from signalling.rooms.rooms import Rooms

CONFIRMATION_BYTES = 24  # unguessable within the minute it holds


async def answer(rooms: Rooms, session: Session, request: r.Request) -> object:
    """Do what a request asks, and return the view that answers it; raises Refused."""
    match request:
        case r.Ping():
            return None
        case r.WatchDirectory():
            await rooms.watch_directory(session)
            return None
        case r.UnwatchDirectory():
            rooms.unwatch_directory(session)
            return None
        case r.FollowEvents(after=after):
            return await rooms.feed.follow(session, after)
        case r.UnfollowEvents():
            session.unfollow()
            return None
        case r.ShowPage(in_sight=in_sight):
            session.in_sight = in_sight
            return None
        case r.JoinStream(stream=stream):
            return await rooms.join(session, stream)
        case r.LeaveStream(stream=stream):
            return await rooms.leave(session, stream)
        case r.SendMessage(conversation=conversation, text=text, client_txn=txn, reply_to=reply_to, attachments=files):
            return await rooms.messenger.send(session.actor, conversation, text, txn, reply_to, files)
        case r.MarkConversation(conversation=conversation, delivered=delivered, read=read, private=private):
            await rooms.messenger.mark(session.actor, conversation, delivered, read, private=private)
            return None
        case r.TypeMessage(conversation=conversation):
            await rooms.messenger.type(session.actor, conversation)
            return None
        case r.WatchPeople(accounts=accounts):
            return await rooms.messenger.watch(session, accounts)
        case r.PreferPicture(session=named, quality=quality, max_height=height):
            wish = Wish(quality or Quality.HIGH, height or 0)
            await rooms.media_sessions.prefer(named or session.media or "", session.actor, wish)
            return None
        case _:
            return await rooms.command(request.stream, session.actor, _command(request))


def answer_soon(rooms: Rooms, session: Session, request: r.Request, done: Callable[[object], None]) -> bool:
    """Begin to do what a request asks, and have `done` called with its view or its failure; raises Refused.

    That spares a task for what is asked most. False, and nothing done, for all else.
    """
    match request:
        case r.SendMessage(conversation=conversation, text=text, client_txn=txn, reply_to=reply_to, attachments=files):
            return rooms.messenger.send_soon(session.actor, conversation, text, txn, reply_to, files, done)
        case _:
            return False


def _command(request: r.Request) -> c.Command | c.Chat:
    match request:
        case r.SendChat(text=text, client_txn=client_txn):
            return c.Chat(text, client_txn)
        case r.PrepareModeSwitch(mode=mode):
            return c.PrepareMode(mode, secrets.token_urlsafe(CONFIRMATION_BYTES))
        case r.ConfirmModeSwitch(confirm_token=token, allow_empty=allow_empty):
            return c.ConfirmMode(token, allow_empty)
        case r.LimitTime(seconds=seconds):
            return c.SetTimeLimit(seconds)
        case r.ReserveBestPicture(best_picture=best_picture):
            return c.SetBestPicture(best_picture)
        case r.AskOneToOne(seconds=seconds):
            return c.RequestOneToOne(seconds)
        case r.WithdrawOneToOne():
            return c.CancelOneToOne()
        case r.ComeToOneToOne():
            return c.ConfirmOneToOne()
        case r.TakeOneToOne(account=account, seconds=seconds):
            return c.AcceptOneToOne(account, seconds)
        case r.TurnDownOneToOne(account=account):
            return c.DeclineOneToOne(account)
        case r.AskMoreTime(seconds=seconds):
            return c.AskExtension(seconds)
        case r.WithdrawMoreTime():
            return c.CancelExtension()
        case r.GiveMoreTime(seconds=seconds):
            return c.AcceptExtension(seconds)
        case r.RefuseMoreTime():
            return c.DeclineExtension()
        case r.HangUp():
            return c.EndOneToOne()
        case r.PutOut(account=account):
            return c.Eject(account)
        case r.LetBackIn(account=account):
            return c.Readmit(account)
        case r.StopStream():
            return c.EndStream()
        case _:
            raise AssertionError(f"{type(request).__name__} is no command")
