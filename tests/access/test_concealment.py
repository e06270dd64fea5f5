"""Who is kept apart by a block is answered to the byte as about somebody who never was, whatever is asked."""

from __future__ import annotations

import re
import typing
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from server.database.store import Store
from server.openapi import PATH
from signalling.wire import requests
from tests.access.test_access_node import Show, open_show
from tests.files.sending import begin
from tests.money.test_money_api import with_money
from tests.money.test_ticket_node import Market
from tests.push.services import Browser
from tests.server.nodes import Person, open_socket

USD_5 = {"asset": "USD", "units": "500"}
SDP = (Path(__file__).parents[1] / "fixtures" / "offer-firefox153-sub.sdp").read_text()
FRAGMENT = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"
# A body for each schema of the document: a route that takes another one can't be judged before it has one here.
BODIES: dict[str, dict[str, Any]] = {
    "AccountFacts": {},
    "Agreement": {"agrees": True},
    "Confirmation": {"confirm_token": "x"},
    "Forward": {"conversation": "{conversation}", "seq": 1, "client_txn": "t"},
    "Grade": {"tier": 1},
    "GroupShape": {"title": "A group"},
    "KeptByMe": {},
    "Markers": {},
    "NewBid": {"amount": USD_5},
    "NewCall": {"device": "d", "client_txn": "t"},
    "NewConversationMessage": {"text": "hello", "client_txn": "t"},
    "Invitation": {"account": "joe", "seconds": 300},
    "LayerWish": {},
    "MoreSecondsAgreed": {"seconds": 300},
    "MoreTimeWish": {"seconds": 300},
    "NewInvite": {},
    "NewLive": {},
    "NewMessage": {"text": "hello", "client_txn": "t"},
    "Objection": {"words": "hello"},
    "Outcome": {"finding": "not_upheld", "to_reporter": "", "to_respondent": ""},
    "Offer": {"choices": [{"seconds": 300}]},
    "OnDevice": {"device": "d"},
    "OneToOneWish": {"seconds": 300},
    "PriceSeen": {"price_seen": USD_5},
    "Rewording": {"text": "hello"},
    "SaleChange": {"quantity": 20},
    "SaleToOpen": {"price": USD_5, "quantity": 1},
    "StreamDescription": {"title": "hello"},
    "StreamRules": {},
    "TimeLimit": {"seconds": 600},
    "VideoAnswer": {"agreed": True},
    "WantedRole": {"role": "admin"},
    "WantedBestPicture": {"best_picture": "entitled"},
    "WantedMode": {"mode": "paid"},
    "Whom": {"account": "joe"},
}
# What is said alike to all tells nobody of a block either: one's own blocks, subscriptions, pages for the public.
INDIFFERENT = {
    "PUT /api/v1/blocks/{name}",
    "DELETE /api/v1/blocks/{name}",
    "GET /api/v1/tip_links/{code}",
    "GET /api/v1/tip_links/{code}/qr.svg",
    "POST /api/v1/tip_links/{code}/visits",
    "DELETE /api/v1/subscriptions/{name}",
    "PUT /api/v1/subscribers/{name}",
    "DELETE /api/v1/subscribers/{name}",
}
OF_THE_OPERATOR = {"streamer", "subscriber", "provider", "webhook"}  # what only administrators and services name
TIP = {"amount": {"asset": "USD", "units": "100"}}
UNLIKE = {"date"}  # headers that differ from one answer to the next


@dataclass(frozen=True)
class Call:
    """A request that names something of Ann's by `{...}`."""

    method: str
    path: str
    body: bytes
    kind: str

    def of(self, names: dict[str, str]) -> tuple[str, bytes]:
        path, body = self.path, self.body.decode()
        for name, value in names.items():
            path, body = path.replace(f"{{{name}}}", value), body.replace(f"{{{name}}}", value)
        return path, body.encode()


class Neighbours:
    """A stream of Ann's with all that belongs to it, Bob, and Joe, who has something of each."""

    def __init__(self, market: Market, bob: Person, joe: Person, names: dict[str, str]) -> None:
        self.market, self.show, self.bob, self.joe, self.names = market, market.show, bob, joe, names
        # As long as the real ones, so that the length of an answer may be compared, too.
        self.nothing = {name: "nob" if name == "name" else value[:-4] + "0000" for name, value in names.items()}
        self.asked = 0

    async def ask(self, person: Person, call: Call, names: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return an answer in which what was asked for is called what nothing is."""
        self.asked += 1
        path, body = call.of(names)
        headers = {"Authorization": f"Bearer {person.token}", "Idempotency-Key": f"k{self.asked}", "If-Match": "*"}
        headers |= {"Content-Type": call.kind} if call.kind else {}
        answer = await self.show.site.http.request(call.method, path, content=body, headers=headers)
        return answer.status_code, self._plain(answer), self._same(answer.content)

    def _plain(self, answer: httpx2.Response) -> dict[str, str]:
        return {
            name: self._same(value.encode()).decode()
            for name, value in answer.headers.items()
            if name.lower() not in UNLIKE
        }

    def _same(self, said: bytes) -> bytes:
        for name, value in self.names.items():
            if name != "name":
                said = said.replace(value.encode(), self.nothing[name].encode())
        return re.sub(rb"\bann\b", b"nob", said)

    async def calls(self) -> list[Call]:
        """Return every route of the document that names something, and those that do so in what they take."""
        document = (await self.show.site.http.get(PATH)).json()
        calls = [
            # Of a stream that is not there it does not matter whom one asks about; Joe is there in any case.
            Call(method.upper(), _of_any(path), *_body(operation))
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if "{" in path
        ]
        named = [
            ("/api/v1/tips", {"to": "{name}", **TIP}),
            ("/api/v1/tips", {"to": "{name}", **TIP, "context": {"kind": "stream", "id": "{stream}"}}),
            ("/api/v1/tips", {"to": "{name}", **TIP, "context": {"kind": "tip_link", "id": "{code}"}}),
            ("/api/v1/invites/redeem", {"code": "{secret}"}),
            ("/api/v1/disclosures", {"name": "{name}", "fields": ["region"], "purpose": "to meet"}),
        ]
        return calls + [Call("POST", path, msgspec.json.encode(body), "application/json") for path, body in named]


def _of_any(path: str) -> str:
    path = path.replace("{seq}", "1").replace("{reaction}", "👍")
    return path.replace("{name}", "joe") if "{stream}" in path else path


def _body(operation: dict[str, Any]) -> tuple[bytes, str]:
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        if kind == "application/json" and "$ref" in content["schema"]:
            return msgspec.json.encode(BODIES[content["schema"]["$ref"].rpartition("/")[2]]), kind
        return (SDP if kind == "application/sdp" else FRAGMENT).encode(), kind
    return b"", ""


@asynccontextmanager
async def open_neighbours(folder: Path) -> AsyncIterator[Neighbours]:
    config = with_money(folder, "")
    rates = msgspec.structs.replace(config.rates, account_burst=100_000, guess_burst=100_000)
    async with open_show(folder, "private", config=msgspec.structs.replace(config, rates=rates)) as show:
        market = Market(show)
        await market.open()
        bob, joe = await market.buyer("bob"), await market.buyer("joe")
        names = await _things(market, joe)
        yield Neighbours(market, bob, joe, names)


async def _things(market: Market, joe: Person) -> dict[str, str]:
    ann, stream = market.ann, market.stream
    follow = {"watch": {"type": "follows"}}
    put = {"Authorization": f"Bearer {ann.token}", "If-Match": '"0"'}
    rules = await market.site.http.put(f"/api/v1/streams/{stream}/rules", json=follow, headers=put)
    assert rules.is_success, rules.text
    await joe.ask("PUT", "/follows/ann")
    invite = await ann.ask("POST", f"/streams/{stream}/invites", {})
    tip = await market.send(joe, "POST", "/tips", {"to": "ann", **TIP})
    talk = (await joe.ask("PUT", "/conversations/direct/ann"))["id"]
    bid = await market.send(joe, "POST", f"/conversations/{talk}/bids", TIP)
    goal = await ann.ask("POST", "/goals", {"title": "A lamp", "amount": USD_5})
    link = await ann.ask("POST", "/tip_links", {})
    seat = await market.reserve(joe)
    group = (await market.send(ann, "POST", "/conversations", {"title": "A group", "joining": "open"})).json()
    await ann.ask("POST", f"/conversations/{group['id']}/messages", {"text": "hello", "client_txn": "t"})
    await ann.ask("PUT", f"/streams/{stream}/one_to_one/offer", {"choices": [{"seconds": 300}]})
    return {
        "stream": stream,
        "sale": market.sale,
        "ticket": seat,
        "reservation": seat,
        "name": "ann",
        "tip": tip.json()["id"],
        "bid": bid.json()["id"],
        "goal": goal["id"],
        "code": link["code"],
        "invite": invite["id"],
        "conversation": group["id"],
        "secret": invite["code"],
        "account": ann.id,
        **await _newer_things(ann, joe, group["id"]),
        "session": next(iter(market.site.running.rooms.media_sessions._places)),
    }


async def _newer_things(ann: Person, joe: Person, group: str) -> dict[str, str]:
    """Give Ann a call, an upload, a device, and something that is between her and Joe."""
    asked = {"name": "joe", "fields": ["region"], "purpose": "to meet"}
    report = {"about": {"kind": "account", "name": "ann"}, "reason": "harassment", "words": "look"}
    upload = (await begin(ann, 10)).rpartition("/")[2]
    await joe.ask("POST", f"/conversations/{group}/join")
    call = await ann.ask("POST", f"/conversations/{group}/calls", {"device": "d", "client_txn": "c"})
    return {
        "upload": upload,
        "file": upload,
        "call": call["id"],
        "disclosure": (await ann.ask("POST", "/disclosures", asked))["id"],
        "case": (await joe.ask("POST", "/reports", report))["id"],
        "device": (await ann.ask("POST", "/me/push/devices", Browser().subscription("https://203.0.113.7/x")))["id"],
    }


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which looks into the database requests have made."""
    made: list[str] = []
    read, write = Store.read, Store.write_each

    async def counted_read(store: Store, work: Any, *arguments: Any) -> Any:
        if "handle_request" in trio.lowlevel.current_task().name:
            made.append("read")
        return await read(store, work, *arguments)

    async def counted_write(store: Store, work: Any, item: Any) -> Any:
        if "handle_request" in trio.lowlevel.current_task().name:
            made.append("write")
        return await write(store, work, item)

    monkeypatch.setattr(Store, "read", counted_read)
    monkeypatch.setattr(Store, "write_each", counted_write)
    return made


async def block(neighbours: Neighbours, who: str) -> None:
    if who == "ann":
        await neighbours.market.ann.ask("PUT", "/blocks/bob")
    else:
        await neighbours.bob.ask("PUT", "/blocks/ann")


@pytest.mark.parametrize("who", ["ann", "bob"])
async def test_over_http_a_block_is_told_from_nothing_by_no_answer_nor_by_how_often_the_database_is_asked(
    tmp_path: Path, who: str, looks: list[str]
) -> None:
    async with open_neighbours(tmp_path) as neighbours:
        await block(neighbours, who)
        told: dict[str, Any] = {}
        for call in await neighbours.calls():
            route = f"{call.method} {call.path}"
            if route in INDIFFERENT:
                continue
            looks.clear()
            real = await neighbours.ask(neighbours.bob, call, neighbours.names)
            here = list(looks)
            looks.clear()
            none = await neighbours.ask(neighbours.bob, call, neighbours.nothing)
            if (real, here) != (none, looks):
                told[f"{route} {call.body!r:.80}"] = (real, here, none, list(looks))
        assert told == {}
        named = {name for call in await neighbours.calls() for name in re.findall(r"{(\w+)}", call.path)}
        assert named <= neighbours.names.keys() | OF_THE_OPERATOR


async def test_what_is_answered_to_all_alike_is_answered_so_to_who_is_blocked(tmp_path: Path) -> None:
    async with open_neighbours(tmp_path) as neighbours:
        await block(neighbours, "ann")
        calls = {f"{call.method} {call.path}": call for call in await neighbours.calls()}
        assert calls.keys() >= INDIFFERENT
        for route in sorted(INDIFFERENT):
            blocked, welcome = [
                await neighbours.ask(person, calls[route], neighbours.names)
                for person in (neighbours.bob, neighbours.joe)
            ]
            assert blocked == welcome, route


def messages() -> list[dict[str, Any]]:
    """Return one of each message that names a stream."""
    filled = {
        "text": "hello",
        "client_txn": "t",
        "mode": "paid",
        "confirm_token": "x",
        "seconds": 300,
        "account": "joe",
    }
    return [
        {"type": kind.__struct_config__.tag}
        | {each.name: filled[each.name] for each in msgspec.structs.fields(kind) if each.name in filled}
        for kind in typing.get_args(requests.Request)
        if "stream" in kind.__struct_fields__
    ]


@pytest.mark.parametrize("who", ["ann", "bob"])
async def test_over_the_signalling_socket_a_block_is_told_from_nothing_by_no_answer(tmp_path: Path, who: str) -> None:
    async with open_neighbours(tmp_path) as neighbours:
        await block(neighbours, who)
        show: Show = neighbours.show
        async with open_socket(show.site, neighbours.bob) as socket, open_socket(show.site, neighbours.market.ann):
            assert len(messages()) > 15
            for message in messages():
                answers = []
                for names in (neighbours.names, neighbours.nothing):
                    answer = await socket.ask(**message, stream=names["stream"])
                    answers.append({name: answer[name] for name in answer.keys() - {"id", "server_now"}})
                assert answers[0] == answers[1], message
                assert answers[0]["type"] == "error"
            for names in (neighbours.names, neighbours.nothing):
                watched = await socket.ask("presence.watch", accounts=[names["account"]])
                unseen = {"account": names["account"], "online": False, "last_seen": None}
                assert watched["result"] == {"people": [unseen]}
            assert neighbours.names["stream"] not in str(socket.events)
