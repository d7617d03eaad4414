"""The copy of one node: what it holds, how it changes, what it answers.

Decided here: what this node writes in one turn, which actor makes an event, which partitions are
complete, which hints are kept, the hash tree, which tombstones may be forgotten, and the answer to
each message that asks this copy.
Rules: S-DOT-1..3, S-HINT-1..5, S-AE-1, S-DISK-2, S-DEL-2. Imports: `runtime` and what is below.
"""
