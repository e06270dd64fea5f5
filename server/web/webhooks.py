"""The API of outgoing webhooks: how they stand, for administrators."""

from __future__ import annotations

from typing import Protocol

import msgspec

from server.web.api import ROOT
from server.web.routes import Access, Answer, Asked, Route
from server.webhooks.teller import WebhookState


class Teller(Protocol):
    """What these routes need of `server.webhooks.teller`."""

    async def states(self) -> list[WebhookState]:
        """Return how all webhooks stand."""

    async def enable(self, name: str) -> WebhookState:
        """Have one tried at once."""


class Webhooks(msgspec.Struct, frozen=True):
    """The webhooks of the configuration."""

    webhooks: list[WebhookState]


def webhook_routes(teller: Teller) -> list[Route]:
    """Return the routes of outgoing webhooks."""

    async def show(asked: Asked) -> Answer:
        return Answer(Webhooks(await teller.states()))

    async def enable(asked: Asked) -> Answer:
        return Answer(await teller.enable(asked.path["webhook"]))

    return [
        Route(
            "GET",
            f"{ROOT}/admin/webhooks",
            "How the webhooks stand that are told what happens",
            show,
            Access.ADMIN,
            result=Webhooks,
            problems=("not_stored",),
        ),
        Route(
            "POST",
            f"{ROOT}/admin/webhooks/{{webhook}}/enable",
            "Tell a webhook again that was disabled or waits, from where it stopped",
            enable,
            Access.ADMIN,
            result=WebhookState,
            problems=("webhook_unknown", "not_stored"),
        ),
    ]
