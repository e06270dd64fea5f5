"""Load tools that run against any server, and the benchmarks behind every number in the README.

`python -m bench.load` works with any WHIP and WHEP server; `bench.fanout`, `bench.cut`, `bench.chat` and `bench.join`
start a Mesi of their own. `python -m bench` lists them all.
Results go to standard output, and with --json and --html to files; a missed target ends with status 1.
"""
