"""The protocol, in pure Python: no SGLang, no torch, no I/O.

Read in this order, ten minutes in all:

1. `pages`    positions, pages and spans
2. `verdict`  what one verified page decides
3. `track`    one request's state, the events that move it and the actions that follow
4. `policy`   when a canonical pass runs, and who rides in it
5. `packing`  pages cut into passes of one shape
6. `receipts` what a deterministic response carries
7. `config`   T and G, validated

Words are those of docs/concepts.md: page, slot, candidate, committed, canonical pass, rollback.
"""
