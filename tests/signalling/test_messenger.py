"""The messenger's rules as a whole: whatever is done in whatever order, groups are led and markers never go back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signalling.identifiers import AccountId
from signalling.messenger import membership, policy, wording
from signalling.messenger.model import Conversation, ConversationId, Member, Role, Standing
from signalling.messenger.quotas import DAY_MS, Quotas, day_ends_in_ms, day_of
from signalling.refusals import Refused

NAMES = [AccountId(name) for name in ("ann", "bob", "eve", "joe")]
Deed = tuple[str, str, str, str]
DEEDS = st.tuples(
    st.sampled_from(["invite", "join", "leave", "remove", "ban", "pardon", "role", "succeed"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from(list(Role)),
)


class Group:
    """A group in memory, as the store keeps one."""

    def __init__(self, joining: str) -> None:
        self.conversation = Conversation(ConversationId("c"), "group", members=1, joining=joining)  # type: ignore[arg-type]
        self.members = {NAMES[0]: Member(NAMES[0], Role.OWNER)}
        self.now = 0

    def inside(self) -> list[Member]:
        return [member for member in self.members.values() if member.is_in]

    def do(self, deed: Deed) -> None:
        self.now += 1
        kind, who, whom, role = deed
        actor, target = self.members.get(AccountId(who)), self.members.get(AccountId(whom))
        changed = self._decide(kind, actor, target, AccountId(who), AccountId(whom), Role(role))
        self.members |= {member.account: member for member in changed}
        self.conversation = replace(self.conversation, members=len(self.inside()), head=self.conversation.head + 1)

    def _decide(
        self, kind: str, actor: Member | None, target: Member | None, who: AccountId, whom: AccountId, role: Role
    ) -> list[Member]:
        group = self.conversation
        match kind:
            case "invite":
                return [membership.invite(group, actor, target, whom, self.now)]
            case "join":
                return [membership.join(group, actor, who, self.now)]
            case "leave":
                return membership.leave(group, actor, self.members.values())
            case "remove" | "ban":
                return [membership.remove(group, actor, target, ban=kind == "ban")]
            case "pardon":
                return [membership.pardon(group, actor, target)]
            case "succeed":
                owner = actor is not None and actor.is_in and actor.role is Role.OWNER
                return membership.succeed(actor, self.members.values()) if owner and actor is not None else []
            case _:
                return membership.give_role(group, actor, target, role)


@example("open", [("leave", "ann", "ann", Role.OWNER), ("join", "ann", "ann", Role.OWNER)])
@given(st.sampled_from(["invited", "asked", "open"]), st.lists(DEEDS, max_size=60))
def test_a_group_has_one_owner_whatever_happens_and_nobody_is_led_by_who_is_below(
    joining: str, deeds: list[Deed]
) -> None:
    group = Group(joining)
    for deed in deeds:
        before = dict(group.members)
        try:
            group.do(deed)
        except Refused:
            assert group.members == before
            continue
        owners = [member for member in group.inside() if member.role is Role.OWNER]
        assert len(owners) == min(1, len(group.inside()))
        assert all(member.role in (Role.MEMBER, Role.READER) for member in group.members.values() if not member.is_in)
        changed = {name for name, member in group.members.items() if before.get(name) != member}
        kind, actor, *_ = deed
        led = {name for name in changed if name != actor and before.get(AccountId(name)) is not None}
        if led and kind in ("remove", "ban", "role", "pardon"):
            assert before[AccountId(actor)].leads


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=30))
def test_markers_never_go_back_nor_beyond_the_end_and_what_was_read_has_arrived(
    marks: list[tuple[int, int, bool]],
) -> None:
    member, head = Member(NAMES[0]), 20
    for delivered, read, told in marks:
        moved = policy.mark(member, head, delivered=delivered, read=read, told=told)
        assert member.delivered <= moved.delivered <= head
        assert member.read <= moved.read <= moved.delivered
        assert max(member.seen, moved.read) <= moved.seen <= head
        if not told:
            assert (moved.delivered, moved.read) == (member.delivered, member.read)
        member = moved


@given(st.text(max_size=5000))
def test_any_text_is_taken_in_one_form_or_refused(text: str) -> None:
    try:
        taken = wording.text_untrusted(text)
    except Refused:
        return
    assert taken == taken.strip() != ""
    assert len(taken) <= wording.MAX_TEXT
    assert wording.text_untrusted(taken) == taken
    assert len(wording.mentions_in(taken)) <= wording.MAX_MENTIONS
    taken.encode()


@pytest.mark.parametrize("reaction", ["👍", "❤️", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇪🇺", "1️⃣"])
def test_an_emoji_is_a_reaction_however_it_is_put_together(reaction: str) -> None:
    assert wording.reaction_untrusted(reaction)


@pytest.mark.parametrize("reaction", ["", "a", "👍x", "ok", "12", "👍" * 17, "\u202e", " ", "\ud83d"])
def test_anything_else_is_none(reaction: str) -> None:
    with pytest.raises(Refused, match="invalid_reaction"):
        wording.reaction_untrusted(reaction)


@pytest.mark.parametrize("title", ["", " ", "x" * 101, "a\nb", "a\u202eb", "\ud800"])
def test_a_title_is_one_line_that_can_be_seen(title: str) -> None:
    with pytest.raises(Refused, match="invalid_title"):
        wording.title_untrusted(title)


@pytest.mark.parametrize("text", ["a\x00b", "\ud83d", "\x1b[31m", " \n ", "x" * 4001])
def test_what_no_message_may_hold_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        wording.text_untrusted(text)


def test_right_to_left_and_wide_characters_are_written_as_they_are() -> None:
    for text in ("שלום עולם", "مرحبا", "👨‍👩‍👧‍👦 ok", "a\nb\tc"):
        assert wording.text_untrusted(text) == text


def test_names_are_mentioned_at_the_beginnings_of_words() -> None:
    assert wording.mentions_in("@ann, mail@bob.org (@eve) @joe. @ann") == ("ann", "eve", "joe")
    assert len(wording.mentions_in(" ".join(f"@n{number}" for number in range(50)))) == wording.MAX_MENTIONS


def test_days_begin_at_midnight_utc() -> None:
    assert (day_of(DAY_MS - 1), day_of(DAY_MS), day_ends_in_ms(DAY_MS - 1)) == (0, 1, 1)
    assert Quotas().limit(5) is None


def test_who_was_there_before_is_no_stranger() -> None:
    with pytest.raises(Refused, match="not_in_conversation"):
        policy.require_in(Member(NAMES[0], standing=Standing.OUT))
    with pytest.raises(Refused, match="conversation_unknown"):
        policy.require_in(None)
