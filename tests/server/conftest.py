"""The node that the tests of hostile clients share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.nodes import small_config
from tests.server.thread_node import ThreadNode, thread_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadNode]:
    with thread_node(small_config(tmp_path_factory.mktemp("node"))) as running:
        yield running
