"""The files of the page as they are served: put together once, from a shared frame."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import TemplateError
from werkzeug.datastructures import Headers

import server
from server.web.pages import MAX_FILE, page_routes
from server.web.routes import Asked

PAGE = Path(server.__file__).parent / "page"


class Outline(HTMLParser):
    """What a page has that each must have once, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.loads: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.seen.append(tag)
        given = dict(attrs)
        self.loads |= {given["src" if tag == "script" else "href"] or ""} if tag in ("script", "link") else set()


async def read(folder: Path, address: str) -> str:
    """Return what is served at `address`."""
    (route,) = [route for route in page_routes(folder) if route.path == address]
    answer = await route.serve(Asked({}, Headers()))
    return str(answer.body.decode())


@pytest.mark.parametrize("page", sorted(path.relative_to(PAGE).as_posix() for path in PAGE.rglob("[!_]*.html")))
async def test_every_page_has_one_frame_and_loads_only_what_there_is(page: str) -> None:
    text, outline = await read(PAGE, f"/{page}"), Outline()
    outline.feed(text)
    for tag in ("html", "head", "title", "body", "header", "main"):
        assert outline.seen.count(tag) == 1, f"{page} has {outline.seen.count(tag)} of <{tag}>"
    served = {route.path for route in page_routes(PAGE)}
    assert outline.loads <= served, f"{page} loads what is not there"
    assert "{%" not in text, "a template's own words are shown"


def test_the_frame_itself_is_not_served() -> None:
    assert not [route.path for route in page_routes(PAGE) if route.path.rpartition("/")[2].startswith("_")]


def test_a_template_that_asks_for_what_nobody_gives_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("{{ title }}")
    with pytest.raises(TemplateError, match="title"):
        page_routes(tmp_path)


def test_a_file_put_there_by_mistake_is_told(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(MAX_FILE + 1))
    with pytest.raises(ValueError, match=r"film\.mp4 is larger"):
        page_routes(tmp_path)
