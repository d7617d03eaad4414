"""A tombstone is deleted only in a round to which every member agreed.

Decided here: which node leads the round of a partition, what a member agrees to, and how the data
of a disk that missed a round is kept apart (quarantine) until it has been compared.
Rules: S-DEL-1..3, S-DOT-2. Imports: `replica` and what is below it.
"""
