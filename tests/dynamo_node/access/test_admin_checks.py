"""Who may ask the admin listener: tokens of the secrets that are there, and no others."""

from __future__ import annotations

import pytest

from dynamo_core.secret_keys import token_of
from dynamo_node.keyring import Keyring
from tests.dynamo_node.lone_admin import Admin, with_node

SHORT = b"s3cret"


def test_only_probes_metrics_and_the_viewer_need_no_token() -> None:
    token = token_of(SHORT)

    async def body(admin: Admin) -> None:
        for path in ("/livez", "/readyz", "/metrics", "/docs", "/docs/page.js"):
            assert (await admin.get(path)).headers["content-type"] != "application/problem+json"
        for path in (
            "/v1/status",
            "/v1/ring",
            "/v1/nothing",
            "/docs/",
            "/docs/nothing",
            "/openapi.json",
        ):
            for header in (
                "", "Bearer", "Bearer wrong", f"Basic {token}", f"Bearer {token} ",
                f"Bearer {token[:-1]}", "Bearer s3cret",
            ):  # fmt: skip
                admin.driver.audit._guessers.clear()
                said = await admin.problem("GET", path, headers={"Authorization": header})
                assert said == (401, "unauthorized")
        for scheme in ("Bearer", "bearer", "BEARER"):  # RFC 9110, 11.1: case does not matter
            good = await admin.get("/v1/status", headers={"Authorization": f"{scheme} {token}"})
            assert good.status_code == 200

    with_node(body, Keyring((SHORT,), former=False), founded=False)


def test_who_guesses_does_not_lock_out_an_administrator_who_was_there_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(admin: Admin) -> None:
        monkeypatch.setattr(admin.driver.audit, "_clock", lambda: 1e6)

        async def asked(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return (await admin.get("/v1/status", headers=headers)).status_code

        old, new = token_of(SHORT), token_of(b"another")
        assert await asked(old) == 200
        assert [await asked(f"guess {n}") for n in range(11)] == [401] * 10 + [429]
        assert [await asked(old), await asked(new)] == [200, 429]
        guess = await admin.get("/v1/status", headers={"Authorization": "Bearer guess"})
        assert guess.headers["retry-after"] == "6"

    with_node(body, Keyring((SHORT, b"another"), former=False), founded=False)


def test_the_secret_itself_is_a_token_while_something_of_the_first_version_is_left() -> None:
    async def body(admin: Admin) -> None:
        for n, shown in enumerate((SHORT.decode(), "another", SHORT.decode(), "third"), 1):
            said = await admin.get("/v1/status", headers={"Authorization": f"Bearer {shown}"})
            assert said.status_code == (200 if n % 2 else 401)
        assert admin.driver.node.counters["admins_with_raw_secret"] == 2

    with_node(body, Keyring((SHORT,)), founded=False)


def test_each_secret_that_is_there_has_a_token_and_one_that_is_gone_has_none() -> None:
    old, new = b"old secret", b"new secret"
    keyring = Keyring((old,), former=False)

    async def statuses(admin: Admin) -> list[int]:
        tokens = [{"Authorization": f"Bearer {token_of(secret)}"} for secret in (old, new)]
        return [(await admin.get("/v1/status", headers=t)).status_code for t in tokens]

    async def body(admin: Admin) -> None:
        for secrets, expected in (
            ((old,), [200, 401]),
            ((old, new), [200, 200]),
            ((new, old), [200, 200]),
            ((new,), [401, 200]),
        ):
            keyring.take(secrets)
            assert await statuses(admin) == expected
            shown = {"Authorization": f"Bearer {token_of(secrets[0])}"}
            document = (await admin.get("/v1/status", headers=shown)).json()
            assert document["secrets"] == list(keyring.now.names)
            assert len(set(document["secrets"])) == len(secrets)

    with_node(body, keyring, founded=False)
