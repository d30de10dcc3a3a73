"""A server under load, without an engine: the real protocol and policy, a cost model for time.

It answers questions of proportion (how full are passes, who waits, which T and G), not of absolute
speed. Read in this order:

1. `workload`  who asks for what, and how often the fast path is wrong
2. `costs`     what a forward costs, and where the numbers come from
   `measured`  the same, from what a server has measured of itself
3. `systems`   what is compared: ours, and LLM-42's artifact as this project reads it
4. `request`   one request; the deterministic one moves `core.track`
5. `admission` who makes the next prefill batch
6. `server`    the loop: prefill, passes, decode step
7. `report`    what was measured
"""
