"""ServiceAccount tokens by public keys: which are valid, which not, and what is remembered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

import dynamo_node.service_accounts as accounts_module
from dynamo_node.access import UNNAMED
from dynamo_node.audit import Audit
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from dynamo_node.reload import Reload
from dynamo_node.rights import BadRights, Rights, Rule
from dynamo_node.service_accounts import ServiceAccounts
from dynamo_node.settings import read
from tests.dynamo_node.http.client_listener import Listener

ISSUER = "https://kubernetes.default.svc.cluster.local"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(65537, 2048)
SUBJECT = "system:serviceaccount:shop:checkout"


def jwks(directory: Path, *names: str) -> Path:
    """A file as the cluster gives it out."""
    known = {
        "r": json.loads(RSAAlgorithm.to_jwk(RSA.public_key())),
        "e": json.loads(ECAlgorithm.to_jwk(EC.public_key())),
        "o": json.loads(RSAAlgorithm.to_jwk(OTHER.public_key())),
    }
    path = directory / "jwks.json"
    path.write_text(json.dumps({"keys": [known[n] | {"kid": n, "use": "sig"} for n in names]}))
    return path


def token(key: Any = RSA, kid: str | None = "r", alg: str = "RS256", **claims: Any) -> bytes:
    now = int(time())
    usual = {"iss": ISSUER, "aud": ["dynamo-ring"], "sub": SUBJECT, "exp": now + 600,
             "iat": now, "nbf": now}  # fmt: skip
    whole = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(whole, key, alg, {"kid": kid} if kid else {}).encode()


@pytest.fixture
def accounts(tmp_path: Path) -> ServiceAccounts:
    return ServiceAccounts(jwks(tmp_path, "r", "e"), ISSUER, "dynamo-ring")


def test_tokens_of_both_algorithms_hold(accounts: ServiceAccounts) -> None:
    for shown in (token(), token(EC, "e", "ES256"), token(kid=None), token(aud="dynamo-ring"),
                  token(nbf=int(time()) + 20), token(exp=int(time()) - 20)):  # fmt: skip
        account = accounts.account_of(shown)
        assert account is not None and account.name == "shop/checkout"


def signed_by_the_public_key() -> bytes:
    """The known attack: HMAC with the public key as the secret."""

    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    public = RSAAlgorithm.to_jwk(RSA.public_key()).encode()
    body = part({"alg": "HS256", "kid": "r"}) + b"." + token().split(b".")[1]
    seal = hmac.new(public, body, hashlib.sha256).digest()
    return body + b"." + base64.urlsafe_b64encode(seal).rstrip(b"=")


def raw(header: bytes, body: bytes = b"{}") -> bytes:
    """What no key has signed."""
    parts = (base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, body))
    return b".".join((*parts, b"A" * 342))


BAD: dict[str, Callable[[], bytes]] = {
    "over": lambda: token(exp=int(time()) - 60),
    "not yet": lambda: token(nbf=int(time()) + 60),
    "made later": lambda: token(iat=int(time()) + 60),
    "without end": lambda: token(exp=None),
    "of another audience": lambda: token(aud=["kubernetes"]),
    "without audience": lambda: token(aud=None),
    "of another issuer": lambda: token(iss="https://else"),
    "without issuer": lambda: token(iss=None),
    "of a user": lambda: token(sub="anna"),
    "of a long name": lambda: token(sub=SUBJECT + ":x"),
    "without subject": lambda: token(sub=None),
    "by another key": lambda: token(OTHER),
    "by another key, no id": lambda: token(OTHER, None),
    "of an unknown id": lambda: token(kid="z"),
    "of no algorithm": lambda: token("", alg="none"),
    "of RS512": lambda: token(alg="RS512"),
    "of PS256": lambda: token(alg="PS256"),
    "by the public key": signed_by_the_public_key,
    "changed": lambda: token()[:-9] + b"AAAAAAAAA",
    "cut": lambda: token()[:-1],
    "no base64": lambda: b"a.b.c",
    "no text": lambda: b"\xff.\xff.\xff",
    "long": lambda: token(more="x" * 9000),
    "of a deep header": lambda: raw(b"[" * 5000),
    "of a deep body": lambda: raw(b'{"alg":"RS256","kid":"r"}', b"[" * 5000),
    "of a header that is no object": lambda: raw(b'["RS256"]'),
    "of a key that it brings itself": lambda: raw(
        b'{"alg":"RS256","jku":"http://127.0.0.1:9/","jwk":{}}'
    ),
    "that wants more": lambda: raw(b'{"alg":"RS256","kid":"r","crit":["b64"],"b64":false}', b""),
    "of an end beyond numbers": lambda: token(exp=10**400),
}


@pytest.mark.parametrize("case", BAD)
def test_a_token_that_does_not_hold_gives_no_name(accounts: ServiceAccounts, case: str) -> None:
    assert accounts.account_of(BAD[case]()) is None


def test_a_verified_token_is_remembered_until_it_ends_or_the_keys_change(
    accounts: ServiceAccounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, short = token(), token(exp=int(time()) + 5)
    first = accounts.account_of(shown)
    assert accounts.account_of(shown) is first
    ends = accounts.account_of(short)
    assert ends is not None
    monkeypatch.setattr(accounts_module, "now_s", lambda: ends.until)
    accounts._keys = []
    assert accounts.account_of(shown) is first
    assert accounts.account_of(short) is None, "its end has come"
    monkeypatch.undo()
    jwks(tmp_path, "e")
    accounts.take()
    assert accounts.account_of(shown) is None, "its key was taken away"


def test_what_is_remembered_is_bounded(
    accounts: ServiceAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_module, "REMEMBERED_MAX", 3)
    for n in range(10):
        assert accounts.account_of(token(EC, "e", "ES256", n=n)) is not None
    assert len(accounts._remembered) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "oct"}]}',
                                  '{"keys": 7}', '{"keys": [7]}',
                                  '{"keys": ' + "[" * 9000])  # fmt: skip
def test_a_bad_file_of_keys_is_refused_and_changes_nothing(
    accounts: ServiceAccounts, text: str
) -> None:
    accounts.path.write_text(text)
    with pytest.raises(BadRights, match="jwks_file: "):
        accounts.take()
    assert accounts.account_of(token()) is not None


@pytest.mark.parametrize("front", ["protocol", "asgi"])
def test_a_pod_reads_its_prefix_and_nothing_else(accounts: ServiceAccounts, front: str) -> None:
    rule = Rule(service_account="shop/checkout", prefixes=["cart:"], verbs=["get", "put"])
    listener = Listener(front, Limits(1 << 20), rights=Rights([rule]), accounts=accounts)
    try:
        with listener.client() as client:

            def status(method: str, key: str, shown: bytes) -> int:
                headers = {"Authorization": f"Bearer {shown.decode()}"}
                return client.request(method, f"/v1/kv/{key}", headers=headers).status_code

            mine, others = token(), token(sub="system:serviceaccount:shop:other")
            assert status("PUT", "cart:1", mine) == 204
            assert status("GET", "cart:1", mine) == 200
            assert status("GET", "order:1", mine) == 403
            assert status("DELETE", "cart:1", mine) == 403
            assert status("GET", "cart:1", others) == 403
            assert status("GET", "cart:1", token(exp=int(time()) - 60)) == 401
    finally:
        listener.stop()


@pytest.mark.parametrize("wrong", ["jwks.json", "access.toml"])
def test_a_wrong_file_keeps_the_other_one_from_nothing(
    accounts: ServiceAccounts, tmp_path: Path, wrong: str
) -> None:
    """A rule that was taken away holds no longer, although the keys cannot be read; and a key that
    was taken away likewise."""
    rules = tmp_path / "access.toml"
    rules.write_text('[[rules]]\nservice_account = "shop/checkout"\nadmin = true\n')
    files = [f"--access-file={rules}", f"--jwks-file={accounts.path}", f"--token-issuer={ISSUER}"]
    settings = read(files)
    access = settings.access(Audit(Counter()))
    assert access is not None and access.accounts is not None
    driver: Any = SimpleNamespace(access=access)
    reload = Reload(files, settings, Keyring(), driver)
    by_r, by_e = token(), token(EC, "e", "ES256")
    known = access.known(b"Bearer " + by_r, lambda: (), "", UNNAMED)
    assert known is not None and known.who.admin
    rules.write_text("")
    jwks(tmp_path, "e")
    (tmp_path / wrong).write_text("{")
    reload.again()
    assert access.rights.rules == (0 if wrong == "jwks.json" else 1)
    assert (access.accounts.account_of(by_r) is None) is (wrong == "access.toml")
    assert access.accounts.account_of(by_e) is not None
    assert not known.holds(access.rights, b"Bearer " + by_r), "looked at again on its connection"
