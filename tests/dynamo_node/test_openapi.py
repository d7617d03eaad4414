"""The OpenAPI document: valid, true of the answers of a node, and shown by a viewer of our own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import dynamo_node.viewer_files as viewer_files
from dynamo_core.secret_keys import token_of
from dynamo_core.testing.town import SETTINGS, Town
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from tests.dynamo_core.look.asked import asked
from tests.dynamo_node.http.client_listener import Listener
from tests.dynamo_node.lone_admin import Admin, with_node

VIEWER = Path(viewer_files.__file__).with_name("viewer")
SCRIPT = "/docs/swagger-ui-bundle.js"
WATCHED = msgspec.structs.replace(
    SETTINGS,
    history_bytes_max=1 << 20,
    delay_samples_per_minute=6000,
    canaries_per_minute=600,
)


def document() -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def body(admin: Admin) -> None:
        found.append((await admin.get("/openapi.json")).json())
        assert (await admin.get("/openapi.json")).json() == found[0]

    with_node(body, founded=False)
    return found[0]


DOCUMENT = document()


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    return {
        f"{method} {path}": (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if method != "servers"
    }


def closed(part: Any) -> Any:
    """The schema without fields that it does not name, at every depth."""
    if isinstance(part, list):
        return [closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {name: closed(each) for name, each in part.items()}
    return found | ({"additionalProperties": False} if "properties" in part else {})


CLOSED = closed(DOCUMENT["components"])


def check(where: str, status: int, answer: Any) -> None:
    """Holds an answer against its shape, which names every field. Raises ValidationError."""
    said = operations()[where][2]["responses"][str(status)]["content"]["application/json"]
    whole = {"components": CLOSED, **said["schema"]}
    jsonschema.Draft202012Validator(whole).validate(answer)


def test_the_document_is_valid_and_complete() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    ids = [operation["operationId"] for _, _, operation in operations().values()]
    assert len(set(ids)) == len(ids)
    assert set(DOCUMENT["paths"]["/v1/kv/{key}"]) == {"get", "head", "put", "delete", "servers"}
    for where, (_, path, operation) in operations().items():
        assert operation["summary"].strip() and operation["tags"], where
        assert {"default"} < operation["responses"].keys(), where
        assert all(each["description"] for each in operation["responses"].values()), where
        named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert named == {part.split("}")[0] for part in path.split("{")[1:]}, where
    asked = DOCUMENT["paths"]["/v1/batch"]["post"]["requestBody"]["content"]
    assert asked.keys() == {"application/json", "application/msgpack"}
    assert DOCUMENT["components"]["schemas"]["Item"]["required"] == ["op", "key"]
    assert "members" in DOCUMENT["components"]["schemas"]["CreateRing"]["properties"]


def test_parameters_of_looks_are_as_the_node_takes_them() -> None:
    def taken(where: str, name: str) -> dict[str, Any]:
        (found,) = [p for p in operations()[where][2]["parameters"] if p["name"] == name]
        kept = ("type", "minimum", "maximum")
        return {word: found["schema"][word] for word in kept if word in found["schema"]}

    whole = {"type": "integer", "minimum": 0}
    assert taken("get /v1/trees/{partition}", "partition") == whole | {"maximum": 4095}
    assert taken("get /v1/hints", "limit") == whole | {"maximum": 100}
    assert taken("get /v1/keys", "limit") == {"type": "integer", "minimum": 1, "maximum": 1000}
    assert taken("get /v1/events", "after") == whole
    assert taken("get /v1/events", "Last-Event-ID") == whole
    assert taken("get /v1/staleness", "n") == whole | {"maximum": 1024}
    assert taken("get /v1/keys", "after") == {"type": "string"}


def unshaped(part: dict[str, Any], path: str) -> list[str]:
    """The parts of a schema that may be anything, or an object with any fields."""
    of_each = part.get("additionalProperties", {})
    inside = {f"{path}.{name}": each for name, each in part.get("properties", {}).items()}
    inside |= {f"{path}[]": part["items"]} if "items" in part else {}
    inside |= {f"{path}{{}}": of_each} if isinstance(of_each, dict) and of_each else {}
    inside |= {f"{path}|{at}": each for at, each in enumerate(part.get("anyOf", ()))}
    if inside:
        return [fault for name, each in inside.items() for fault in unshaped(each, name)]
    return [path] if part == {} or part.get("type") in ("object", "array") else []


def test_no_answer_has_a_part_without_a_shape() -> None:
    """A generated client would get a bag of unknown things."""
    schemas = DOCUMENT["components"]["schemas"]
    bare = [fault for name, part in schemas.items() for fault in unshaped(part, name)]
    assert not bare


def test_answers_of_the_admin_listener_have_their_shapes() -> None:
    asked: dict[str, dict[str, Any] | None] = {
        "get /livez": None, "get /readyz": None, "get /v1/status": None, "get /v1/ring": None,
        "get /v1/keys": None, "post /v1/ring/plan": {}, "post /v1/ring/cancel": {},
        "post /v1/repairs": {"id": "r"}, "get /v1/repairs/{repair_id}": None,
        "get /v1/preference-list/{key}": None, "get /v1/cluster": None, "get /v1/hints": None,
        "get /v1/records/{key}": None, "get /v1/history/{key}": None,
        "get /v1/trees/{partition}": None, "get /v1/staleness": None,
    }  # fmt: skip

    async def body(admin: Admin) -> None:
        await admin.put(b"k")
        for where, sent in asked.items():
            method, path, _ = operations()[where]
            url = path.format(repair_id="r", key="k", partition=1)
            heard = await admin.request(method, url, json=sent)
            assert heard.status_code < 300, where
            check(where, heard.status_code, heard.json())
        refused = await admin.post("/v1/ring/plan", json={"joins": []})
        schema = {"components": DOCUMENT["components"], "$ref": "#/components/schemas/Problem"}
        jsonschema.Draft202012Validator(schema).validate(refused.json())

    with_node(body)


def test_looks_at_a_ring_have_their_shapes() -> None:
    """A key with a hint, siblings and a history, on a ring that has samples and canaries."""
    town = Town("a b c d", settings=WATCHED)
    first, second, third = town.owners(b"k")
    town.run(30.0)
    town.kill(third)
    town.until(lambda: not town.nodes[first].up(third))
    for node in (first, second):
        town.put(node, b"k", node.encode(), w=3)
    town.run(5.0)
    shown = {
        "get /v1/records/{key}": asked(town, first, "records", b"k"),
        "get /v1/history/{key}": asked(town, first, "history", b"k"),
        "get /v1/hints": asked(town, first, "hints", third, 10),
    }
    said: list[tuple[int, dict[str, Any]]] = []
    town.nodes[first].staleness.ask(0.0, 0, lambda *answer: said.append(answer))
    town.until(lambda: bool(said))
    report = shown["get /v1/staleness"] = json.loads(json.dumps(said[0][1]))
    assert report["settings"] and report["delays"] and report["canary"]["points"]
    assert any(copy["target"] for copy in shown["get /v1/records/{key}"]["copies"])
    assert [event["came"] for event in shown["get /v1/history/{key}"]["events"]]
    assert shown["get /v1/hints"]["holders"][0]["targets"][0]["keys"]
    for where, answer in shown.items():
        for key in ("records", "history"):
            answer |= {"values_shown": True} if key in where else {}
        check(where, 200, answer)


def test_answers_of_the_client_listener_have_their_shapes() -> None:
    listener = Listener("protocol", Limits(1 << 20))
    values = {"Accept": "application/json"}
    batch = {"operations": [{"op": "get", "key": "aw=="}, {"op": "get", "key": ""}]}
    try:
        with httpx.Client(base_url=listener.url) as client:
            for value in ("milk", "bread"):
                assert client.put("/v1/kv/k", content=value).status_code == 204
            for where, heard in (
                ("get /v1/kv/{key}", client.get("/v1/kv/k", headers=values)),
                ("get /v1/kv/{key}", client.get("/v1/kv/k")),
                ("post /v1/batch", client.post("/v1/batch", json=batch)),
                ("get /v1/ring", client.get("/v1/ring")),
            ):
                check(where, heard.status_code, heard.json())
                known = operations()[where][2]["responses"][str(heard.status_code)]
                heads = {name.lower() for name in known.get("headers", {})}
                shown = {n for n in heard.headers if n.startswith("dynamo-")} | {"etag"}
                assert where == "post /v1/batch" or shown <= heads
    finally:
        listener.stop()


def test_an_explanation_has_the_shape_that_its_parameter_names() -> None:
    """A put, a get, and a get that finds nothing."""
    (said,) = {
        each["description"]
        for _, path, operation in operations().values()
        if path == "/v1/kv/{key}"
        for each in operation["parameters"]
        if each["name"] == "explain"
    }
    assert "`Explained`" in said
    shape = {"components": CLOSED, "$ref": "#/components/schemas/Explained"}
    listener = Listener("protocol", Limits(1 << 20))
    try:
        with httpx.Client(base_url=listener.url, params={"explain": "true"}) as client:
            for heard, status in (
                (client.put("/v1/kv/k", content="milk"), 204),
                (client.get("/v1/kv/k"), 200),
                (client.get("/v1/kv/none"), 404),
            ):
                jsonschema.Draft202012Validator(shape).validate(heard.json())
                assert heard.json()["status"] == status and heard.json()["asked"]
    finally:
        listener.stop()


@pytest.mark.parametrize("path", ["/docs", "/docs/page.js", "/docs/page.css", SCRIPT])
def test_the_viewer_needs_no_token_and_loads_nothing_from_elsewhere(path: str) -> None:
    async def body(admin: Admin) -> None:
        packed = await admin.get(path)
        plain = await admin.get(path, headers={"Accept-Encoding": "identity"})
        assert packed.status_code == plain.status_code == 200
        assert packed.content == plain.content
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-security-policy"].startswith("default-src 'self';")
        if "swagger" not in path:
            assert "://" not in plain.text
        head = await admin.head(path)
        assert (head.status_code, head.content) == (200, b"")

    with_node(body, Keyring((b"secret",)), founded=False)


def test_the_document_needs_the_token_that_the_viewer_asks_for() -> None:
    async def body(admin: Admin) -> None:
        assert (await admin.get("/openapi.json")).status_code == 401
        headers = {"Authorization": f"Bearer {token_of(b'secret')}"}
        assert (await admin.get("/openapi.json", headers=headers)).json() == DOCUMENT

    with_node(body, Keyring((b"secret",), former=False), founded=False)


def test_the_viewer_is_what_npm_gave_and_small() -> None:
    sums = dict(line.split()[::-1] for line in (VIEWER / "SHA256SUMS").read_text().splitlines())
    there = {path.name: path.read_bytes() for path in VIEWER.glob("swagger-ui*")}
    assert {name: hashlib.sha256(held).hexdigest() for name, held in there.items()} == sums
    assert any("LICENSE" in name for name in sums)
    assert sum(map(len, there.values())) < 512 * 1024
    lock = json.loads((VIEWER.parents[2] / "viewer/package-lock.json").read_text())
    parts = [part for name, part in lock["packages"].items() if name]
    assert parts and all(part["integrity"].startswith("sha512-") for part in parts)
