"""What one replica knows of one key, and which version follows which.

Decided here: dots and histories, how a put changes a record, how two records merge, their
canonical bytes, and the sealed context that a client carries from a get to a put.
Rules: S-DOT-1, S-DOT-4, S-CTX-1, S-CTX-2, S-TTL-1. Imports: the files of the root.
"""
