"""The ring's own authority and its certificates: all cryptography.

The authority of a ring is a Secret, which only the operator reads:

    ca.crt, ca.key            signs the certificate of the nodes
    next.crt, next.key        believed, to sign next
    previous.crt              believed until no node shows a certificate of it

The Secret that is mounted into pods has tls.crt, tls.key, and all that is believed as ca.crt.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import structs

from dynamo_operator.trust import SKEW_S, Authority, Certificate, Trust

CA_DAYS, DAYS = 3 * 365, 90
MARK_DIGITS = 16
ASKED = "dynamo-ring.dev/rotate-authority"
"""Annotation: of the DynamoCluster, any text, by which a person asks for another authority; of the
authority's Secret, the text that was answered last."""
Data = dict[str, bytes]
Change = Literal["first", "next", "switch", "drop"]


class Unreadable(Exception):
    """A Secret does not hold what it should; one line for people."""


def data_of(secret: Mapping[str, Any] | None) -> Data:
    """The decoded data of a Secret."""
    found = (secret or {}).get("data") or {}
    return {name: base64.b64decode(text) for name, text in found.items()}


def encoded(data: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """The data in the form of a Secret; None removes a key."""
    return {n: None if v is None else base64.b64encode(v).decode() for n, v in data.items()}


def advanced(data: Data, change: Change, title: str, now: float) -> dict[str, bytes | None]:
    """What changes in the authority's Secret."""
    if change in ("first", "next"):
        which = "ca" if change == "first" else "next"
        cert, key = _authority(title, now)
        return {f"{which}.crt": cert, f"{which}.key": key}
    if change == "switch":
        return {
            "previous.crt": data["ca.crt"],
            "ca.crt": data["next.crt"],
            "ca.key": data["next.key"],
            "next.crt": None,
            "next.key": None,
        }
    return {"previous.crt": None}


def bundle(data: Data) -> bytes:
    """All trusted authorities; the one that signs comes first."""
    parts = (data.get(f"{which}.crt", b"") for which in ("ca", "next", "previous"))
    return b"".join(part.rstrip(b"\n") + b"\n" for part in parts if part)


def still_believed(mounted: Data) -> dict[str, bytes | None]:
    """What nodes trust becomes the previous authority, because its key is lost."""
    try:
        first = _one(mounted.get("ca.crt", b""), "ca.crt")
    except Unreadable:
        return {}
    return {"previous.crt": first.public_bytes(Encoding.PEM)}


def certified(data: Data, names: Sequence[str], now: float) -> Data:
    """A certificate of the ring's nodes with a new key, and the trusted authorities. Both uses: a
    node is a client of other nodes, too."""
    signer = x509.load_pem_x509_certificate(data["ca.crt"])
    signs = _key(data)
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    built = (
        _builder(_name("dynamo-ring node"), signer.subject, key, now, DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), critical=False
        )
    )
    cert = built.sign(signs, hashes.SHA256()).public_bytes(Encoding.PEM)
    return {"tls.crt": cert, "tls.key": _pem(key), "ca.crt": bundle(data)}


def trust_of(mounted: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> Trust:
    """What both Secrets say; one that cannot be read is a fault and no error."""
    found, fault, authority = Trust(), "", None
    for secret in (mounted, own):
        if secret is None:
            continue
        try:
            if secret is mounted:
                found = _mounted(secret)
            else:
                authority = _authority_of(secret)
        except Unreadable as error:
            fault = f"Secret {secret['metadata']['name']}: {error}"
    return structs.replace(found, authority=authority, fault=fault)


def _authority_of(secret: Mapping[str, Any]) -> Authority:
    data, meta = data_of(secret), secret["metadata"]
    if "ca.key" not in data or ("next.crt" in data) != ("next.key" in data):
        raise Unreadable("wants ca.crt and ca.key, and next.crt only with next.key")
    _key(data)
    read = {
        which: _facts(_one(data[f"{which}.crt"], f"{which}.crt"))
        for which in ("ca", "next", "previous")
        if f"{which}.crt" in data
    }
    if "ca" not in read:
        raise Unreadable("ca.crt: missing")
    return Authority(
        current=read["ca"],
        next=read.get("next"),
        previous=read.get("previous"),
        asked=(meta.get("annotations") or {}).get(ASKED, ""),
        version=meta["resourceVersion"],
    )


def _mounted(secret: Mapping[str, Any]) -> Trust:
    data = data_of(secret)
    missing = [name for name in ("tls.crt", "tls.key", "ca.crt") if not data.get(name)]
    if missing:
        raise Unreadable(f"has no {', '.join(missing)}")
    authorities = _many(data["ca.crt"], "ca.crt")
    leaf = _one(data["tls.crt"], "tls.crt")
    return Trust(
        certificate=_facts(leaf, authorities),
        believed=data["ca.crt"].decode("ascii", "replace"),
        marks=tuple(mark_of(each) for each in authorities),
        version=secret["metadata"]["resourceVersion"],
    )


def mark_of(certificate: x509.Certificate) -> str:
    """The mark by which nodes name a certificate."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:MARK_DIGITS]


def _facts(
    certificate: x509.Certificate, authorities: Iterable[x509.Certificate] = ()
) -> Certificate:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = found.get_values_for_type(x509.DNSName)
        addresses = [str(each) for each in found.get_values_for_type(x509.IPAddress)]
    except (x509.ExtensionNotFound, ValueError):
        hosts, addresses = [], []
    signers = (mark_of(each) for each in authorities if _signed_by(certificate, each))
    return Certificate(
        mark=mark_of(certificate),
        begins=certificate.not_valid_before_utc.timestamp(),
        ends=certificate.not_valid_after_utc.timestamp(),
        names=(*hosts, *addresses),
        signer=next(signers, ""),
    )


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key(data: Data) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(data["ca.key"], None)
    except (ValueError, TypeError) as error:
        raise Unreadable(f"ca.key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Unreadable("ca.key: wants a key of an elliptic curve")
    return key


def _one(text: bytes, key: str) -> x509.Certificate:
    return _many(text, key)[0]


def _many(text: bytes, key: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        raise Unreadable(f"{key}: no certificate in PEM") from None


def _authority(title: str, now: float) -> tuple[bytes, bytes]:
    """Its name has a part that no other has: a chain is found by the names of signers."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{title[:40]} {x509.random_serial_number():x}"[:60])
    built = (
        _builder(name, name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
    )
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), _pem(key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: float, days: int
) -> x509.CertificateBuilder:
    made = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made - timedelta(seconds=SKEW_S))
        .not_valid_after(made + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
