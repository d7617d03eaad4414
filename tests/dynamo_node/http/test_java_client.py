"""Java's own HTTP client, which offers HTTP/2 with every request, against both fronts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dynamo_node.http.client_listener import Listener

SOURCE = Path(__file__).parent / "children" / "JavaClient.java"
DEADLINE_S = 120.0
pytestmark = pytest.mark.skipif(
    shutil.which("javac") is None or shutil.which("java") is None,
    reason="there is no JDK on this machine",
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("java")
    subprocess.run(["javac", "-d", str(folder), str(SOURCE)], check=True, timeout=DEADLINE_S)
    return folder


def test_javas_default_client_is_served(listener: Listener, compiled: Path) -> None:
    said = subprocess.run(
        ["java", "-cp", str(compiled), "JavaClient", listener.url],
        check=True,
        timeout=DEADLINE_S,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert said.splitlines() == [
        "HTTP_2 PUT 204 HTTP_1_1",
        "HTTP_2 GET 200 HTTP_1_1 from java",
        "HTTP_2 expecting PUT 204 HTTP_1_1",
        "HTTP_2 GET 200 HTTP_1_1 from java, expecting",
        "HTTP_2 DELETE 204 HTTP_1_1",
        "HTTP_1_1 PUT 204 HTTP_1_1",
        "HTTP_1_1 GET 200 HTTP_1_1 from java",
        "HTTP_1_1 expecting PUT 204 HTTP_1_1",
        "HTTP_1_1 GET 200 HTTP_1_1 from java, expecting",
        "HTTP_1_1 DELETE 204 HTTP_1_1",
    ]
