"""Every program of examples/ runs against a ring of real nodes, generated clients included.

The clients in Go and Java need a JDK and Maven, Go needs go, TypeScript needs npm. Where a tool is
not installed the test is skipped, and says which.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import kubernetes_validate
import pytest
import yaml

from dynamo_client.local_nodes import free_base
from dynamo_client.local_process import until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TOOLS = {"typescript": ("npm", "node"), "go": ("go", "java", "mvn"), "java": ("javac", "mvn")}
START_S_MAX = 120
PLAY_S_MAX = 900
SESSION = ["bread | milk", "milk and bread", "gone"]


class Nodes(NamedTuple):
    """Where one node of the ring listens."""

    client: str
    admin: str


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes in memory: enough for every example."""
    place, base = tmp_path_factory.mktemp("ring"), free_base(2)
    local = [str(Path(sys.executable).with_name("dynamoctl")), "local"]
    up = ["up", "--detach", "--nodes=2", f"--base-port={base}", "--", "--engine=memory"]
    subprocess.run([*local, *up], cwd=place, check=True, timeout=START_S_MAX)
    try:
        yield Nodes(f"http://127.0.0.1:{base}", f"http://127.0.0.1:{base + 100}")
    finally:
        subprocess.run([*local, "down"], cwd=place, check=True, timeout=START_S_MAX)


@pytest.mark.parametrize("language", TOOLS)
def test_a_generated_client_plays_the_first_session(language: str, nodes: Nodes) -> None:
    missing = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    done = subprocess.run(
        [EXAMPLES / language / "run", *nodes],
        capture_output=True,
        text=True,
        check=False,
        timeout=PLAY_S_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rest = done.stdout.splitlines()
    assert sorted(first.split(" | ")) == ["bread", "milk"]
    assert rest == SESSION[1:]


@pytest.fixture
def shop(nodes: Nodes) -> Iterator[str]:
    """The web shop as its page starts it."""
    port = free_base(1)
    words = ["-m", "uvicorn", "app:app", f"--port={port}", "--log-level=warning"]
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=EXAMPLES / "shop",
        env={**os.environ, "RING": nodes.client},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client() as client:
            until(lambda: answers(client, url), "the shop does not answer", START_S_MAX)
        yield url
    finally:
        process.terminate()
        process.wait(START_S_MAX)


def answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/cart").status_code == 401
    except httpx.ConnectError:
        return False


def test_the_shop_keeps_lines_of_two_tills_and_ends_sessions(shop: str) -> None:
    with httpx.Client(base_url=shop) as till, httpx.Client(base_url=shop) as other:
        for each, article in ((till, "tea"), (other, "milk")):
            assert each.post("/login/ada").status_code == 204
            assert each.post("/cart", json={"article": article, "count": 2}).status_code == 204
        lines = till.get("/cart").json()
        assert sorted(line["article"] for line in lines) == ["milk", "tea"]
        assert till.post("/cart", json={"article": "", "count": 0}).status_code == 422
        assert till.delete("/login").status_code == 204
        assert till.get("/cart").status_code == 401
        assert other.get("/cart").status_code == 200


def test_the_job_is_valid_and_its_program_fills_a_ring(nodes: Nodes, tmp_path: Path) -> None:
    account, carts, job = yaml.safe_load_all((EXAMPLES / "kubernetes/job.yaml").read_text())
    for made in (account, carts, job):
        kubernetes_validate.validate(made, "1.37", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (tmp_path / "carts.json").write_text(carts["data"]["carts.json"])
    environment = {"RING": nodes.client, "CARTS": str(tmp_path / "carts.json")}
    for _ in range(2):  # a Job may run its pod again
        said = subprocess.run(
            [sys.executable, "-c", *container["args"]],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S_MAX,
        )
        expected = json.loads(carts["data"]["carts.json"])["cart:1"]
        assert (said.returncode, said.stdout.strip()) == (0, expected), said.stderr
