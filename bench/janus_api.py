"""The API of a Janus over a WebSocket, as its VideoRoom plugin is asked to carry publishers and viewers.

One session holds all handles, one handle is one media connection. What Janus says of nobody's request is not needed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from server.client import SessionFailed

ANSWER_S = 15.0
ALIVE_S = 20.0  # Janus forgets a session that is silent for a minute


@dataclass(slots=True)
class Waiting:
    """A request under way; `wants_event` when the plugin's own answer follows Janus' acknowledgement."""

    wants_event: bool
    said: dict[str, Any] | None = None
    come: trio.Event = field(default_factory=trio.Event)


class JanusApi:
    """One connection to Janus with one session; `run` it in a nursery first."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: WebSocketConnection
        self._waiting: dict[str, Waiting] = {}
        self._numbers: Iterator[int] = itertools.count(1)
        self._session = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and keep the session until cancelled."""
        async with (
            open_websocket_url(self._url, subprotocols=["janus-protocol"]) as self._socket,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._listen)
            self._session = (await self.ask({"janus": "create"}))["data"]["id"]
            task_status.started()
            while True:
                await trio.sleep(ALIVE_S)
                await self.ask({"janus": "keepalive"})

    async def attach(self) -> int:
        """Return a new handle of the VideoRoom."""
        told = await self.ask({"janus": "attach", "plugin": "janus.plugin.videoroom"})
        return int(told["data"]["id"])

    async def message(self, handle: int, body: dict[str, Any], jsep: dict[str, str] | None = None) -> dict[str, Any]:
        """Ask the plugin what it answers later; returns the whole event. Raises SessionFailed."""
        request = {"janus": "message", "handle_id": handle, "body": body} | ({"jsep": jsep} if jsep else {})
        return await self.ask(request, wants_event=True)

    async def ask(self, request: dict[str, Any], *, wants_event: bool = False) -> dict[str, Any]:
        """Send a request and return its answer. Raises SessionFailed."""
        transaction = str(next(self._numbers))
        session = {"session_id": self._session} if self._session else {}
        waiting = self._waiting[transaction] = Waiting(wants_event)
        await self._socket.send_message(json.dumps({**request, **session, "transaction": transaction}))
        try:
            with trio.fail_after(ANSWER_S):
                await waiting.come.wait()
        except trio.TooSlowError:
            raise SessionFailed(f"Janus did not answer {request['janus']} within {ANSWER_S:g} s") from None
        finally:
            del self._waiting[transaction]
        assert waiting.said is not None
        return _checked(waiting.said)

    async def _listen(self) -> None:
        while True:
            said = json.loads(await self._socket.get_message())
            waiting = self._waiting.get(said.get("transaction", ""))
            if waiting is not None and not (waiting.wants_event and said["janus"] == "ack"):
                waiting.said = said
                waiting.come.set()


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    told = said.get("plugindata", {}).get("data", {})
    if said["janus"] == "error" or "error" in told:
        raise SessionFailed(f"Janus refused: {said.get('error') or told['error']}")
    return said
