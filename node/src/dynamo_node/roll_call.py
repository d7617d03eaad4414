"""Log lines about the members that this node cannot reach, and why (S-MEM-5).

Once after its start the node logs which members do not answer. When the core finds a fault in the
node's address, the node logs it at once. It also logs seeds that cannot be reached.
"""

from __future__ import annotations

import structlog

from dynamo_core.node import Node
from dynamo_node.clock import now_s
from dynamo_node.peer_link import Links

START_S = 5.0
"""Time for another node that starts together with this one."""
log = structlog.get_logger()


class RollCall:
    """Looks at one node at intervals and writes to the log."""

    def __init__(self, node: Node, links: Links) -> None:
        self._node = node
        self._links = links
        self._due = now_s() + START_S
        self._told = ""

    def look(self) -> None:
        """One look; cheap if all is well."""
        trouble = self._node.whereabouts.trouble()
        if trouble != self._told:
            self._told = trouble
            if trouble:
                log.warning(trouble)
            else:
                log.info("members hear this node, at its address in the ring")
        if self._due and now_s() >= self._due:
            self._due = 0.0
            self._call()

    def _call(self) -> None:
        """Once, some seconds after the start."""
        node = self._node
        if node.ring_or_none is not None:
            silent = node.whereabouts.unheard()
            if silent:
                words = [f"{name} at {address}: {self._why(address)}" for name, address in silent]
                log.warning("members that do not answer", members="; ".join(words))
        elif node.identity.seeds and not node.detector.peers:
            words = [f"{seed}: {self._why(seed)}" for seed in node.identity.seeds]
            log.warning("seeds that do not answer", seeds="; ".join(words))

    def _why(self, address: str) -> str:
        route = self._links.routes.get(address)
        return route.why if route is not None else "not dialled"
