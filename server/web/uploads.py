"""Uploads by the tus protocol 1.0.0, so that stock clients send files that go on where a connection broke."""

from __future__ import annotations

import msgspec

from server.files import tus
from server.files.rows import File, Usage
from server.files.uploading import Uploads
from server.web.api import ROOT
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import AccountId

UPLOADS = f"{ROOT}/uploads"
UPLOAD = f"{UPLOADS}/{{upload}}"
TUS = ("tus_version", "malformed_header", "not_stored")
SENDING = ("upload_too_long", "checksum_mismatch", "storage_full", "file_type_not_allowed", "too_many_uploads")


class UploadView(msgspec.Struct, frozen=True):
    """An upload, and what became of it.

    `state` is uploading, received (whole, and being looked at), ready (for a message), or refused, with the code of
    why. The `id` is also the file's.
    """

    id: str
    name: str
    size: int
    offset: int
    state: str
    problem: str | None
    type: str | None
    expires_at: int | None


def upload_routes(uploads: Uploads) -> list[Route]:
    """Return the routes of uploads."""

    async def begin(asked: Asked) -> Answer:
        headers = _headers(asked)
        file = await uploads.begin(asked.actor.account, tus.new_upload_untrusted(headers))
        here = await _append(uploads, asked, file.id, 0) if "content-type" in headers else 0
        return Answer(None, {**_said(file, here), "Location": UPLOAD.format(upload=file.id)})

    async def show(asked: Asked) -> Answer:
        file, here = await uploads.find(asked.actor.account, asked.path["upload"])
        shown = UploadView(file.id, file.name, file.size, here, file.state, file.problem, file.type, file.expires_at)
        return Answer(shown, {**_said(file, here), "Cache-Control": "no-store"})

    async def append(asked: Asked) -> Answer:
        offset = tus.count_untrusted(_headers(asked), "upload-offset")
        id = asked.path["upload"]
        here = await _append(uploads, asked, id, offset)
        file, _ = await uploads.find(asked.actor.account, id)
        return Answer(None, _said(file, here))

    async def remove(asked: Asked) -> Answer:
        _headers(asked)
        await uploads.remove(asked.actor.account, asked.path["upload"])
        return Answer(None, {"Tus-Resumable": tus.VERSION})

    async def usage(asked: Asked) -> Answer:
        return Answer(await uploads.usage(asked.actor.account))

    beginning = (*TUS, "upload_empty", "upload_too_large", "space_used", "upload_unknown", "upload_offset", *SENDING)
    takes = tus.OFFSET_STREAM
    return [
        Route("POST", UPLOADS, "Begin", begin, takes=takes, body=bytes, status=201, problems=beginning),
        Route("GET", UPLOAD, "How far it is", show, result=UploadView, problems=("upload_unknown", "not_stored")),
        Route(
            "PATCH",
            UPLOAD,
            "Go on",
            append,
            takes=takes,
            body=bytes,
            status=204,
            problems=(*TUS, "upload_unknown", "upload_offset", *SENDING),
        ),
        Route("DELETE", UPLOAD, "Give it up", remove, status=204, problems=(*TUS, "upload_unknown", "file_attached")),
        Route("GET", f"{ROOT}/me/files", "What my files take", usage, result=Usage, problems=("not_stored",)),
    ]


async def _append(uploads: Uploads, asked: Asked, id: str, offset: int) -> int:
    account: AccountId = asked.actor.account
    checksum = tus.checksum_untrusted(asked.headers.get("Upload-Checksum", ""))
    _, here = await uploads.append(account, id, offset, asked.body, checksum)
    return here


def _said(file: File, here: int) -> dict[str, str]:
    return tus.said(here, file.size, file.expires_at)


def _headers(asked: Asked) -> dict[str, str]:
    """Return the headers of who speaks this version, by their names in small letters."""
    headers = {name.lower(): value for name, value in asked.headers.items()}
    tus.require_version(headers)
    return headers
