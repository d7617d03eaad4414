"""Real node processes instead of the simulated ring: do they keep the contract?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from msgspec import structs

from dynamo_client.local_nodes import LocalNode
from dynamo_operator.node_admin import NodeAdmin
from dynamo_operator.pod import ACCESS_DIR, TLS_DIR
from dynamo_operator.ports import Failed, Way
from dynamo_operator.tokens import tokens_of
from tests.dynamo_operator.simulated_mounts import Mount
from tests.dynamo_operator.simulated_node import Disk

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
        self.mounts: dict[str, Mount] = {}
        self.admins: dict[int, NodeAdmin] = {}
        self.more: list[str] = []
        """Further flags of every node."""
        self.disks: dict[str, Disk] = {}
        """What volumes were copied from: no story here copies one."""

    async def close(self) -> None:
        """Ends every process."""
        for admin in self.admins.values():
            await admin.close()
        for node in self.running.values():
            node.stop()

    def start(self, name: str, address: str, disk_key: str) -> None:
        """A process on the disk of that claim; its ports belong to its pod, with any disk."""
        before = self.places.get(name)
        ports = before.ports if before else None
        node = LocalNode(name, self.directory / disk_key, ports=ports)
        node.seeds = [place.advertise for place in self.places.values()]
        secret = f"--cluster-secret-file={self.secret}"
        known = (secret, "--cluster=shop/cart", "--peer-protocol-min=2")
        node.start(*known, *self.more, *self._flags(address))
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
        """GET /readyz; the kubelet looks at no certificate."""
        scheme = "http" if self.mounts[address].tls == "off" else "https"
        url = f"{scheme}://127.0.0.1:{self.running[address].ports['admin']}/readyz"
        try:
            return httpx.get(url, verify=False, timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    def mounted(self, address: str, mount: Mount) -> None:
        """Files of Secrets and ConfigMaps, replaced by renaming as the kubelet does."""
        self.mounts[address] = mount
        place = self._place(address)
        place.mkdir(exist_ok=True)
        for name, text in mount.files.items():
            if not (place / name).exists() or (place / name).read_bytes() != text:
                (place / "new").write_bytes(text)
                (place / "new").rename(place / name)

    def way(self, address: str) -> Way:
        """As the operator asks the node at this address."""
        mount, name = self.mounts[address], self.running[address].name
        return Way(address, believed=mount.trust.believed, name=name)

    def _place(self, address: str) -> Path:
        return self.directory / f"files-{address}"

    def _flags(self, address: str) -> list[str]:
        """What the pod's variables say of TLS and rights."""
        flags = []
        for name, value in self.mounts[address].env.items():
            if "_TLS" in name or name.endswith("ACCESS_FILE"):
                for place in (TLS_DIR, ACCESS_DIR):
                    value = value.replace(place, str(self._place(address)))
                flags.append(f"--{name[7:].lower().replace('_', '-')}={value}")
        return flags

    async def get(self, way: Way, path: str) -> dict[str, Any]:
        """A document of a node."""
        return await self._ask("GET", way, path, None)

    async def post(self, way: Way, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer."""
        text = json.dumps(body)
        for name, place in self.places.items():
            text = text.replace(f"{name}.cart-nodes.shop.svc:8082", place.advertise)
        return await self._ask("POST", way, path, text)

    async def _ask(self, method: str, way: Way, path: str, body: str | None) -> dict[str, Any]:
        """The operator's own way, but for the port: these pods share one address."""
        node = self.running.get(way.address)
        if node is None:
            raise Failed("no such pod")
        port = node.ports["admin"]
        admin = self.admins.setdefault(port, NodeAdmin(port))
        known = structs.replace(way, address="127.0.0.1", tokens=tokens_of(SECRET)[:1])
        if body is None:
            return await admin.get(known, path)
        return await admin.post(known, path, json.loads(body))
