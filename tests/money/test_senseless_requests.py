"""Requests that make no sense, as text: each is refused with the code of what is wrong, and changes nothing."""

from __future__ import annotations

from pathlib import Path

from tests.money.test_ticket_node import Market, open_market
from tests.server.nodes import Person

NO_JSON = ["010", "30 min", "nan", "+1", ".5"]
NO_INTEGERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    '"0"',
    '"5"',
    '"30 min"',
    "true",
    "1e1",
    "1e2",
    "1e309",
    "5.0",
    "600.5",
    "[600]",
    "{}",
    "9" * 5000,
]
BEYOND = ["0", "-1", "1" + "0" * 18, "9" * 400]
# What takes seconds or seats: by whom, where, around what, and with which code a number out of range is refused.
OFFER = "/streams/{stream}/one_to_one/offer"
NUMBERS = [
    ("ann", "PUT", "/streams/{stream}/time_limit", '{"seconds":%}', "invalid_time_limit"),
    ("ann", "POST", "/streams/{stream}/one_to_one/accept", '{"account":"x","seconds":%}', "duration_out_of_range"),
    ("ann", "PUT", OFFER, '{"choices":[{"seconds":%}]}', "duration_out_of_range"),
    ("bob", "POST", "/streams/{stream}/one_to_one/requests", '{"seconds":%}', "duration_out_of_range"),
    ("ann", "PATCH", "/sales/{sale}", '{"quantity":%}', "invalid_quantity"),
    ("ann", "POST", "/streams/{stream}/invites", '{"max_uses":%}', "invalid_request"),
]
RULES = "/streams/{stream}/rules"
USD = '{"asset":"USD","units":"500"}'


def tips_total(units: str) -> str:
    """Return a rule about what somebody tipped."""
    return f'{{"type":"tips_total","at_least":{{"asset":"USD","units":"{units}"}}}}'


def nested(depth: int) -> str:
    """Return a rule within so many others."""
    return '{"type":"any_of","of":[' * depth + '{"type":"follows"}' + "]}" * depth


OTHERS = [
    ("bob", "POST", "/streams", '{"title":"x","mode":"weird"}', 422, "invalid_mode"),
    ("bob", "POST", "/streams", '{"title":"x","mode":"one_to_one"}', 422, "invalid_mode"),
    ("bob", "POST", "/streams", '{"title":"x","kind":"weird"}', 422, "invalid_mode"),
    ("bob", "POST", "/streams", '{"title":"x","mode":1}', 422, "invalid_request"),
    ("ann", "POST", "/streams", '{"title":"x"}', 409, "already_live"),
    ("ann", "POST", "/streams/{stream}/mode/prepare", '{"mode":"weird"}', 422, "invalid_mode"),
    ("bob", "POST", "/streams/{stream}/mode/prepare", '{"mode":"paid"}', 403, "not_the_owner"),
    ("ann", "POST", "/streams/{stream}/mode/confirm", '{"confirm_token":"x"}', 409, "room_changed"),
    ("ann", "PUT", OFFER, '{"choices":[{"seconds":299}]}', 422, "duration_out_of_range"),
    ("ann", "PUT", OFFER, '{"choices":[{"seconds":1801}]}', 422, "duration_out_of_range"),
    ("bob", "POST", "/streams/{stream}/one_to_one/requests", '{"seconds":301}', 422, "duration_out_of_range"),
    ("bob", "GET", "/streams?limit=201", "", 422, "invalid_request"),
    ("bob", "GET", "/streams?limit=0", "", 422, "invalid_request"),
    ("ann", "POST", "/streams/{stream}/invites", '{"max_uses":100000}', 422, "invalid_request"),
    ("bob", "POST", "/tips", '{"to":"ann","amount":{"asset":"USD","units":500}}', 422, "invalid_request"),
    ("bob", "POST", "/tips", '{"to":"bob","amount":{"asset":"USD","units":"5"}}', 422, "self_tip"),
    ("ann", "POST", "/streams/{stream}/mode/confirm", '{"confirm_token":"x","after_s":-1}', 422, "invalid_countdown"),
    ("ann", "POST", "/streams/{stream}/mode/confirm", '{"confirm_token":"x","after_s":601}', 422, "invalid_countdown"),
    ("ann", "POST", "/streams/{stream}/mode/confirm", '{"confirm_token":"x","after_s":NaN}', 422, "invalid_request"),
    ("bob", "POST", "/streams", '{"title":"\\u200b\\u202e"}', 422, "invalid_title"),
    ("bob", "POST", "/streams", '{"title":"%s"}' % ("x" * 201), 422, "invalid_request"),
    ("bob", "POST", "/streams", '{"title":"x","description":"%s"}' % ("x" * 2001), 422, "invalid_request"),
    ("ann", "PUT", RULES, '{"watch":{"type":"weird"}}', 422, "invalid_request"),
    ("ann", "PUT", RULES, '{{"watch":{}}}'.format(tips_total("-1")), 422, "invalid_request"),
    ("ann", "PUT", RULES, '{{"watch":{}}}'.format(tips_total("0")), 422, "invalid_request"),
    ("ann", "PUT", RULES, f'{{"watch":{nested(9)}}}', 422, "invalid_rules"),
    ("ann", "PUT", RULES, f'{{"watch":{nested(1000)}}}', 400, "malformed_json"),
    ("ann", "PUT", RULES, '{"watch":{"type":"sub_tier","at_least":0}}', 422, "invalid_request"),
    ("ann", "PATCH", "/sales/{sale}", '{"price":{"asset":"USD","units":"0"}}', 422, "invalid_amount"),
    ("ann", "PATCH", "/sales/{sale}", '{"price":{"asset":"EUR","units":"5"}}', 422, "invalid_price"),
    ("ann", "PATCH", "/sales/{sale}", '{"price":{"asset":"GOLD","units":"5"}}', 422, "invalid_price"),
    ("ann", "POST", "/streams/{stream}/sales", f'{{"price":{USD},"quantity":0}}', 422, "invalid_quantity"),
    ("ann", "POST", "/sales/{sale}/tickets", f'{{"price_seen":{USD}}}', 422, "own_ticket"),
    ("bob", "POST", "/sales/none/tickets", f'{{"price_seen":{USD}}}', 404, "sale_unknown"),
    ("bob", "PATCH", "/sales/{sale}", '{"quantity":5}', 403, "not_the_owner"),
    ("bob", "POST", "/streams/{stream}/one_to_one/accept", '{"account":"x","seconds":300}', 403, "not_the_owner"),
    ("ann", "POST", "/streams/{stream}/one_to_one/accept", '{"account":"x","seconds":300}', 404, "request_unknown"),
    ("bob", "POST", "/streams/{stream}/one_to_one/confirm", "", 404, "request_unknown"),
    ("bob", "POST", "/tips", '{"to":"ann","amount":{"asset":"USD","units":"0"}}', 422, "invalid_amount"),
    ("bob", "POST", "/tips", '{"to":"ann","amount":{"asset":"USD","units":"-5"}}', 422, "invalid_amount"),
    ("bob", "POST", "/tips", '{"to":"ann","amount":{"asset":"USD","units":"0.5"}}', 422, "invalid_amount"),
    (
        "bob",
        "POST",
        "/tips",
        '{"to":"ann","amount":{"asset":"USD","units":"%s"}}' % ("9" * 5000),
        422,
        "amount_exceeds_supply",
    ),
    (
        "bob",
        "POST",
        "/tips",
        f'{{"to":"ann","amount":{USD},"context":{{"kind":"stream","id":"none"}}}}',
        422,
        "bad_context",
    ),
    ("bob", "POST", "/tips", f'{{"to":"ann","amount":{USD},"quote":"none"}}', 409, "quote_expired"),
    ("bob", "GET", "/tip_links/none", "", 404, "tip_link_unknown"),
    ("bob", "POST", "/invites/redeem", '{"code":"none"}', 404, "invite_unknown"),
    ("bob", "POST", "/kyf/claims", '{"token":"a.b.c"}', 401, "claim_invalid"),
]


class Senseless:
    """Who sends what makes no sense."""

    def __init__(self, market: Market, bob: Person) -> None:
        self._market, self._people = market, {"ann": market.ann, "bob": bob}
        self._sent = 0

    async def refused(self, who: str, method: str, path: str, body: str, status: int, code: str) -> None:
        self._sent += 1
        token = self._people[who].token
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"senseless{self._sent}", "If-Match": "*"}
        headers |= {"Content-Type": "application/json"} if body else {}
        place = path.format(stream=self._market.stream, sale=self._market.sale)
        answer = await self._market.site.http.request(method, f"/api/v1{place}", content=body.encode(), headers=headers)
        said = answer.json()
        assert (answer.status_code, said.get("code")) == (status, code), (method, place, body[:80], said)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_what_makes_no_sense_is_refused_with_its_code_and_changes_nothing(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob = await market.buyer("bob")
        await market.show.socket(bob)
        await market.ann.ask("PUT", f"/streams/{market.stream}/one_to_one/offer", {"choices": [{"seconds": 300}]})
        pages = [f"/streams/{market.stream}", f"/streams/{market.stream}/sale", "/me/wallet"]
        before = [await bob.ask("GET", page) for page in pages]
        senseless = Senseless(market, bob)
        for who, method, path, around, code in NUMBERS:
            for value in NO_JSON:
                await senseless.refused(who, method, path, around.replace("%", value), 400, "malformed_json")
            for value in NO_INTEGERS:
                await senseless.refused(who, method, path, around.replace("%", value), 422, "invalid_request")
            for value in BEYOND:
                await senseless.refused(who, method, path, around.replace("%", value), 422, code)
        for other in OTHERS:
            await senseless.refused(*other)
        after = [await bob.ask("GET", page) for page in pages]
        times = {"server_now"}
        assert [{name: now[name] for name in now.keys() - times} for now in after] == [
            {name: was[name] for name in was.keys() - times} for was in before
        ]
