"""The chat of one stream: numbers what is said, says nothing twice, and keeps the last messages for who joins."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from unicodedata import category, normalize

from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused
from signalling.wire.events import ChatMessage, Circle
from signalling.wire.views import ChatAccepted, Person

MAX_LENGTH = 500  # characters: what fits beside a picture
ALLOWED_CONTROLS = {"\n"}  # what a person may mean
HISTORY = 50  # what someone who joins can read at a glance
REMEMBERED = 4096  # answers kept for repeated requests; a lost connection is back sooner than so many messages pass
MESSAGES_PER_S = 5.0  # faster than anyone types
BURST = 20.0
SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class _Allowance:
    """How many messages an account may send at once, as of `at_ns`."""

    left: float
    at_ns: int


class Chat:
    """One stream's chat. `main` is for everyone who may watch; the two of a one-to-one have a circle of their own."""

    def __init__(self, stream: StreamId, history: Iterable[ChatMessage] = ()) -> None:
        self._stream = stream
        self._history: deque[ChatMessage] = deque(history, maxlen=HISTORY)
        self._seq: dict[Circle, int] = {"main": max((message.seq for message in self._history), default=0)}
        self._said: OrderedDict[tuple[AccountId, str], ChatAccepted] = OrderedDict()
        self._allowances: OrderedDict[AccountId, _Allowance] = OrderedDict()

    @property
    def history(self) -> tuple[ChatMessage, ...]:
        """The last messages of the main circle, oldest first."""
        return tuple(self._history)

    def say(
        self, sender: Person, circle: Circle, text: str, client_txn: str, *, now_ns: int, wall_ms: int
    ) -> tuple[ChatAccepted, ChatMessage | None]:
        """Give a message its number; None instead of it when it was said before.

        Raises Refused: invalid_message, chat_too_fast.
        """
        known = self._said.get((sender.id, client_txn))
        if known is not None:
            return known, None
        text = tidy_untrusted(text)
        self._spend(sender.id, now_ns)
        seq = self._seq[circle] = self._seq.get(circle, 0) + 1
        message = ChatMessage(
            server_now=wall_ms, stream=self._stream, seq=seq, circle=circle, sender=sender, text=text, at=wall_ms
        )
        if circle == "main":
            self._history.append(message)
        accepted = self._said[sender.id, client_txn] = ChatAccepted(seq, wall_ms)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return accepted, message

    def forget_circle(self) -> None:
        """Begin the circle of the two anew: the next one-to-one has no past."""
        self._seq.pop("one_to_one", None)

    def _spend(self, account: AccountId, now_ns: int) -> None:
        allowance = self._allowances.pop(account, None) or _Allowance(BURST, now_ns)
        earned = (now_ns - allowance.at_ns) / SECOND_NS * MESSAGES_PER_S
        allowance.left, allowance.at_ns = min(BURST, allowance.left + earned), now_ns
        self._allowances[account] = allowance
        if len(self._allowances) > REMEMBERED:
            self._allowances.popitem(last=False)
        if allowance.left < 1:
            wait_ms = int((1 - allowance.left) / MESSAGES_PER_S * 1000) + 1
            raise Refused("chat_too_fast", retry_after_ms=wait_ms)
        allowance.left -= 1


def tidy_untrusted(text: str) -> str:
    """Return a message in one Unicode form, trimmed; raises Refused("invalid_message")."""
    text = normalize("NFC", text).strip()
    if not text:
        raise Refused("invalid_message", "it is empty")
    if len(text) > MAX_LENGTH:
        raise Refused("invalid_message", f"at most {MAX_LENGTH} characters", max_length=MAX_LENGTH)
    # Cc: control characters; Cs: halves of surrogate pairs, which no UTF-8 can carry.
    if any(category(character) in ("Cc", "Cs") and character not in ALLOWED_CONTROLS for character in text):
        raise Refused("invalid_message", "it contains control characters")
    return text
