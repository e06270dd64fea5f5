"""The API of what people prove about themselves (know your fan)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.access.claims import MAX_TOKEN
from server.access.proofs import Proofs
from server.access.rules import KyfClause
from server.web import schemas as s
from server.web.api import ROOT
from server.web.routes import Answer, Asked, Route


class SignedClaim(s.Taken, frozen=True):
    """A claim that an issuer has signed, as a JSON Web Token."""

    token: Annotated[str, Meta(min_length=1, max_length=MAX_TOKEN)]


class NonceView(msgspec.Struct, frozen=True):
    """What the next claim for this account must hold."""

    nonce: str
    expires_at: int


class ProofView(msgspec.Struct, frozen=True):
    """What an issuer vouches for; `age_over` is 0 when it says nothing of the age."""

    issuer: str
    age_over: int
    verified: bool
    region: str | None
    verified_at: int
    expires_at: int


class ProofList(msgspec.Struct, frozen=True):
    """All that is known of an account."""

    proofs: tuple[ProofView, ...]


class RequirementView(msgspec.Struct, frozen=True):
    """What everybody must have proven here; a stream may ask for more, in its rules."""

    everywhere: tuple[KyfClause, ...]


def kyf_routes(proofs: Proofs, everywhere: tuple[KyfClause, ...]) -> list[Route]:
    """Return the routes of proofs; `everywhere` is what the node demands."""

    async def nonce(asked: Asked) -> Answer:
        return Answer(NonceView(*await proofs.nonce(asked.actor)))

    async def prove(asked: Asked) -> Answer:
        return Answer(ProofView(*await proofs.prove(asked.actor, asked.body.token)))

    async def mine(asked: Asked) -> Answer:
        return Answer(ProofList(tuple(ProofView(*proof) for proof in await proofs.of(asked.actor))))

    async def requirements(asked: Asked) -> Answer:
        return Answer(RequirementView(everywhere))

    claims = f"{ROOT}/kyf/claims"
    taken = ("no_session", "claim_invalid", "proof_replayed", "subject_taken", "invalid_request", "rate_limited")

    def route(method: str, path: str, summary: str, serve: Any, **more: Any) -> Route:
        return Route(method, path, summary, serve, **{"problems": ("no_session", "rate_limited"), **more})

    return [
        route("POST", f"{ROOT}/kyf/nonces", "Ask for what a claim must hold", nonce, result=NonceView, status=201),
        route("GET", claims, "What is known of me", mine, result=ProofList),
        route("GET", f"{ROOT}/kyf/requirements", "What everybody must prove", requirements, result=RequirementView),
        route(
            "POST",
            claims,
            "Prove something by a signed claim",
            prove,
            body=SignedClaim,
            result=ProofView,
            guessable=True,
            problems=taken,
        ),
    ]
