"""The API of calls: ringing, answering, hanging up, pictures, and what is sent and seen in them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from server.web import schemas as s
from server.web.api import ROOT
from server.web.conversations import CONVERSATION, DOING, IN
from server.web.ice_servers import IceServers
from server.web.routes import Answer, Asked, Route, Serve
from server.web.whip import OFFERS, SDP, opened
from signalling.calls import commands as c
from signalling.calls.book import Wanted
from signalling.calls.calls import Calls
from signalling.calls.views import CallList, CallView
from signalling.messenger.model import ConversationId

CALL = f"{ROOT}/calls/{{call}}"
SEEING = ("no_session", "rate_limited", "call_unknown")
COMING = ("call_ended", "answered_elsewhere", "already_in_call", "call_full")
Device = Annotated[str, Meta(min_length=1, max_length=64)]


class NewCall(s.Taken, frozen=True):
    """A call with this device of mine; the same `client_txn` twice is one call."""

    device: Device
    client_txn: Annotated[str, Meta(min_length=1, max_length=64)]
    video: bool = False


class OnDevice(s.Taken, frozen=True):
    """The device with which I answer; the first one wins."""

    device: Device


class VideoAnswer(s.Taken, frozen=True):
    """Whether there are to be pictures, which the other asked for; who asked takes it back with false."""

    agreed: bool


def call_routes(calls: Calls, ice_servers: IceServers) -> list[Route]:
    """Return the routes of calls."""
    return [*_coming_routes(calls), *_doing_routes(calls), *_media_routes(calls, ice_servers)]


def _coming_routes(calls: Calls) -> list[Route]:
    async def start(asked: Asked) -> Answer:
        new: NewCall = asked.body
        conversation = ConversationId(asked.path["conversation"])
        return Answer(await calls.start(asked.actor, Wanted(conversation, new.video, new.device, new.client_txn)))

    async def mine(asked: Asked) -> Answer:
        return Answer(CallList(tuple(await calls.mine(asked.actor))))

    async def show(asked: Asked) -> Answer:
        return Answer(await calls.show(asked.actor, asked.path["call"]))

    async def answer(asked: Asked) -> Answer:
        return Answer(await calls.answer(asked.actor, asked.path["call"], asked.body.device))

    calling = (*IN, *COMING, "read_only", "you_blocked_them", "idempotency_mismatch", "too_many_calls", "no_capacity")
    return [
        Route(
            "POST",
            f"{CONVERSATION}/calls",
            "Call the others, or come into the call that goes on",
            start,
            body=NewCall,
            result=CallView,
            status=201,
            problems=calling,
        ),
        Route("GET", f"{ROOT}/me/calls", "Calls that ring me, or that I am in", mine, result=CallList, problems=DOING),
        Route("GET", CALL, "A call that goes on", show, result=CallView, problems=SEEING),
        Route(
            "POST",
            f"{CALL}/answer",
            "Answer, or come in later",
            answer,
            body=OnDevice,
            result=CallView,
            problems=(*SEEING, *COMING, "conversation_unknown", "not_in_conversation", "not_stored"),
        ),
    ]


def _doing_routes(calls: Calls) -> list[Route]:
    def order(path: str, summary: str, command: c.Command, problems: tuple[str, ...]) -> Route:
        async def serve(asked: Asked) -> Answer:
            return Answer(await calls.do(asked.actor, asked.path["call"], command))

        return Route("POST", f"{CALL}{path}", summary, serve, result=CallView, problems=(*SEEING, *problems))

    async def answer_video(asked: Asked) -> Answer:
        command = c.AnswerVideo(asked.body.agreed)
        return Answer(await calls.do(asked.actor, asked.path["call"], command))

    inside = ("not_in_call", "call_ended")
    return [
        order("/decline", "Do not want to be rung", c.Decline(), ("answered_elsewhere",)),
        order("/hang_up", "Hang up, or take a call back that nobody has answered", c.HangUp(), ()),
        order("/video", "Ask the other for pictures; a group has them from now on", c.AskVideo(), inside),
        Route(
            "PUT",
            f"{CALL}/video",
            "Agree to pictures that the other asked for, or not",
            answer_video,
            body=VideoAnswer,
            result=CallView,
            problems=(*SEEING, *inside, "request_unknown"),
        ),
    ]


def _media_routes(calls: Calls, ice_servers: IceServers) -> list[Route]:
    async def publish(asked: Asked) -> Answer:
        call = asked.path["call"]
        session = await calls.publish(call, asked.actor, asked.body)
        return opened(session, f"/whip/{call}", ice_servers, asked.actor)

    async def watch(asked: Asked) -> Answer:
        call = asked.path["call"]
        session = await calls.watch(call, asked.actor, asked.path["account"], asked.body)
        return opened(session, f"/whep/{call}", ice_servers, asked.actor)

    problems = (*SEEING, *OFFERS, "call_ended", "not_in_call", "no_capacity", "too_many_sessions")
    return [
        offering_route(f"{CALL}/whip", "Send to the others, by WHIP", publish, problems),
        offering_route(
            f"{CALL}/whep/{{account}}",
            "See and hear one of the others, by WHEP",
            watch,
            (*problems, "no_publisher", "no_common_codec"),
        ),
    ]


def offering_route(path: str, summary: str, serve: Serve, problems: tuple[str, ...]) -> Route:
    """Return a route that answers an SDP offer."""
    return Route(
        "POST",
        path,
        summary,
        serve,
        takes=SDP,
        body=str,
        gives=SDP,
        result=str,
        status=201,
        problems=problems,
    )
