"""What the admin listener gives to the console's page, by who asks (docs/console.md)."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from dynamo_core.secret_keys import token_of
from dynamo_node.access import Access
from dynamo_node.keyring import Keyring
from tests.dynamo_node.access.test_rights_admin import BOSS, RIGHTS, SECRET, bearer
from tests.dynamo_node.lone_admin import CREATE, Admin, with_node

ADMIN = bearer(token_of(SECRET))
KV = "/v1/kv/k"
VERBS = [("GET", 404), ("PUT", 204), ("GET", 200), ("HEAD", 200), ("DELETE", 204)]
"""What one key answers in this order to who may do all of it."""


@pytest.mark.parametrize("keyring", [Keyring(), Keyring((SECRET,))], ids=["open", "secret"])
def test_the_files_are_for_everyone_and_hold_no_data(keyring: Keyring) -> None:
    async def body(admin: Admin) -> None:
        for path in ("/console", "/console/", "/console/app.js", "/console/vendor/preact.js"):
            heard = await admin.get(path, headers={"Accept-Encoding": "gzip"})
            assert heard.status_code == 200 and heard.headers["content-encoding"] == "gzip"
            assert "default-src 'self'" in heard.headers["content-security-policy"]
            plain = await admin.get(path, headers={"Accept-Encoding": "identity"})
            assert plain.content == heard.content
        for path in (
            "/consoles",
            "/console/none.js",
            "/console/%2e%2e/v1/status",
            "/console/vendor",
        ):
            assert (await admin.get(path)).status_code == (401 if keyring.now.tokens else 404)
        assert (await admin.post("/console")).status_code in (401, 404)

    async def founded(admin: Admin) -> None:
        await admin.post("/v1/ring", json=CREATE, headers=ADMIN)
        await body(admin)

    with_node(founded, keyring, founded=False)


async def tried(admin: Admin, headers: dict[str, str]) -> list[tuple[str, int]]:
    return [
        (verb, (await admin.request(verb, KV, headers=headers, content=text)).status_code)
        for verb, _ in VERBS
        for text in [b"v" if verb == "PUT" else b""]
    ]


def test_keys_want_the_token_where_clients_are_not_asked() -> None:
    async def body(admin: Admin) -> None:
        assert (await admin.post("/v1/ring", json=CREATE, headers=ADMIN)).status_code == 201
        assert await tried(admin, {}) == [(verb, 401) for verb, _ in VERBS]
        assert await tried(admin, bearer("guess")) == [(verb, 401) for verb, _ in VERBS]
        admin.driver.audit._guessers.clear()
        assert await tried(admin, ADMIN) == VERBS

    with_node(body, Keyring((SECRET,)), founded=False)


def test_keys_want_the_same_rights_as_from_any_client() -> None:
    """Neither the token of administrators nor the right `admin` is a right to a key."""

    async def body(admin: Admin) -> None:
        door: Any = admin._transport
        access = Access(RIGHTS, None, admin.driver.audit)
        door.app._access = door.app._kv._api.access = access
        assert (await admin.post("/v1/ring", json=CREATE, headers=BOSS)).status_code == 201
        for headers in (BOSS, bearer("lister"), ADMIN):
            with structlog.testing.capture_logs() as lines:
                assert await tried(admin, headers) == [(verb, 403) for verb, _ in VERBS]
            told = [(e["what"], e["outcome"]) for e in lines if e["event"] == "audit"]
            assert told == [(f"{verb} /v1/kv", "refused: no right") for verb, _ in VERBS]
        assert admin.driver.node.counters["requests_forbidden"] == 3 * len(VERBS)
        assert await tried(admin, {}) == [(verb, 401) for verb, _ in VERBS]
        assert await tried(admin, bearer("guess")) == [(verb, 401) for verb, _ in VERBS]
        for n in range(5):
            assert (await admin.get(KV, headers=bearer(f"guess {n}"))).status_code == 401
        heard = [(await admin.get(KV, headers=h)).status_code for h in (ADMIN, bearer("owner"))]
        assert heard == [429, 429], "who guesses is not told which token would have been right"
        admin.driver.audit._guessers.clear()
        assert await tried(admin, bearer("owner")) == VERBS

    with_node(body, Keyring((SECRET,)), founded=False)
