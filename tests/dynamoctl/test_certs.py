"""`dynamoctl certs` and `local up --secure`: what is made, and what is not overwritten."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from command_line import document, ok, run
from cryptography import x509

from dynamo_client.local_nodes import LocalRing, free_base


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
