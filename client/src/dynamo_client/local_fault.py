"""What hinders nodes of this machine; apart from `local_nodes`, which takes a moment to load."""

from __future__ import annotations

EXTRA = "[node]"
"""Of this package: without it there is no node to start."""


class LocalFault(RuntimeError):
    """What hinders local nodes, in one line; `field` names what to change, when it is an option."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
