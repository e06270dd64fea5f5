"""`mesi`, the console program: starts servers, and asks running ones."""

from server.cli.program import main

__all__ = ["main"]
