"""A whole ring into an archive and back: backups, restores, manifests.

Decided here: which node saves which partition, what a manifest says, and how the records of an
archive are merged into a ring.
Rules: S-BAK-1 to S-BAK-3. Imports: every room of the core; only `node` imports this one.
"""
