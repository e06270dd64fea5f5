"""One table from what the layers below raise to the problems that clients get."""

from __future__ import annotations

from media.door import NoSource
from media.forwarding.forwarder import NoCapacity
from media.webrtc.negotiation import OfferRejected
from media.webrtc.sdp import MalformedSdp
from server.problems import Problem
from signalling.ports import ArchiveFailed
from signalling.refusals import Refused

OFFERS = {
    "malformed": "malformed_offer",
    "unsupported": "unsupported_offer",
    "no_common_codec": "no_common_codec",
    "no_restart": "no_restart",
}


def problem_of(error: Exception) -> Problem | None:
    """Return the problem that an exception means, or None when it is a bug of ours."""
    match error:
        case Problem():
            return error
        case Refused():
            wait_s = error.extra.get("wait_s")
            headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
            return Problem(error.code, error.detail, extra=error.extra, headers=headers)
        case OfferRejected():
            return Problem(OFFERS[error.reason], error.detail)
        case MalformedSdp():
            return Problem("malformed_sdp", error.detail, extra={"line": error.line})
        case NoSource():
            return Problem("no_publisher")
        case ArchiveFailed():
            return Problem("not_stored")
        case NoCapacity():
            return Problem("no_capacity")
        case ExceptionGroup(exceptions=[only]):
            return problem_of(only)
        case _:
            return None
