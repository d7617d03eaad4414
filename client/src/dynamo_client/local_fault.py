"""Errors of local nodes; a separate module, because `local_nodes` takes long to load."""

from __future__ import annotations

EXTRA = "[node]"
"""The extra of this package that has the node."""


class LocalFault(RuntimeError):
    """Why local nodes cannot run, in one line; `field` is the option to change, if any."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
