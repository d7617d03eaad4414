"""Partitions on their way from one owner to another.

Decided here: what the receiver does until it owns the partition, what an old owner promises, what
stands until every old owner knows of the switch, and what becomes of data that nobody here owns.
Rules: S-MOVE-1..5, S-MOVE-7. Imports: `repair`, `membership` and what is below them.
"""
