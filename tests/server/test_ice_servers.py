"""STUN and TURN servers as clients hear of them: in Link headers and from the API, with credentials that end."""

from __future__ import annotations

from server.config import IceServer
from server.web.ice_servers import IceServers, turn_credentials
from tests.server.web_fakes import STREAMER, TURN, Site

SHARED = IceServer("turn:turn.example.org:3478?transport=tcp", secret="shared", lifetime_s=600)


def test_credentials_are_those_that_coturn_makes_of_the_same_secret() -> None:
    # printf 1700000000:a-ann | openssl dgst -sha1 -hmac north -binary | base64
    assert turn_credentials("north", 1_700_000_000, "a-ann") == ("1700000000:a-ann", "ebEznEjhYOEvIlep1Au1DeAgWKc=")


def test_they_end_after_their_lifetime_and_are_the_accounts_own() -> None:
    (shown,) = IceServers((SHARED,), lambda: 1_000.9).shown_to(STREAMER).ice_servers
    assert shown.username == f"1600:{STREAMER.account}"
    assert shown.credential == turn_credentials("shared", 1_600, STREAMER.account)[1]
    assert f'username="{shown.username}"' in IceServers((SHARED,), lambda: 1_000.9).link_header(STREAMER)


async def test_the_page_hears_of_them_before_its_offer_and_nobody_without_a_session_does() -> None:
    site = Site(ice_servers=(IceServer("stun:stun.example.org"), TURN, SHARED))
    answer = await site.ask("GET", "/api/v1/ice_servers")
    told = await answer.get_json(force=True)
    assert told["lifetime_s"] == 600
    assert told["ice_servers"][:2] == [
        {"urls": "stun:stun.example.org"},
        {"urls": TURN.url, "username": "user", "credential": "secret"},
    ]
    assert set(told["ice_servers"][2]) == {"urls", "username", "credential"}
    assert (await site.ask("GET", "/api/v1/ice_servers", token=None)).status_code == 401
    assert await (await Site().ask("GET", "/api/v1/ice_servers")).get_json(force=True) == {
        "ice_servers": [],
        "lifetime_s": 86_400,
    }
