"""Real node processes in the place of the simulated ring: do they say what the contract says?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from dynamo_client.local_nodes import LocalNode
from dynamo_operator.ports import Failed, failure

SECRET = "s3cret of the ring, 32 characters and more"


class RealNodes:
    """Processes on loopback, a directory for each claim. Behind `ports.NodeApi`, and the kubelet's
    side of `SimulatedRing`. Names of the headless Service lead to loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[str, LocalNode] = {}
        self.places: dict[str, LocalNode] = {}
        self.secret = directory / "secret"
        self.secret.write_text(SECRET)
        self._http = httpx.AsyncClient(timeout=20.0)

    async def close(self) -> None:
        """Ends every process."""
        await self._http.aclose()
        for node in self.running.values():
            node.stop()

    def start(self, name: str, address: str, disk_key: str) -> None:
        """A process on the disk of that claim; its ports are its pod's, whatever disk it has."""
        before = self.places.get(name)
        ports = before.ports if before else None
        node = LocalNode(name, self.directory / disk_key, ports=ports)
        node.seeds = [place.advertise for place in self.places.values()]
        node.start(f"--cluster-secret-file={self.secret}", "--cluster=shop/cart")
        self.places[name] = self.running[address] = node

    def stop(self, address: str) -> None:
        """SIGTERM."""
        node = self.running.pop(address, None)
        if node is not None:
            node.stop()

    def wipe(self, disk_key: str) -> None:
        """The volume is gone."""
        LocalNode("gone", self.directory / disk_key).wipe()

    def ready(self, address: str) -> bool:
        """GET /readyz."""
        return self.running[address].ready()

    async def get(self, address: str, path: str, token: str) -> dict[str, Any]:
        """A document of a node."""
        return await self._ask("GET", address, path, None)

    async def post(
        self, address: str, path: str, token: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Its answer."""
        text = json.dumps(body)
        for name, place in self.places.items():
            text = text.replace(f"{name}.cart-nodes.shop.svc:8082", place.advertise)
        return await self._ask("POST", address, path, text)

    async def _ask(self, method: str, address: str, path: str, body: str | None) -> dict[str, Any]:
        node = self.running.get(address)
        if node is None:
            raise Failed("no such pod")
        try:
            answer = await self._http.request(
                method, node.admin + path, content=body,
                headers={"Authorization": f"Bearer {SECRET}"},
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise Failed(str(error)) from error
        document: dict[str, Any] = answer.json()
        if answer.status_code >= 400:
            raise failure(answer.status_code, str(document), document)
        return document
