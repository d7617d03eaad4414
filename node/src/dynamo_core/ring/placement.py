"""Placement: which nodes own which partitions (S-RING-1, S-RING-2, [P 6.2 strategy 3]).

Theory of operation. With random tokens the busiest node is well above the mean (Figure 8): the load
of a node is its number of replicas, and a list skips duplicate nodes. So this module balances the
replicas themselves:

1. *Shares.* Each node's fair number of replicas by weight, never more than one of a partition and,
   where there are N zones or more, never more than one of a partition in a zone. When a node or a
   zone is full, the others share the rest by weight.
2. *Quotas.* Shares are rounded down or up; nodes that hold more replicas now are rounded up.
3. *Keep* every replica of the previous placement that the rules allow; the other places are holes.
4. *Fill* the holes, each node in step with its quota, so that neighbours on the ring differ and
   first owners are spread. Then *shift* replicas from nodes above their quota to nodes below.
5. *Chain.* Sometimes the node below its quota already owns all that the node above could give.
   Then take a cheapest chain of shifts over other nodes. Such a chain always exists: shares are a
   fractional solution of a network flow, and quotas are their rounding.
6. *Save*: while there are more moves than the simple lower bound, look for a cycle of shifts that
   saves one. A flow without such a cycle (a negative cycle) is a cheapest one.

A new owner takes the place of the old one in the list, so a list that loses one owner is one move.
All values are integers, fractions and sorted names: the same input gives the same placement on
every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from math import ceil, floor

from dynamo_core.errors import BadParameter
from dynamo_core.ring.document import LEFT, Entry, Identity, Member, Owners, Ring, RingTarget

HOLE = -1
SAVINGS_MAX = 8
"""Cycles of step 6. Each one looks at every replica, and a person waits for the plan."""


def place(
    members: Mapping[str, tuple[str, int]],
    partitions: int,
    n: int,
    previous: Sequence[Owners] | None = None,
) -> tuple[Owners, ...]:
    """The owners of each partition: `members` maps names to (zone, weight).

    Raises BadParameter when there are fewer members than `n`.
    """
    if not 1 <= n <= len(members):
        raise BadParameter("members", f"{len(members)} members for n = {n}")
    return _Layout(members, partitions, n, previous).solve()


def first_ring(identity: Identity, members: Mapping[str, Member], target: RingTarget) -> Ring:
    """The first ring: entries by placement, term 0, version 0. Raises BadParameter."""
    live = {m.name: (m.zone, m.weight) for m in members.values() if m.state != LEFT}
    owners = place(live, identity.partitions, identity.n)
    return Ring(identity, dict(members), target, tuple(Entry(0, 0, names) for names in owners))


def zone_cap(members: Mapping[str, tuple[str, int]], partitions: int, n: int) -> int:
    """How many replicas of one partition a zone may hold.

    It is 1 with `n` zones or more. With fewer zones the replicas spread over them as evenly as the
    weights allow; balance by weight comes first.
    """
    zones = {zone for zone, _ in members.values()}
    if len(zones) >= n:
        return 1
    even = shares(members, partitions, n, n)
    held = dict.fromkeys(zones, Fraction(0))
    for name, (zone, _) in members.items():
        held[zone] += even[name]
    return max(-(-n // len(zones)), *(-(-share // partitions) for share in held.values()))


def shares(
    members: Mapping[str, tuple[str, int]], partitions: int, n: int, cap: int
) -> dict[str, Fraction]:
    """Each node's fair number of replicas by weight: at most `partitions` on a node and `cap` times
    that in a zone. When a node or a zone is full, the others share its surplus by weight."""
    free = dict(members)
    share: dict[str, Fraction] = {}
    left = Fraction(partitions * n)
    while free:
        fair = _filled({name: weight for name, (_, weight) in free.items()}, left, partitions)
        held: dict[str, Fraction] = {}
        for name, (zone, _) in free.items():
            held[zone] = held.get(zone, Fraction(0)) + fair[name]
        full = sorted(zone for zone in held if held[zone] > cap * partitions)
        if not full:
            return share | fair
        for zone in full:
            here = {name: weight for name, (z, weight) in free.items() if z == zone}
            share |= _filled(here, Fraction(cap * partitions), partitions)
            left -= cap * partitions
            free = {name: line for name, line in free.items() if name not in here}
    return share


def _filled(weights: Mapping[str, int], total: Fraction, node_max: int) -> dict[str, Fraction]:
    """`total` split by weight, no part above `node_max`."""
    full: set[str] = set()
    while True:
        weight = sum(w for name, w in weights.items() if name not in full)
        unit = (total - node_max * len(full)) / weight if weight else Fraction(0)
        over = {name for name, w in weights.items() if name not in full and unit * w > node_max}
        if not over:
            return {
                name: Fraction(node_max) if name in full else unit * w
                for name, w in weights.items()
            }
        full |= over


class _Layout:
    """A placement while it is made. A node is a number, in the order of the names; HOLE stands for
    no node."""

    def __init__(
        self,
        members: Mapping[str, tuple[str, int]],
        partitions: int,
        n: int,
        previous: Sequence[Owners] | None,
    ) -> None:
        self.names = sorted(members)
        self.zone = [members[name][0] for name in self.names]
        self.n = n
        self.cap = zone_cap(members, partitions, n)
        self.load = [0] * len(self.names)
        self.firsts = [0] * len(self.names)
        self.lists = [[HOLE] * n for _ in range(partitions)]
        self.kept = [[HOLE] * n for _ in range(partitions)]
        if previous is not None:
            self._keep(previous)
        share = shares(members, partitions, n, self.cap)
        self.down = [floor(share[name]) for name in self.names]
        self.up = [ceil(share[name]) for name in self.names]
        self.quota = self._quotas([share[name] for name in self.names])

    def solve(self) -> tuple[Owners, ...]:
        fewest = self._moves_min()
        self._fill()
        for giver in range(len(self.names)):
            self._shift(giver)
        for giver in range(HOLE, len(self.names)):
            while self._surplus(giver):
                self._chain(giver)
        for _ in range(SAVINGS_MAX):
            if self._moves() == fewest or not self._save():
                break
        return tuple(self._owners(partition) for partition in range(len(self.lists)))

    def _keep(self, previous: Sequence[Owners]) -> None:
        at = {name: i for i, name in enumerate(self.names)}
        for partition, names in enumerate(previous):
            for slot, name in enumerate(names[: self.n]):
                node = self.kept[partition][slot] = at.get(name, HOLE)
                if node != HOLE and self._fits(partition, node):
                    self._put(partition, slot, node)

    def _owners(self, partition: int) -> Owners:
        """The owner list: kept owners in their old places, new owners in the free places."""
        owners = self.lists[partition]
        new = iter([node for node in owners if node not in self.kept[partition]])
        row = [node if node in owners else next(new) for node in self.kept[partition]]
        return tuple(self.names[node] for node in row)

    def _quotas(self, share: Sequence[Fraction]) -> list[int]:
        quota = self.down.copy()
        held = dict.fromkeys(self.zone, 0)
        for node, amount in enumerate(quota):
            held[self.zone[node]] += amount
        left = len(self.lists) * self.n - sum(quota)
        order = [i for i in range(len(quota)) if self.up[i] > quota[i]]
        order.sort(key=lambda i: (self.load[i] <= quota[i], quota[i] - share[i], i))
        for node in order:
            if left and held[self.zone[node]] < self.cap * len(self.lists):
                quota[node] += 1
                held[self.zone[node]] += 1
                left -= 1
        return quota

    def _moves(self) -> int:
        rows = zip(self.lists, self.kept, strict=True)
        return sum(node not in kept for owners, kept in rows for node in owners)

    def _moves_min(self) -> int:
        """A lower bound of the moves: every hole is a move, and so is every replica that a node
        must gain."""
        had = Counter(node for kept in self.kept for node in kept)
        gains = sum(max(0, least - had[node]) for node, least in enumerate(self.down))
        return max(gains, self._surplus(HOLE))

    # ------------------------------------------------------------ what the rules allow

    def _fits(self, partition: int, node: int, instead: int = HOLE) -> bool:
        """Whether `node` may be an owner in the place of `instead`, beside the other owners."""
        owners, zone = self.lists[partition], self.zone
        if node in owners:
            return False
        mine = zone[node]
        return sum(o not in (HOLE, instead) and zone[o] == mine for o in owners) < self.cap

    def _put(self, partition: int, slot: int, node: int) -> None:
        before = self.lists[partition][slot]
        self.lists[partition][slot] = node
        for other, step in ((before, -1), (node, 1)):
            if other != HOLE:
                self.load[other] += step
                self.firsts[other] += step * (slot == 0)

    def _surplus(self, node: int) -> int:
        if node == HOLE:
            return sum(owners.count(HOLE) for owners in self.lists)
        return max(0, self.load[node] - self.quota[node])

    # ------------------------------------------------------------ fill, shift, chain

    def _fill(self) -> None:
        """Fill the holes in the order of the ring; each goes to the node that is furthest behind
        its schedule."""
        total = self._surplus(HOLE)
        need = [max(0, q - held) for q, held in zip(self.quota, self.load, strict=True)]
        wanted = [max(0, q - self.n * f) for q, f in zip(self.quota, self.firsts, strict=True)]
        first_holes = sum(owners[0] == HOLE for owners in self.lists)
        scale = sum(wanted) or 1
        given, given_first = [0] * len(need), [0] * len(need)
        done = done_first = 0
        for partition, owners in enumerate(self.lists):
            for slot in [s for s, owner in enumerate(owners) if owner == HOLE]:
                done += 1
                done_first += slot == 0
                best, latest, tie = HOLE, -total * total, 0
                for node, amount in enumerate(need):
                    late = amount * done - given[node] * total
                    if slot == 0:
                        due = wanted[node] * first_holes * done_first // scale
                        late = due - given_first[node] * first_holes
                    if given[node] >= amount or late < latest or not self._fits(partition, node):
                        continue
                    mix = scatter(partition, node)
                    if late > latest or mix > tie:
                        best, latest, tie = node, late, mix
                if best != HOLE:
                    self._put(partition, slot, best)
                    given[best] += 1
                    given_first[best] += slot == 0

    def _shift(self, giver: int) -> None:
        """Move replicas above the giver's quota, in one step each, to nodes below their quota."""
        held = [p for p, owners in enumerate(self.lists) if giver in owners]
        held.sort(key=lambda partition: scatter(partition, giver))
        while self._surplus(giver):
            below = [i for i, quota in enumerate(self.quota) if self.load[i] < quota]
            below.sort(key=lambda i: (self.load[i] - self.quota[i], i))
            step = next(self._steps(giver, below, held), None)
            if step is None:
                return
            partition, taker = step
            self._put(partition, self.lists[partition].index(giver), taker)
            held.remove(partition)

    def _steps(
        self, giver: int, takers: Sequence[int], held: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """The allowed steps, best first. A step moves a first place if that spreads first owners
        more evenly."""
        for taker in takers:
            first = self._firsts_above(giver) > max(0, self._firsts_above(taker))
            for wish in (first, not first):
                for partition in held:
                    is_first = self.lists[partition][0] == giver
                    if is_first is wish and self._fits(partition, taker, giver):
                        yield partition, taker

    def _firsts_above(self, node: int) -> int:
        """How far the node's first places are above its share of them, times n."""
        return self.firsts[node] * self.n - self.quota[node]

    def _chain(self, giver: int) -> None:
        """One replica of the giver to a node below its quota, by the cheapest chain of steps."""
        came: dict[int, tuple[int, int]] = {}
        queue: list[tuple[int, int, int, int]] = [(0, giver, giver, 0)]
        while True:
            cost, node, source, partition = heappop(queue)
            if node in came:
                continue
            came[node] = (source, partition)
            if node != HOLE and self.load[node] < self.quota[node]:
                break
            for taker, (more, via) in self._steps_from(node).items():
                if taker not in came:
                    heappush(queue, (cost + more, taker, node, via))
        while node != giver:
            source, partition = came[node]
            self._put(partition, self.lists[partition].index(source), node)
            node = source

    def _steps_from(self, giver: int) -> dict[int, tuple[int, int]]:
        """For each taker the cheapest partition to take from the giver: (cost, partition).

        A step costs one if the giver gives up a replica that it has kept, and one if the taker has
        to copy it. That is one more than the moves it adds, so of two equal chains the shorter one
        is cheaper. So a cheapest chain does not use a partition twice without need.
        """
        best: dict[int, tuple[int, int]] = {}
        for partition, owners in enumerate(self.lists):
            if giver not in owners:
                continue
            kept = self.kept[partition]
            for taker in range(len(self.names)):
                cost = (giver in kept or giver == HOLE) + (taker not in kept)
                if cost < best.get(taker, (3, 0))[0] and self._fits(partition, taker, giver):
                    best[taker] = (cost, partition)
        return best

    def _save(self) -> bool:
        """Saves a move by a cycle of steps that keeps every load within its share, if there is one.

        It is a negative cycle, found with Bellman-Ford. A cycle may pass through HOLE: the node
        that gives to HOLE rounds down afterwards, the node that takes from HOLE rounds up.
        """
        steps: list[tuple[int, int, int, int]] = []
        for node, load in enumerate(self.load):
            steps += [(node, to, cost - 1, p) for to, (cost, p) in self._steps_from(node).items()]
            steps += [(node, HOLE, 0, 0)] * (load < self.up[node])
            steps += [(HOLE, node, 0, 0)] * (load > self.down[node])
        costs = dict.fromkeys(range(HOLE, len(self.names)), 0)
        came: dict[int, tuple[int, int]] = {}
        last: int | None = None
        for _ in costs:
            last = None
            for giver, taker, more, partition in steps:
                if costs[giver] + more < costs[taker]:
                    costs[taker] = costs[giver] + more
                    came[taker] = (giver, partition)
                    last = taker
        if last is None:
            return False
        for _ in costs:
            last = came[last][0]
        return self._go_round(came, last)

    def _go_round(self, came: Mapping[int, tuple[int, int]], start: int) -> bool:
        """Takes all steps of the cycle through `start`. It takes none of them if one step does not
        fit after the others."""
        done: list[tuple[int, int, int]] = []
        taker, fits = start, True
        while fits and (not done or taker != start):
            giver, partition = came[taker]
            if HOLE not in (giver, taker):
                owners = self.lists[partition]
                fits = giver in owners and self._fits(partition, taker, giver)
                if fits:
                    done.append((partition, owners.index(giver), giver))
                    self._put(partition, owners.index(giver), taker)
            taker = giver
        if not fits:
            for partition, slot, giver in reversed(done):
                self._put(partition, slot, giver)
        return fits


def scatter(partition: int, node: int) -> int:
    """A fixed mix of two numbers, to break ties without favourites."""
    mixed = (partition * 0x9E3779B1 ^ (node + 1) * 0x85EBCA77) & 0xFFFFFFFF
    mixed = ((mixed ^ mixed >> 15) * 0xC2B2AE3D) & 0xFFFFFFFF
    return mixed ^ mixed >> 13
