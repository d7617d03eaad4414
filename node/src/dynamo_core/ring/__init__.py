"""The ring document: the members, and the nodes that own each partition.

Decided here: how two documents merge, which nodes own a partition, which stand-ins follow them,
what an administrator's change means, which documents it makes, and whether a document makes sense.
Rules: S-RING-1..3, S-MOVE-6, S-IN-2, T-3. Imports: `keys`, `errors`, `settings`, `bounds`.
"""
