"""The certificate of a node and the authority that it believes, read again when the files change.

A reload makes new contexts whole and then takes them: new connections have the new ones, those that
are open go on. Nothing is resumed from an earlier connection, so a certificate of an authority that
was taken away opens no new one.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, NamedTuple

CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""


class BadCertificates(Exception):
    """One line for people, naming the setting."""


class TlsFiles(NamedTuple):
    """Where they are, as PEM."""

    cert: Path
    key: Path
    ca: Path | None


class Certificates:
    """The contexts of a node. Raises BadCertificates when the files are not good."""

    def __init__(self, files: TlsFiles, name: str = "") -> None:
        """`name`: that of the member, which the certificate has to have; "" for any."""
        self.files = files
        self._name = name
        self.take()

    def take(self) -> None:
        """Reads the files again and takes all of them, or raises BadCertificates."""
        peers = self._made(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_3, mutual=True)
        dialer = self._made(ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3, mutual=True)
        usual = self._made(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2, mutual=False)
        mutual = self._made(ssl.PROTOCOL_TLS_SERVER, ssl.TLSVersion.TLSv1_2, mutual=True)
        names, not_after = _own(peers, dialer) if self.files.ca else ((), "")
        if self._name and self._name not in names:
            has = ", ".join(names) or "no names"
            raise BadCertificates(f"tls_cert_file: has {has}; peers want {self._name}, the name")
        self.names, self.not_after = names, not_after
        self._peers, self._dialer, self._usual, self._mutual = peers, dialer, usual, mutual

    def peers(self) -> ssl.SSLContext:
        """For links that are accepted: both sides show a certificate, in TLS 1.3."""
        return self._peers

    def dialer(self) -> ssl.SSLContext:
        """For links that are dialled. The name is looked at after the hello, which tells it."""
        return self._dialer

    def usual(self) -> ssl.SSLContext:
        """For a listener that wants no certificate of clients."""
        return self._usual

    def mutual(self) -> ssl.SSLContext:
        """For a listener that wants one."""
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
        except (OSError, ValueError) as error:  # of which SSLError is one
            raise BadCertificates(_said(self.files, error)) from None
        if mutual and ca is not None:
            try:
                context.load_verify_locations(ca)
            except OSError as error:
                raise BadCertificates(f"tls_ca_file: {ca}: {_why(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _no_password() -> str:
    """An encrypted key is refused: a node has no person to ask for the password."""
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
            return f"{setting}: {file}: no PEM"
    return f"tls_cert_file, tls_key_file: {files.cert}, {files.key}: {_why(error)}"


def _own(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[tuple[str, ...], str]:
    """Names of the own certificate and its end, as others see it: both sides of a handshake in
    memory. Raises BadCertificates where others would not believe it."""
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
        raise BadCertificates(f"tls_cert_file: not believed by tls_ca_file: {why}") from None
    shown = dialer.getpeercert() or {}
    return names_in(shown), str(shown.get("notAfter", ""))


def names_in(certificate: Any) -> tuple[str, ...]:
    """The DNS names and URIs of its subjectAltName, in their order."""
    names = certificate.get("subjectAltName", ())
    return tuple(str(name) for kind, name in names if kind in ("DNS", "URI"))
