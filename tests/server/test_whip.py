"""WHIP (RFC 9725) over HTTP: what encoders send, and what they get."""

from __future__ import annotations

import pytest

from media.door import NoSource
from media.forwarding.forwarder import NoCapacity
from media.webrtc.negotiation import OfferRejected
from media.webrtc.sdp import MalformedSdp
from server.config import Limits, Rates
from signalling.refusals import Refused
from tests.server.web_fakes import STREAMER, TURN, FakeRooms, Site, problem

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"


async def published(site: Site) -> str:
    answer = await site.ask("POST", "/whip/s1", body="v=0", content_type=SDP)
    assert answer.status_code == 201
    return str(answer.headers["Location"])


async def test_an_offer_is_answered_with_a_session_of_its_own() -> None:
    site = Site(ice_servers=(TURN,))
    answer = await site.ask("POST", "/whip/s1", body="v=0 offer", content_type=SDP)
    assert (answer.status_code, answer.content_type, await answer.get_data()) == (201, SDP, b"v=0\r\n")
    assert answer.headers["Location"] == "/whip/s1/session0"
    assert answer.headers["ETag"] == '"first"'
    assert answer.headers["Link"] == (
        '<turn:turn.example.org:3478>; rel="ice-server"; username="user"; credential="secret"; '
        'credential-type="password"'
    )
    assert site.rooms.asked == [("publish", "s1", STREAMER, "v=0 offer")]


async def test_a_preflight_needs_no_token_and_tells_no_secret() -> None:
    answer = await Site(ice_servers=(TURN,)).ask("OPTIONS", "/whip/s1", token=None)
    assert answer.status_code == 204
    assert answer.headers["Accept-Post"] == SDP
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {"POST", "OPTIONS"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key", "If-Match"} <= set(allowed)
    assert "Link" not in answer.headers
    session = await Site().ask("OPTIONS", "/whip/s1/session0", token=None)
    assert {"PATCH", "DELETE"} <= set(session.headers["Access-Control-Allow-Methods"].split(", "))
    assert session.headers["Accept-Patch"] == FRAGMENT


async def test_answers_and_refusals_can_be_read_by_any_page() -> None:
    for token in ("t-streamer", None):
        answer = await Site().ask("POST", "/whip/s1", token=token, body="v=0", content_type=SDP)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert {"Location", "ETag", "Link", "Accept-Patch", "Retry-After"} <= exposed


@pytest.mark.parametrize("path", ["/whip/s1", "/whip/s1/session0", "/whep/s1", "/whep/s1/session0"])
async def test_getting_an_address_gives_nothing_and_succeeds(path: str) -> None:
    answer = await Site().ask("GET", path, token=None)
    assert answer.status_code in (200, 204)
    assert await answer.get_data() == b""


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "application/sdp2"])
async def test_another_content_type_is_refused(content_type: str | None) -> None:
    site = Site()
    answer = await site.ask("POST", "/whip/s1", body="v=0", content_type=content_type)
    await problem(answer, 415, "unsupported_media_type")
    assert answer.headers["Accept-Post"] == SDP
    assert site.rooms.asked == []


async def test_parameters_of_the_content_type_are_allowed() -> None:
    answer = await Site().ask("POST", "/whip/s1", body="v=0", content_type="Application/SDP; charset=utf-8")
    assert answer.status_code == 201


async def test_a_body_over_the_limit_is_refused_however_it_is_sent() -> None:
    site = Site(limits=Limits(body_bytes=2000))
    await problem(await site.ask("POST", "/whip/s1", body=b"v" * 2001, content_type=SDP), 413, "body_too_large")
    client = site.app.test_client()
    headers = {"Authorization": "Bearer t-streamer", "Content-Type": SDP}
    async with client.request("/whip/s1", method="POST", headers=headers) as connection:
        for _ in range(3):
            await connection.send(b"v" * 1000)
        await connection.send_complete()
    await problem(await connection.as_response(), 413, "body_too_large")
    assert (await site.ask("POST", "/whip/s1", body=b"v" * 2000, content_type=SDP)).status_code == 201


async def test_a_body_that_is_no_text_is_refused() -> None:
    await problem(await Site().ask("POST", "/whip/s1", body=b"v=\xff", content_type=SDP), 400, "malformed_text")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MalformedSdp(3, "no such line"), 400, "malformed_sdp"),
        (OfferRejected("malformed", "no a=mid"), 400, "malformed_offer"),
        (OfferRejected("unsupported", "two videos"), 422, "unsupported_offer"),
        (OfferRejected("no_common_codec", "VP8 only"), 406, "no_common_codec"),
        (NoCapacity(), 503, "no_capacity"),
        (NoSource("streamer"), 409, "no_publisher"),
        (Refused("not_the_owner"), 403, "not_the_owner"),
        (ExceptionGroup("", [Refused("stream_ended")]), 410, "stream_ended"),
    ],
)
async def test_what_the_rooms_refuse_has_its_own_code(error: Exception, status: int, code: str) -> None:
    answer = await Site(FakeRooms(failing=error)).ask("POST", "/whip/s1", body="v=0", content_type=SDP)
    await problem(answer, status, code)
    assert ("Retry-After" in answer.headers) == (status == 503 or code == "no_publisher")


async def test_malformed_sdp_names_the_line() -> None:
    site = Site(FakeRooms(failing=MalformedSdp(3, "no such line")))
    answer = await site.ask("POST", "/whip/s1", body="v=0", content_type=SDP)
    assert (await problem(answer, 400, "malformed_sdp"))["line"] == 3


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (None, "Bearer"),
        ("Basic abc", "Bearer"),
        ("Bearer", "Bearer"),
        ("Bearer a b", "Bearer"),
        ("Bearer " + "a" * 5000, "Bearer"),
        ("Bearer t-nobody", 'Bearer error="invalid_token"'),
    ],
)
async def test_every_request_but_a_preflight_needs_a_token(header: str | None, challenge: str) -> None:
    site = Site()
    headers = {} if header is None else {"Authorization": header}
    for method, path, kind in [
        ("POST", "/whip/s1", SDP),
        ("PATCH", "/whip/s1/session0", FRAGMENT),
        ("DELETE", "/whip/s1/session0", None),
    ]:
        answer = await site.ask(method, path, token=None, headers=headers, body="v=0", content_type=kind)
        await problem(answer, 401, "no_session")
        assert answer.headers["WWW-Authenticate"] == challenge
    assert site.rooms.asked == []


async def test_trickled_candidates_are_taken_without_an_answer_or_a_new_tag() -> None:
    site = Site()
    session = await published(site)
    answer = await site.ask("PATCH", session, body="a=mid:0", content_type=FRAGMENT, headers={"If-Match": '"first"'})
    assert (answer.status_code, await answer.get_data()) == (204, b"")
    assert "ETag" not in answer.headers


async def test_an_ice_restart_gives_a_fragment_and_a_new_tag() -> None:
    site = Site()
    session = await published(site)
    answer = await site.ask("PATCH", session, body="a=ice-ufrag:x", content_type=FRAGMENT, headers={"If-Match": "*"})
    assert (answer.status_code, answer.content_type) == (200, FRAGMENT)
    assert answer.headers["ETag"] == '"second"'
    assert await answer.get_data() == b"a=ice-ufrag:new\r\n"


@pytest.mark.parametrize(
    ("if_match", "status", "code"),
    [
        (None, 428, "precondition_required"),
        ("", 428, "precondition_required"),
        ('"stale"', 412, "precondition_failed"),
        ('W/"first"', 412, "precondition_failed"),
        ('"first", "second"', 412, "precondition_failed"),
        ("first", 400, "malformed_header"),
        ('"first', 400, "malformed_header"),
    ],
)
async def test_a_fragment_must_match_the_session_as_it_is(if_match: str | None, status: int, code: str) -> None:
    site = Site()
    session = await published(site)
    headers = {} if if_match is None else {"If-Match": if_match}
    answer = await site.ask("PATCH", session, body="a=mid:0", content_type=FRAGMENT, headers=headers)
    await problem(answer, status, code)


async def test_a_fragment_of_another_type_is_refused() -> None:
    site = Site()
    answer = await site.ask("PATCH", await published(site), body="{}", content_type=SDP, headers={"If-Match": "*"})
    await problem(answer, 415, "unsupported_media_type")
    assert answer.headers["Accept-Patch"] == FRAGMENT


async def test_a_session_is_ended_once_whatever_if_match_says() -> None:
    site = Site()
    session = await published(site)
    assert (await site.ask("DELETE", session, headers={"If-Match": '"stale"'})).status_code == 200
    await problem(await site.ask("DELETE", session), 404, "session_unknown")


async def test_a_session_of_someone_else_looks_like_none_except_to_an_administrator() -> None:
    site = Site()
    session = await published(site)
    await problem(await site.ask("DELETE", session, token="t-viewer"), 404, "session_unknown")
    answer = await site.ask(
        "PATCH", session, token="t-viewer", body="a=mid:0", content_type=FRAGMENT, headers={"If-Match": "*"}
    )
    await problem(answer, 404, "session_unknown")
    assert (await site.ask("DELETE", session, token="t-admin")).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_other_methods_are_refused_with_those_that_are_known(method: str) -> None:
    answer = await Site().ask(method, "/whip/s1")
    await problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


async def test_offers_are_limited_for_each_account() -> None:
    site = Site(rates=Rates(account_per_s=0.5, account_burst=2))
    for _ in range(2):
        await published(site)
    answer = await site.ask("POST", "/whip/s1", body="v=0", content_type=SDP)
    await problem(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    other = await site.ask("POST", "/whep/s1", token="t-viewer", body="v=0", content_type=SDP)
    assert other.status_code == 201
