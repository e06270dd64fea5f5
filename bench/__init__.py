"""Load tools that run against any server, and the benchmarks behind every number in the README."""
