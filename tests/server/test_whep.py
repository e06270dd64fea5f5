"""WHEP (draft-ietf-wish-whep-04) over HTTP, where it differs from WHIP."""

from __future__ import annotations

import pytest

from media.door import NoSource
from signalling.refusals import Refused
from tests.server.web_fakes import VIEWER, FakeRooms, Site, problem

SDP = "application/sdp"


async def test_a_viewers_offer_is_answered_with_a_session_of_its_own() -> None:
    site = Site()
    answer = await site.ask("POST", "/whep/s1", token="t-viewer", body="v=0 offer", content_type=SDP)
    assert (answer.status_code, answer.content_type) == (201, SDP)
    assert answer.headers["Location"] == "/whep/s1/session0"
    assert site.rooms.asked == [("watch", "s1", VIEWER, "v=0 offer")]
    assert (await site.ask("DELETE", "/whep/s1/session0", token="t-viewer")).status_code == 200


async def test_a_head_tells_players_that_this_is_whep() -> None:
    answer = await Site().ask("HEAD", "/whep/s1", token=None)
    assert (answer.status_code, answer.content_type) == (200, SDP)


async def test_without_a_publisher_the_viewer_is_told_to_come_back() -> None:
    answer = await Site(FakeRooms(failing=NoSource("streamer"))).ask("POST", "/whep/s1", body="v=0", content_type=SDP)
    await problem(answer, 409, "no_publisher")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("code", ["ticket_required", "not_entitled", "one_to_one_running", "ejected"])
async def test_who_may_not_watch_is_told_why_and_what_would_help(code: str) -> None:
    site = Site(FakeRooms(failing=Refused(code, readmit=("ticket",), status=200, code2=1)))
    answer = await site.ask("POST", "/whep/s1", body="v=0", content_type=SDP)
    members = await problem(answer, 403, code)
    assert members["readmit"] == ["ticket"]
