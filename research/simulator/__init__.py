"""A server under load, without an engine: the real protocol and policy, and a cost model for time.

It answers questions of proportion: how full are passes, who waits, which T and G. It does not say
how fast a server is. Read in this order: `workload`, `costs`, `systems`, `request`, `server`,
`report`.
"""
