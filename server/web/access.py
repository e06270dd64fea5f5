"""The API of who may watch: rules, follows, subscriptions and blocks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.access.judging import StreamRules
from server.access.people import People, Versioned
from server.access.rules import Missing
from server.problems import Problem
from server.web import schemas as s
from server.web.api import OWNING, ROOT, SEEING, STREAM, known
from server.web.ports import FindAccount
from server.web.routes import Access, Answer, Asked, Route
from signalling.identifiers import Actor, Mode, StreamId

MAX_SUBSCRIPTION_S = 10 * 366 * 86_400
TAG = re.compile(r'"(\d{1,9})"')
TAGS = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"(?: *, *(?:W/)?"[\x21\x23-\x7e]*")*')  # RFC 9110 section 8.8.3
NAMED = ("no_session", "account_unknown", "rate_limited")
Tier = Annotated[int, Meta(ge=1, le=100)]


class Grade(s.Taken, frozen=True):
    """A subscription to give: its tier, and for how many seconds; null for one that does not lapse."""

    tier: Tier
    expires_s: Annotated[int, Meta(ge=1, le=MAX_SUBSCRIPTION_S)] | None = None


class AccountFacts(s.Taken, frozen=True):
    """What an administrator says of an account; what is not there stays as it is."""

    suspended: bool | None = None
    tier: Annotated[int, Meta(ge=0, le=100)] | None = None


class ListQuery(s.Taken, frozen=True):
    """Which part of a list: what follows `after`, an id from the page before."""

    after: Annotated[str, Meta(max_length=128)] = ""
    limit: s.PageSize = 50


class RelatedView(msgspec.Struct, frozen=True):
    """Another account, and since when."""

    id: str
    name: str
    since: int


class RelatedPage(msgspec.Struct, frozen=True):
    """Some accounts; there may be more when the page is full."""

    accounts: tuple[RelatedView, ...]


class SubscriptionView(msgspec.Struct, frozen=True):
    """Another account and a subscription; a lapsed one is listed, too."""

    id: str
    name: str
    tier: int
    since: int
    expires_at: int | None


class SubscriptionPage(msgspec.Struct, frozen=True):
    """Some subscriptions; there may be more when the page is full."""

    subscriptions: tuple[SubscriptionView, ...]


class RulesView(msgspec.Struct, frozen=True):
    """A stream's rules and their version, which is also the ETag."""

    version: int
    rules: StreamRules


class EntitlementView(msgspec.Struct, frozen=True):
    """Whether who asks may watch in `mode`, the stream's, or the one to which its one-to-one returns.

    If so, `via` says by what, until `until` at most. If not, `ways` says what would help. `denied` is the code of what
    keeps the account out of every mode, and `missing` what it would have to prove. Who may watch without having the
    `best_picture` is told in `ways` what would help to that.
    """

    mode: Mode
    entitled: bool
    via: str | None
    until: int | None
    ways: Missing | None
    denied: str | None
    missing: tuple[Missing, ...]
    best_picture: bool


def access_routes(people: People, find_account: FindAccount) -> list[Route]:
    """Return the routes about who may watch."""
    return [
        *_rule_routes(people),
        *_follow_routes(people),
        *_subscription_routes(people, find_account),
        *_block_routes(people),
        *_admin_routes(people, find_account),
    ]


def _rule_routes(people: People) -> list[Route]:
    async def show(asked: Asked) -> Answer:
        return _versioned(await people.rules(asked.actor, _stream(asked)))

    async def replace(asked: Asked) -> Answer:
        versions = _if_match(asked.headers.get("If-Match", ""))
        if versions is None:
            versions = ((await people.rules(asked.actor, _stream(asked))).version,)
        version = await people.set_rules(asked.actor, _stream(asked), asked.body, versions)
        return _versioned(Versioned(version, asked.body))

    async def judge(asked: Asked) -> Answer:
        return Answer(s.shown(await people.entitlement(asked.actor, _stream(asked)), EntitlementView))

    path = f"{STREAM}/rules"
    conditional = ("precondition_required", "precondition_failed", "malformed_header", "invalid_rules")
    return [
        Route("GET", path, "Who may watch while the stream is private", show, result=RulesView, problems=SEEING),
        Route(
            "PUT",
            path,
            "Replace the rules; answers when whoever does not meet them is out. If-Match is the version they replace",
            replace,
            body=StreamRules,
            result=RulesView,
            problems=(*OWNING, *conditional, "invalid_request"),
        ),
        Route(
            "GET",
            f"{STREAM}/entitlement",
            "Whether I may watch, by what, and what would help",
            judge,
            result=EntitlementView,
            problems=SEEING,
        ),
    ]


def _follow_routes(people: People) -> list[Route]:
    async def follows(asked: Asked) -> Answer:
        return Answer(_related(await people.follows(asked.actor, asked.query.after, asked.query.limit)))

    path = f"{ROOT}/follows"
    taken = (*NAMED, "self_follow", "too_many_follows")
    return [
        Route("GET", path, "Whom I follow", follows, query=ListQuery, result=RelatedPage, problems=NAMED[:1]),
        _on_name("PUT", path, "Follow somebody", people.follow, taken),
        _on_name("DELETE", path, "No longer; answers when the right that it gave is gone", people.unfollow, NAMED),
    ]


def _block_routes(people: People) -> list[Route]:
    async def blocks(asked: Asked) -> Answer:
        return Answer(_related(await people.blocks(asked.actor, asked.query.after, asked.query.limit)))

    path = f"{ROOT}/blocks"
    taken = (*NAMED, "self_block", "too_many_blocks")
    return [
        Route("GET", path, "Whom I blocked", blocks, query=ListQuery, result=RelatedPage, problems=NAMED[:1]),
        _on_name("PUT", path, "Keep somebody away; answers when the last packet is out", people.block, taken),
        _on_name("DELETE", path, "Take a block back", people.unblock, NAMED),
    ]


def _subscription_routes(people: People, find_account: FindAccount) -> list[Route]:
    async def mine(asked: Asked) -> Answer:
        return Answer(_subscribed(await people.subscriptions(asked.actor, asked.query.after, asked.query.limit)))

    async def cancel(asked: Asked) -> Answer:
        await people.unsubscribe(await known(find_account, asked.path["name"]), asked.actor.account)
        return Answer()

    async def of_me(asked: Asked) -> Answer:
        return Answer(_subscribed(await people.subscribers(asked.actor, asked.query.after, asked.query.limit)))

    async def give(asked: Asked) -> Answer:
        subscriber = await known(find_account, asked.path["name"])
        await people.subscribe(asked.actor.account, subscriber, asked.body.tier, asked.body.expires_s)
        return Answer()

    async def take(asked: Asked) -> Answer:
        await people.unsubscribe(asked.actor.account, await known(find_account, asked.path["name"]))
        return Answer()

    own, others = f"{ROOT}/subscriptions", f"{ROOT}/subscribers"
    page, giving = SubscriptionPage, (*NAMED, "self_follow", "invalid_request")
    return [
        Route("GET", own, "To whom I am subscribed", mine, query=ListQuery, result=page, problems=NAMED[:1]),
        Route("DELETE", f"{own}/{{name}}", "End my subscription at once", cancel, status=204, problems=NAMED),
        Route("GET", others, "Who is subscribed to me", of_me, query=ListQuery, result=page, problems=NAMED[:1]),
        Route("PUT", f"{others}/{{name}}", "Give a subscription", give, body=Grade, status=204, problems=giving),
        Route("DELETE", f"{others}/{{name}}", "End a subscription to me", take, status=204, problems=NAMED),
    ]


def _admin_routes(people: People, find_account: FindAccount) -> list[Route]:
    async def set_facts(asked: Asked) -> Answer:
        account = await known(find_account, asked.path["name"])
        await people.set_facts(account, suspended=asked.body.suspended, tier=asked.body.tier)
        return Answer()

    async def subscribe(asked: Asked) -> Answer:
        streamer, subscriber = [await known(find_account, asked.path[part]) for part in ("streamer", "subscriber")]
        await people.subscribe(streamer, subscriber, asked.body.tier, asked.body.expires_s)
        return Answer()

    async def unsubscribe(asked: Asked) -> Answer:
        streamer, subscriber = [await known(find_account, asked.path[part]) for part in ("streamer", "subscriber")]
        await people.unsubscribe(streamer, subscriber)
        return Answer()

    subscription = f"{ROOT}/admin/subscriptions/{{streamer}}/{{subscriber}}"
    problems = (*NAMED, "admin_only", "invalid_request")

    def route(method: str, path: str, summary: str, serve: Any, body: Any = None) -> Route:
        return Route(method, path, summary, serve, Access.ADMIN, body=body, status=204, problems=problems)

    return [
        route("PUT", f"{ROOT}/admin/accounts/{{name}}", "Suspend an account, or set its tier", set_facts, AccountFacts),
        route("PUT", subscription, "Give a subscription", subscribe, Grade),
        route("DELETE", subscription, "End a subscription at once", unsubscribe),
    ]


def _on_name(
    method: str, path: str, summary: str, do: Callable[[Actor, str], Awaitable[None]], problems: tuple[str, ...]
) -> Route:
    async def serve(asked: Asked) -> Answer:
        await do(asked.actor, asked.path["name"])
        return Answer()

    return Route(method, f"{path}/{{name}}", summary, serve, status=204, problems=problems)


def _if_match(header: str) -> tuple[int, ...] | None:
    """Return the versions that an If-Match header names, None for any (RFC 9110 section 13.1.1)."""
    header = header.strip()
    if not header:
        raise Problem("precondition_required", "If-Match must be the ETag of the rules that you saw, or *")
    if header == "*":
        return None
    if not TAGS.fullmatch(header):
        raise Problem("malformed_header", "If-Match must be * or entity tags in quotation marks")
    return tuple(int(tag) for tag in TAG.findall(header.replace('W/"', "")))


def _versioned(found: Versioned) -> Answer:
    return Answer(RulesView(found.version, found.rules), {"ETag": f'"{found.version}"'})


def _related(found: list[Any]) -> RelatedPage:
    return RelatedPage(tuple(RelatedView(*row) for row in found))


def _subscribed(found: list[Any]) -> SubscriptionPage:
    return SubscriptionPage(tuple(SubscriptionView(*row) for row in found))


def _stream(asked: Asked) -> StreamId:
    return StreamId(asked.path["stream"])
