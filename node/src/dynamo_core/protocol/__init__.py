"""What clients ask, what nodes say to each other, and the bytes of it.

Decided here: the operations, every message and its tag, the frame and its keyed tag, and the checks
of a message: its types, its values together, its records, its answer.
Rules: S-IN-2, S-NET-3, T-1, T-2, T-3. Imports: `causality`, `ring`, the files of the root.
"""
