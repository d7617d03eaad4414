"""Three real nodes in one ring, for everything that the pages show."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from benchmarks.processes import LISTENERS, Node, found, until


def synced(node: Node) -> bool:
    """Whether the node may say that nothing is there: until then a 404 is a 503."""
    return httpx.get(node.admin + "/readyz?level=synced").status_code == 200


@pytest.fixture(scope="package")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses that pages name, and the ones that there are."""
    root = tmp_path_factory.mktemp("ring")
    nodes = [Node(f"n{number}", root / f"n{number}") for number in (1, 2, 3)]
    try:
        for node in nodes:
            node.start()
        found(nodes)
        for node in nodes:
            until(partial(synced, node), f"{node.name} is not complete")
        yield {
            f"127.0.0.1:7{place}0{number}": f"127.0.0.1:{node.ports[listener]}"
            for number, node in enumerate(nodes, 1)
            for place, listener in enumerate(LISTENERS, 1)
        }
    finally:
        for node in nodes:
            if node.child is not None:
                node.stop()
