"""The decisions of the store, and nothing else.

Inside: immutable values (ring, versions, tree) and small machines (get, put, gossip, hints,
repair), plus `node.Node`, which ties them together for one process. Time, randomness and ids are
arguments, I/O is data that comes out. May not come in: clocks, sockets, files, logging, asyncio,
third-party packages other than msgspec (the codec).
"""
