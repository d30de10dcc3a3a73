"""`llm42 bench`: what determinism costs on this machine, compared with stock SGLang.

The commands are `throughput`, `latency` and `passes`. All servers of a command run at the same
time, but one at a time is loaded. A command prints hardware and workload above its table, and JSON
as its last line.
"""
