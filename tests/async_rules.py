"""`python -m tests.async_rules FILE ...`: flake8-async's rules, without what of it takes nine tenths of the time.

It reads a file into two trees, and only ASYNC101 (a yield within a nursery or a cancel scope) of the rules used here
needs the slow one: so only files with an async generator that is no context manager get it. ASYNC9 (a checkpoint in
every path) is off as by default; ASYNC124 too, as a route's handler is awaited even if it never waits; ASYNC100 and
ASYNC300 are ruff's ASYNC100 and RUF006.
"""

from __future__ import annotations

import ast
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterator

from flake8_async import Plugin
from flake8_async.runner import Flake8AsyncRunner

OPTIONS = (
    "--startable-in-context-manager=run,serve,run_node,stream_demo,_end_on_signal,_host,_forward,_publish",
    "--disable=ASYNC9,ASYNC124,ASYNC300",
)
EXCUSED = re.compile(r"# noqa: ([A-Z0-9, ]+)")
NO_GENERATORS = ("asynccontextmanager", "fixture")


def complaints(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each."""
    tree, lines = ast.parse(source), source.splitlines()
    if any(isinstance(node, ast.AsyncFunctionDef) and _is_generator(node) for node in ast.walk(tree)):
        yield from ((problem.line, str(problem)) for problem in Plugin.from_source(source).run())
        return
    for problem in Flake8AsyncRunner.run(tree, Plugin._options):
        excused = EXCUSED.search(lines[problem.line - 1])
        if excused is None or problem.code not in excused[1]:
            yield problem.line, str(problem)


def _is_generator(function: ast.AsyncFunctionDef) -> bool:
    decorators = " ".join(ast.unparse(part) for part in function.decorator_list)
    is_one = any(isinstance(node, ast.Yield) for node in _own(function))
    return is_one and not any(name in decorators for name in NO_GENERATORS)


def _own(function: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _own(node)


def main() -> int:
    """Return 1 where there is something to complain of."""
    parser = ArgumentParser()
    Plugin.add_options(parser)
    options = parser.parse_args([*OPTIONS, *sys.argv[1:]])
    Plugin.parse_options(options)
    said = 0
    for name in options.files:
        with open(name, encoding="utf-8") as file:
            for _line, text in sorted(complaints(file.read())):
                sys.stdout.write(f"{name}:{text}\n")
                said = 1
    return said


if __name__ == "__main__":
    sys.exit(main())
