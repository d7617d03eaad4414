"""Looks: what people may see of one node, and of all nodes side by side (docs/console.md).

Decided here: what a node shows of a record, a history, a hash tree, hints and its status; which
nodes one node asks; how their answers become one document. A look changes nothing.
Rules: S-IN-2 (answers of peers), S-DISK-7 (a damaged record is shown as damaged). Imports: every
room of the core below it; only `parts` and the shell import this one.
"""
