"""Files as those get them who may see them: whole or in parts, and as nothing but what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta
from quart import request

from server.files.desk import FileDesk
from server.files.naming import disposition
from server.files.ranges import range_untrusted
from server.files.rows import File
from server.web import schemas as s
from server.web.api import ROOT
from server.web.routes import Access, Answer, Asked, Route, Serve
from signalling.identifiers import AccountId

TICKETED = "/media/{file}"
PREVIEW_TYPE = "image/webp"
OCTETS = "application/octet-stream"
ANY = "*/*"
# Whatever is inside, it runs no script, loads nothing, and is shown in no other site's page.
HARMLESS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",  # kept, and asked for anew each time: who may see it may change
}


class FileTicket(msgspec.Struct, frozen=True):
    """What stands in addresses of files (`/media/FILE?ticket=...`) where no header can be sent; until when it holds."""

    ticket: str
    expires_at: int


class TicketQuery(s.Taken, frozen=True):
    """Whose request it is."""

    ticket: Annotated[str, Meta(max_length=4096)] = ""


def file_routes(desk: FileDesk) -> list[Route]:
    """Return the routes of files."""

    async def find(account: AccountId, asked: Asked) -> File:
        return await desk.find(account, asked.path["file"])

    async def show(asked: Asked) -> Answer:
        return show_file(desk, await find(asked.actor.account, asked), asked)

    async def preview(asked: Asked) -> Answer:
        return await show_preview(desk, await find(asked.actor.account, asked), asked)

    async def show_to_holder(asked: Asked) -> Answer:
        return show_file(desk, await find(desk.holder_untrusted(asked.query.ticket), asked), asked)

    async def preview_to_holder(asked: Asked) -> Answer:
        return await show_preview(desk, await find(desk.holder_untrusted(asked.query.ticket), asked), asked)

    async def issue(asked: Asked) -> Answer:
        return Answer(FileTicket(*desk.ticket(asked.session)))

    problems = ("file_unknown", "not_stored")
    ranged = (*problems, "range_not_satisfiable")
    return [
        Route("GET", f"{ROOT}/files/{{file}}", "A file", show, result=bytes, gives=ANY, problems=ranged),
        Route(
            "GET",
            f"{ROOT}/files/{{file}}/preview",
            "A small picture of it",
            preview,
            result=bytes,
            gives=PREVIEW_TYPE,
            problems=problems,
        ),
        Route("POST", f"{ROOT}/me/file_ticket", "A ticket to see files with", issue, result=FileTicket),
        _ticketed(TICKETED, "A file, by a ticket", show_to_holder),
        _ticketed(f"{TICKETED}/preview", "A small picture of it, by a ticket", preview_to_holder),
    ]


def _ticketed(path: str, summary: str, serve: Serve) -> Route:
    problems = ("no_session", "file_unknown", "range_not_satisfiable", "not_stored")
    given = Route("GET", path, summary, serve, Access.ANYONE, result=bytes, gives=ANY, problems=problems)
    return replace(given, query=TicketQuery)


def show_file(desk: FileDesk, file: File, asked: Asked) -> Answer:
    """Return the answer that gives a file, or the part of it that is asked for."""
    kind = file.type or OCTETS
    headers = {
        **HARMLESS,
        "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "Content-Disposition": disposition(file.name, kind),
        "Accept-Ranges": "bytes",
        "ETag": _tag(file),
    }
    if _known(asked, file):
        return Answer(None, headers, 304)
    part = range_untrusted(asked.headers.get("Range", ""), file.size) if _is_same(asked, file) else None
    start, stop = part or (0, file.size)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    body = None if request.method == "HEAD" else desk.read(file, start, stop)
    return Answer(body, headers, 200 if part is None else 206)


async def show_preview(desk: FileDesk, file: File, asked: Asked) -> Answer:
    """Return the answer that gives a small picture of a file."""
    headers = {**HARMLESS, "ETag": _tag(file)}
    if _known(asked, file):
        return Answer(None, headers, 304)
    return Answer(await desk.preview(file), {**headers, "Content-Type": PREVIEW_TYPE})


def _tag(file: File) -> str:
    return f'"{file.id}"'  # what is kept under an id never changes


def _known(asked: Asked, file: File) -> bool:
    known = [tag.strip().removeprefix("W/") for tag in asked.headers.get("If-None-Match", "").split(",")]
    return _tag(file) in known or "*" in known


def _is_same(asked: Asked, file: File) -> bool:
    return asked.headers.get("If-Range", _tag(file)) == _tag(file)
