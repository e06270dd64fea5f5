"""One server and one browser of each kind for all the stories: each test has windows and people of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.browser.browsers import Browser, start_chromium, start_firefox
from tests.browser.servers import Server, running
from tests.browser.visitors import ARTEFACTS, Theatre, open_theatre


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def firefox() -> Iterator[Browser]:
    with start_firefox() as browser:
        yield browser


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Server(Path(tmp_path_factory.mktemp("server")))) as server:
        yield server


@pytest.fixture
async def theatre(server: Server, chromium: Browser, firefox: Browser) -> AsyncIterator[Theatre]:
    async with open_theatre(server, chromium, firefox) as theatre:
        yield theatre


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ARTEFACTS.exists():
        terminalreporter.write_line(f"Screenshots of the page: {ARTEFACTS}")
