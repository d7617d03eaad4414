"""How machines run on a node: calls, answers, clocks, frames in and out.

Decided here: the contract of a machine, which call an answer belongs to, which peer is up, when
one node more is asked, how fast background work may go, and what leaves in the next frame.
Rules: S-NET-1..3, S-MEM-2, S-RW-9, S-BG-1, T-5. Imports: `protocol` and what is below it.
No mechanism of the store is known here by name.
"""
