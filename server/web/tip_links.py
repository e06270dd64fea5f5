"""The API of tip links: to make and count them, to see where one leads, and to show it as a picture."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated

import msgspec
import segno
from msgspec import Meta

from media.io.networks import is_loopback
from server.database.store import Database
from server.money import tip_links
from server.money.amounts import WireAmount, read_amount_untrusted, wire_amount
from server.money.assets import Assets
from server.money.tip_links import LinkStats, NewLink, TipLink
from server.money.tips import tidy_message_untrusted
from server.web import schemas as s
from server.web.api import ROOT
from server.web.money import AMOUNT
from server.web.routes import Access, Answer, Asked, Route
from signalling.refusals import Refused

MAX_EXPIRES_S = 10 * 366 * 86_400
SVG = "image/svg+xml"
MODULE_PX = 6  # of a square of the picture: some 200 pixels in all, which phones read from a screen
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:[0-9]{1,5})?")


class NewTipLink(s.Taken, frozen=True):
    """A link to make: an amount to suggest, a note for who follows it, and for how many seconds it leads somewhere."""

    suggested: WireAmount | None = None
    note: Annotated[str, Meta(max_length=2000)] = ""
    expires_s: Annotated[int, Meta(ge=60, le=MAX_EXPIRES_S)] | None = None


class TipLinkView(msgspec.Struct, frozen=True):
    """Where a link leads: to whose profile, with which suggestion. To follow it costs nothing; a tip is a request."""

    code: str
    to: str
    suggested: WireAmount | None
    note: str
    expires_at: int | None


class LinkList(msgspec.Struct, frozen=True):
    """All links of mine that lead somewhere, the newest first."""

    links: tuple[LinkStats, ...]


def tip_link_routes(store: Database, assets: Assets, wall_ms: Callable[[], int]) -> list[Route]:
    """Return the routes of tip links."""

    async def create(asked: Asked) -> Answer:
        new: NewTipLink = asked.body
        suggested = None if new.suggested is None else read_amount_untrusted(new.suggested, assets)
        now_ms = wall_ms()
        expires_at = None if new.expires_s is None else now_ms + new.expires_s * 1000
        wish = NewLink(asked.actor.account, suggested, tidy_message_untrusted(new.note), expires_at)
        made = await store.write(tip_links.create, wish, now_ms)
        return Answer(_view(made), {"Location": f"{ROOT}/tip_links/{made.code}"})

    async def listed(asked: Asked) -> Answer:
        return Answer(LinkList(tuple(await store.read(tip_links.listed, asked.actor.account, wall_ms()))))

    async def show(asked: Asked) -> Answer:
        return Answer(_view(await store.read(tip_links.find, asked.path["code"], wall_ms())))

    async def draw(asked: Asked) -> Answer:
        found = await store.read(tip_links.find, asked.path["code"], wall_ms())
        return Answer(qr_svg(f"{_base(asked.headers.get('Host', ''))}/t/{found.code}"))

    async def visit(asked: Asked) -> Answer:
        await store.write(tip_links.visit, asked.path["code"], asked.actor.account, wall_ms())
        return Answer()

    async def revoke(asked: Asked) -> Answer:
        await store.write(tip_links.revoke, asked.path["code"], asked.actor.account, wall_ms())
        return Answer()

    every, one = f"{ROOT}/tip_links", f"{ROOT}/tip_links/{{code}}"
    making = ("no_session", *AMOUNT, "invalid_message", "too_many_tip_links", "invalid_request", "not_stored")
    knowing = ("tip_link_unknown", "rate_limited")
    using = ("no_session", *knowing, "not_stored")
    public = partial(Route, "GET", access=Access.ANYONE, guessable=True, problems=knowing)
    return [
        Route(
            "POST", every, "Make a tip link", create, body=NewTipLink, result=TipLinkView, status=201, problems=making
        ),
        Route("GET", every, "My tip links, and what came by them", listed, result=LinkList, problems=("no_session",)),
        public(one, "Where a tip link leads", show, result=TipLinkView),
        public(f"{one}/qr.svg", "A tip link as a QR code", draw, gives=SVG, result=str),
        Route(
            "POST",
            f"{one}/visits",
            "Say that I followed a tip link; once is counted",
            visit,
            status=204,
            guessable=True,
            problems=using,
        ),
        Route("DELETE", one, "Let a tip link of mine lead nowhere", revoke, status=204, problems=using),
    ]


def qr_svg(address: str) -> bytes:
    """Return an address as a QR code (ISO/IEC 18004), in SVG: black on white with its quiet zone."""
    picture = io.BytesIO()
    segno.make_qr(address, error="m").save(picture, kind="svg", scale=MODULE_PX, light="white")
    return picture.getvalue()


def _base(host: str) -> str:
    """Return the address of this server as the asker knows it; raises Refused for a host that is none."""
    if HOST.fullmatch(host) is None:
        raise Refused("tip_link_unknown")
    name = re.sub(r":[0-9]+$", "", host).strip("[]")
    return f"{'http' if name == 'localhost' or is_loopback(name) else 'https'}://{host}"


def _view(link: TipLink) -> TipLinkView:
    suggested = None if link.suggested is None else wire_amount(link.suggested)
    return TipLinkView(link.code, link.to, suggested, link.note, link.expires_at)
