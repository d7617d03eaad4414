"""`dynamoctl certs` and `local up --secure`: the files that they make and never overwrite."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from dynamo_client.local_nodes import LocalRing, free_base
from dynamo_node.certificates import Certificates, TlsFiles
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


def test_a_secure_ring_by_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        ok("local", "up", "-d", "--secure", "--nodes", "1", "--base-port", str(free_base(2)))
        ring = LocalRing(tmp_path / ".local")
        endpoint = ring.nodes["n1"].endpoint
        assert endpoint.startswith("https://")
        ok("put", "cart", "tea")
        assert run("get", "cart").stdout == "tea"
        assert [row["state"] for row in document("status")] == ["MEMBER"]
        told = ["--endpoint", endpoint, "--admin", ring.nodes["n1"].admin]
        assert "certificate" in run("get", "cart", *told).stderr.lower()
        ca = ["--ca-file", str(tmp_path / ".local/certs/ca.crt")]
        assert run("get", "cart", *told, *ca).stdout == "tea"
        shown = ["--secret-file", str(tmp_path / ".local/secret")]
        assert document("status", *told, *ca, *shown)[0]["name"] == "n1"
        wrong = run("get", "cart", *told, "--ca-file", str(tmp_path / "none"))
        assert wrong.exit_code == 2 and "--ca-file" in wrong.stderr
    finally:
        LocalRing(tmp_path / ".local").stop()
