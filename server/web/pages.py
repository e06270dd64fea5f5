"""The files of the page: read and put together once at start, so that no request ever touches the file system."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.web.routes import Access, Answer, Asked, Route

# Not left to mimetypes, which reads the machine's own tables.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
MAX_FILE = 1_048_576  # a page without a build step has no larger file; who puts one there by mistake is told

HEADERS = {
    # Blobs: the camera's preview and pictures drawn on the page. https: WebTransport, which may have another port.
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' https: ws: wss:; media-src 'self' blob:; img-src 'self' data: blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked for anew each time: an update shows at once, for one short answer
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent."""

    content: bytes
    content_type: str
    etag: str


def page_routes(folder: Path) -> list[Route]:
    """Return one route for each file below `folder`; "index.html" is also its folder, "x.html" also "x".

    HTML files are Jinja templates without variables, so that they can share a frame. A name in braces, as in
    "u/{name}.html", stands for anything: what it is the page reads from its own address. What begins with a dot or an
    underscore is not served. Raises ValueError for a file that is too large and TemplateError for a wrong template.
    """
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    routes = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "_")) for part in relative.parts):
            serve = partial(_send, _read(path, templates, relative.as_posix()))
            routes += [
                Route("GET", address, "A file of the page", serve, Access.ANYONE) for address in _addresses(relative)
            ]
    return routes


def _read(path: Path, templates: Environment, name: str) -> StaticFile:
    is_template = path.suffix == ".html"
    content = templates.get_template(name).render().encode() if is_template else path.read_bytes()
    if len(content) > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE} bytes: the page serves only small files")
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return StaticFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _addresses(relative: Path) -> list[str]:
    address = "/" + relative.as_posix()
    if relative.name == "index.html":
        return [address, address.removesuffix("index.html")]
    return [address, address.removesuffix(".html")] if relative.suffix == ".html" else [address]


async def _send(file: StaticFile, asked: Asked) -> Answer:
    headers = {**HEADERS, "ETag": file.etag, "Content-Type": file.content_type}
    known = [tag.strip().removeprefix("W/") for tag in asked.headers.get("If-None-Match", "").split(",")]
    if file.etag in known or "*" in known:
        del headers["Content-Type"]
        return Answer(None, headers, 304)
    return Answer(file.content, headers)
