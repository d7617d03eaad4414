"""Archives: where backups lie, in a directory or an object store, and what is in them.

Nodes and the command line use it alike. `objects` reads and writes one object, `parts` packs and
unpacks records, `sealing` encrypts them, `backups` lists, reads whole, and deletes.
"""
