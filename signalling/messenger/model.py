"""What conversations are made of: the conversation, who belongs to it in which role, and what was written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NewType

from signalling.identifiers import AccountId

ConversationId = NewType("ConversationId", str)
Kind = Literal["direct", "group"]
History = Literal["all", "joined"]  # what newcomers read: everything, or what is written from then on
Joining = Literal["invited", "asked", "open"]  # who comes in: invited people, whoever is let in who asked, everybody
Posting = Literal["members", "admins"]
MAX_MEMBERS = 1000  # of a group; what is written is one row for all of them, but each is told
DIRECT_MEMBERS = 2


class Role(StrEnum):
    """What a member may do: each may do all that the next one may."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    READER = "reader"


class Standing(StrEnum):
    """How somebody stands to a conversation. Only those who are `in` read and write."""

    IN = "in"
    INVITED = "invited"
    ASKED = "asked"
    OUT = "out"
    BANNED = "banned"


RANK = {Role.OWNER: 3, Role.ADMIN: 2, Role.MEMBER: 1, Role.READER: 0}


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation. Messages are numbered from 1; `head` is the last number, `members` how many are in it.

    What is older than `keep_s` is gone; None keeps everything.
    """

    id: ConversationId
    kind: Kind
    title: str = ""
    head: int = 0
    members: int = 0
    history: History = "joined"
    joining: Joining = "invited"
    posting: Posting = "members"
    keep_s: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """How one account stands to a conversation.

    It reads messages above `since`. The markers are numbers of messages: what arrived at one of its devices, what it
    says it has read, and what it has read whether it says so or not. `seated` orders members by how long they are in;
    `drafting` says that something was begun to be written.
    """

    account: AccountId
    role: Role = Role.MEMBER
    standing: Standing = Standing.IN
    since: int = 0
    seated: int = 0
    delivered: int = 0
    read: int = 0
    seen: int = 0
    drafting: bool = False

    @property
    def is_in(self) -> bool:
        """Whether it reads and, as its role allows, writes."""
        return self.standing is Standing.IN

    @property
    def leads(self) -> bool:
        """Whether it decides about others and about the conversation."""
        return self.is_in and self.role in (Role.OWNER, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as far as what may be done to it depends on it; times are epoch ms.

    A withheld one was written to somebody who had blocked its sender: it is there for the sender alone, for ever.
    """

    seq: int
    sender: AccountId
    kind: str
    at: int
    erased: bool = False
    forwarded: bool = False
    withheld: bool = False
