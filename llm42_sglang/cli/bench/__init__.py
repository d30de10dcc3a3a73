"""`llm42 bench`: what determinism costs here, beside stock SGLang on the same machine.

Commands: `throughput`, `latency`, `passes`. What they share:
- `workload`    who asks for what: seeded prompts, mixes of lengths, the share of deterministic ones
- `servers`     stock SGLang, one request at a time, ours
- `load`        the load generator: a closed loop or Poisson arrivals
- `outcome`     one streamed answer, and the times defined on it
- `stats`       percentiles, rates, and how much verification rolled back
- `options`, `report`  the command line, and what is printed and written

All servers of a command run at the same time, and one of them is loaded at a time. Every command
prints hardware and workload above its table, and JSON as its last line.
"""
