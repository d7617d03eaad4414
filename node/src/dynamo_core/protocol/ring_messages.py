"""What nodes say of the ring: gossip, founding, admission.

New fields go at the end with a default, so that old and new nodes understand each other (C17).
"""

from __future__ import annotations

from dynamo_core.bounds import Count, Digest, NodeId, Partition, RoundNumber, Text
from dynamo_core.protocol.messages import Message
from dynamo_core.ring.document import Entry, RingParts


class Gossip(Message, tag=8):
    """The state of the sender, at each heartbeat and on a new link. `sequence` is its last durable
    sequence number. `remembered` is the receiver's highest one that the sender ever saw.
    `stalled`: the sender's fsyncs stall (S-RW-8). `admin`: administrators dial the sender there; ""
    if it is not known."""

    digests: tuple[Digest, ...]
    sequence: Count
    remembered: Count
    reply: bool = False
    stalled: bool = False
    admin: Text = ""


class Parts(Message, tag=9):
    """Ring parts that the receiver lacked, and the digests that the sender has now."""

    parts: RingParts
    digests: tuple[Digest, ...]


class Prepare(Message, tag=18):
    """S-RING-5: ask a node to be a founder of this cluster. `name` and `address` are
    those of the receiver, as the sender knows them ("" from an older node)."""

    cluster_id: Text
    name: Text
    address: Text = ""


class Prepared(Message, tag=19):
    """The founder's id and client address, or the reason of its refusal."""

    node_id: NodeId
    client: Text
    refusal: Text = ""
    free_bytes: Count = 0


class FirstRing(Message, tag=20):
    """The ring as created; the receiver is complete everywhere from this batch on (S-RING-6)."""

    parts: RingParts


class Founded(Message, tag=21):
    """The founder has the ring durably, or the reason of its refusal."""

    refusal: Text = ""


class Admit(Message, tag=22):
    """S-MEM-4: the sender lost its disk and asks for the place of its name (in the frame's
    head)."""

    client: Text
    zone: Text
    weight: Count
    asks: bool = True


class Admitted(Message, tag=23):
    """The ring with the new incarnation and the numbers of the sender's rounds, or the reason of
    the refusal."""

    parts: RingParts | None
    refusal: Text = ""
    numbers: tuple[tuple[Partition, RoundNumber, RoundNumber], ...] = ()


class Reach(Message, tag=24):
    """Ask whether the receiver hears this node id."""

    name: Text
    node_id: NodeId


class Reached(Message, tag=25):
    """Whether that node id answers the sender."""

    up: bool


class Entries(Message, tag=30):
    """Entries that the receiver seems not to have: (partition, entry)."""

    entries: list[tuple[Partition, Entry]]


class Announce(Message, tag=62):
    """Parts of the ring that an administrator has just changed (S-MOVE-6)."""

    parts: RingParts


class Announced(Message, tag=63):
    """The sender has the parts durably, merged into its ring."""
