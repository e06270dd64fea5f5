"""Log lines: readable for people, parseable for machines, and never two where one was written."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from server import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, settings = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**settings)


def test_a_terminal_gets_key_and_value() -> None:
    output = Terminal()
    log.configure(stream=output)
    structlog.get_logger("media").warning("dropped", reason="too\nlong")
    assert output.getvalue().endswith(" level='warning' logger='media' event='dropped' reason='too\\nlong'\n")


def test_everything_else_gets_one_json_object_a_line() -> None:
    output = io.StringIO()
    log.configure(stream=output)
    structlog.get_logger("edge").info("half", text="\ud800\n", raw=b"x", thing=object())
    logging.getLogger("somewhere").error("a %s", "library")
    first, second = map(json.loads, output.getvalue().splitlines())
    assert (first["logger"], first["event"], first["text"]) == ("edge", "half", "\ud800\n")
    assert (second["logger"], second["level"], second["event"]) == ("somewhere", "error", "a library")


def test_what_is_below_the_level_is_not_written() -> None:
    output = io.StringIO()
    log.configure("warning", output)
    structlog.get_logger().info("chatter")
    logging.getLogger("quart.app").info("chatter")
    assert output.getvalue() == ""


def test_an_exception_is_written_on_the_same_line() -> None:
    output = io.StringIO()
    log.configure(stream=output)
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("fault")
    assert "ValueError: why" in json.loads(output.getvalue())["exception"]
