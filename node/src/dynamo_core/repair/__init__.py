"""How replicas become equal again: hints, comparisons, exchanges, scrub.

Decided here: which hint goes to which node, which partition is compared with whom and when, which
records cross in one walk, and whether a record still fits its hash tree.
Rules: S-HINT-2, S-HINT-3, S-AE-1..4. Imports: `replica` and what is below it.
"""
