"""Tips while their stream does not answer: what is in the books is answered, and judged as soon as it can be."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from server.access.service import Access
from server.money import tip_jar
from server.money.amounts import Amount
from server.money.idempotency import read_request_untrusted
from server.money.tip_jar import Wish
from server.money.tips import TipView
from tests.money.small_nodes import fill, open_node, session


async def test_a_tip_and_its_reversal_are_answered_although_nobody_can_be_judged(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path / "db")

    async def never(*people: str) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Access, "changed_between", never)
    async with open_node(tmp_path / "db", 0, []) as node:
        request = read_request_untrusted("bob", "POST /tips", "once", b"{}")
        with trio.fail_after(tip_jar.PATIENCE_S + 1):
            given = await node.jar.give(session("bob"), Wish("ann", Amount("USD", 700)), request)
        tip = msgspec.json.decode(given.body, type=TipView)
        with trio.fail_after(tip_jar.PATIENCE_S + 1):
            await node.jar.reverse(tip.id)
        assert node.jar.counters() == {"tips": 1, "tips_reversed": 1, "tips_late": 2}
