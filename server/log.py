"""Sets up logging, once and in one place: key=value for a terminal, JSON for everything else."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, TextIO

import msgspec
import structlog

# Libraries that log each request or connection at INFO.
TALKATIVE = ("quart", "httpx2", "httpcore2", "alembic", "websockets")


class _Named(structlog.WriteLogger):
    """A logger that knows the name it was asked for by: `structlog.get_logger("media")`."""

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's records of `level` and above to `stream` (standard error)."""
    output = sys.stderr if stream is None else stream
    threshold: int = getattr(logging, level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    render = _renderer(output)
    structlog.configure(
        processors=[_add_name, *shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda name="mesi": _Named(output, name),
        cache_logger_on_first_use=False,  # modules ask for their logger when imported, before this is called
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _renderer(output: TextIO) -> structlog.typing.Processor:
    if output.isatty():
        # Values are quoted and escaped: what a client sent can't forge a line.
        return structlog.processors.KeyValueRenderer(
            key_order=["timestamp", "level", "logger", "event"], drop_missing=True
        )
    return structlog.processors.JSONRenderer(serializer=_json)


def _json(value: Any, **_: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except (UnicodeEncodeError, TypeError):  # half a surrogate pair from a client, or keys that are no text
        return json.dumps(value, default=repr, skipkeys=True)


def _add_name(logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["logger"] = logger.name
    return event
