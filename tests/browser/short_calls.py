"""`mesi`, with the least length of a one-to-one lowered to what a test has time for; nothing else is different.

That a server refuses less than five minutes is shown where the rules are tested.
"""

from __future__ import annotations

from signalling.policy import one_to_one

SHORTEST_S = 10  # long enough for the warning ten seconds before the end to be left out, as in the longest


if __name__ == "__main__":
    one_to_one.ONE_TO_ONE_S = (SHORTEST_S, one_to_one.ONE_TO_ONE_S[1])
    from server.cli import main  # only now: what reads the least length on its import reads the lowered one

    main(prog_name="mesi")
