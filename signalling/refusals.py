"""Every way a request can be refused: a stable code, a title for people, and its HTTP status."""

from __future__ import annotations

TITLES: dict[str, tuple[int, str]] = {
    "not_the_owner": (403, "Only the streamer may do this"),
    "stream_ended": (410, "The stream has ended"),
    "ticket_required": (403, "This stream is for ticket holders"),
    "not_entitled": (403, "This stream is for people its streamer chose"),
    "one_to_one_running": (403, "The streamer is in a one-to-one"),
    "ejected": (403, "The streamer has removed you"),
    "suspended": (403, "This account is suspended"),
    "kyf_required": (403, "This is for people who have proven more about themselves"),
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
    "self_follow": (422, "Nobody follows, or is subscribed to, himself"),
    "too_many_follows": (422, "One account follows so many at most"),
    "self_block": (422, "Nobody blocks himself"),
    "too_many_blocks": (422, "One account blocks so many at most"),
    "claim_invalid": (401, "No issuer that counts here has signed this claim for this account"),
    "proof_replayed": (409, "This claim was used before"),
    "subject_taken": (409, "Another account stands for this person"),
    "disclosure_unknown": (404, "There is no such disclosure"),
    "request_expired": (410, "The time for an answer is over"),
    "invite_unknown": (404, "This invitation is not valid"),
    "too_many_invites": (422, "One stream has so many invitations at most"),
    "invalid_rules": (422, "These rules can't be used"),
    "account_unknown": (404, "There is no such account"),
    "stream_unknown": (404, "There is no such stream"),
    "session_unknown": (404, "There is no such session"),
    "precondition_failed": (412, "It changed since you last saw it"),
    "invalid_cursor": (422, "This cursor is not from a page before"),
    "already_live": (409, "One account streams once at a time"),
    "not_present": (409, "Join the stream first"),
    "invalid_message": (422, "The message can't be sent as it is"),
    "malformed_message": (400, "This is not a message of the protocol"),
    "chat_too_fast": (429, "Wait a moment before you write again"),
    "too_many_sessions": (429, "Too many of your media sessions are not connected yet"),
    "no_publisher": (409, "Nobody publishes to this stream now"),
    "access_unavailable": (503, "Who may come in could not be looked up, so nobody new is let in"),
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
