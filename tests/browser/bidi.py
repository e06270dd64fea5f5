"""Drives a browser over WebDriver BiDi (W3C), the one protocol that Chromium and Firefox both speak."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

LARGEST_MESSAGE = 1 << 25  # a screenshot of a long page
ANSWER_WITHIN_S = 60.0  # a browser that starts its first page while the machine is busy
KEYS = {"Tab": "\ue004", "Enter": "\ue006", "Escape": "\ue00c", "Space": " ", "Shift": "\ue008", "Down": "\ue015"}


# What Firefox reports like an error of the page; the page itself says it better and tries again.
LOST_NETWORK = ("establish a connection", "was interrupted while", "WebRTC: ICE failed")


class ScriptFailed(AssertionError):
    """A script in a page threw; the message is its error."""


class CommandFailed(AssertionError):
    """The browser refused a command, or its page went away meanwhile."""


class Connection:
    """The commands and events of one browser."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self._websocket = websocket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[trio.Event, list[dict[str, Any]]]] = {}
        self.complaints: list[str] = []  # errors in pages that nobody caught

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            try:
                message = json.loads(await self._websocket.get_message())
            except ConnectionClosed:
                return
            if message.get("id") in self._waiting:
                event, answer = self._waiting.pop(message["id"])
                answer.append(message)
                event.set()
            elif message.get("method") == "log.entryAdded":
                entry = message["params"]
                if entry["type"] == "javascript" and not any(words in entry["text"] for words in LOST_NETWORK):
                    self.complaints.append(str(entry["text"]))

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        event, answer = trio.Event(), list[dict[str, Any]]()
        self._waiting[number] = event, answer
        await self._websocket.send_message(json.dumps({"id": number, "method": method, "params": params}))
        with trio.fail_after(ANSWER_WITHIN_S):
            await event.wait()
        if answer[0]["type"] != "success":
            raise CommandFailed(f"{method}: {answer[0]['error']}: {answer[0]['message']}")
        return dict(answer[0]["result"])


@asynccontextmanager
async def connect(address: str, *, new_session: bool) -> AsyncIterator[Connection]:
    """Speak with a browser for as long as the body runs; a session that is made here ends with it."""
    where = urlsplit(address)
    assert where.hostname is not None
    assert where.port is not None
    # The stream is held here: the WebSocket would not close it after the browser has, as Firefox does with its session.
    async with await trio.open_tcp_stream(where.hostname, where.port) as stream, trio.open_nursery() as nursery:
        websocket = await wrap_client_stream(
            nursery, stream, where.netloc, where.path, max_message_size=LARGEST_MESSAGE
        )
        connection = Connection(websocket)
        await nursery.start(connection.run)
        if new_session:
            await connection.ask("session.new", capabilities={})
        try:
            await connection.ask("session.subscribe", events=["log.entryAdded"])
            yield connection
        finally:
            if new_session:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                    await connection.ask("session.end")
        nursery.cancel_scope.cancel()


class Page:
    """One window. Scripts are bodies of async functions; their arguments and results are JSON values."""

    def __init__(self, connection: Connection, context: str) -> None:
        self.connection, self.context = connection, context

    async def open(self, url: str) -> None:
        await self.connection.ask("browsingContext.navigate", context=self.context, url=url, wait="complete")

    async def reload(self) -> None:
        await self.connection.ask("browsingContext.reload", context=self.context, wait="complete")

    async def run(self, script: str, *values: object) -> Any:
        """Return what the script returns; its arguments are in `values`. Raises ScriptFailed."""
        body = "async (values) => { values = JSON.parse(values); const result = await (async () => {"
        body += script + "\n})(); return JSON.stringify(result ?? null); }"
        answer = await self.connection.ask(
            "script.callFunction",
            functionDeclaration=body,
            arguments=[{"type": "string", "value": json.dumps(values)}],
            target={"context": self.context},
            awaitPromise=True,
            userActivation=True,
        )
        if answer["type"] != "success":
            raise ScriptFailed(str(answer["exceptionDetails"]["text"]))
        return json.loads(answer["result"]["value"])

    async def evaluate(self, source: str) -> None:
        """Run a whole script, such as a library."""
        await self.connection.ask(
            "script.evaluate", expression=source + "\n;0", target={"context": self.context}, awaitPromise=False
        )

    async def press(self, *keys: str) -> None:
        """Press keys as a person does: names like "Tab" or "Shift+Tab", or text to type."""
        actions: list[dict[str, str]] = []
        for key in keys:
            chord = [KEYS[part] for part in key.split("+")] if key.split("+")[0] in KEYS else list(key)
            if key.startswith("Shift+"):
                actions += [{"type": "keyDown", "value": value} for value in chord]
                actions += [{"type": "keyUp", "value": value} for value in reversed(chord)]
            else:
                for value in chord:
                    actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        await self.connection.ask(
            "input.performActions",
            context=self.context,
            actions=[{"type": "key", "id": "keyboard", "actions": actions}],
        )

    async def resize(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        await self.connection.ask("browsingContext.setViewport", context=self.context, viewport=viewport)

    async def front(self) -> None:
        await self.connection.ask("browsingContext.activate", context=self.context)

    async def shoot(self, path: Path) -> None:
        """Write a screenshot of the whole page, not only of what is scrolled into sight."""
        answer = await self.connection.ask("browsingContext.captureScreenshot", context=self.context, origin="document")
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))
