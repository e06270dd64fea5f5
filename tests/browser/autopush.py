"""A push service as Firefox speaks with one (Mozilla's autopush): browsers over WebSocket, senders over HTTP.

It decrypts nothing: what a sender posts goes to the browser as it is, and Firefox does the rest.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import h11
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from tests.money.provider_service import receive_request


@dataclass
class Autopush:
    """Knows browsers by the channels that they registered."""

    websocket: str = ""
    http: str = ""
    channels: dict[str, WebSocketConnection] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    @property
    def preferences(self) -> dict[str, object]:
        """What has Firefox use it, and ask nobody whether a page may show notices."""
        return {
            "dom.push.serverURL": self.websocket,
            "dom.push.testing.allowInsecureServerURL": True,
            "dom.push.connection.enabled": True,
            "remote.prefs.recommended": False,  # they turn push off
            "permissions.default.desktop-notification": 1,
            "alerts.useSystemBackend": False,  # a desktop's own, which a machine of tests lacks
        }

    async def keep(self, request: WebSocketRequest) -> None:
        connection = await request.accept()
        with suppress(ConnectionClosed):
            while True:
                said = json.loads(await connection.get_message())
                answer = self._answer(connection, said)
                if answer is not None:
                    await connection.send_message(json.dumps(answer))

    def _answer(self, connection: WebSocketConnection, said: dict[str, object]) -> dict[str, object] | None:
        match said.get("messageType"):
            case "hello":
                return {"messageType": "hello", "status": 200, "uaid": secrets.token_hex(16), "use_webpush": True}
            case "register":
                channel = str(said["channelID"])
                self.channels[channel] = connection
                endpoint = f"{self.http}/push/{channel}"
                return {"messageType": "register", "status": 200, "channelID": channel, "pushEndpoint": endpoint}
            case "unregister":
                return {"messageType": "unregister", "status": 200, "channelID": said["channelID"]}
            case "ack":
                updates = said["updates"]
                assert isinstance(updates, list)
                self.acknowledged += [int(each["code"]) for each in updates]
                return None
            case None:
                return {}
            case _:
                return None

    async def take(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            async with stream:
                connection = h11.Connection(h11.SERVER)
                while True:
                    head, body = await receive_request(stream, connection)
                    if head is None:
                        return
                    status = await self._pass_on(head.target.decode().rpartition("/")[2], body)
                    for event in (
                        h11.Response(status_code=status, headers=[("Content-Length", "0")]),
                        h11.EndOfMessage(),
                    ):
                        await stream.send_all(connection.send(event) or b"")
                    connection.start_next_cycle()

    async def _pass_on(self, channel: str, body: bytes) -> int:
        if channel not in self.channels:
            return 404
        self.bodies.append(body)
        data = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
        told = {
            "messageType": "notification",
            "channelID": channel,
            "version": secrets.token_hex(8),
            "data": data,
            "headers": {"encoding": "aes128gcm"},
        }
        await self.channels[channel].send_message(json.dumps(told))
        return 201


@asynccontextmanager
async def autopush() -> AsyncIterator[Autopush]:
    """Run one for as long as the block does."""
    service = Autopush()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, service.take, 0, host="127.0.0.1"))
        service.http = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        server = await nursery.start(serve_websocket, service.keep, "127.0.0.1", 0, None)
        service.websocket = f"ws://127.0.0.1:{server.port}/"
        yield service
        nursery.cancel_scope.cancel()
