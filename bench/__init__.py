"""Load tools that run against any server, and the benchmarks behind every number in the README.

`python -m bench.load` works with any WHIP and WHEP server; `bench.fanout`, `bench.cut`, `bench.chat` and `bench.join`
start a Mesi of their own. Results go to standard output, as a table or with --json; a missed target ends with status 1.
"""
