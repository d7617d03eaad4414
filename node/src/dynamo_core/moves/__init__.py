"""Partitions on their way from one owner to another.

Decided here: what the receiver does until it owns the partition, what an old owner promises, how
long writes stay joint after the switch, and what a node does with data that it does not own.
Rules: S-MOVE-1..5, S-MOVE-7. Imports: `repair`, `membership` and what is below them.
"""
