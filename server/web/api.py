"""The API for people: accounts, streams, who may watch, one-to-one and chat."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from server.problems import Problem
from server.web import schemas as s
from server.web.opening import OPENING, open_stream, read_description_untrusted, read_mode_untrusted
from server.web.ports import Auth, FindAccount, Rooms
from server.web.routes import Access, Answer, Asked, Route
from signalling.identifiers import AccountId, Mode, StreamId
from signalling.policy import commands as c
from signalling.rooms.directory import Wanted
from signalling.wire import views as v

ROOT = "/api/v1"
STREAM = f"{ROOT}/streams/{{stream}}"
SEEING = ("no_session", "stream_unknown", "rate_limited")
OWNING = (*SEEING, "not_the_owner", "stream_ended")
TOKEN_BYTES = 24  # of a confirmation: unguessable within the minute it holds


def api_routes(rooms: Rooms, auth: Auth, find_account: FindAccount) -> list[Route]:
    """Return the routes for people."""
    return [
        *_account_routes(auth),
        *_stream_routes(rooms),
        *_mode_routes(rooms),
        *_access_routes(rooms, find_account),
        *_one_to_one_routes(rooms),
    ]


def _account_routes(auth: Auth) -> list[Route]:
    async def sign_up(asked: Asked) -> Answer:
        return Answer(s.shown(await auth.sign_up(asked.body.name, asked.body.password), v.Person))

    async def log_in(asked: Asked) -> Answer:
        return Answer(s.shown(await auth.log_in(asked.body.name, asked.body.password), s.Session))

    async def me(asked: Asked) -> Answer:
        return Answer(s.Me(asked.actor.account, asked.actor.name, asked.actor.admin))

    taken = ("malformed_json", "unsupported_media_type", "body_too_large", "invalid_request", "rate_limited")
    return [
        Route(
            "POST",
            f"{ROOT}/accounts",
            "Sign up",
            sign_up,
            Access.STRANGER,
            body=s.Credentials,
            result=v.Person,
            status=201,
            problems=("name_taken", "invalid_name", *taken),
        ),
        Route(
            "POST",
            f"{ROOT}/sessions",
            "Log in: get a bearer token",
            log_in,
            Access.STRANGER,
            body=s.Credentials,
            result=s.Session,
            status=201,
            problems=("bad_credentials", *taken),
        ),
        Route("GET", f"{ROOT}/me", "The account that asks", me, result=s.Me, problems=("no_session",)),
    ]


def _stream_routes(rooms: Rooms) -> list[Route]:
    async def live(asked: Asked) -> Answer:
        part: s.DirectoryQuery = asked.query
        wanted = Wanted(part.kind, None if part.mode is None else Mode(part.mode), part.text)
        return Answer(await rooms.browse(asked.actor, cursor=part.cursor, limit=part.limit, wanted=wanted))

    async def create(asked: Asked) -> Answer:
        stream = await open_stream(rooms, asked.actor, asked.body)
        return Answer(stream, {"Location": f"{ROOT}/streams/{stream.card.id}"})

    async def show(asked: Asked) -> Answer:
        return Answer(await rooms.show(_stream(asked), asked.actor))

    async def room(asked: Asked) -> Answer:
        return Answer(await rooms.command(_stream(asked), asked.actor, c.ShowRoom()))

    async def chat(asked: Asked) -> Answer:
        command = c.Chat(asked.body.text, asked.body.client_txn)
        return Answer(await rooms.command(_stream(asked), asked.actor, command))

    order = _Orders(rooms)
    return [
        Route(
            "GET",
            f"{ROOT}/streams",
            "The streams that are live",
            live,
            query=s.DirectoryQuery,
            result=v.Page,
            problems=("no_session", "invalid_request"),
        ),
        Route(
            "POST",
            f"{ROOT}/streams",
            "Open a stream",
            create,
            body=s.NewStream,
            result=v.StreamView,
            status=201,
            problems=OPENING,
        ),
        Route(
            "GET",
            STREAM,
            "One stream, and what I may do there",
            show,
            result=v.StreamView,
            problems=(*SEEING, "access_unavailable"),
        ),
        order.route(
            "PATCH",
            "",
            "Call the stream something else, or describe it anew, also while it is on",
            lambda asked: read_description_untrusted(asked.body),
            (*OWNING, "invalid_title", "described_too_often"),
            body=s.StreamDescription,
        ),
        order.route("POST", "/end", "End the stream", lambda asked: c.EndStream(), OWNING),
        Route("GET", f"{STREAM}/room", "Who is there and who holds what", room, result=v.RoomView, problems=OWNING),
        Route(
            "POST", f"{STREAM}/chat", "Say something", chat, body=s.NewMessage, result=v.ChatAccepted, problems=SEEING
        ),
    ]


def _mode_routes(rooms: Rooms) -> list[Route]:
    async def prepare(asked: Asked) -> Answer:
        mode = read_mode_untrusted(asked.body.mode)
        command = c.PrepareMode(mode, secrets.token_urlsafe(TOKEN_BYTES))
        return Answer(await rooms.command(_stream(asked), asked.actor, command))

    async def confirm(asked: Asked) -> Answer:
        command = c.ConfirmMode(asked.body.confirm_token, asked.body.allow_empty, asked.body.after_s)
        return Answer(await rooms.command(_stream(asked), asked.actor, command))

    order = _Orders(rooms)
    return [
        Route(
            "POST",
            f"{STREAM}/mode/prepare",
            "See whom a switch would remove",
            prepare,
            body=s.WantedMode,
            result=v.Prepared,
            problems=(*OWNING, "invalid_mode", "mode_conflict"),
        ),
        Route(
            "POST",
            f"{STREAM}/mode/confirm",
            "Switch as prepared; answers when the last packet of before is out. Idempotent",
            confirm,
            body=s.Confirmation,
            result=v.ModeChanged,
            problems=(*OWNING, "room_changed", "audience_empty", "invalid_countdown", "switched_too_often"),
        ),
        order.route(
            "POST",
            "/mode/call_off",
            "Take an announced switch back",
            lambda asked: c.CallOffMode(),
            (*OWNING, "no_switch_announced"),
        ),
        order.route(
            "PUT",
            "/time_limit",
            "Let the stream end by itself, or not",
            lambda asked: c.SetTimeLimit(asked.body.seconds),
            (*OWNING, "invalid_time_limit", "exceeds_time_limit"),
            body=s.TimeLimit,
            result=v.TimeLimitChanged,
        ),
        order.route(
            "PUT",
            "/best_picture",
            "Say who has the best picture; answers when whoever lost it gets no more of it",
            lambda asked: c.SetBestPicture(asked.body.best_picture),
            (*OWNING, "invalid_request"),
            body=s.WantedBestPicture,
        ),
    ]


def _access_routes(rooms: Rooms, find_account: FindAccount) -> list[Route]:
    order = _Orders(rooms, find_account)
    problems = (*OWNING, "account_unknown")
    return [
        order.on_person("PUT", "tickets", "Give an account a ticket", c.GrantTicket, problems),
        order.on_person("DELETE", "tickets", "Take an account's ticket", c.RevokeTicket, problems),
        order.on_person("PUT", "entitled", "Let an account watch while private", c.Entitle, problems),
        order.on_person("DELETE", "entitled", "No longer let it", c.Disentitle, problems),
        order.on_person("PUT", "ejected", "Put an account out for good", c.Eject, problems),
        order.on_person("DELETE", "ejected", "Let it come back", c.Readmit, problems),
    ]


def _one_to_one_routes(rooms: Rooms) -> list[Route]:
    order = _Orders(rooms)
    path = "/one_to_one"
    return [
        order.route(
            "DELETE",
            f"{path}/requests",
            "Take the request back",
            lambda asked: c.CancelOneToOne(),
            (*SEEING, "request_unknown"),
        ),
        order.route(
            "POST",
            f"{path}/accept",
            "Take a viewer into a one-to-one, as soon as that one confirms to be there",
            lambda asked: c.AcceptOneToOne(AccountId(asked.body.account), asked.body.seconds),
            (
                *(*OWNING, "duration_out_of_range", "request_unknown", "mode_conflict", "exceeds_time_limit"),
                *("already_in_one_to_one", "one_to_one_offered"),
            ),
            body=s.Invitation,
            result=v.OneToOneAnswer,
        ),
        order.route(
            "POST",
            f"{path}/confirm",
            "Come to the one-to-one that I am offered",
            lambda asked: c.ConfirmOneToOne(),
            (*SEEING, "request_unknown", "request_expired", "mode_conflict", "exceeds_time_limit"),
            result=v.OneToOneAnswer,
        ),
        order.route(
            "POST",
            f"{path}/decline",
            "Turn a request down",
            lambda asked: c.DeclineOneToOne(AccountId(asked.body.account)),
            (*OWNING, "request_unknown"),
            body=s.Whom,
        ),
        order.route(
            "POST",
            f"{path}/extension/accept",
            "Agree to the seconds more that are asked for",
            lambda asked: c.AcceptExtension(asked.body.seconds),
            (*OWNING, "request_unknown", "exceeds_time_limit"),
            body=s.MoreSecondsAgreed,
        ),
        order.route(
            "POST",
            f"{path}/extension/decline",
            "Refuse more time",
            lambda asked: c.DeclineExtension(),
            (*OWNING, "request_unknown"),
        ),
        order.route(
            "DELETE",
            f"{path}/extension",
            "Take back that I asked for more time",
            lambda asked: c.CancelExtension(),
            (*SEEING, "request_unknown", "mode_conflict"),
        ),
        order.route("POST", f"{path}/end", "Hang up", lambda asked: c.EndOneToOne(), (*SEEING, "mode_conflict")),
    ]


class _Orders:
    """Routes that order a room to do something and answer when it is done."""

    def __init__(self, rooms: Rooms, find_account: FindAccount | None = None) -> None:
        self._rooms, self._find_account = rooms, find_account

    def route(
        self,
        method: str,
        path: str,
        summary: str,
        command: Callable[[Asked], Any],
        problems: tuple[str, ...],
        *,
        body: Any = None,
        result: Any = v.Done,
    ) -> Route:
        async def serve(asked: Asked) -> Answer:
            return Answer(await self._rooms.command(_stream(asked), asked.actor, command(asked)))

        return Route(method, f"{STREAM}{path}", summary, serve, body=body, result=result, problems=problems)

    def on_person(
        self, method: str, of: str, summary: str, command: Callable[[AccountId], Any], problems: tuple[str, ...]
    ) -> Route:
        async def serve(asked: Asked) -> Answer:
            account = await known(self._find_account, asked.path["name"])
            return Answer(await self._rooms.command(_stream(asked), asked.actor, command(account)))

        return Route(method, f"{STREAM}/{of}/{{name}}", summary, serve, result=v.Done, problems=problems)


async def known(find_account: Callable[[str], Awaitable[AccountId | None]] | None, name: str) -> AccountId:
    """Return the account of that name; raises Problem("account_unknown")."""
    assert find_account is not None, "this route was built without a way to look accounts up"
    account = await find_account(name)
    if account is None:
        raise Problem("account_unknown", f"nobody is called {name!r} here")
    return account


def _stream(asked: Asked) -> StreamId:
    return StreamId(asked.path["stream"])
