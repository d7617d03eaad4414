"""A small authority for a trial: its certificate, and certificates of nodes and clients.

    certs/ca.crt          the authority that nodes and clients trust (tls_ca_file, --ca-file)
    certs/ca.key          its key; keep it away from nodes: it can sign any name
    certs/node.n1.crt     of node n1, with the hosts that clients dial; beside it is .key
    certs/client.anna.crt of client anna

Nothing is overwritten. Only the user can read the keys (0600).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS, DAYS = 3650, 365
SKEW = timedelta(minutes=5)
"""Clocks differ, so a certificate is valid from 5 minutes ago."""
CA = "ca"
Signer = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_NAME = re.compile(r"[!-.0-~]{1,200}")
_HOST = re.compile(r"(\*\.)?[0-9A-Za-z]([0-9A-Za-z.-]{0,250}[0-9A-Za-z])?")


class BadName(Exception):
    """It cannot be in a certificate, or in the name of its file."""


class BadHost(Exception):
    """No client can dial it by this name."""


class ThereAlready(Exception):
    """The file exists already."""


class NoAuthority(Exception):
    """The directory has no authority that can be read."""


def make_ca(directory: Path, days: float = CA_DAYS) -> Path:
    """Makes an authority with a new key; returns its certificate. Raises ThereAlready, OSError."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dynamo-ring trial authority")])
    built = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
    )
    return _write(directory, CA, key, built.sign(key, hashes.SHA256()))


def make_node(directory: Path, name: str, hosts: Sequence[str], days: float = DAYS) -> Path:
    """Makes the certificate of a node: peers check its name, clients check its hosts. Raises
    BadName, BadHost, ThereAlready, NoAuthority, OSError."""
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _signed(directory, "node", name, hosts, uses, days)


def make_client(directory: Path, name: str, days: float = DAYS) -> Path:
    """Makes the certificate of a client. Raises BadName, ThereAlready, NoAuthority, OSError."""
    return _signed(directory, "client", name, (), [ExtendedKeyUsageOID.CLIENT_AUTH], days)


def _signed(
    directory: Path,
    kind: str,
    name: str,
    hosts: Sequence[str],
    uses: list[x509.ObjectIdentifier],
    days: float,
) -> Path:
    if not _NAME.fullmatch(name):
        raise BadName(f"{name!r}: needs 1 to 200 characters of ASCII, without spaces and /")
    # Peers look for the name as a DNS name, also if it is an address.
    alternatives: list[x509.GeneralName] = [x509.DNSName(name)]
    alternatives += [general for each in hosts if (general := _general(each)) not in alternatives]
    authority, signer = _authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    built = (
        _builder(subject, authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return _write(directory, f"{kind}.{name}", key, built.sign(signer, hashes.SHA256()))


def _authority(directory: Path) -> tuple[x509.Certificate, Signer]:
    """The authority of the directory, and its key. Raises NoAuthority, OSError."""
    try:
        authority = x509.load_pem_x509_certificate((directory / f"{CA}.crt").read_bytes())
    except FileNotFoundError:
        raise NoAuthority(f"{directory} has no ca.crt and ca.key") from None
    except ValueError as error:
        raise NoAuthority(f"{directory}/ca.crt: {error}") from None
    try:
        signer = load_pem_private_key((directory / f"{CA}.key").read_bytes(), None)
    except FileNotFoundError:
        raise NoAuthority(f"{directory} has no ca.crt and ca.key") from None
    except (ValueError, TypeError):  # the latter where it wants a password
        raise NoAuthority(f"{directory}/ca.key: not a key in PEM without a password") from None
    if not isinstance(signer, Signer):
        raise NoAuthority(f"{directory}/ca.key: needs a key of ECDSA or RSA")
    if signer.public_key() != authority.public_key():
        raise NoAuthority(f"{directory}/ca.key: not the key of ca.crt")
    return authority, signer


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            told = f"{host!r}: needs a name or an address, without scheme and port"
            raise BadHost(told) from None
        return x509.DNSName(host)


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
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    directory: Path, stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    cert, secret = directory / f"{stem}.crt", directory / f"{stem}.key"
    for file in (cert, secret):
        if file.exists():
            raise ThereAlready(f"{file} exists already and is not overwritten")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for file, text, mode in (
        (secret, pem, 0o600),
        (cert, certificate.public_bytes(Encoding.PEM), 0o644),
    ):
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(text)
    return cert
