"""`dynamoctl certs` and `local up --secure`: the files that they make and never overwrite."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from dynamo_client.admin import AdminClient
from dynamo_client.local_door import LocalDoor
from dynamo_client.local_faults import LocalFaults
from dynamo_client.local_nodes import LocalRing, free_base
from dynamo_node.certificates import Certificates, TlsFiles
from dynamoctl.secured import give_rights, secure
from dynamoctl.trial_ca import make_ca, make_node
from tests.dynamoctl.command_line import document, ok, run


def names(file: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in found.value]


def test_an_authority_a_node_and_a_client(tmp_path: Path) -> None:
    place = ["--dir", str(tmp_path / "certs")]
    none = run("certs", "node", "n1", *place)
    assert none.exit_code == 2 and "ca.crt" in none.stderr
    assert document("certs", "ca", *place)["cert"].endswith("ca.crt")
    ok("certs", "node", "n1", "--host", "10.0.0.1", "--host", "shop", *place)
    ok("certs", "client", "anna", *place)
    assert names(tmp_path / "certs/node.n1.crt") == ["n1", "10.0.0.1", "shop"]
    assert names(tmp_path / "certs/client.anna.crt") == ["anna"]
    for key in (tmp_path / "certs").glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        ssl.create_default_context().load_cert_chain(key.with_suffix(".crt"), key)


@pytest.mark.parametrize("what", [["ca"], ["node", "n1"], ["client", "n1"]])
def test_nothing_is_overwritten(tmp_path: Path, what: list[str]) -> None:
    place = ["--dir", str(tmp_path)]
    if what != ["ca"]:
        ok("certs", "ca", *place)
    ok("certs", *what, *place)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    again = run("certs", *what, *place)
    assert again.exit_code == 2 and "not overwritten" in again.stderr
    next(tmp_path.glob(f"{what[0]}*.crt")).unlink()
    assert run("certs", *what, *place).exit_code == 2, "a key that is there alone stays"
    assert all(file.read_bytes() == text for file, text in before.items() if file.exists())


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["node", "a/b"], "NAME"), (["node", "../x"], "NAME"), (["node", ""], "NAME"),
        (["node", "n 1"], "NAME"), (["node", "n1\n"], "NAME"), (["node", "n" * 300], "NAME"),
        (["client", "\u00fc"], "NAME"), (["client", "a/b"], "NAME"),
        (["node", "n1", "--host", "https://shop"], "--host"),
        (["node", "n1", "--host", "10.0.0.1:8080"], "--host"),
        (["node", "n1", "--host", "shop", "--host", ""], "--host"),
        (["node", "n1", "--days", "nan"], "--days"), (["node", "n1", "--days", "-1"], "--days"),
    ],
)  # fmt: skip
def test_what_makes_no_certificate_is_told_with_its_field(
    tmp_path: Path, words: list[str], field: str
) -> None:
    place = ["--dir", str(tmp_path / "certs")]
    ok("certs", "ca", *place)
    told = run("certs", *words, *place)
    assert told.exit_code == 2 and field in told.stderr, told.output
    assert told.stderr.count("\n") == 1
    assert sorted(file.name for file in (tmp_path / "certs").iterdir()) == ["ca.crt", "ca.key"]


def test_a_node_whose_name_is_an_address_has_it_as_a_name_for_peers(tmp_path: Path) -> None:
    make_ca(tmp_path)
    made = make_node(tmp_path, "10.0.0.1", ["10.0.0.1", "shop"])
    files = TlsFiles(made, made.with_suffix(".key"), tmp_path / "ca.crt")
    assert Certificates(files, "10.0.0.1").names == ("10.0.0.1", "shop")
    assert names(made) == ["10.0.0.1", "10.0.0.1", "shop"], "and as an address, for clients"


@pytest.mark.parametrize("case", ["encrypted", "of another authority", "no key", "Ed25519"])
def test_an_authority_that_cannot_sign_is_told(tmp_path: Path, case: str) -> None:
    make_ca(tmp_path)
    file = tmp_path / "ca.key"
    key: Any = ec.generate_private_key(ec.SECP256R1())
    if case == "Ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    sealed = BestAvailableEncryption(b"word") if case == "encrypted" else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed)
    file.write_bytes(b"" if case == "no key" else pem)
    told = run("certs", "node", "n1", "--dir", str(tmp_path))
    assert told.exit_code == 2 and "--dir" in told.stderr and "ca.key" in told.stderr, told.output
    assert told.stderr.count("\n") == 1
    assert not list(tmp_path.glob("node*"))


def _asks_who_it_is(ring: LocalRing, said: str) -> None:
    """401 without a token, 403 for what a name may not do, and the words say with which file."""
    node = ring.nodes["n1"]

    def asked(method: str, key: str, file: str = "") -> int:
        shown = {}
        if file:
            assert f"$(cat .local/{file})" in said
            assert (ring.directory / file).stat().st_mode & 0o777 == 0o600
            token = (ring.directory / file).read_text().strip()
            shown = {"Authorization": f"Bearer {token}"}
        url = f"{node.endpoint}/v1/kv/{key}"
        verify = node.tls.context()
        return httpx.request(method, url, headers=shown, content=b"", verify=verify).status_code

    assert asked("PUT", "cart-1") == asked("GET", "cart-1") == 401
    assert asked("PUT", "cart-1", "trial.token") == asked("PUT", "other", "trial.token") == 204
    assert asked("GET", "cart-1", "reader.token") == 200
    assert asked("PUT", "cart-1", "reader.token") == asked("GET", "other", "reader.token") == 403
    trial = (ring.directory / "trial.token").read_text().strip()
    with AdminClient(node.admin, trial, tls=node.tls) as admin:
        assert admin.status()["access"] != "open"
    assert set(ring.admin_tokens) == {ring.token, trial}
    reader = (ring.directory / "reader.token").read_text().strip()
    door = LocalDoor(LocalFaults(ring.directory, None), 0)
    try:
        for token, status in ((ring.token, 200), (trial, 200), (reader, 401), ("", 401)):
            shown = {"Authorization": f"Bearer {token}"} if token else {}
            assert httpx.get(f"{door.url}/what-if", headers=shown).status_code == status
    finally:
        door.stop()


def test_rights_of_ones_own_are_kept(tmp_path: Path) -> None:
    ring = LocalRing(tmp_path / "ring")
    secure(ring)
    ring.flags.append("--access-file=/mine.toml")
    give_rights(ring)
    assert ring.flags.count("--access-file=/mine.toml") == len(ring.flags) - 1 == 1
    assert ring.client_token_file is None and not (ring.directory / "access.toml").exists()


def test_what_was_made_once_is_made_no_second_time(tmp_path: Path) -> None:
    """A start that failed is tried again; a person may have changed the rules meanwhile."""
    ring = LocalRing(tmp_path / "ring")
    secure(ring)
    give_rights(ring)
    files = [ring.directory / name for name in ("access.toml", "trial.token", "reader.token")]
    before = [file.read_text() for file in files]
    again = LocalRing(tmp_path / "ring")
    secure(again)
    give_rights(again)
    assert [file.read_text() for file in files] == before
    assert again.client_token_file == files[1]


def test_a_secure_ring_by_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        said = ok("local", "up", "-d", "--secure", "--nodes", "1", "--base-port", str(free_base(2)))
        ring = LocalRing(tmp_path / ".local")
        _asks_who_it_is(ring, said.stdout)
        endpoint = ring.nodes["n1"].endpoint
        assert endpoint.startswith("https://")
        ok("put", "cart", "tea")
        assert run("get", "cart").stdout == "tea"
        assert [row["state"] for row in document("status")] == ["MEMBER"]
        told = ["--endpoint", endpoint, "--admin", ring.nodes["n1"].admin]
        assert "certificate" in run("get", "cart", *told).stderr.lower()
        ca = ["--ca-file", str(tmp_path / ".local/certs/ca.crt")]
        assert "Authorization" in run("get", "cart", *told, *ca).stderr
        trial = ["--client-token-file", str(tmp_path / ".local/trial.token")]
        assert run("get", "cart", *told, *ca, *trial).stdout == "tea"
        shown = ["--secret-file", str(tmp_path / ".local/secret")]
        assert document("status", *told, *ca, *shown)[0]["name"] == "n1"
        wrong = run("get", "cart", *told, "--ca-file", str(tmp_path / "none"))
        assert wrong.exit_code == 2 and "--ca-file" in wrong.stderr
    finally:
        LocalRing(tmp_path / ".local").stop()
