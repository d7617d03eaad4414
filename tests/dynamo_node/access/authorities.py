"""Certificates of a trial authority for tests, good ones and bad ones."""

from __future__ import annotations

import ssl
from pathlib import Path

from dynamo_node.certificates import Certificates, TlsFiles
from dynamoctl.trial_ca import make_ca, make_client, make_node

HOSTS = ["127.0.0.1", "localhost"]


class Authority:
    """One directory, one authority."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = make_ca(directory)

    def files(self, name: str, ca: Path | None = None, days: float = 1.0) -> TlsFiles:
        """The files of a node of that name, which trusts this authority or another one."""
        cert = self.directory / f"node.{name}.crt"
        if not cert.exists():
            make_node(self.directory, name, HOSTS, days)
        return TlsFiles(cert, cert.with_suffix(".key"), ca or self.ca)

    def node(self, name: str, ca: Path | None = None) -> Certificates:
        return Certificates(self.files(name, ca))

    def client(
        self, name: str = "", latest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """What an HTTP client needs; with a name, also its certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.maximum_version = latest
        if name:
            cert = self.directory / f"client.{name}.crt"
            if not cert.exists():
                make_client(self.directory, name, 1.0)
            context.load_cert_chain(cert, cert.with_suffix(".key"))
        return context


def unchecked(files: TlsFiles) -> Certificates:
    """As if the node did not check its own certificate: it may have expired, or be of another
    authority than the one that the node trusts."""
    made = Certificates.__new__(Certificates)
    made.files, made._name = files, ""
    made.names, made.not_after, made.mark, made.authorities = (), "", "", ()
    for kind in ("peers", "dialer", "usual", "mutual"):
        least = ssl.TLSVersion.TLSv1_3 if kind in ("peers", "dialer") else ssl.TLSVersion.TLSv1_2
        protocol = ssl.PROTOCOL_TLS_CLIENT if kind == "dialer" else ssl.PROTOCOL_TLS_SERVER
        setattr(made, f"_{kind}", made._made(protocol, least, kind != "usual"))
    return made
