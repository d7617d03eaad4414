"""Files of `local up --secure`: an authority, certificates of the nodes, a cluster secret. All are
in the directory of the ring."""

from __future__ import annotations

import os
from secrets import token_urlsafe

from dynamo_client.local_fault import EXTRA, LocalFault
from dynamo_client.local_nodes import CERTS, SECRET, LocalRing

HOSTS = ("127.0.0.1", "localhost")
SECRET_BYTES = 32


def secure(ring: LocalRing) -> None:
    """Prepares a ring without nodes for nodes with certificates. Raises LocalFault."""
    ring.certs = ring.directory / CERTS
    ring.directory.mkdir(parents=True, exist_ok=True)
    file = ring.directory / "secret"
    if not ring.secret_file:
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(token_urlsafe(SECRET_BYTES) + "\n")
        ring.flags = [*ring.flags, f"{SECRET}={file.resolve()}"]


def certify(ring: LocalRing) -> None:
    """Makes missing certificates if the ring has any. Raises LocalFault."""
    if ring.certs is None:
        return
    try:
        from dynamoctl import trial_ca
    except ModuleNotFoundError as error:
        words = f"--secure needs the package's extra [certs] ({error.name} is not installed)"
        raise LocalFault(f"{words}: pip install 'dynamo-ring[certs]'", EXTRA) from None
    if not (ring.certs / "ca.crt").exists():
        trial_ca.make_ca(ring.certs)
    for name in ring.nodes:
        if not (ring.certs / f"node.{name}.crt").exists():
            trial_ca.make_node(ring.certs, name, HOSTS)
