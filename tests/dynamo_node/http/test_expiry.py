"""Expiries through real HTTP, on both fronts: what is asked, what is shown (S-TTL-1, S-TTL-2)."""

from __future__ import annotations

from base64 import b64encode
from email import message_from_bytes, policy
from typing import Any

import httpx
import msgspec
import pytest

from dynamo_core.bounds import EXPIRES_MS_MAX
from dynamo_node.clock import wall_ms
from dynamo_node.expiry import EXPIRES_S_MAX, ms_of, time_of
from dynamo_node.problems import Problem

IN, AT = "dynamo-expires-in", "dynamo-expires-at"
FAR = "2130-05-06T07:08:09.123Z"
LATEST = "9999-12-31T23:59:59.999Z"
BAD_PARAMETER = "https://dynamo-ring.dev/problems/bad-parameter"


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return "/v1/kv/" + request.node.name


def batch(kv: httpx.Client, *operations: dict[str, Any]) -> list[dict[str, Any]]:
    asked = [{"key": b64encode(b"batch").decode(), **operation} for operation in operations]
    results: list[dict[str, Any]] = kv.post("/v1/batch", json={"operations": asked}).json()[
        "results"
    ]
    return results


def parts(answer: httpx.Response) -> list[Any]:
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message: Any = message_from_bytes(head + answer.content, policy=policy.HTTP)
    return list(message.iter_parts())


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize("accept", ["*/*", "application/json", "multipart/mixed"])
def test_every_form_of_one_value_shows_its_expiry(kv: httpx.Client, key: str, accept: str) -> None:
    assert kv.put(key, content=b"v", headers={AT: FAR}).status_code == 204
    for method in ("GET", "HEAD"):
        answer = kv.request(method, key, headers={"accept": accept})
        assert answer.headers[AT] == FAR
    found = kv.get(key, headers={"accept": accept})
    if accept == "application/json":
        assert [value["expires_at"] for value in found.json()["values"]] == [FAR]
    if accept == "multipart/mixed":
        assert [part[AT] for part in parts(found)] == [FAR]


def test_siblings_have_an_expiry_each_and_the_answer_has_none(kv: httpx.Client, key: str) -> None:
    kv.put(key, content=b"for ever")
    kv.put(key, content=b"far", headers={AT: FAR})
    shown = kv.put(key, content=b"latest", headers={AT: LATEST, "prefer": "return=representation"})
    for answer in (shown, kv.get(key)):
        assert answer.status_code == 300 and AT not in answer.headers
        assert [value.get("expires_at") for value in answer.json()] == [None, FAR, LATEST]
    mixed = kv.get(key, headers={"accept": "multipart/mixed"})
    assert AT not in mixed.headers
    assert [part[AT] for part in parts(mixed)] == [None, FAR, LATEST]
    context = {"dynamo-context": kv.get(key).headers["dynamo-context"]}
    kv.put(key, content=b"all", headers=context)
    assert AT not in kv.get(key).headers
    assert "expires_at" not in kv.get(key, headers={"accept": "application/json"}).text


def test_seconds_become_one_time_that_is_shown_ever_after(kv: httpx.Client, key: str) -> None:
    before = wall_ms()
    put = kv.put(key, content=b"v", headers={IN: "3600", "prefer": "return=representation"})
    assert before + 3_600_000 <= ms_of(AT, put.headers[AT]) <= wall_ms() + 3_600_000
    assert {kv.get(key).headers[AT] for _ in range(3)} == {put.headers[AT]}


def test_a_time_that_has_passed_deletes_what_the_context_has_seen(
    kv: httpx.Client, key: str
) -> None:
    context = kv.put(key, content=b"old").headers["dynamo-context"]
    passed = {AT: time_of(wall_ms()), "dynamo-context": context}
    assert kv.put(key, content=b"new", headers=passed).status_code == 204
    assert kv.get(key).status_code == 404
    assert kv.get(key).headers["dynamo-context"]


def test_a_batch_takes_both_and_shows_it(kv: httpx.Client) -> None:
    before = wall_ms()
    data = b64encode(b"v").decode()
    put, got, again, found, gone = batch(
        kv,
        {"op": "put", "data": data, "expires_in_s": 60, "request_id": "one"},
        {"op": "get"},
        {"op": "put", "data": data, "expires_at": "2130-05-06T09:08:09.1239+02:00", "key": "eA=="},
        {"op": "get", "key": "eA=="},
        {"op": "delete"},
    )
    assert [one["status"] for one in (put, got, again, found, gone)] == [204, 200, 204, 200, 204]
    (value,) = got["values"]
    assert before + 60_000 <= ms_of(AT, value["expires_at"]) <= wall_ms() + 60_000
    assert [value["expires_at"] for value in found["values"]] == [FAR]


def test_a_batch_in_messagepack_has_the_time_as_text(kv: httpx.Client, key: str) -> None:
    name = key.encode()
    asked = [
        {"op": "put", "key": name, "data": b"v", "expires_at": FAR},
        {"op": "get", "key": name},
    ]
    answer = kv.post(
        "/v1/batch",
        content=msgspec.msgpack.encode({"operations": asked}),
        headers={"content-type": "application/msgpack"},
    )
    _, found = msgspec.msgpack.decode(answer.content)["results"]
    assert [value["expires_at"] for value in found["values"]] == [FAR]


# ---------------------------------------------------------------- what is refused

BAD_TIMES = [
    "", "soon", "1700000000", "2130-05-06", "2130-05-06T07:08:09", "2130-02-30T00:00:00Z",
    "1970-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-00:01",
    "10000-01-01T00:00:00Z", "2130-05-06T07:08:09Z ", "Wed, 06 May 2130 07:08:09 GMT",
]  # fmt: skip


@pytest.mark.parametrize("given", BAD_TIMES)
def test_bad_times_are_refused_and_the_field_named(kv: httpx.Client, given: str) -> None:
    with pytest.raises(Problem, match="expires_at: "):
        ms_of("expires_at", given)
    (result,) = batch(kv, {"op": "put", "data": "", "expires_at": given})
    assert (result["status"], result["problem"]["type"]) == (400, BAD_PARAMETER)
    assert result["problem"]["detail"].startswith("expires_at: ")
    if given == given.strip():
        refused = kv.put("/v1/kv/bad", content=b"v", headers={AT: given})
        assert (refused.status_code, refused.json()["type"]) == (400, BAD_PARAMETER)
        assert refused.json()["detail"].startswith(AT + ": ")
    assert kv.get("/v1/kv/bad").status_code == 404


@pytest.mark.parametrize("seconds", [0, -1, EXPIRES_S_MAX + 1, 1_700_000_000])
def test_bad_seconds_are_refused_and_the_field_named(kv: httpx.Client, seconds: int) -> None:
    refused = kv.put("/v1/kv/bad", content=b"v", headers={IN: str(seconds)})
    assert refused.json()["detail"] == f"{IN}: 1 to {EXPIRES_S_MAX} seconds"
    (result,) = batch(kv, {"op": "put", "data": "", "expires_in_s": seconds})
    assert result["problem"]["detail"] == f"expires_in_s: 1 to {EXPIRES_S_MAX} seconds"


def test_both_at_once_are_refused(kv: httpx.Client) -> None:
    refused = kv.put("/v1/kv/bad", content=b"v", headers={IN: "60", AT: FAR})
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        f"{AT}: not with {IN}",
    )
    (result,) = batch(kv, {"op": "put", "data": "", "expires_in_s": 60, "expires_at": FAR})
    assert result["problem"]["detail"] == "expires_at: not with expires_in_s"
    assert kv.get("/v1/kv/bad").status_code == 404


def test_what_is_no_put_has_no_expiry(kv: httpx.Client, key: str) -> None:
    """What is not understood is refused rather than ignored."""
    kv.put(key, content=b"v")
    for field, given in ((IN, "60"), (AT, FAR)):
        refused = kv.delete(key, headers={field: given})
        assert refused.json()["detail"] == f"{field}: a delete never expires"
    assert kv.get(key).content == b"v"
    for op, words in (("delete", "a delete never expires"), ("get", "a get has no expiry")):
        for field, at in (("expires_in_s", 60), ("expires_at", FAR)):
            (result,) = batch(kv, {"op": op, field: at})
            assert result["problem"]["detail"] == f"{field}: {words}"


# ---------------------------------------------------------------- the words themselves


@pytest.mark.parametrize(
    "text, shown",
    [
        (FAR, FAR),
        ("2130-05-06t07:08:09z", "2130-05-06T07:08:09.000Z"),
        ("2130-05-06T07:08:09.1239Z", FAR),
        ("2130-05-05T23:08:09.123-08:00", FAR),
        ("1970-01-01T00:00:00.001Z", "1970-01-01T00:00:00.001Z"),
        (LATEST, LATEST),
    ],
)
def test_times_are_told_in_utc_to_the_millisecond(text: str, shown: str) -> None:
    assert time_of(ms_of(AT, text)) == shown


def test_a_time_beyond_the_year_9999_reads_as_its_end() -> None:
    """No node stamps one; a record of a peer might have one."""
    assert time_of(EXPIRES_MS_MAX) == time_of(1 << 61) == LATEST
