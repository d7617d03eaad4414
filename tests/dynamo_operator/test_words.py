"""Small parts: amounts, times, drift of objects, cron, the operator's settings."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dynamo_operator import children
from dynamo_operator.actions import Note
from dynamo_operator.app import Settings
from dynamo_operator.drift import controlled, covers, differs, sealed
from dynamo_operator.handlers import Endless
from dynamo_operator.owner import Owner
from dynamo_operator.plan.schedule import last_due, rest_s
from dynamo_operator.quantity import amount, instant, precise, stamp
from dynamo_operator.spec import cluster_spec
from tests.dynamo_operator.looks import settled
from tests.dynamo_operator.stories import make
from tests.dynamo_operator.world import World


@pytest.mark.parametrize(
    ("text", "number"),
    [("1Gi", 2**30), ("250m", Decimal("0.25")), ("0.5", Decimal("0.5")), ("1e3", 1000),
     ("2", 2), ("12E", 12 * 10**18)],
)  # fmt: skip
def test_quantities(text: str, number: Decimal) -> None:
    assert amount(text) == number


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1Xi", "one", "1ki"])
def test_what_is_no_quantity(text: str) -> None:
    assert amount(text) is None


@given(st.integers(0, 2**32))
def test_times_are_what_they_were(seconds: int) -> None:
    assert instant(stamp(seconds)) == seconds
    assert instant(precise(seconds)) == seconds
    assert instant(None) is None


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(JSON)
def test_everything_covers_itself(value: Any) -> None:
    assert covers(value, value)


@given(st.dictionaries(st.text(max_size=3), JSON), st.dictionaries(st.text(max_size=3), JSON))
def test_what_the_server_adds_is_no_drift(wanted: dict[str, Any], more: dict[str, Any]) -> None:
    assert covers(wanted, more | wanted)


@pytest.mark.parametrize(
    ("wanted", "existing", "same"),
    [
        ({"cpu": "1000m"}, {"cpu": "1"}, True),
        ({"memory": "1024Mi"}, {"memory": "1Gi"}, True),
        ({"cpu": "1"}, {"cpu": "2"}, False),
        ({"limits": {}}, {}, True),
        ({"on": False}, {}, True),
        ({"on": True}, {}, False),
        ({"list": [{"a": 1}]}, {"list": [{"a": 1, "b": 2}]}, True),
        ({"list": [{"a": 1}]}, {"list": [{"a": 1}, {"a": 2}]}, False),
        ({"a": {"b": 1}}, {"a": "text"}, False),
    ],
)
def test_drift(wanted: Any, existing: Any, same: bool) -> None:
    assert covers(wanted, existing) is same


def test_a_wish_and_an_edit_are_told_apart() -> None:
    owner = Owner("cart", "shop", "u")
    made = children.client_service(owner, cluster_spec({}))
    applied = sealed(made)
    assert differs(applied, applied) == ""
    edited = {**applied, "spec": {**applied["spec"], "type": "NodePort"}}
    assert differs(applied, edited) == "edit"
    other = sealed(children.client_service(owner, cluster_spec({"service": {"port": 80}})))
    assert differs(other, applied) == "wish"
    assert controlled(applied, "u")
    assert not controlled(applied, "v")
    assert made == children.client_service(owner, cluster_spec({}))


def test_cron_is_in_utc() -> None:
    noon = instant("2026-03-01T12:00:00Z")
    assert noon is not None
    assert last_due("0 12 * * *", noon) == noon
    assert last_due("0 12 * * *", noon - 1) == noon - 86_400
    assert last_due("30 2 * * 0", noon) == instant("2026-03-01T02:30:00Z")
    for wrong in ("", "* * *", "60 * * * *", "often"):
        with pytest.raises(ValueError, match="schedule"):
            last_due(wrong, noon)


def test_a_rest_ends_when_a_repair_is_due() -> None:
    noon = instant("2026-03-01T12:00:00Z")
    assert noon is not None
    looks = {
        schedule: structs.replace(
            settled(), now=noon, spec=cluster_spec({"repair": {"schedule": schedule}})
        )
        for schedule in ("1 12 * * *", "0 3 * * *", "often")
    }
    waits = {schedule: rest_s(look, 300.0) for schedule, look in looks.items()}
    assert waits == {"1 12 * * *": 61.0, "0 3 * * *": 300.0, "often": 300.0}


def test_a_scheduled_repair_is_made_once() -> None:
    """Two days of a ring that is repaired each night; the object of the first is still there."""
    world = World()
    asyncio.run(world.play([make(repair={"schedule": "0 3 * * *"})]))
    made: list[str] = []
    for _ in range(2):
        world.kube.now += 86_400
        for _ in range(8):
            asyncio.run(world.operators[0].reconcile("shop", "cart"))
            world.step()
        made = list(world.found("DynamoRepair"))
    # the times of the simulation are not at three: the last one is over an hour ago, and skipped
    assert made == []
    world.kube.now = (last_due("0 3 * * *", world.kube.now) or 0.0) + 86_400 + 60
    for _ in range(8):
        asyncio.run(world.operators[0].reconcile("shop", "cart"))
        world.step()
    (name,) = world.found("DynamoRepair")
    told = world.found("DynamoRepair")[name]["status"]
    assert told["conditions"][0]["type"] == "Complete"
    assert told["partitionsDone"] == told["partitionsTotal"] == 16
    world.kube.now += 8 * 86_400
    asyncio.run(world.operators[0].reconcile("shop", "cart"))
    assert name not in world.found("DynamoRepair")


def test_a_repair_that_the_nodes_refuse_has_failed() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    spec = {"clusterName": "cart", "nodes": ["nobody"]}
    world.kube.put(
        {"kind": "DynamoRepair", "metadata": {"name": "odd", "namespace": "shop"}, "spec": spec}
    )
    world.repair()
    for _ in range(5):
        asyncio.run(world.operators[0].reconcile("shop", "cart"))
        world.step()
    found = world.found("DynamoRepair")
    told = {name: item["status"]["conditions"][0] for name, item in found.items()}
    assert (told["odd"]["type"], told["odd"]["reason"]) == ("Failed", "Refused")
    assert "nobody" in told["odd"]["message"]
    assert told["now"]["type"] == "Complete"


def test_an_event_is_told_once() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    before = len(world.found("Event"))
    o = asyncio.run(world.operators[0].observer.look("shop", "cart", world.kube.now))
    assert o is not None
    note = Note("Happened", "once upon a time")
    for operator in (world.operators[0], world.operators[0], world.operators[1]):
        asyncio.run(operator.actor.recorder.tell(o, note))
    assert len(world.found("Event")) == before + 1
    (event,) = [e for e in world.found("Event").values() if e["reason"] == "Happened"]
    assert event["series"]["count"] == 2


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.read() == Settings()
    monkeypatch.setenv("DYNAMO_OPERATOR_NAMESPACES", "a, b,")
    monkeypatch.setenv("DYNAMO_OPERATOR_LISTEN", "127.0.0.1:1")
    assert Settings.read() == Settings(namespaces=("a", "b"), listen="127.0.0.1:1")


def test_the_waits_between_tries_never_end() -> None:
    waits = Endless()
    for _ in range(2):
        assert [wait for wait, _ in zip(waits, range(9), strict=False)] == [1, 1, 2, 3, 5] + [8] * 4
