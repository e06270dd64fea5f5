"""Every way a request can be refused: a stable code, a title for people, and its HTTP status."""

from __future__ import annotations

TITLES: dict[str, tuple[int, str]] = {
    "not_the_owner": (403, "Only the streamer may do this"),
    "stream_ended": (410, "The stream has ended"),
    "ticket_required": (403, "This stream is for ticket holders"),
    "not_entitled": (403, "This stream is for people its streamer chose"),
    "one_to_one_running": (403, "The streamer is in a one-to-one"),
    "ejected": (403, "The streamer has removed you"),
    "invalid_mode": (422, "There is no such mode to switch to"),
    "room_changed": (409, "The stream changed since you prepared this"),
    "audience_empty": (409, "Nobody would be left watching"),
    "mode_conflict": (409, "The stream's mode does not allow this"),
    "invalid_time_limit": (422, "The time limit is out of range"),
    "duration_out_of_range": (422, "A one-to-one lasts from 5 to 30 minutes"),
    "exceeds_time_limit": (409, "The stream ends before this one-to-one would"),
    "already_in_one_to_one": (409, "A one-to-one is already running"),
    "request_exists": (409, "You have already asked"),
    "request_unknown": (404, "There is no such request"),
    "too_many_requests": (429, "Too many people are waiting"),
    "no_session": (401, "A valid bearer token is needed"),
    "bad_credentials": (401, "The name or the password is wrong"),
    "invalid_name": (422, "Nobody can be called that"),
    "name_taken": (409, "Somebody is called that already"),
    "account_unknown": (404, "There is no such account"),
    "stream_unknown": (404, "There is no such stream"),
    "session_unknown": (404, "There is no such session"),
    "precondition_failed": (412, "The session changed since you last saw it"),
    "invalid_cursor": (422, "This cursor is not from a page before"),
    "already_live": (409, "One account streams once at a time"),
    "not_present": (409, "Join the stream first"),
    "invalid_message": (422, "The message can't be sent as it is"),
    "malformed_message": (400, "This is not a message of the protocol"),
    "chat_too_fast": (429, "Wait a moment before you write again"),
    "too_many_sessions": (429, "Too many of your media sessions are not connected yet"),
    "no_publisher": (409, "Nobody publishes to this stream now"),
    "asset_unknown": (422, "There is no such asset"),
    "invalid_amount": (422, "This is not an amount"),
    "amount_exceeds_supply": (422, "More than there is of this asset"),
    "amount_too_small": (422, "Nothing would be left to arrive"),
    "asset_not_allowed_on_surface": (403, "This asset can't be spent here"),
    "recipient_not_eligible": (403, "The recipient may not receive this asset"),
    "insufficient_funds": (402, "There is not enough money in the wallet"),
    "in_debt": (402, "What is owed has to be paid first"),
    "quote_expired": (409, "The quoted rate no longer holds"),
    "rate_unavailable": (503, "There is no rate for this now, so nothing was charged"),
    "hold_unknown": (404, "There is no such hold"),
    "hold_resolved": (409, "This hold was already paid out or given back"),
    "hold_expired": (410, "This hold has run out"),
    "hold_not_due": (409, "This hold has not run out yet"),
    "exceeds_hold": (422, "More than was held"),
    "transfer_unknown": (404, "There is no such transfer"),
    "transfer_exists": (409, "This transfer was already made"),
    "already_reversed": (409, "This transfer was already taken back"),
    "not_reversible": (409, "This transfer can't be taken back"),
    "idempotency_key_required": (400, "An Idempotency-Key header is needed"),
    "idempotency_key_invalid": (400, "The Idempotency-Key header is not a key"),
    "idempotency_mismatch": (422, "This key was used for another request"),
    "idempotency_in_flight": (409, "This request is still being done"),
    "webhook_rejected": (401, "The webhook is not signed by its provider"),
    "webhook_malformed": (422, "The webhook is not one that is understood"),
    "provider_unknown": (404, "There is no such payment provider"),
    "provider_conflict": (409, "The provider said something else before"),
    "not_stored": (503, "This could not be written down, so it was not done"),
    "internal_error": (500, "Something broke here"),
}


class Refused(Exception):
    """A request that was understood and not granted.

    `code` is one of TITLES; `detail` says it for this case; `extra` holds what would help, by name.
    """

    def __init__(self, code: str, detail: str = "", **extra: object) -> None:
        self.status, self.title = TITLES[code]
        self.code, self.detail, self.extra = code, detail or self.title, extra
        super().__init__(f"{code}: {self.detail}")
