"""Where webhooks are posted to, and what answers mean."""

from __future__ import annotations

import datetime as dt

import httpcore2
import pytest
import trio
import trio.testing

from server.money.webhooks import sign
from server.webhooks import post
from server.webhooks.post import Poster, is_public, judge
from server.webhooks.schedule import Failed, Taken
from tests.events.receiver import Answer, receiving

NOW = 1_784_000_000_000  # 2026-07-14T03:33:20Z


@pytest.mark.parametrize("status", [200, 201, 204])
def test_only_good_answers_are_good(status: int) -> None:
    assert judge(status, "", NOW) == Taken()


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 500, 502])
def test_redirects_and_refusals_are_failures(status: int) -> None:
    assert judge(status, "60", NOW) == Failed(f"answered {status}")


def test_gone_means_no_more() -> None:
    assert judge(410, "", NOW) == Failed("answered 410", gone=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("text", "pause_s"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Tue, 14 Jul 2026 03:34:20 GMT", 60),
        ("Tue, 14 Jul 2026 03:34:20 -0000", 60),
        ("Tue, 14 Jul 2026 03:32:20 GMT", 0),
        ("soon", 0),
        ("-5", 0),
        ("١٢", 0),
        ("", 0),
        ("9" * 5000, 0),
        ("Tue, 14 Jul 99999 03:34:20 GMT", 0),
    ],
)
def test_the_busy_say_when_to_come_back(status: int, text: str, pause_s: float) -> None:
    assert judge(status, text, NOW) == Failed(f"answered {status}", pause_s)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("64:ff9b:1::a00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
    ],
)
def test_addresses_of_machines_inside_are_not_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_not_even_connected_to(host: str) -> None:
    async with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", host)
        poster = Poster(url, private=False)
        outcome = await poster.post(b"{}", {}, NOW)
        await poster.aclose()
    assert isinstance(outcome, Failed)
    assert "is not a public address" in outcome.reason or "can't be looked up" in outcome.reason
    assert receiver.heard == []


class Names:
    """A resolver whose answer changes from one look to the next."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[object] = []

    async def getaddrinfo(self, host: object, port: int, *rest: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in self.answers.pop(0)]

    async def getnameinfo(self, *rest: object) -> tuple[str, str]:
        raise AssertionError("nobody asks for a name")


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"]])
async def test_a_name_with_any_private_address_is_refused(addresses: list[str]) -> None:
    names = Names(addresses)
    trio.socket.set_custom_hostname_resolver(names)  # type: ignore[arg-type]
    poster = Poster("http://hook.example/x", private=False)
    assert await poster.post(b"{}", {}, NOW) == Failed("hook.example is not a public address")
    await poster.aclose()
    assert names.asked == [b"hook.example"]


async def test_a_name_is_looked_up_once_and_the_address_that_was_judged_is_the_one_that_is_used() -> None:
    """The second look would say 127.0.0.1: nothing connects there."""
    names = Names(["203.0.113.9"], ["127.0.0.1"])
    used: list[str] = []

    class Wire(httpcore2.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, *rest: object, **more: object) -> httpcore2.AsyncNetworkStream:
            used.append(host)
            raise httpcore2.ConnectError("nobody there")

    trio.socket.set_custom_hostname_resolver(names)  # type: ignore[arg-type]
    guard = post.PublicOnly(Wire())
    with pytest.raises(httpcore2.ConnectError):
        await guard.connect_tcp("hook.example", 443)
    assert used == []  # 203.0.113.0/24 is for documentation, and not public
    names.answers = [["93.184.215.14"], ["127.0.0.1"]]
    with pytest.raises(httpcore2.ConnectError, match="nobody there"):
        await guard.connect_tcp("hook.example", 443)
    assert used == ["93.184.215.14"]


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as target, receiving(usual=Answer(302, (("Location", target.url),))) as receiver:
        poster = Poster(receiver.url, private=True)
        body = b'{"id":1,"data":{"number":1}}'
        headers = sign(receiver.secret, "1", body, dt.datetime.now(dt.UTC))
        assert await poster.post(body, headers, NOW) == Failed("answered 302")
        await poster.aclose()
    assert (receiver.heard, target.heard) == (["1"], [])


async def test_who_does_not_answer_in_time_has_failed(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def say_nothing(stream: trio.SocketStream) -> None:
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, say_nothing, listeners)
        poster = Poster(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/", private=True)
        began = trio.current_time()
        assert await poster.post(b"{}", {}, NOW) == Failed("no answer within 15 s")
        assert trio.current_time() - began == pytest.approx(post.TIMEOUT_S)
        nursery.cancel_scope.cancel()
