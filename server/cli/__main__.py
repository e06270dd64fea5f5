"""`python -m server.cli`: the same as `mesi`."""

from server.cli import main

main(prog_name="mesi")
