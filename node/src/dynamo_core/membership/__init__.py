"""This node as a member of the ring: how it joins, learns of changes, and leaves.

Decided here: how a ring begins, whose ring document is taken, how a node with a lost disk comes
back, where other nodes dial this node, what a node does after it has left the ring, and how a copy
of a disk becomes one of another ring.
Rules: S-RING-3, S-RING-5, S-MEM-1..5, S-BAK-4, S-IN-2. Imports: `replica` and what is below it.
"""
