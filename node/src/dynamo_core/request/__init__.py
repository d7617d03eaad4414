"""One request of a client: whom to ask, when to answer, what to repair.

Decided here: whether a request gets in, whether a quorum is met, pending or impossible, which
nodes hold a put, and what a get tells the owners that lag behind.
Rules: S-RW-1..8, S-REQ-1, S-REQ-2, S-DOT-4, C16. Imports: `runtime` and what is below it; the
local replica is called like any other node, so `replica` is not imported.
"""
