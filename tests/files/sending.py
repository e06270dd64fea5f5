"""Sends files to a node by tus, waits until they are ready, and gets them back."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import trio

from server.config import Config
from server.files.settings import FileSettings
from tests.server.nodes import Person, Site, open_site, small_config

WAIT_S = 60.0  # for a worker on a machine that does much else
STREAM = "application/offset+octet-stream"


def described(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


async def tus(person: Person, method: str, path: str, content: Any = None, **headers: str) -> httpx2.Response:
    sent = {"Authorization": f"Bearer {person.token}", "Tus-Resumable": "1.0.0"}
    sent |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    if content is not None:
        sent.setdefault("Content-Type", STREAM)
    return await person.http.request(method, path, content=content, headers=sent)


async def begin(person: Person, size: int, name: str = "a file", **more: str) -> str:
    """Begin an upload; return its address."""
    answer = await tus(
        person, "POST", "/api/v1/uploads", upload_length=str(size), upload_metadata=described(filename=name, **more)
    )
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


async def go_on(person: Person, upload: str, offset: int, content: Any, **headers: str) -> httpx2.Response:
    return await tus(person, "PATCH", upload, content, upload_offset=str(offset), **headers)


async def code_of(answer: httpx2.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["code"])


async def send(person: Person, content: bytes, name: str = "a file") -> dict[str, Any]:
    """Send a file; return what became of it."""
    upload = await begin(person, len(content), name)
    answer = await go_on(person, upload, 0, content)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(content))), answer.text
    return await settled(person, upload)


async def settled(person: Person, upload: str) -> dict[str, Any]:
    with trio.fail_after(WAIT_S):
        while True:
            view = dict(await person.ask("GET", upload.removeprefix("/api/v1")))
            if view["state"] not in ("uploading", "received"):
                return view
            await trio.sleep(0.05)


@asynccontextmanager
async def hanging(person: Person, upload: str, part: bytes, declared: int) -> AsyncIterator[trio.SocketStream]:
    """Send a part of an upload, and then nothing more."""
    url = person.http.base_url
    stream = await trio.open_tcp_stream(url.host, url.port or 80)
    async with stream:
        head = [f"PATCH {upload} HTTP/1.1", f"Host: {url.host}", f"Authorization: Bearer {person.token}"]
        head += ["Tus-Resumable: 1.0.0", "Upload-Offset: 0", f"Content-Type: {STREAM}", f"Content-Length: {declared}"]
        await stream.send_all("\r\n".join([*head, "", ""]).encode() + part)
        yield stream


async def read_answer(stream: trio.SocketStream) -> bytes:
    """Read to the end of a connection."""
    return b"".join([part async for part in stream])


async def until(is_so: Callable[[], bool]) -> None:
    """Look until something is so."""
    with trio.fail_after(WAIT_S):
        while not is_so():  # noqa: ASYNC110 - another process makes it so
            await trio.sleep(0.02)


async def get(person: Person, path: str, **headers: str) -> httpx2.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await person.http.get(path, headers={"Authorization": f"Bearer {person.token}", **sent})


def settings_of(folder: Path, **files: Any) -> Config:
    return msgspec.structs.replace(
        small_config(folder), files=msgspec.convert({"keep_free_mib": 0, **files}, FileSettings)
    )


@asynccontextmanager
async def filing_site(folder: Path, **files: Any) -> AsyncIterator[Site]:
    async with open_site(folder, settings_of(folder, **files)) as site:
        yield site
