"""What can go wrong with the nodes of one directory, for the what-if page (docs/console.md).

Each fault is done to a real process: a signal, its disk, a limit of the system, its clock, or the
proxies between nodes. `heal` takes all of them back.
"""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

import msgspec

from dynamo_client.local_fault import LocalFault
from dynamo_client.local_links import LocalLinks
from dynamo_client.local_nodes import LocalNode, LocalRing
from dynamo_client.local_process import until

SKEW_S_MAX = 10 * 365 * 86400
FULL_BYTES = 1
"""A file of a node with a full disk may not grow beyond this."""
START_S_MAX = 60.0
NO_LINKS = "links in TLS hide which node speaks, and without proxies no link can be cut"
NO_LIMITS = "this system cannot set a limit of another process"


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A fault that a page asks for. `node` for most, `source` and `target` for `cut` and
    `mend`, `ahead_s` for `skew`."""

    fault: str
    node: str = ""
    source: str = ""
    target: str = ""
    ahead_s: float = 0.0


class LocalFaults:
    """The faults of the ring in one directory. Methods may be called from several threads."""

    def __init__(self, directory: Path, links: LocalLinks | None) -> None:
        self.directory = directory
        self._links = links
        self._full: set[str] = set()
        self._frozen: set[str] = set()
        self._skews: dict[str, float] = {}
        self._turn = RLock()
        self._faults: dict[str, Callable[[LocalNode], None]] = {
            "kill": self._kill, "start": self._start, "freeze": self._freeze, "thaw": self._thaw,
            "wipe": self._wipe, "copy": self._copy, "rollback": self._roll_back,
            "fill": self._fill, "empty": self._empty,
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Each node with its faults, the cut links, and what this machine cannot do."""
        ring = LocalRing(self.directory)
        nodes = {
            name: {
                "running": node.alive,
                "frozen": name in self._frozen and node.alive,
                "full": name in self._full and node.alive,
                "ahead_s": self._skews.get(name, 0.0),
                "copied": self._copy_of(node).exists(),
            }
            for name, node in ring.nodes.items()
        }
        cannot = {"cut": NO_LINKS} if self._links is None else {}
        if not hasattr(resource, "prlimit"):
            cannot["fill"] = NO_LIMITS
        cuts = sorted(self._links.cuts) if self._links else []
        return {"nodes": nodes, "cuts": cuts, "cannot": cannot}

    def asleep(self, name: str) -> bool:
        """Whether this node is frozen, so that it answers nothing."""
        return name in self._frozen

    def do(self, wanted: Wanted) -> None:
        """Makes one fault. Raises LocalFault, which names the field."""
        with self._turn:
            if wanted.fault == "heal":
                self.heal()
            elif wanted.fault in ("cut", "mend"):
                self._link(wanted)
            elif wanted.fault == "skew":
                if not -SKEW_S_MAX <= wanted.ahead_s <= SKEW_S_MAX:
                    raise LocalFault(f"at most {SKEW_S_MAX} seconds", "ahead_s")
                self._skew(self._node(wanted.node), wanted.ahead_s)
            elif wanted.fault in self._faults:
                self._faults[wanted.fault](self._node(wanted.node))
            else:
                known = ", ".join([*self._faults, "cut", "mend", "skew", "heal"])
                raise LocalFault(f"{wanted.fault!r} is none of {known}", "fault")

    def heal(self) -> None:
        """Takes all faults back, and starts the nodes that do not run. Raises LocalFault."""
        with self._turn:
            self.release()
            ring = LocalRing(self.directory)
            for name in list(self._skews):
                del self._skews[name]
                if (node := ring.nodes.get(name)) is not None:
                    node.kill()
            for node in ring.nodes.values():
                if not node.alive:
                    node.start(*ring.flags)
            for node in ring.nodes.values():
                until(node.lives, f"{node.name} does not answer", START_S_MAX)

    def release(self) -> None:
        """Lets every process run freely again, so that it can be stopped."""
        with self._turn:
            if self._links is not None:
                self._links.mend()
            for node in LocalRing(self.directory).nodes.values():
                self._thaw(node)
                self._empty(node)

    def _node(self, name: str) -> LocalNode:
        ring = LocalRing(self.directory)
        if name not in ring.nodes:
            raise LocalFault(f"no node {name!r}; there are {', '.join(ring.nodes)}", "node")
        return ring.nodes[name]

    def _running(self, node: LocalNode) -> int:
        process = node.process
        if process is None or not process.alive:
            raise LocalFault(f"{node.name} does not run", "node")
        return process.pid

    def _signal(self, node: LocalNode, signum: int) -> None:
        if (process := node.process) is not None:
            process.send(signum)

    def _kill(self, node: LocalNode) -> None:
        self._running(node)
        node.kill()
        self._forget(node)

    def _forget(self, node: LocalNode) -> None:
        """A new process has neither its limits nor its sleep."""
        self._full.discard(node.name)
        self._frozen.discard(node.name)

    def _start(self, node: LocalNode) -> None:
        if node.alive:
            raise LocalFault(f"{node.name} runs already", "node")
        self._forget(node)
        node.skew_s = self._skews.get(node.name, 0.0)
        node.start(*LocalRing(self.directory).flags)
        until(node.lives, f"{node.name} does not answer", START_S_MAX)

    def _freeze(self, node: LocalNode) -> None:
        self._running(node)
        self._frozen.add(node.name)
        self._signal(node, signal.SIGSTOP)

    def _thaw(self, node: LocalNode) -> None:
        if node.name in self._frozen:
            self._frozen.discard(node.name)
            self._signal(node, signal.SIGCONT)

    def _wipe(self, node: LocalNode) -> None:
        """Its disk is replaced by an empty one while it is off."""
        node.kill()
        node.wipe()
        self._start(node)

    def _copy_of(self, node: LocalNode) -> Path:
        return node.directory.with_suffix(".copy")

    def _copy(self, node: LocalNode) -> None:
        """Keeps its disk as it is now; its power is off for a moment."""
        node.kill()
        shutil.rmtree(self._copy_of(node), ignore_errors=True)
        shutil.copytree(node.directory, self._copy_of(node))
        self._start(node)

    def _roll_back(self, node: LocalNode) -> None:
        """Puts the kept disk in the place of the present one."""
        if not self._copy_of(node).exists():
            raise LocalFault(f"no copy of the disk of {node.name} is kept", "node")
        node.kill()
        node.wipe()
        shutil.copytree(self._copy_of(node), node.directory)
        self._start(node)

    def _fill(self, node: LocalNode) -> None:
        self._limit(node, FULL_BYTES)
        self._full.add(node.name)

    def _empty(self, node: LocalNode) -> None:
        if node.name in self._full:
            self._full.discard(node.name)
            if node.alive:
                self._limit(node, resource.RLIM_INFINITY)

    def _limit(self, node: LocalNode, soft: int) -> None:
        if not hasattr(resource, "prlimit"):
            raise LocalFault(NO_LIMITS, "fault")
        pid = self._running(node)
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))

    def _skew(self, node: LocalNode, ahead_s: float) -> None:
        """Its clock is wrong from its next start on, so it is started again."""
        node.kill()
        self._skews.pop(node.name, None)
        if ahead_s:
            self._skews[node.name] = ahead_s
        self._start(node)

    def _link(self, wanted: Wanted) -> None:
        """Cuts one direction of a link, or mends it."""
        if self._links is None:
            raise LocalFault(NO_LINKS, "fault")
        if wanted.source == wanted.target:
            raise LocalFault("names the source", "target")
        change = self._links.cut if wanted.fault == "cut" else self._links.mend
        change(self._node(wanted.source).name, self._node(wanted.target).name)
