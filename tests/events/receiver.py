"""A service that is told by webhooks, over real HTTP: it checks signatures, and answers as the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import msgspec
import trio
from standardwebhooks import Webhook

from tests.money.provider_service import receive_request

SECRET = "whsec_" + "c2VjcmV0IG9mIGEgcmVjZWl2ZXIgaW4gdGVzdHM="
OTHER_SECRET = "whsec_" + "YW5vdGhlciBzZWNyZXQgb2YgYSByZWNlaXZlci4="


@dataclass(frozen=True)
class Answer:
    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    after_s: float = 0


@dataclass
class Receiver:
    """Keeps what it was told. `answers` are given in turn, then `usual`; `heard` also counts what it did not take."""

    secret: str = SECRET
    usual: Answer = field(default_factory=Answer)
    answers: list[Answer] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def numbers(self) -> list[int]:
        return [message["data"]["number"] for message in self.taken]

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            connection = h11.Connection(h11.SERVER)
            while True:
                head, body = await receive_request(stream, connection)
                if head is None:
                    return
                answer = self._take(head, body)
                await trio.sleep(answer.after_s)
                response = h11.Response(status_code=answer.status, headers=[*answer.headers, ("Content-Length", "0")])
                for event in (response, h11.EndOfMessage()):
                    await stream.send_all(connection.send(event) or b"")
                connection.start_next_cycle()

    def _take(self, head: h11.Request, body: bytes) -> Answer:
        headers = {name.decode(): value.decode() for name, value in head.headers}
        Webhook(self.secret).verify(body, headers, json_parse=False)
        self.paths.append(head.target.decode())
        message = msgspec.json.decode(body)
        assert headers["webhook-id"] == str(message["id"])
        self.heard.append(headers["webhook-id"])
        answer = self.answers.pop(0) if self.answers else self.usual
        if 200 <= answer.status < 300:
            self.taken.append(message)
        return answer


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(**options)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(_listen, receiver)
        receiver.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/told"
        yield receiver
        nursery.cancel_scope.cancel()


async def _listen(receiver: Receiver, *, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await receiver.serve(stream)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # the sender gave up, or was killed

    await trio.serve_tcp(serve, 0, host="127.0.0.1", task_status=task_status)
