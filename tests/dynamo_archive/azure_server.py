"""A real server of Azure's blobs, Azurite, as a process. npm installs it once beside the tests."""

from __future__ import annotations

import hmac
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from fcntl import LOCK_EX, flock
from http.client import HTTPConnection
from pathlib import Path

from dynamo_client.local_nodes import free_ports
from dynamo_client.local_process import until

AZURITE = "azurite@3.37.0"
HOME = Path(sys.prefix) / "azure-server-3.37.0"
INSTALL_S, READY_S = 400, 60
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Account and key are those that Azurite's documentation gives to all."""
CREDENTIALS = {
    "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY,
    "AZURE_ALLOW_HTTP": "true",
}  # fmt: skip
API = "2023-11-03"


def missing() -> str:
    """Why this machine cannot have the server, "" if it can."""
    return "" if shutil.which("npm") else "npm, which installs Azurite, is not on this machine"


def installed() -> Path:
    """The server's program. Test processes run beside each other, and one of them makes it."""
    program, done = HOME / "node_modules" / ".bin" / "azurite-blob", HOME / "done"
    HOME.mkdir(exist_ok=True)
    with HOME.with_suffix(".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not (done.exists() and program.exists()):
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", HOME]
            subprocess.run([*command, AZURITE], check=True, timeout=INSTALL_S)
            done.touch()
    return program


@contextmanager
def azure_server() -> Iterator[str]:
    """The server, with the container "shop". Yields its URL."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [installed(), "--inMemoryPersistence", "--silent", "--disableTelemetry",
         "--skipApiVersionCheck", "--blobPort", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: _made(port), "Azurite does not answer", READY_S)
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        process.kill()
        process.wait(READY_S)


def _made(port: int) -> bool:
    """Whether the container could be made: a request with a shared key, as Azure defines it."""
    date = formatdate(usegmt=True)
    place = f"/{ACCOUNT}/shop"
    words = ["PUT", *[""] * 11, f"x-ms-date:{date}", f"x-ms-version:{API}"]
    text = "\n".join([*words, f"/{ACCOUNT}{place}", "restype:container"])
    sign = b64encode(hmac.digest(b64decode(KEY), text.encode(), "sha256")).decode()
    headers = {
        "x-ms-date": date, "x-ms-version": API, "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{sign}",
    }  # fmt: skip
    connection = HTTPConnection("127.0.0.1", port, timeout=READY_S)
    try:
        connection.request("PUT", f"{place}?restype=container", headers=headers)
        return connection.getresponse().status == 201
    except ConnectionError:
        return False
    finally:
        connection.close()
