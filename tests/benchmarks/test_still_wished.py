"""The part of a change that an administrator asks for again after another plan was faster."""

from __future__ import annotations

from benchmarks.cluster import still_wished


def document(**states: str) -> dict[str, list[dict[str, str]]]:
    return {"members": [{"name": name, "state": state} for name, state in states.items()]}


def test_who_joins_or_leaves_already_is_not_wished_for_again() -> None:
    wishes = {"join": [{"name": "n5"}, {"name": "n6"}], "leave": ["n0", "n1"]}
    stands = document(n0="LEAVING", n1="MEMBER", n5="JOINING")
    assert still_wished(wishes, stands) == {"join": [{"name": "n6"}], "leave": ["n1"]}


def test_who_has_left_may_join_and_who_joins_may_leave() -> None:
    wishes = {"join": [{"name": "n5"}], "leave": ["n0"], "moves": []}
    assert still_wished(wishes, document(n0="JOINING", n5="LEFT")) == wishes
