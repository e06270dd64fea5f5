"""`python -m bench`: every tool by name, with a line on what it is for."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import click

# In the order of the list; each is a module with a command `main`, whose docstring's first line says what it is for.
TOOLS = (
    "all",
    "load",
    "compare",
    "fanout",
    "join",
    "networks",
    "cut",
    "soak",
    "first_picture",
    "chat",
    "sockets",
    "messages",
    "purchases",
    "moq",
    "moq_packets",
    "way_feedback",
    "workers",
    "plan",
)
HERE = Path(__file__).resolve().parent


class Tools(click.Group):
    """The tools; a module is loaded when it is run, as some compile what they need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names."""
        return list(TOOLS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one tool, None for a name that is none."""
        name = cmd_name.replace("-", "_")
        if name not in TOOLS:
            return None
        command: click.Command = importlib.import_module(f"bench.{name}").main
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without loading anything."""
        with formatter.section("Tools"):
            formatter.write_dl([(name, purpose(name)) for name in TOOLS])


def purpose(name: str) -> str:
    """Return what a tool is for, in its own words."""
    docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ").partition(": ")[2]


@click.command(cls=Tools, context_settings={"max_content_width": 120})
def main() -> None:
    """Load tools that run against any server, and the benchmarks behind every number in the README.

    Each says more with --help, takes --json FILE and --html FILE (`all`: a folder), and ends with status 1 where it
    missed its target.
    """


if __name__ == "__main__":
    main(prog_name="python -m bench")
