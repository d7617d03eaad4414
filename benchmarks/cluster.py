"""A ring of real nodes that are killed, stopped, wiped and cut off, and that people change."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.links import Links, linked_ring
from benchmarks.processes import Node, until
from benchmarks.stalled_disks import Disks

from dynamo_client import AdminClient, ClientError
from dynamo_client.errors import Conflict

QUICK = (
    "--heartbeat-ms=100",
    "--suspect-ms=700",
    "--exchange-ms=200",
    "--hedge-ms=100",
    "--log-level=warning",
)
HEAL_S_MAX = 150.0
ADMIN_S_MAX = 15.0
TRIES_MAX = 30
"""How often a plan is made again because it has changed before it was applied."""
EVENT = re.compile(r'^dynamo_events_total\{event="(\w+)"\} (\S+)$', re.MULTILINE)
EMPTIED = 'event="replaced_node_emptied"'


def still_wished(wishes: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of a change that lost against another one: without the joins and leaves that are
    already in the ring, because any later plan includes them."""
    states = {line["name"]: line["state"] for line in document["members"]}
    join = [m for m in wishes.get("join", ()) if states.get(m["name"], "LEFT") == "LEFT"]
    leave = [n for n in wishes.get("leave", ()) if states[n] in ("JOINING", "MEMBER")]
    return {**wishes, "join": join, "leave": leave}


class Cluster:
    """The nodes, the links between them, and when each node was in trouble."""

    def __init__(
        self, nodes: dict[str, Node], links: Links, disks: Disks, flags: Sequence[str]
    ) -> None:
        self.nodes = nodes
        self.links = links
        self.disks = disks
        self.flags = flags
        self.asked = list(nodes)
        """Nodes that clients ask: all that are in the ring, joining or leaving."""
        self.troubled: dict[str, float] = {}
        """By node: when it last was in trouble or no member; `inf` while it is."""

    # ------------------------------------------------------------ processes

    def fault(self, name: str) -> None:
        """From now on its refusals are excused."""
        self.troubled[name] = float("inf")

    def over(self, name: str) -> None:
        """From now on its refusals are not excused."""
        self.troubled[name] = time.monotonic()

    def kill(self, name: str) -> None:
        """kill -9."""
        self.fault(name)
        self.nodes[name].kill()

    def restart(self, name: str) -> None:
        """Starts it on its present disk, and waits until it accepts operations. With an empty disk
        it is in no ring, and says so, until the others admit it (S-MEM-4)."""
        node = self.nodes[name]
        node.start(*self.flags)
        until(lambda: node.lives() and node.ready(), f"{name} does not start again", HEAL_S_MAX)
        self.over(name)

    def move(self, names: Iterable[str]) -> None:
        """Kills each and starts it with its disk at another address; waits until all members know
        the addresses and hear the nodes (S-MEM-5)."""
        names = list(names)
        for name in names:
            self.kill(name)
        for name in names:
            self.nodes[name].advertise = self.links.move(name)
        for node in self.nodes.values():
            node.seeds = [o.advertise for o in self.nodes.values() if o is not node]
        for name in names:
            self.nodes[name].start(*self.flags)
        for name in names:
            until(self.nodes[name].lives, f"{name} does not start again", HEAL_S_MAX)
        until(self.at_home, f"{names} are not found at their addresses", HEAL_S_MAX)
        for name in names:
            self.over(name)

    def at_home(self) -> bool:
        """Whether every member has the right addresses of all and hears them."""
        where = {name: node.advertise for name, node in self.nodes.items()}
        try:
            for name in self.members():
                with self.admin(name) as admin:
                    lines = [line for line in admin.ring()["members"] if line["state"] != "LEFT"]
                    peers = admin.status()["peers"]
                if any(line["address"] != where[line["name"]] for line in lines):
                    return False
                if set(peers.values()) - {"up"}:
                    return False
        except (ClientError, StopIteration):
            return False
        return True

    def stalls(self, name: str) -> bool:
        """Whether the node reports that its fsyncs stall (S-RW-8)."""
        with self.admin(name) as admin:
            return bool(admin.status()["durability"] != "ok")

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.fault(name)
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT)
        self.over(name)

    def _signal(self, name: str, number: int) -> None:
        process = self.nodes[name].process
        assert process is not None
        process.send(number)

    def heal(self) -> None:
        """All links work, all processes run."""
        self.links.heal()
        self.disks.heal(*self.nodes)
        for name, node in self.nodes.items():
            if not node.alive:
                self.restart(name)
            elif self.troubled.get(name) == float("inf"):
                self.resume(name)

    # ------------------------------------------------------------ the ring, from its nodes

    @contextmanager
    def admin(self, name: str = "") -> Iterator[AdminClient]:
        """The admin listener of a node, by default of the first running member."""
        if not name:
            name = next(n for n in self.asked if self.nodes[n].alive and self.nodes[n].ready())
        with AdminClient(self.nodes[name].admin, timeout_s=ADMIN_S_MAX) as admin:
            yield admin

    def ring(self, through: str = "") -> dict[str, Any]:
        """The ring document."""
        with self.admin(through) as admin:
            return admin.ring()

    def states(self) -> dict[str, str]:
        """By name, JOINING to LEFT."""
        return {line["name"]: line["state"] for line in self.ring()["members"]}

    def members(self) -> list[str]:
        """Those that have not LEFT."""
        return [name for name, state in self.states().items() if state != "LEFT"]

    def spares(self) -> list[str]:
        """Nodes in no ring."""
        members = self.members()
        return [name for name in self.nodes if name not in members]

    def moving(self, receiver: str = "") -> list[tuple[str, str]]:
        """(out, in) of every move in progress, or only those of one receiver."""
        moves = [entry["move"] for entry in self.ring()["entries"]]
        return [(m["out"], m["in"]) for m in moves if m and receiver in ("", m["in"])]

    def owned(self, name: str) -> int:
        """Partitions that the node owns."""
        return sum(name in entry["owners"] for entry in self.ring()["entries"])

    def quiet(self) -> bool:
        """Whether every member has the same ring, without pending changes."""
        try:
            rings = [self.ring(name) for name in self.members()]
        except (ClientError, StopIteration):
            return False
        return len({ring["digest"] for ring in rings}) == 1 and at_rest(rings[0])

    def unsettled(self) -> str:
        """What is not healed yet: all members must be up, complete, without hints, and a whole
        repair must find nothing. "" if all is healed."""
        if not self.quiet():
            return "the ring is not at rest"
        for name in self.members():
            try:
                with self.admin(name) as admin:
                    status = admin.status()
            except ClientError as error:
                return f"{name}: {error}"
            counts = status["partitions"]
            if set(status["peers"].values()) - {"up"}:
                return f"{name} does not hear all members: {status['peers']}"
            if any(hint["count"] for hint in status["hints"].values()):
                return f"{name} holds hints: {status['hints']}"
            if counts["owned"] != counts["complete"]:
                return f"{name} is not complete: {counts}"
        repaired = self._repaired()
        return f"a repair found {repaired} keys" if repaired else ""

    def settle(self) -> None:
        """Waits until all is healed. Raises RuntimeError."""
        why = [""]

        def settled() -> bool:
            why[0] = self.unsettled()
            return not why[0]

        try:
            until(settled, "", HEAL_S_MAX)
        except RuntimeError as error:
            raise RuntimeError(f"not settled {error}{why[0]}") from None

    def _repaired(self) -> int:
        with self.admin() as admin:
            asked = admin.repair()
            report: dict[str, Any] = {}

            def done() -> bool:
                report.update(admin.repair_status(asked))
                return bool(report["state"] != "running")

            until(done, "a repair does not end", HEAL_S_MAX)
        return int(report["keys_repaired"]) if report["state"] == "done" else -1

    # ------------------------------------------------------------ changes

    def apply(self, wishes: Mapping[str, Any], through: str = "") -> None:
        """Plans and applies like a person: again if another plan was faster. Raises ClientError."""
        for left in reversed(range(TRIES_MAX)):
            with self.admin(through) as admin:
                try:
                    admin.apply(wishes, admin.plan(wishes)["hash"])
                except Conflict:
                    if not left:
                        raise
                    wishes = still_wished(wishes, admin.ring())
                else:
                    return

    def begin_join(self, names: Iterable[str]) -> None:
        """Asks for spares to join; from now on clients ask them too."""
        names = list(names)
        for name in names:
            self.fault(name)
        self.apply({"join": [self.line(name) for name in names]})
        self.asked += names

    def line(self, name: str) -> dict[str, Any]:
        """A member, as a request to join names it."""
        return {"name": name, "address": self.nodes[name].advertise}

    def join(self, names: Iterable[str]) -> None:
        """Spares join; waits until they have all their data."""
        names = list(names)
        self.begin_join(names)
        self.rest()
        for name in names:
            self.over(name)

    def begin_leave(self, names: Iterable[str]) -> None:
        """Asks for members to leave."""
        names = list(names)
        for name in names:
            self.fault(name)
        stays = next(name for name in self.members() if name not in names)
        self.apply({"leave": names}, stays)

    def leave(self, names: Iterable[str]) -> None:
        """Members leave, and become spares with an empty disk again."""
        names = list(names)
        self.begin_leave(names)
        self.renew(names)
        self.rest()

    def renew(self, names: Iterable[str]) -> None:
        """Waits until nodes that will be LEFT are empty nodes with a new id (S-MEM-3)."""
        for name in names:
            node = self.nodes[name]
            with self.admin(name) as admin:
                until(lambda a=admin: _emptied(a), f"{name} has not left", HEAL_S_MAX)  # type: ignore[misc]
                renewed = admin.status()["disk"] == "empty"
            self.asked = [other for other in self.asked if other != name]
            if not renewed:
                node.stop()
                node.start(*self.flags)
                until(node.lives, f"{name} does not start again", HEAL_S_MAX)
            with self.admin(name) as admin:
                assert admin.status()["disk"] == "empty", f"{name} has left and is not empty"

    def rest(self) -> None:
        """Waits until the ring is at rest. Raises RuntimeError."""
        until(self.quiet, "the change does not end", HEAL_S_MAX)

    # ------------------------------------------------------------ evidence

    def events(self) -> dict[tuple[str, int], Counter[str]]:
        """What every process has counted since its start, by name and process number."""
        found: dict[tuple[str, int], Counter[str]] = {}
        for name, node in self.nodes.items():
            with suppress(ClientError), self.admin(name) as admin:
                rows = EVENT.findall(admin.metrics())
                pid = node.process.pid if node.process is not None else 0
                found[name, pid] = Counter({event: int(float(count)) for event, count in rows})
        return found

    def save(self, place: Path) -> None:
        """Every answering node's status and ring document."""
        for name in self.nodes:
            for what in ("status", "ring", "metrics"):
                with suppress(ClientError, OSError), self.admin(name) as admin:
                    said = getattr(admin, what)()
                    text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
                    (place / f"{what}-{name}.txt").write_text(text + "\n")
        for node in self.nodes.values():
            with suppress(OSError):
                shutil.copy(node.log, place)


def _emptied(admin: AdminClient) -> bool:
    """Whether it has handed over everything, in this process or in the one before."""
    with suppress(ClientError):
        return EMPTIED in admin.metrics() or admin.status()["disk"] == "empty"
    return False


def at_rest(ring: Mapping[str, Any]) -> bool:
    """Whether the owners are those of the target, and no move, join or leave is pending."""
    entries, target = ring["entries"], ring["target"]
    wished = target or [entry["owners"] for entry in entries]
    return {line["state"] for line in ring["members"]} <= {"MEMBER", "LEFT"} and all(
        not entry["move"] and not entry["old"] and set(entry["owners"]) == set(owners)
        for entry, owners in zip(entries, wished, strict=True)
    )


@contextmanager
def cluster_of(
    place: Path, names: Sequence[str], flags: Sequence[str] = QUICK, spares: Sequence[str] = ()
) -> Iterator[Cluster]:
    """A ring of `names` with N=3, R=W=2 and 16 partitions; `spares` run in no ring."""
    with linked_ring(place, names, flags, 16, spares) as (nodes, links, disks):
        cluster = Cluster(nodes, links, disks, flags)
        cluster.asked = list(names)
        for name in spares:
            cluster.fault(name)
        yield cluster
