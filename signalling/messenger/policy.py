"""Decides what may be written, changed and taken back in a conversation."""

from __future__ import annotations

from dataclasses import replace

from signalling.messenger.model import Conversation, Member, Message, Role
from signalling.refusals import Refused

EDIT_MS = 48 * 3_600_000  # a slip is seen within two days; later it would change what others have answered to
LASTING = {
    "tip",
    "call",
    "live",
    "bid",
}  # kinds of messages that stand for what happened elsewhere: nobody edits or erases them


def require_in(member: Member | None) -> Member:
    """Return a member who reads the conversation; to strangers there is none.

    Raises Refused (conversation_unknown; not_in_conversation for who was in it or is asked to come).
    """
    if member is None:
        raise Refused("conversation_unknown")
    if not member.is_in:
        raise Refused("not_in_conversation", standing=member.standing.value)
    return member


def require_leading(conversation: Conversation, member: Member | None) -> Member:
    """Return a member who decides about a group. Raises Refused (not_a_group, not_admin, and like `require_in`)."""
    member = require_in(member)
    if conversation.kind != "group":
        raise Refused("not_a_group")
    if not member.leads:
        raise Refused("not_admin")
    return member


def post(conversation: Conversation, sender: Member | None) -> Conversation:
    """Return the conversation with one message more, whose number is its head.

    Raises Refused (read_only, and like `require_in`).
    """
    sender = require_in(sender)
    if sender.role is Role.READER or (conversation.posting == "admins" and not sender.leads):
        raise Refused("read_only")
    return replace(conversation, head=conversation.head + 1)


def go_live(conversation: Conversation, member: Member | None) -> Conversation:
    """Let a member of a group who may write there take it live; returns it with the message that shows it.

    Raises Refused (not_a_group, and like `post`).
    """
    grown = post(conversation, member)
    if conversation.kind != "group":
        raise Refused("not_a_group")
    return grown


def sees(member: Member, message: Message) -> bool:
    """Whether a member reads a message at all."""
    return message.seq > member.since and (not message.withheld or message.sender == member.account)


def require_seen(member: Member, message: Message | None) -> Message:
    """Return a message that a member sees and that was not erased. Raises Refused (message_unknown, message_erased)."""
    if message is None or not sees(member, message):
        raise Refused("message_unknown")
    if message.erased:
        raise Refused("message_erased")
    return message


def edit(member: Member | None, message: Message | None, now_ms: int) -> Message:
    """Let the sender write a message anew.

    Raises Refused (message_unknown, message_erased, not_the_sender, message_fixed, edit_too_late, read_only).
    """
    member = require_in(member)
    message = require_seen(member, message)
    if message.sender != member.account:
        raise Refused("not_the_sender")
    if member.role is Role.READER:
        raise Refused("read_only")
    if message.kind in LASTING or message.forwarded:
        raise Refused("message_fixed")
    if now_ms - message.at > EDIT_MS:
        raise Refused("edit_too_late")
    return message


def erase(conversation: Conversation, member: Member | None, message: Message | None) -> Message:
    """Let the sender, or who leads the group, take a message back for all.

    Raises Refused (message_unknown, message_erased, not_the_sender, message_fixed).
    """
    member = require_in(member)
    message = require_seen(member, message)
    if message.sender != member.account and not (conversation.kind == "group" and member.leads):
        raise Refused("not_the_sender")
    if message.kind in LASTING:
        raise Refused("message_fixed")
    return message


def pin(conversation: Conversation, member: Member | None, message: Message | None) -> Message:
    """Let both of two, or who leads a group, pin a message. Raises Refused (not_admin, message_unknown, ...)."""
    member = require_in(member)
    if conversation.kind == "group" and not member.leads:
        raise Refused("not_admin")
    return require_seen(member, message)


def mark(member: Member, head: int, *, delivered: int, read: int, told: bool) -> Member:
    """Move a member's markers up to these messages; none goes back, none beyond the last message.

    What was read has arrived. Unless it is `told`, others don't learn that it was read.
    """
    seen = min(max(member.seen, read), head)
    return replace(
        member,
        seen=seen,
        read=max(member.read, min(read, head)) if told else member.read,
        delivered=max(member.delivered, min(delivered, head), min(read, head)) if told else member.delivered,
    )
