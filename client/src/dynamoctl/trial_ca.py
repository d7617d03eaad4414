"""A small authority for a trial: its own certificate, and those of nodes and clients that it signs.

    certs/ca.crt          what nodes and clients believe (tls_ca_file, --ca-file)
    certs/ca.key          keep it away from the nodes: it can make a certificate of any name
    certs/node.n1.crt     of the node n1, with the hosts under which clients dial it; beside it .key
    certs/client.anna.crt of the client anna

Nothing is overwritten. Keys are for the user alone (0600).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS, DAYS = 3650, 365
SKEW = timedelta(minutes=5)
"""Clocks differ: a certificate is good from a moment ago on."""
CA = "ca"


class ThereAlready(Exception):
    """A file that would be overwritten."""


class NoAuthority(Exception):
    """The directory has none, or one that cannot be read."""


def make_ca(directory: Path, days: float = CA_DAYS) -> Path:
    """An authority with a new key; its certificate's file. Raises ThereAlready, OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dynamo-ring trial authority")])
    built = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
    )
    return _write(directory, CA, key, built.sign(key, hashes.SHA256()))


def make_node(directory: Path, name: str, hosts: Sequence[str], days: float = DAYS) -> Path:
    """Of a node: its name, which peers look at, and its hosts, which clients look at. Raises
    ThereAlready, NoAuthority, OSError."""
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _signed(directory, "node", name, [name, *hosts], uses, days)


def make_client(directory: Path, name: str, days: float = DAYS) -> Path:
    """Of a client, under its name. Raises ThereAlready, NoAuthority, OSError."""
    return _signed(directory, "client", name, [name], [ExtendedKeyUsageOID.CLIENT_AUTH], days)


def _signed(
    directory: Path, kind: str, name: str, names: Sequence[str],
    uses: list[x509.ObjectIdentifier], days: float,
) -> Path:  # fmt: skip
    try:
        authority = x509.load_pem_x509_certificate((directory / f"{CA}.crt").read_bytes())
        signer = load_pem_private_key((directory / f"{CA}.key").read_bytes(), None)
    except FileNotFoundError:
        raise NoAuthority(f"{directory}: has no ca.crt and ca.key") from None
    except ValueError as error:
        raise NoAuthority(f"{directory}: {error}") from None
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    built = (
        _builder(subject, authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general(each) for each in dict.fromkeys(names)]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return _write(directory, f"{kind}.{name}", key, built.sign(signer, hashes.SHA256()))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + timedelta(days=days)) - SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write(
    directory: Path, stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    cert, secret = directory / f"{stem}.crt", directory / f"{stem}.key"
    for file in (cert, secret):
        if file.exists():
            raise ThereAlready(f"{file} is there already, and is not overwritten")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for file, text, mode in (
        (secret, pem, 0o600), (cert, certificate.public_bytes(Encoding.PEM), 0o644),
    ):  # fmt: skip
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(text)
    return cert
