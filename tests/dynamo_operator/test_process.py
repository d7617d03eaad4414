"""The operator's process: its start, answers and end, with an API server on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from dynamo_client.local_nodes import free_ports
from dynamo_client.local_process import until

JOIN_S = 60.0
EMPTY = {"items": [], "metadata": {"resourceVersion": "1"}}
GROUP = "/apis/dynamo-ring.dev/v1alpha1"
WITH_CRDS: dict[str, Any] = {
    "/api": {"versions": ["v1"]},
    "/apis": {"groups": []},
    "/api/v1": {"resources": []},
    f"{GROUP}/dynamoclusters": EMPTY,
}


@contextmanager
def api_server(answers: dict[str, Any]) -> Iterator[int]:
    """Answers those paths, with their `code` if they have one, 404 for all others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(found or {"kind": "Status", "message": "no such path"}).encode()
            self.send_response(found.get("code", 200) if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(JOIN_S)
        assert not thread.is_alive(), f"the server did not end in {JOIN_S:g} s"
        server.server_close()


def started(directory: Path, port: int, listen: int, **variables: str) -> subprocess.Popen[str]:
    """`dynamo-operator`, with a kubeconfig for that port."""
    config = directory / "config"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "c", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            }
        )
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
    more = {"KUBECONFIG": str(config), "DYNAMO_OPERATOR_LISTEN": f"127.0.0.1:{listen}"}
    return subprocess.Popen(
        [Path(sys.executable).with_name("dynamo-operator")],
        env=clean | more | variables,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_the_crds_it_says_so_and_ends(tmp_path: Path) -> None:
    with api_server({}) as port:
        process = started(tmp_path, port, free_ports(1)[0])
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("dynamo-operator: this API server has no DynamoCluster")


def test_it_answers_probes_and_ends_clean(tmp_path: Path) -> None:
    (listen,) = free_ports(1)
    with api_server(WITH_CRDS) as port:
        process = started(tmp_path, port, listen)
        try:
            until(lambda: answers(listen, "/livez"), "it answers /livez")
            text = httpx.get(f"http://127.0.0.1:{listen}/metrics").text
        finally:
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert re.search(r'^dynamo_operator_api_calls\{verb="GET"\} [1-9]', text, re.M)
    lines = [json.loads(line) for line in said.splitlines()]
    assert any(line["message"] == "watching" for line in lines)


def refused(port: int, listen: int, directory: Path, namespaces: str) -> tuple[str, list[Any]]:
    """Metrics, and log, of an operator of those namespaces once it watches."""
    process = started(directory, port, listen, DYNAMO_OPERATOR_NAMESPACES=namespaces)
    try:
        until(lambda: 'listed{namespace="shop"} 1.0' in metrics(listen), "shop is listed")
        text = metrics(listen)
    finally:
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return text, [json.loads(line) for line in said.splitlines()]


def test_a_namespace_that_cannot_be_listed_keeps_no_other_waiting(tmp_path: Path) -> None:
    """As after one of several was deleted with its Role: 403 until it is made again."""
    denied = {"kind": "Status", "message": "dynamoclusters is forbidden", "code": 403}
    place = "/apis/dynamo-ring.dev/v1alpha1/namespaces"
    both = WITH_CRDS | {
        f"{place}/gone/dynamoclusters": denied,
        f"{place}/shop/dynamoclusters": EMPTY,
    }
    with api_server(both) as port:
        text, lines = refused(port, free_ports(1)[0], tmp_path, "gone,shop")
    assert 'dynamo_operator_listed{namespace="gone"} 0.0' in text
    (line,) = [each for each in lines if each.get("namespace") == "gone"]
    assert line["error"] == "dynamoclusters is forbidden"
    assert any(each["message"] == "watching" for each in lines)


def test_an_api_server_that_refuses_everything_is_asked_again(tmp_path: Path) -> None:
    """It answers its probes meanwhile, and starts when it may."""
    (listen,) = free_ports(1)
    replies = WITH_CRDS | {f"{GROUP}/dynamoclusters": {"message": "not yet", "code": 503}}
    with api_server(replies) as port:
        process = started(tmp_path, port, listen)
        try:
            until(lambda: 'listed{namespace="all"} 0.0' in metrics(listen), "it has been refused")
            assert answers(listen, "/livez")
            replies[f"{GROUP}/dynamoclusters"] = EMPTY
            until(lambda: 'listed{namespace="all"} 1.0' in metrics(listen), "it has begun")
        finally:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def metrics(port: int) -> str:
    """What Prometheus scrapes, "" before it can."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx.TransportError:
        return ""


def answers(port: int, path: str) -> bool:
    """Whether it answers with 200."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("file", ["", "not: [a config"])
def test_without_a_cluster_it_says_so_and_ends(tmp_path: Path, file: str) -> None:
    config = tmp_path / "config"
    config.write_text(file)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("dynamo-operator")],
        env=clean | {"KUBECONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("dynamo-operator: no connection to a cluster")
