"""What nodes say of the ring: gossip, founding, admission.

New fields go at the end with a default, so that old and new nodes understand each other (C17).
"""

from __future__ import annotations

from dynamo_core.bounds import Count, Digest, NodeId, Partition, RoundNumber, Text
from dynamo_core.protocol.messages import Message
from dynamo_core.ring.document import Entry, RingParts


class Gossip(Message, tag=8):
    """The state of the sender, once a second and on a new link. `number` is its last durable
    sequence number, `remembered` the highest one of the receiver that the sender ever saw,
    `stalled` whether the sender's fsyncs stall (S-RW-8), `admin` where administrators dial the
    sender, "" where it cannot say."""

    digests: tuple[Digest, ...]
    number: Count
    remembered: Count
    reply: bool = False
    stalled: bool = False
    admin: Text = ""


class Parts(Message, tag=9):
    """Ring parts that the receiver lacked, and the digests that the sender has now."""

    parts: RingParts
    digests: tuple[Digest, ...]


class Prepare(Message, tag=18):
    """S-RING-5: will you found this cluster with me? `name` is the receiver's name and `address`
    the receiver's address, as the sender knows them ("" from an older node)."""

    cluster_id: Text
    name: Text
    address: Text = ""


class Prepared(Message, tag=19):
    """The founder's id and client address, or why not."""

    node_id: NodeId
    client: Text
    refusal: Text = ""
    free_bytes: Count = 0


class Found(Message, tag=20):
    """The ring as created; the receiver is complete everywhere from this batch on (S-RING-6)."""

    parts: RingParts


class Founded(Message, tag=21):
    """Durably taken, or why not."""

    refusal: Text = ""


class Admit(Message, tag=22):
    """S-MEM-4: my disk is lost; let me take the place of the name in the frame's head."""

    client: Text
    zone: Text
    weight: Count
    asks: bool = True


class Admitted(Message, tag=23):
    """The ring with the new incarnation and the numbers of the sender's rounds, or why not."""

    parts: RingParts | None
    refusal: Text = ""
    numbers: tuple[tuple[Partition, RoundNumber, RoundNumber], ...] = ()


class Reach(Message, tag=24):
    """Do you hear this node id?"""

    name: Text
    node_id: NodeId


class Reached(Message, tag=25):
    """Whether it answers me."""

    up: bool


class Entries(Message, tag=30):
    """Entries that the receiver seems not to have: (partition, entry)."""

    entries: list[tuple[Partition, Entry]]


class Announce(Message, tag=62):
    """Parts of the ring as an administrator has just changed them (S-MOVE-6)."""

    parts: RingParts


class Announced(Message, tag=63):
    """The sender has them durably, merged with what it had."""
