"""The protocol, in pure Python: no SGLang, no torch, no I/O.

Read in this order, ten minutes in all:

1. `pages`    positions, pages and spans
2. `verdict`  what one verified page decides
3. `track`    one request's state, the events that move it and the actions that follow
4. `packing`  which pages ride in which canonical pass
5. `receipts` what a deterministic response carries
6. `config`   T and G, validated

Words are DESIGN's: page, slot, candidate, committed, canonical pass, rollback.
"""
