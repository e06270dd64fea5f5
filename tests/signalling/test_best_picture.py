"""The best picture as a perk: who has it in which mode, that it is cut before it is told, and what a restart knows."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from media.door import RoomRow
from media.forwarding.admission import NOTHING, Grant
from signalling.identifiers import AccountId, Mode, StreamId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.showing import Now, Stream, record, restored
from signalling.policy.state import OneToOne, RoomState
from signalling.policy.step import step
from signalling.policy.verdicts import Verdict
from signalling.refusals import Refused
from signalling.wire.views import Person
from tests.signalling.worlds import Disk, actor, open_world

OWNER, ANN, BOB = AccountId("owner"), AccountId("ann"), AccountId("bob")
NOW = 10**12
FOLLOWS, OUT = Verdict(via="follows"), Verdict()


def reserved(**values: object) -> RoomState:
    """A room with two who watch: Ann follows the streamer, Bob does not."""
    state = RoomState(OWNER, best_picture="entitled", **values)  # type: ignore[arg-type]
    for account, verdict in ((ANN, FOLLOWS), (BOB, OUT)):
        state, _ = step(state, account, c.Join(verdict), NOW)
    return state


def have_it(state: RoomState, now_ns: int = NOW) -> set[AccountId]:
    return {account for account in (OWNER, ANN, BOB) if state.gives_best(account, now_ns)}


def test_while_public_only_the_entitled_have_it_and_all_others_go_on_watching() -> None:
    state = replace(reserved(), best_picture="everyone")
    assert have_it(state) == {OWNER, ANN, BOB}
    after, events = step(state, OWNER, c.SetBestPicture("entitled"), NOW)
    assert events == [e.BestPictureSet("entitled", state.epoch + 1)]
    assert have_it(after) == {OWNER, ANN}
    assert after.admits(BOB, NOW)
    assert step(after, OWNER, c.SetBestPicture("entitled"), NOW) == (after, [])
    with pytest.raises(Refused, match="not_the_owner"):
        step(after, BOB, c.SetBestPicture("everyone"), NOW)
    opened, _ = step(after, OWNER, c.SetBestPicture("everyone"), NOW)
    assert have_it(opened) == {OWNER, ANN, BOB}


@pytest.mark.parametrize("mode", [Mode.PAID, Mode.PRIVATE, Mode.ONE_TO_ONE])
def test_who_paid_or_was_chosen_has_it_whatever_is_reserved(mode: Mode) -> None:
    state = replace(reserved(), mode=mode, tickets=frozenset({BOB}), entitled=frozenset({BOB}))
    if mode is Mode.ONE_TO_ONE:
        state = replace(state, one_to_one=OneToOne(BOB, Mode.PUBLIC, 300, 300, 60, NOW + 100))
    assert state.best_requires == NOTHING
    assert state.gives_best(BOB, NOW)
    assert all(state.gives_best(account, NOW) == state.admits(account, NOW) for account in (OWNER, ANN, BOB))


def test_who_comes_to_be_entitled_while_watching_gets_it_and_is_told_and_who_stops_loses_it() -> None:
    state = reserved()
    for given, account, has in (
        (c.Judged(((BOB, FOLLOWS),)), BOB, True),
        (c.Judged(((ANN, OUT), (BOB, FOLLOWS))), ANN, False),
        (c.Entitle(ANN), ANN, True),
        (c.Disentitle(ANN), ANN, False),
    ):
        after, events = step(state, None if isinstance(given, c.Judged) else OWNER, given, NOW)
        assert events == [e.BestPictureJudged(account, has, state.epoch + 1)]
        assert after.gives_best(account, NOW) is has
        state = after
    assert have_it(state) == {OWNER, BOB}


def test_a_switch_to_tickets_gives_it_to_who_holds_one() -> None:
    state = replace(reserved(), tickets=frozenset({BOB}))
    state, _ = step(state, OWNER, c.PrepareMode(Mode.PAID, "token"), NOW)
    after, events = step(state, OWNER, c.ConfirmMode("token"), NOW)
    assert e.BestPictureJudged(BOB, True, after.epoch) in events
    assert have_it(after) == {OWNER, BOB}


def test_a_subscription_that_lapses_takes_it_by_itself_and_is_told_when_it_is_judged() -> None:
    state = reserved().supposing(ANN, Verdict(via="sub_tier", via_until_ns=NOW + 5))
    assert [state.gives_best(ANN, NOW + later) for later in (4, 5)] == [True, False]
    assert state.admits(ANN, NOW + 5)
    after, events = step(state, None, c.Judged(((ANN, OUT),)), NOW + 9)
    assert events == [e.BestPictureJudged(ANN, False, state.epoch + 1)]
    assert step(after, None, c.Judged(((ANN, OUT),)), NOW + 10) == (after, [])


def test_a_proof_that_lapses_after_a_subscription_takes_nothing_from_it_before() -> None:
    verdict = Verdict(via="sub_tier", via_until_ns=NOW + 3, welcome_until_ns=NOW + 5)
    state = reserved().supposing(ANN, verdict)
    assert state.gives_best(ANN, NOW + 2)
    after, events = step(state, None, c.Judged(((ANN, Verdict(welcome_until_ns=NOW + 5)),)), NOW + 3)
    assert events == [e.BestPictureJudged(ANN, False, state.epoch + 1)]
    assert [after.admits(ANN, NOW + later) for later in (4, 5)] == [True, False]


def test_of_what_a_record_says_only_everyone_means_everyone() -> None:
    now = Now(NOW, 1)
    stream = Stream(StreamId("s"), 1, Person(OWNER, "owner"), "video", 1)
    written = record(stream, RoomState(OWNER, best_picture="entitled"), now)
    for said, kept in (("everyone", "everyone"), ("entitled", "entitled"), ("subscribers", "entitled")):
        again = msgspec.structs.replace(written, best_picture=said)
        assert restored(again, now, NOW + 1)[1].best_picture == kept
    assert written.best_picture == "entitled"


async def test_whoever_loses_it_gets_no_more_of_it_when_the_streamer_is_answered_and_is_told_then() -> None:
    async with open_world() as world:
        owner, ann, bob = actor("owner"), actor("ann"), actor("bob")
        stream = await world.create(owner)
        await world.publish(stream, owner)
        clients = {who.account: await world.client(who, stream) for who in (owner, ann, bob)}
        await world.rooms.command(stream, owner, c.Entitle(ann.account))
        watching = {who.account: await world.watch(stream, who) for who in (ann, bob)}

        def gives_best() -> set[AccountId]:
            transports = {account: world.transports[session.session_id] for account, session in watching.items()}
            return {account for account, of in transports.items() if world.media.gives_best(of, world.now_ns)}

        assert gives_best() == {ANN, BOB}
        await world.rooms.command(stream, owner, c.SetBestPicture("entitled"))
        assert gives_best() == {ANN}
        told = {account: client.last("stream.best_picture") for account, client in clients.items()}
        assert {account for account, event in told.items() if event["yours"]} == {OWNER, ANN}
        assert {event["best_picture"] for event in told.values()} == {"entitled"}
        late = await world.client(actor("cat"), stream)
        state = late.last("stream.state")
        assert (state["card"]["best_picture"], state["you"]["best_picture"]) == ("entitled", False)
        await world.rooms.command(stream, owner, c.Entitle(bob.account))
        assert gives_best() == {ANN, BOB}
        assert clients[BOB].last("stream.best_picture")["yours"]


async def test_who_is_shut_out_of_it_is_written_before_it_is_done_and_a_restart_knows_it() -> None:
    owner = actor("owner")
    async with open_world() as world:
        stream = await world.create(owner)
        reserve, written = world.media.reserve_best, []

        def looked_at(room: RoomRow, grant: Grant) -> None:
            written.append(world.disk.records[stream].best_picture)
            reserve(room, grant)

        world.media.reserve_best = looked_at  # type: ignore[method-assign]
        await world.rooms.command(stream, owner, c.SetBestPicture("entitled"))
        assert set(written) == {"entitled"}
        records = dict(world.disk.records)
        world.disk.fails = lambda: True
        await world.rooms.command(stream, owner, c.SetBestPicture("everyone"))
        await world.rooms.command(stream, owner, c.SetBestPicture("entitled"))  # a full disk holds no door open
        assert world.room(stream).state.best_picture == "entitled"
    async with open_world(Disk(records)) as world:
        assert world.media.best_requires[world.room(stream).row] == Grant.ENTITLED


async def test_it_is_reserved_before_a_stream_opens_to_all_and_for_everyone_only_when_that_is_done() -> None:
    async with open_world() as world:
        owner, ann, bob = actor("owner"), actor("ann"), actor("bob")
        stream = await world.create(owner, Mode.PAID)
        await world.rooms.command(stream, owner, c.SetBestPicture("entitled"))
        await world.rooms.command(stream, owner, c.GrantTicket(ann.account))
        await world.publish(stream, owner)
        anns = world.transports[(await world.watch(stream, ann)).session_id]
        row, require = world.room(stream).row, world.media.require
        assert world.media.gives_best(anns, world.now_ns)
        seen: list[tuple[bool, Grant]] = []

        def looked_at(room: RoomRow, requires: Grant) -> None:
            require(room, requires)
            seen.append((Grant.TICKET in requires, world.media.best_requires[room]))

        world.media.require = looked_at  # type: ignore[method-assign]
        await world.switch(stream, owner, Mode.PUBLIC)
        assert {best for shut, best in seen if not shut} == {Grant.ENTITLED}
        bobs = world.transports[(await world.watch(stream, bob)).session_id]
        assert not world.media.gives_best(bobs, world.now_ns)
        seen.clear()
        await world.switch(stream, owner, Mode.PAID)
        assert {best for _, best in seen} == {Grant.ENTITLED}, "until nobody is there any more who must not have it"
        assert world.media.best_requires[row] == NOTHING
        await world.switch(stream, owner, Mode.PUBLIC)
        await world.rooms.command(stream, owner, c.SetBestPicture("everyone"))
        assert world.media.best_requires[row] == NOTHING
