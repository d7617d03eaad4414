"""One request of a client: which nodes to ask, when to answer, what to repair.

Decided here: whether this node takes a request, whether a quorum is met, pending or impossible,
which nodes hold a put, and what a get sends to the owners that lack something.
Rules: S-RW-1..8, S-REQ-1, S-REQ-2, S-DOT-4, C16. Imports: `runtime` and what is below it. Not
`replica`: the local replica is called like any other node.
"""
