"""How replicas become equal again: hints, comparisons, exchanges, scrub.

Decided here: which hint goes to which node, which partition this node compares with which owner and
when, which records one walk exchanges, and whether a record still fits its hash tree.
Rules: S-HINT-2, S-HINT-3, S-AE-1..4. Imports: `replica` and what is below it.
"""
