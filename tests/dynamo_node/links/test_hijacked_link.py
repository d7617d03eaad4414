"""An attacker between two real nodes lets both prove themselves and then sends for one of them: the
link closes, and the nodes use none of the attacker's bytes (T-2, S-NET-3)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from benchmarks.cluster import EVENT, QUICK
from benchmarks.processes import Node, create_ring, until

from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.records import History, Record, Sibling
from dynamo_core.keys import partition_of, store_key
from dynamo_core.protocol.frame_tags import HEAD_BYTES
from dynamo_core.protocol.frames import Frame, decode_frame, encode_frame
from dynamo_core.protocol.messages import Store
from dynamo_core.ring.document import Entry
from dynamo_core.secret_keys import token_of
from tests.dynamo_node.links.station import Between

SECRET = "what no one in between knows: 0123456789"
KEY, VALUE = b"account", b"100 euro"
PARTITIONS = 16


class Hijacker:
    """Sees every frame of a link, and inserts one with the best head that it can make."""

    def __init__(self) -> None:
        self.message: Store | None = None
        self.put_in = 0

    def change(self, number: int, sealed: bytes) -> list[bytes]:
        forged = decode_frame(sealed[HEAD_BYTES:])
        if self.message is None or not forged.echo_boot:
            return [sealed]
        said = Frame(
            forged.version,
            forged.cluster_id,
            forged.name,
            forged.node_id,
            forged.address,
            forged.boot,
            forged.beat,
            forged.echo_boot,
            forged.echo,
            [self.message],
        )
        frame = encode_frame(said)
        length = HEAD_BYTES - 4 + len(frame)
        check = (length ^ (number + 1)).to_bytes(4, "big")
        self.message, self.put_in = None, self.put_in + 1
        return [sealed, length.to_bytes(4, "big") + check + sealed[8:HEAD_BYTES] + frame]


def forged(node: Node) -> Store:
    """A record that supersedes the present one, made of data that the client listener shows."""
    url = f"{node.endpoint}/v1/kv/{KEY.decode()}"
    (shown,) = httpx.get(url, headers={"Accept": "application/json"}).json()["values"]
    actor, counter = shown["dot"].split("-")[:2]
    history = History({int(actor, 16): int(counter), 0xBAD: 1})
    record = encode_record(KEY, Record((Sibling(0xBAD, 1, b"0 euro"),), history))
    stored = store_key(KEY)
    partition = partition_of(stored, PARTITIONS.bit_length() - 1)
    line = httpx.get(f"{node.endpoint}/v1/ring").json()["entries"][partition]
    entry = Entry(line["term"], line["version"], tuple(line["owners"]))
    return Store(7, partition, entry.id, stored, record, "", False, "put", 1 << 40)


def events(node: Node) -> dict[str, int]:
    text = httpx.get(node.admin + "/metrics").text
    return {event: int(float(count)) for event, count in EVENT.findall(text)}


async def hijack(place: Path, nodes: list[Node]) -> None:
    hijacker = Hijacker()
    behind = Node("b", place / "b")
    async with Between(behind.ports["peer"], hijacker.change) as address:
        behind.advertise = address
        nodes += [Node("a", place / "a"), behind, Node("c", place / "c")]
        (place / "secret").write_text(SECRET + "\n")
        for node in nodes:
            node.start(*QUICK, f"--cluster-secret-file={place / 'secret'}")
        await asyncio.to_thread(
            create_ring, nodes, token_of(SECRET.encode()), n=3, r=2, w=2, partitions=PARTITIONS
        )
        url = f"{nodes[0].endpoint}/v1/kv/{KEY.decode()}"
        answer = await asyncio.to_thread(httpx.put, url + "?w=3", content=VALUE, timeout=30)
        assert answer.status_code == 204, answer.text
        hijacker.message = await asyncio.to_thread(forged, nodes[0])
        await asyncio.to_thread(
            until, lambda: events(behind).get("link_bad_frames", 0) > 0, "nothing was refused"
        )
        assert hijacker.put_in == 1
        for node in nodes:
            assert await asyncio.to_thread(read, node) == VALUE, node.name
        assert [node.alive for node in nodes] == [True] * 3
        answer = await asyncio.to_thread(httpx.put, url, content=b"x", timeout=30)
        assert answer.status_code == 204, "the link has begun anew"


def read(node: Node) -> bytes:
    """What all three owners have; a read that hit the closed link is repeated."""
    url = f"{node.endpoint}/v1/kv/{KEY.decode()}?r=3"
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(httpx.get(url, timeout=30))
        return answers[-1].status_code != 503

    until(answered, f"{node.name} does not answer")
    assert answers[-1].status_code == 200, answers[-1].text
    return answers[-1].content


def test_who_takes_over_a_link_changes_nothing(tmp_path: Path) -> None:
    nodes: list[Node] = []
    try:
        asyncio.run(hijack(tmp_path, nodes))
    finally:
        for node in nodes:
            node.stop()
