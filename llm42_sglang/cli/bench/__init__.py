"""`llm42 bench`: what determinism costs and buys here, against the alternatives.

Shared:
- `workload`    who asks for what: seeded prompts, mixes of lengths, the share of deterministic ones
- `servers`     stock SGLang, one request at a time, ours
- `load`        the load generator: a closed loop or Poisson arrivals, every chunk timed
- `outcome`     one streamed answer, and the times defined on it
- `turns`       loads side by side: one server runs, the others are stopped (with `clock`)
- `stats`       percentiles and rates
- `recompute`   how much verification rolled back; refuses answers that are not verified
- `options`, `report`  the command line, and what is printed and written

Commands: `throughput`, `latency`, `beside`, `divergence`, `passes`, `invariance` (with `operators`
and `attention_rows`).

Every command prints hardware and workload above its table, and JSON as its last line.
"""
