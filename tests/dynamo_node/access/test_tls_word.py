"""What a node says of its certificate: the operator goes by it, and an alert does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dynamoctl.trial_ca import make_node
from tests.dynamo_node.access.authorities import Authority
from tests.dynamo_node.lone_admin import Admin, with_node


async def said(admin: Admin) -> dict[str, Any]:
    word: dict[str, Any] = (await admin.get("/v1/status")).json()["tls"]
    return word


async def metric(admin: Admin, name: str) -> float:
    (found,) = re.findall(rf"^{name} (.*)$", (await admin.get("/metrics")).text, re.M)
    return float(found)


def test_a_plain_node_says_so() -> None:
    async def body(admin: Admin) -> None:
        plain = {"peers": "off", "certificate": "", "not_after": "", "authorities": []}
        assert await said(admin) == plain
        assert await metric(admin, "dynamo_certificate_not_after_seconds") == 0.0
        assert await metric(admin, "dynamo_access_open") == 1.0

    with_node(body)


def test_a_node_names_its_certificate_and_authorities_as_they_are_now(tmp_path: Path) -> None:
    one, other = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    certificates = one.node("a")

    async def body(admin: Admin) -> None:
        admin.driver.links.ends.secure("allow", certificates)
        first = await said(admin)
        assert first["peers"] == "allow" and len(first["authorities"]) == 1
        assert re.fullmatch("[0-9a-f]{16}", first["certificate"])
        ends = await metric(admin, "dynamo_certificate_not_after_seconds")
        cert, key, ca = certificates.files
        cert.unlink(), key.unlink()
        make_node(one.directory, "a", ["127.0.0.1"], 5.0)
        assert ca is not None
        ca.write_bytes(ca.read_bytes() + other.ca.read_bytes())
        certificates.take()
        then = await said(admin)
        assert first["authorities"][0] in then["authorities"] and len(then["authorities"]) == 2
        assert then["certificate"] != first["certificate"]
        assert await metric(admin, "dynamo_certificate_not_after_seconds") > ends + 3 * 86_400

    with_node(body)
