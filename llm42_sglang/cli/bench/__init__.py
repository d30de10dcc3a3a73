"""`llm42 bench`: what determinism costs here, beside stock SGLang on the same machine.

Commands: `throughput`, `latency`, `passes`. All servers of a command run at the same time, and one
of them is loaded at a time. Every command prints hardware and workload above its table, and JSON as
its last line.
"""
