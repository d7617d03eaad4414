"""This node's part in the ring: how it begins, hears of it, and leaves.

Decided here: how a ring begins, whose document is taken, how a node with a lost disk comes back,
where this node is dialled, and what a node does that is in the ring no more.
Rules: S-RING-3, S-RING-5, S-MEM-1..5, S-IN-2. Imports: `replica` and what is below it.
"""
