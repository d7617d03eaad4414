"""A pod in the ring's namespace that has no rights: what it can do there, one line of JSON.

It tries the three ports of a node, tokens that it forges, and the API server, and prints what each
try was answered: a status of HTTP, or `closed` where the connection ended without an answer.
"""

from __future__ import annotations

import base64
import hmac
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

NODE, RING, NAMESPACE = sys.argv[1:4]
MINE, FOR_API = (Path(f"/identity/{name}").read_text() for name in ("token", "api"))
VICTIM = "system:serviceaccount:shoppers:load"
API = "https://kubernetes.default.svc"
TRUST = {"node": "/trust/ca.crt", "api": "/identity/ca.crt"}
API_VERSION = "dynamo-ring.dev/v1alpha1"
CLOSED = "closed"
KNOWN_S_MAX, POLL_S = 20.0, 0.2
"""How long a network plugin may take to know a new pod, or a policy that changed."""


def trusting(whom: str) -> ssl.SSLContext:
    """The authorities of API servers often lack what Python's strict check wants."""
    context = ssl.create_default_context(cafile=TRUST[whom])
    if whom == "api":
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def asked(
    url: str, token: str = "", method: str = "GET", body: bytes | None = None, trust: str = "node"
) -> int | str:
    """The status of the answer."""
    heads = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    request = urllib.request.Request(url, body, heads, method=method)
    context = trusting(trust) if url.startswith("https") else None
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except (OSError, ValueError):
        return CLOSED


def _coded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def forged(how: str) -> str:
    """A token in the name of an account with rights: its own with another name, one without a
    signature, and one whose key is the text of the public keys."""
    head, claims, signature = MINE.split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"sub": VICTIM}
    told["kubernetes.io"] |= {"namespace": "shoppers", "serviceaccount": {"name": "load"}}
    named = _coded(json.dumps(told).encode())
    if how == "renamed":
        return f"{head}.{named}.{signature}"
    kind = {"alg": "none" if how == "unsigned" else "HS256", "typ": "JWT"}
    start = f"{_coded(json.dumps(kind).encode())}.{named}"
    if how == "unsigned":
        return f"{start}."
    request = urllib.request.Request(
        f"{API}/openid/v1/jwks", headers={"Authorization": f"Bearer {FOR_API}"}
    )
    context = trusting("api")
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        keys = answer.read()
    return f"{start}.{_coded(hmac.digest(keys, start.encode(), 'sha256'))}"


def said_to_peers(encrypted: bool) -> str:
    """What the peer port answers one who has no certificate; `closed`, or what it sent."""
    try:
        with socket.create_connection((NODE, 8082), timeout=10) as plain:
            link = plain
            if encrypted:
                context = trusting("node")
                context.check_hostname = False
                link = context.wrap_socket(plain)
            link.sendall(bytes(64))
            return link.recv(64).hex() or CLOSED
    except OSError:
        return CLOSED


def let_in(port: int) -> bool:
    """Waits until this pod can connect; whether it can."""
    until = time.monotonic() + KNOWN_S_MAX
    while time.monotonic() < until:
        try:
            socket.create_connection((NODE, port), timeout=1).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return True
    return False


def main() -> None:
    """All tries."""
    assert let_in(8080) and let_in(8081), "the NetworkPolicy does not let this pod in"
    client, admin = f"https://{NODE}:8080", f"https://{NODE}:8081"
    batch = json.dumps({"operations": [{"op": "get", "key": "Y2FydA=="}]}).encode()
    here = f"{API}/api/v1/namespaces/{NAMESPACE}"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{RING}-9"}}
    told = {
        "plain get": asked(f"http://{NODE}:8080/v1/kv/cart-1"),
        "get, no token": asked(f"{client}/v1/kv/cart-1"),
        "get": asked(f"{client}/v1/kv/cart-1", MINE),
        "put": asked(f"{client}/v1/kv/cart-1", MINE, "PUT", b"1"),
        "delete": asked(f"{client}/v1/kv/cart-1", MINE, "DELETE"),
        "batch": asked(f"{client}/v1/batch", MINE, "POST", batch),
        "ring of clients": asked(f"{client}/v1/ring", MINE),
        "token for the API": asked(f"{client}/v1/kv/cart-1", FOR_API),
        **{
            f"token {how}": asked(f"{client}/v1/kv/cart-1", forged(how))
            for how in ("renamed", "unsigned", "of public keys")
        },
        "plain status": asked(f"http://{NODE}:8081/v1/status"),
        "status, no token": asked(f"{admin}/v1/status"),
        "status": asked(f"{admin}/v1/status", MINE),
        "keys": asked(f"{admin}/v1/keys", MINE),
        "remove a node": asked(f"{admin}/v1/ring/remove", MINE, "POST", b'{"name":"x"}'),
        "metrics, no token": asked(f"{admin}/metrics"),
        "peer, plain": said_to_peers(encrypted=False),
        "peer, no certificate": said_to_peers(encrypted=True),
        "secret of the ring": asked(f"{here}/secrets/{RING}-secret", FOR_API, trust="api"),
        "key of the authority": asked(f"{here}/secrets/{RING}-ca", FOR_API, trust="api"),
        "rights": asked(f"{here}/configmaps/{RING}-access", FOR_API, trust="api"),
        "change the ring": asked(
            f"{API}/apis/{API_VERSION}/namespaces/{NAMESPACE}/dynamoclusters/{RING}",
            FOR_API,
            "DELETE",
            trust="api",
        ),
        "a pod of the ring's name": asked(
            f"{here}/pods", FOR_API, "POST", json.dumps(pod).encode(), trust="api"
        ),
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
