"""Tombstones go by proof: a round to which every member agreed.

Decided here: who leads the round of a partition, what a member agrees to, and how a disk that
slept through a round is kept apart (quarantine) until its data has been compared.
Rules: S-DEL-1..3, S-DOT-2. Imports: `replica` and what is below it.
"""
