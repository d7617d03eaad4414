"""What administrators ask: status, plans, changes of the ring, keys, repairs.

Decided here: how a plan is shown, applied and cancelled, and the JSON answers.
Rules: S-MOVE-4, S-MOVE-6, S-MOVE-7. Imports: every room of the core; only `node` imports this one.
"""
