"""What administrators ask for when they change a ring: joins, leaves, weights, moves by hand,
other defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dynamo_core.bounds import MEMBERS_MAX, TEXT_MAX, address_fault, name_fault
from dynamo_core.errors import BadParameter
from dynamo_core.ring.document import JOINING, Member

WEIGHT_MAX = 1000


class ManualMove(msgspec.Struct, frozen=True, array_like=True):
    """One move that an administrator asks for. With `partition`: that replica goes from `source` to
    `to`. Without it: one replica of each of `tokens` partitions goes to `to`, from `source`, else
    from nodes of `zone`, else from the node that holds most for its weight.
    """

    to: str
    partition: int | None = None
    source: str = ""
    tokens: int = 0
    zone: str | None = None


class ChangeRequest(msgspec.Struct, frozen=True, array_like=True):
    """What an administrator asks for; an empty request asks to balance the ring. `defaults` has the
    new values of those of `r`, `w`, `dw`, `sloppy` that change."""

    join: tuple[Member, ...] = ()
    leave: tuple[str, ...] = ()
    weights: dict[str, int] = {}
    moves: tuple[ManualMove, ...] = ()
    defaults: dict[str, int] = {}

    @property
    def balances(self) -> bool:
        """Whether all replicas are placed again. A request with only moves by hand or defaults
        leaves all other replicas where they are."""
        return bool(self.join or self.leave or self.weights or not (self.moves or self.defaults))


def parse_members(field: str, items: Iterable[Mapping[str, Any]]) -> list[Member]:
    """Members as a create command or a join names them, without ids. Raises BadParameter."""
    members = [
        Member(m["name"], 1, 0, m["address"], "", m.get("zone", ""), m.get("weight", 1), JOINING)
        for m in items
    ]
    for member in members:
        fault = name_fault(member.name) or address_fault(member.address)
        if not fault and (len(member.zone) > TEXT_MAX or not 1 <= member.weight <= WEIGHT_MAX):
            fault = f"{member.name}: a weight of 1 to {WEIGHT_MAX}, a zone of {TEXT_MAX} characters"
        if fault:
            raise BadParameter(field, fault)
    if len(members) > MEMBERS_MAX:
        raise BadParameter(field, f"at most {MEMBERS_MAX}")
    for word in ("name", "address"):
        values = [getattr(m, word) for m in members]
        if len(set(values)) < len(values):
            raise BadParameter(field, f"two of them have the same {word}")
    return members


def parse_change_request(body: Mapping[str, Any]) -> ChangeRequest:
    """The change request in a body of docs/http-api.md whose shape was checked before. Raises
    BadParameter."""
    join = sorted(parse_members("join", body.get("join", ())), key=lambda member: member.name)
    leave = sorted(set(body.get("leave", ())))
    weights = dict(body.get("weights", {}))
    joining = {member.name for member in join}
    for field, names in (
        ("leave", joining.intersection(leave)),
        ("weights", joining & set(weights)),
    ):
        if names:
            raise BadParameter(field, f"{min(names)} joins")
    if both := weights.keys() & set(leave):
        raise BadParameter("weights", f"{min(both)} leaves")
    if wrong := [name for name, weight in weights.items() if not 1 <= weight <= WEIGHT_MAX]:
        raise BadParameter("weights", f"{min(wrong)}: 1 to {WEIGHT_MAX}")
    moves = tuple(map(_parse_move, body.get("moves", ())))
    return ChangeRequest(tuple(join), tuple(leave), weights, moves, dict(body.get("defaults", {})))


def _parse_move(item: Mapping[str, Any]) -> ManualMove:
    partition, tokens = item.get("partition"), item.get("tokens") or 0
    source, zone = item.get("from") or "", item.get("zone")
    if (partition is None) is (tokens < 1):
        raise BadParameter("moves", "each has either a partition or a number of tokens")
    if partition is not None and (not source or zone is not None):
        raise BadParameter("moves", f"partition {partition}: wants from and to, and no zone")
    return ManualMove(item["to"], partition, source, tokens, zone)
