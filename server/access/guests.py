"""What streamers and guests do with invitations: each change is written, the room knows, then it is done."""

from __future__ import annotations

from server.access import invites
from server.access.invites import Invitation, Redeemed, Use
from server.access.service import Access
from server.database.store import Database
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.wire.events import InviteRequested


class Guests:
    """Invitations on a node's store; raises Refused and StoreFailed."""

    def __init__(self, store: Database, clock: Clock, access: Access, rooms: Rooms) -> None:
        self._store, self._clock, self._access, self._rooms = store, clock, access, rooms

    async def invite(
        self, actor: Actor, stream: StreamId, *, expires_s: int, max_uses: int, needs_approval: bool
    ) -> tuple[Invitation, str]:
        """Make an invitation to a stream of the actor's; returns it and what it says."""
        self._require_owner(actor, stream)
        now = self._clock.wall_ms()
        return await self._store.write(
            lambda connection: invites.create(
                connection,
                stream,
                max_uses=max_uses,
                needs_approval=needs_approval,
                now=now,
                expires_at=now + expires_s * 1000,
            )
        )

    async def invites(self, actor: Actor, stream: StreamId) -> list[Invitation]:
        """Return all invitations to a stream of the actor's."""
        self._require_owner(actor, stream)
        return await self._store.read(invites.list_of, stream)

    async def uses(self, actor: Actor, invite: str, after: str, limit: int) -> list[Use]:
        """Return who used an invitation of the actor's."""
        await self._own(actor, invite)
        return await self._store.read(invites.uses, invite, after, limit)

    async def redeem(self, actor: Actor, code: str) -> Redeemed:
        """Use an invitation. Raises Refused("invite_unknown")."""
        redeemed = await self._store.write(invites.redeem, actor.account, code, self._clock.wall_ms())
        if redeemed.state == "granted":
            await self._access.changed_between(actor.account, redeemed.owner)
        else:
            asked = InviteRequested(
                server_now=self._clock.wall_ms(),
                stream=redeemed.stream,
                invite=redeemed.invite,
                account=actor.account,
                name=actor.name,
            )
            self._rooms.tell(redeemed.owner, asked)
        return redeemed

    async def decide(self, actor: Actor, invite: str, account: AccountId, approved: bool) -> None:
        """Let someone in who waits for approval, or not. Raises Refused (invite_unknown, request_unknown)."""
        owner = await self._own(actor, invite)
        await self._store.write(invites.decide, invite, account, approved, self._clock.wall_ms())
        await self._access.changed_between(account, owner)

    async def revoke(self, actor: Actor, invite: str, eject: bool) -> None:
        """Let nobody new in; with `eject`, those whom it let in go, too. Raises Refused("invite_unknown")."""
        owner = await self._own(actor, invite)
        gone = await self._store.write(invites.revoke, invite, eject, self._clock.wall_ms())
        await self._access.changed_for_many(gone, owner)

    async def _own(self, actor: Actor, invite: str) -> AccountId:
        """Return the streamer of an invitation; one of someone else's is as unknown as none."""
        stream = await self._store.read(invites.stream_of, invite)
        try:
            return self._require_owner(actor, stream)
        except Refused:
            raise Refused("invite_unknown") from None

    def _require_owner(self, actor: Actor, stream: StreamId) -> AccountId:
        owner = self._rooms.stream(stream, actor).card.streamer.id
        if actor.account != owner and not actor.admin:
            raise Refused("not_the_owner")
        return owner
