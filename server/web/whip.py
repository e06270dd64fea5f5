"""WHIP and WHEP: one offer in, one answer out, and a session to restart or end (RFC 9725, draft-ietf-wish-whep-04).

Choices where the documents leave one: a second publisher takes over; a viewer of a stream that nobody publishes gets
409 with Retry-After; candidates that clients trickle are taken and not used, for this ICE-lite server never sends to
an address that has not checked in by itself.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import quote

from media.door import Quality, Wish
from server.problems import Problem
from server.web.ice_servers import IceServers
from server.web.ports import MediaSession, MediaSessions
from server.web.routes import Access, Answer, Asked, Route, Serve
from server.web.schemas import LayerWish
from signalling.identifiers import Actor, StreamId

SDP = "application/sdp"
SDPFRAG = "application/trickle-ice-sdpfrag"
LAYER = "urn:ietf:params:whep:ext:core:layer"
# RFC 9110 section 8.8.3; a weak tag never matches, for If-Match compares strongly.
ENTITY_TAGS = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"(?: *, *(?:W/)?"[\x21\x23-\x7e]*")*')
STRONG_TAG = re.compile(r'(?:^|[ ,])("[\x21\x23-\x7e]*")')

REFUSALS = ("no_session", "stream_unknown", "rate_limited")
OFFERS = ("malformed_sdp", "malformed_offer", "unsupported_offer", "unsupported_media_type", "body_too_large")
WATCHING = ("no_publisher", "no_common_codec", "ticket_required", "not_entitled", "one_to_one_running", "ejected")
PATCHING = ("session_unknown", "precondition_required", "precondition_failed", "no_restart")


def whip_routes(sessions: MediaSessions, ice_servers: IceServers) -> list[Route]:
    """Return the routes of both protocols over the sessions of one node."""
    return [
        *_endpoint("whip", "Publish", partial(_open, sessions.publish, "whip", ice_servers), sessions),
        *_endpoint("whep", "Watch", partial(_open, sessions.watch, "whep", ice_servers), sessions),
        Route(
            "POST",
            "/whep/{stream}/{session}/layer",
            "Wish for a better or a lesser picture of those that are published",
            partial(_wish, sessions),
            body=LayerWish,
            status=204,
            problems=(*REFUSALS, "session_unknown"),
        ),
    ]


def _endpoint(kind: str, verb: str, post: Serve, sessions: MediaSessions) -> list[Route]:
    endpoint, session = f"/{kind}/{{stream}}", f"/{kind}/{{stream}}/{{session}}"
    offering = (*REFUSALS, *OFFERS, *(WATCHING if kind == "whep" else ("not_the_owner",)))
    # A HEAD that names the type tells a player that this address speaks WHEP; Quart answers it from the GET.
    head = Answer(headers={"Content-Type": SDP}) if kind == "whep" else Answer()
    return [
        Route(
            "POST",
            endpoint,
            f"{verb}: send an SDP offer, get the answer and a session",
            post,
            takes=SDP,
            body=str,
            gives=SDP,
            result=str,
            status=201,
            problems=offering,
        ),
        Route(
            "GET",
            endpoint,
            "Nothing: the address exists",
            partial(_say, head),
            Access.ANYONE,
            gives=SDP,
            result=str if kind == "whep" else None,
            status=200 if kind == "whep" else 204,
        ),
        Route("GET", session, "Nothing: the address exists", partial(_say, Answer()), Access.ANYONE, status=204),
        Route(
            "PATCH",
            session,
            "Trickle ICE candidates (204), or restart ICE (200)",
            partial(_patch, sessions),
            takes=SDPFRAG,
            body=str,
            gives=SDPFRAG,
            result=str,
            problems=(*REFUSALS, *PATCHING),
        ),
        Route(
            "DELETE", session, "End the session", partial(_delete, sessions), problems=(*REFUSALS, "session_unknown")
        ),
    ]


async def _open(
    open_session: Callable[[StreamId, Actor, str], Awaitable[MediaSession]],
    kind: str,
    ice_servers: IceServers,
    asked: Asked,
) -> Answer:
    stream = asked.path["stream"]
    session = await open_session(StreamId(stream), asked.actor, asked.body)
    return opened(session, f"/{kind}/{quote(stream, safe='')}", ice_servers, asked.actor)


def opened(session: MediaSession, endpoint: str, ice_servers: IceServers, actor: Actor) -> Answer:
    """Answer an offer: with the session that it opened, below an endpoint, where it is restarted and ended."""
    address = f"{endpoint}/{quote(session.session_id, safe='')}"
    headers = {
        "Location": address,
        "ETag": session.etag,
        "Accept-Patch": SDPFRAG,
        "Cache-Control": "no-store",
    }
    layer = f'<{address}/layer>; rel="{LAYER}"' if endpoint.startswith("/whep/") else ""
    if links := ", ".join(filter(None, [ice_servers.link_header(actor), layer])):
        headers["Link"] = links
    return Answer(session.answer_sdp, headers)


async def _patch(sessions: MediaSessions, asked: Asked) -> Answer:
    if_match = asked.headers.get("If-Match", "").strip()
    if not if_match:
        raise Problem("precondition_required", "If-Match must be the session's ETag, or * to restart ICE")
    if if_match != "*":
        if not ENTITY_TAGS.fullmatch(if_match):
            raise Problem("malformed_header", "If-Match must be * or entity tags in quotation marks")
        strong = STRONG_TAG.findall(if_match)
        if len(strong) != 1:
            raise Problem("precondition_failed", "If-Match must be one strong entity tag: that of the ICE session")
        if_match = strong[0]
    restarted = await sessions.restart_ice(asked.path["session"], asked.actor, if_match, asked.body)
    if restarted is None:
        return Answer(status=204)
    etag, fragment = restarted
    return Answer(fragment, {"ETag": etag, "Cache-Control": "no-store"})


async def _wish(sessions: MediaSessions, asked: Asked) -> Answer:
    wish = Wish(asked.body.encoding_id or Quality.HIGH, asked.body.max_height or 0)
    await sessions.prefer(asked.path["session"], asked.actor, wish)
    return Answer()


async def _delete(sessions: MediaSessions, asked: Asked) -> Answer:
    await sessions.close_session(asked.path["session"], asked.actor)
    return Answer()


async def _say(answer: Answer, asked: Asked) -> Answer:
    return answer
