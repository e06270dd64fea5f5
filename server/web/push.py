"""The API of Web Push: what one is told of, and on which devices."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.push.desk import PushDesk
from server.push.devices import MAX_ENDPOINT, Device
from server.push.notices import Kinds
from server.web import schemas as s
from server.web.api import ROOT
from server.web.routes import Answer, Asked, Route

OWN = f"{ROOT}/me/push"
KeyText = Annotated[str, Meta(min_length=1, max_length=128)]


class SubscriptionKeys(s.Taken, frozen=True):
    """A browser's keys, in base64url (RFC 8291)."""

    p256dh: KeyText
    auth: KeyText


class PushSubscription(s.Taken, frozen=True, rename={"expiration_time": "expirationTime"}):
    """A subscription as the browser's `PushSubscription.toJSON()` gives it; its end is told by its service."""

    endpoint: Annotated[str, Meta(min_length=1, max_length=MAX_ENDPOINT)]
    keys: SubscriptionKeys
    expiration_time: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None


class PushView(msgspec.Struct, frozen=True):
    """What I am told of, on which devices, and the key that browsers subscribe with (VAPID, base64url)."""

    public_key: str
    kinds: Kinds
    devices: tuple[Device, ...]


def push_routes(desk: PushDesk) -> list[Route]:
    """Return the routes of Web Push."""

    async def show(asked: Asked) -> Answer:
        kinds, found = await desk.show(asked.actor.account)
        return Answer(PushView(desk.public_key, kinds, tuple(found)))

    async def set_kinds(asked: Asked) -> Answer:
        await desk.set_kinds(asked.actor.account, asked.body)
        return Answer(asked.body)

    async def place(asked: Asked) -> Answer:
        given: PushSubscription = asked.body
        return Answer(await desk.place(asked.actor.account, given.endpoint, given.keys.p256dh, given.keys.auth))

    async def remove(asked: Asked) -> Answer:
        await desk.remove(asked.actor.account, asked.path["device"])
        return Answer()

    stored = ("no_session", "not_stored")
    return [
        Route("GET", OWN, "What I am told of, and where", show, result=PushView, problems=stored),
        Route(
            "PUT",
            f"{OWN}/kinds",
            "Say what I want to be told of",
            set_kinds,
            body=Kinds,
            result=Kinds,
            problems=stored,
        ),
        Route(
            "POST",
            f"{OWN}/devices",
            "Tell this device, too",
            place,
            body=PushSubscription,
            result=Device,
            status=201,
            problems=(*stored, "invalid_push_subscription"),
        ),
        Route(
            "DELETE",
            f"{OWN}/devices/{{device}}",
            "Tell a device no more",
            remove,
            status=204,
            problems=(*stored, "push_device_unknown"),
        ),
    ]
