"""WHEP (draft-ietf-wish-whep-04) over HTTP, where it differs from WHIP."""

from __future__ import annotations

import pytest
from quart import Response

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


LAYER = "urn:ietf:params:whep:ext:core:layer"


async def wish(site: Site, body: str, token: str = "t-viewer") -> Response:
    return await site.ask("POST", "/whep/s1/session0/layer", token=token, body=body, content_type="application/json")


async def test_a_viewer_is_told_where_to_wish_for_a_picture_and_does() -> None:
    site = Site()
    answer = await site.ask("POST", "/whep/s1", token="t-viewer", body="v=0 offer", content_type=SDP)
    assert f'</whep/s1/session0/layer>; rel="{LAYER}"' in answer.headers["Link"]
    wishes = ['{"encodingId": "low"}', '{"mediaId": "1", "encodingId": "medium"}', '{"encodingId": "high"}', "{}"]
    wishes.append('{"maxHeight": 361}')
    for body in wishes:
        answer = await wish(site, body)
        assert answer.status_code == 204
    wished = [asked[1:] for asked in site.rooms.asked if asked[0] == "prefer"]
    named = [("session0", (name, 0)) for name in ("low", "medium", "high", "high")]
    assert wished == [*named, ("session0", ("high", 361))]


async def test_a_wish_for_another_s_session_or_for_an_unknown_picture_is_refused() -> None:
    site = Site()
    await site.ask("POST", "/whep/s1", token="t-viewer", body="v=0 offer", content_type=SDP)
    await problem(await wish(site, "{}", token="t-streamer"), 404, "session_unknown")
    for unknown in ('{"encodingId": "huge"}', '{"maxHeight": 0}', '{"maxHeight": 99999}'):
        await problem(await wish(site, unknown), 422, "invalid_request")
