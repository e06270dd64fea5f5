"""Purchases over HTTP: a server of the tool's own, on one core, and people who buy on as many connections as are asked.

Each purchase is what a player's page sends: a token, an Idempotency-Key, the price that was seen. A rush is for one
sale after the other, and each buyer has one ticket of each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import trio

from bench.cores import choose_cores, pin
from bench.mesi import Mesi, Person, ServerFailed, open_mesi
from bench.process import cpu_ns

PRICE = {"asset": "USD", "units": "500"}
PEOPLE = 320  # making them takes three requests each, a sale as many for all of them
MOST_PER_S = 1500  # purchases for which there are sales
END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Bought:
    """How a run went: how many per second, how long each took (ms), and the server's processor time for one (us)."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


async def measure_http(connections: int, seconds: float) -> Bought:
    """Let people buy on that many connections; raises ServerFailed when a purchase or the books are wrong."""
    cores = choose_cores(None, None)
    pin(cores.tool)
    async with open_mesi(cores.server) as mesi:
        buyers = await mesi.people([f"buyer{number}" for number in range(PEOPLE)])
        for buyer in buyers:
            await _as_admin(mesi, "/ledger/deposits", {"name": buyer.name, "asset": "USD", "amount": "1000.00"})
        sales = [await _open_sale(mesi, number) for number in range(int(MOST_PER_S * seconds / PEOPLE) + 1)]
        wishes = iter([_purchase(mesi.url, sale, buyer) for sale in sales for buyer in buyers])
        assert mesi.pid is not None
        took: list[float] = []
        start, used = time.perf_counter(), cpu_ns(mesi.pid)
        async with trio.open_nursery() as crowd:
            for _ in range(connections):
                crowd.start_soon(_buy, mesi.url, wishes, start + seconds, took)
        elapsed, used = time.perf_counter() - start, cpu_ns(mesi.pid) - used
        await _check(mesi, sales, len(took))
    took.sort()
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    return Bought(len(took) / elapsed, p50 * 1e3, p99 * 1e3, used / len(took) / 1e3)


async def _as_admin(mesi: Mesi, path: str, body: object) -> None:
    await mesi.ask(Person("admin", "admin", mesi.admin_token), "POST", f"/admin{path}", body)


async def _open_sale(mesi: Mesi, number: int) -> str:
    seller = await mesi.person(f"seller{number}")
    stream = await mesi.stream(seller)
    sale = await mesi.ask(seller, "POST", f"/streams/{stream}/sales", {"price": PRICE, "quantity": PEOPLE})
    return str(sale["sale"])


def _purchase(url: str, sale: str, buyer: Person) -> bytes:
    """Return a purchase as it goes over the wire."""
    body = msgspec.json.encode({"price_seen": PRICE})
    lines = (
        f"POST /api/v1/sales/{sale}/tickets HTTP/1.1",
        f"Host: {url.removeprefix('http://')}",
        f"Authorization: Bearer {buyer.token}",
        f"Idempotency-Key: {sale}.{buyer.id}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + END_OF_HEAD + body


async def _buy(url: str, wishes: Iterator[bytes], until: float, took: list[float]) -> None:
    host, port = url.removeprefix("http://").rsplit(":", 1)
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        for wish in wishes:
            began = time.perf_counter()
            if began >= until:
                break
            await stream.send_all(wish)
            answer = await _read_answer(stream)
            if not answer.startswith(b"HTTP/1.1 201"):
                raise ServerFailed(answer.decode())
            took.append(time.perf_counter() - began)


async def _read_answer(stream: trio.SocketStream) -> bytes:
    answer = b""
    length = None
    while length is None or len(answer) < length:
        part = await stream.receive_some()
        if not part:
            raise ServerFailed("the server ended a connection")
        answer += part
        head, found, _ = answer.partition(END_OF_HEAD)
        if length is None and found:
            length = len(head) + len(END_OF_HEAD) + int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return answer


async def _check(mesi: Mesi, sales: list[str], bought: int) -> None:
    """Find every ticket in the reports, and the books right."""
    sold = 0
    for number, sale in enumerate(sales):
        report = await mesi.ask(await mesi.person(f"seller{number}"), "GET", f"/sales/{sale}/report")
        sold += report["sold"]
    if sold != bought:
        raise ServerFailed(f"{bought} purchases were answered, and {sold} tickets are sold")
    checked = await mesi.ask(Person("admin", "admin", mesi.admin_token), "GET", "/admin/ledger/check")
    if checked["flaws"]:
        raise ServerFailed(str(checked["flaws"]))
