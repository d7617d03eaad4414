"""Files of `local up --secure`: an authority, certificates of the nodes, a cluster secret, rights
of two names and their tokens. All are in the directory of the ring."""

from __future__ import annotations

import os
import shlex
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe

from dynamo_client.local_fault import EXTRA, LocalFault
from dynamo_client.local_nodes import ACCESS, CERTS, RIGHTS, SECRET, TRIAL_TOKEN, LocalRing

HOSTS = ("127.0.0.1", "localhost")
SECRET_BYTES = 32
READER_TOKEN, PREFIX = "reader.token", "cart"
RULES = """# Who may do what. Nodes read this file again when it changes.
[[rules]]
name = "trial"                           # its token is in trial.token
token_sha256 = "{}"
prefixes = [""]                          # every key
verbs = ["get", "put", "delete", "list"]
admin = true

[[rules]]
name = "reader"                          # its token is in reader.token
token_sha256 = "{}"
prefixes = ["{prefix}"]
verbs = ["get"]
"""


def secure(ring: LocalRing) -> None:
    """Prepares a ring without nodes for nodes with certificates. Raises LocalFault."""
    ring.certs = ring.directory / CERTS
    ring.directory.mkdir(parents=True, exist_ok=True)
    file = ring.directory / "secret"
    if not ring.secret_file:
        _random(file)
        ring.flags = [*ring.flags, f"{SECRET}={file.resolve()}"]


def _random(file: Path) -> str:
    """The content of the file, which is made if it is not there, for its user alone."""
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(token_urlsafe(SECRET_BYTES) + "\n")
    return file.read_text().strip()


def give_rights(ring: LocalRing) -> None:
    """Lets nodes ask clients who they are, unless the flags name other rights: `trial` may do
    everything, `reader` may read some keys."""
    if ring.flag(ACCESS):
        return
    file = ring.directory / RIGHTS
    digests = [
        sha256(_random(ring.directory / name).encode()).hexdigest()
        for name in (TRIAL_TOKEN, READER_TOKEN)
    ]
    if not file.exists():
        file.write_text(RULES.format(*digests, prefix=PREFIX))
    ring.flags = [*ring.flags, f"{ACCESS}={file.resolve()}"]


def told(ring: LocalRing, curl: str) -> str:
    """What a person tries with the rights, after `U` is the URL of a key; "" if there are none."""
    if ring.client_token_file is None:
        return ""
    reader = shlex.quote(str(ring.directory / READER_TOKEN))
    return f"""
This ring asks clients who they are; {ring.directory / RIGHTS} says who may do what. Without a token
they get 401. This one may only get keys that begin with {PREFIX}, else it gets 403:
  {curl} -i -X DELETE -H "Authorization: Bearer $(cat {reader})" $U
The console asks for the token of {ring.client_token_file}, which may do everything.
"""


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
