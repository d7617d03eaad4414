"""The certificate of a node and the authority that it trusts; read again when the files change.

A reload first makes all new contexts and then uses them: new connections have the new certificate,
open connections go on. TLS sessions are never resumed, so a certificate of a removed authority
cannot open a new connection.
"""

from __future__ import annotations

import ssl
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Ciphers of TLS 1.2; all those of TLS 1.3 are good."""


class BadCertificates(Exception):
    """One line for people that names the setting."""


class TlsFiles(NamedTuple):
    """Paths of the PEM files."""

    cert: Path
    key: Path
    ca: Path | None


class Certificates:
    """The TLS contexts of a node. Raises BadCertificates if the files are wrong."""

    def __init__(self, files: TlsFiles, name: str = "") -> None:
        """`name`: the member's name, which the certificate must have; "" allows any name."""
        self.files = files
        self._name = name
        self.take()

    def take(self) -> None:
        """Reads all files again and uses them, or raises BadCertificates."""
        peers = self._made(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_3, mutual=True)
        dialer = self._made(ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3, mutual=True)
        usual = self._made(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2, mutual=False)
        mutual = self._made(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2, mutual=True)
        names, not_after, mark = _own(peers, dialer) if self.files.ca else ((), "", "")
        if self._name and self._name not in names:
            has = ", ".join(names) or "no names"
            raise BadCertificates(f"tls_cert_file: has {has}; peers require {self._name}")
        self.names, self.not_after, self.mark = names, not_after, mark
        self.authorities = tuple(mark_of(each) for each in peers.get_ca_certs(binary_form=True))
        self._peers, self._dialer, self._usual, self._mutual = peers, dialer, usual, mutual

    @property
    def ends_s(self) -> float | None:
        """When the own certificate ends, in seconds since 1970; None where that is not known, as no
        authority is."""
        return float(ssl.cert_time_to_seconds(self.not_after)) if self.not_after else None

    def peers(self) -> ssl.SSLContext:
        """For accepted links: both sides show a certificate, in TLS 1.3."""
        return self._peers

    def dialer(self) -> ssl.SSLContext:
        """For dialled links. The name is checked after the hello, which gives it."""
        return self._dialer

    def usual(self) -> ssl.SSLContext:
        """For a listener that does not ask clients for a certificate."""
        return self._usual

    def mutual(self) -> ssl.SSLContext:
        """For a listener that requires a certificate of clients."""
        return self._mutual

    def _made(self, kind: int, least: ssl.TLSVersion, mutual: bool) -> ssl.SSLContext:
        cert, key, ca = self.files
        context = ssl.SSLContext(kind)
        context.minimum_version = least
        context.check_hostname = False
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(CIPHERS_1_2)
        if kind == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise BadCertificates(_said(self.files, error)) from None
        if mutual and ca is not None:
            try:
                context.load_verify_locations(ca)
            except OSError as error:
                raise BadCertificates(f"tls_ca_file: {ca}: {_why(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _no_password() -> str:
    """An encrypted key is refused: there is no person who could type the password."""
    return ""


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or "not PEM"


def _said(files: TlsFiles, error: Exception) -> str:
    for setting, file in (("tls_cert_file", files.cert), ("tls_key_file", files.key)):
        try:
            text = file.read_bytes()
        except OSError as failed:
            return f"{setting}: {file}: {failed.strerror}"
        if b"-----BEGIN " not in text:
            return f"{setting}: {file}: not PEM"
    return f"tls_cert_file, tls_key_file: {files.cert}, {files.key}: {_why(error)}"


def _own(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[tuple[str, ...], str, str]:
    """Names, end and mark of the node's certificate, as other nodes see it: both sides shake hands
    in memory. Raises BadCertificates if other nodes would not trust it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialer, acceptor = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    try:
        for _ in range(2):
            for side in (dialer, acceptor):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        raise BadCertificates(f"tls_cert_file: tls_ca_file does not trust it: {why}") from None
    shown = dialer.getpeercert() or {}
    mark = mark_of(dialer.getpeercert(binary_form=True) or b"")
    return names_in(shown), str(shown.get("notAfter", "")), mark


def mark_of(certificate: bytes) -> str:
    """By which people and the operator see which certificate it is: the first 16 digits of the
    SHA-256 of its DER."""
    return sha256(certificate).hexdigest()[:16]


def names_in(certificate: Any) -> tuple[str, ...]:
    """The DNS names and URIs of its subjectAltName, in the order of the certificate."""
    names = certificate.get("subjectAltName", ())
    return tuple(str(name) for kind, name in names if kind in ("DNS", "URI"))
