"""What is said: operations of clients, messages between replicas, the frame around them.

Messages are array-like msgpack structs with an integer tag: compact on the wire, and the very
objects that machines hand on. New fields go at the end with a default, so that old and new nodes
understand each other (C17). Every message that carries a record has a `seen` number (S-DEL-3, 0
until tombstones are collected), every one about a partition the sender's entry (S-RING-4).
"""

from __future__ import annotations

import msgspec

from dynamo_core.errors import BadFrame
from dynamo_core.ring import Entry, RingParts
from dynamo_core.versions import Sibling

FRAME_VERSION = 1
FRAME_BYTES_MAX = 32 * 1024 * 1024
OWNER, COMPLETE, HINTED, SYNCED, CORRUPT = 1, 2, 4, 8, 16
"""Flags of a reply: what the replica is for the key, and what it did."""


# ---------------------------------------------------------------- operations of clients


class Context(msgspec.Struct, array_like=True, gc=False):
    """What a client has seen: an encoded History, and the node that answered fastest (S-RW-7)."""

    history: bytes
    node: str = ""


class Get(msgspec.Struct, kw_only=True, gc=False):
    """Read one key. `r` 0 means the cluster's; `timeout_s` counts from submission."""

    key: bytes
    r: int = 0
    strict: bool = False
    timeout_s: float = 1.0
    explain: bool = False


class Put(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """Write one key; `value` None deletes. `w`, `dw` 0 mean the cluster's. `expires_in_s` 0: never.
    `answer_record`: the answer shows the record as a get would (`return=representation`)."""

    key: bytes
    value: bytes | None
    content_type: str = ""
    context: Context | None = None
    request_id: str = ""
    w: int = 0
    dw: int = 0
    strict: bool = False
    timeout_s: float = 1.0
    expires_in_s: int = 0
    answer_record: bool = False
    explain: bool = False


class Acks(msgspec.Struct, array_like=True, gc=False):
    """Distinct nodes that acknowledged a put (S-RW-2)."""

    total: int = 0
    owners: int = 0
    hinted: int = 0
    durable: int = 0


class Asked(msgspec.Struct, gc=False):
    """One line of `explain`: `role` is "owner" or "stand-in"."""

    node: str
    role: str
    answer: str
    ms: float


class Explanation(msgspec.Struct, gc=False):
    """Why the operation ended as it did (contract.md §5.1)."""

    partition: int = 0
    coordinator: str = ""
    asked: list[Asked] = []
    skipped: list[dict[str, str]] = []
    decided: str = ""


class Outcome(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """How an operation ended. `status` is an HTTP status: 200 shown, 204 stored, 404, 409, 503.

    `problem` is a slug of contract.md §4 or "". `values` are live siblings in canonical order.
    `context` is None only where nothing was ever seen. `applied`: "" | "no" | "unknown" (S-RW-5).
    """

    status: int
    problem: str = ""
    detail: str = ""
    values: list[Sibling] = []
    context: Context | None = None
    acks: Acks | None = None
    applied: str = ""
    node: str = ""
    explanation: Explanation | None = None


Operation = Get | Put


# ---------------------------------------------------------------- between replicas


class Message(msgspec.Struct, array_like=True, gc=False):
    """A request or a reply; a reply carries the `id` of its request."""

    id: int


class Fetch(Message, tag=1):
    """Read what you hold of the key."""

    partition: int
    entry: tuple[int, int]
    stored: bytes


class Fetched(Message, tag=2):
    """`record` is empty when nothing is held."""

    record: bytes
    flags: int
    seen: int = 0


class Store(Message, tag=3):
    """Merge the record into what you hold; `target` names whom a hinted replica is for.
    `sync`: reply only when it is fsynced. `cause`: "put", "repair", "hint", "exchange"."""

    partition: int
    entry: tuple[int, int]
    stored: bytes
    record: bytes
    target: str = ""
    sync: bool = False
    cause: str = "put"
    seen: int = 0


class Stored(Message, tag=4):
    """It is persisted; `flags` say as what."""

    flags: int


class Refused(Message, tag=5):
    """Nothing was done: "entry", "not-a-member", "full", "corrupt", "incomplete", "stale",
    "hints-full"."""

    reason: str
    partition: int = 0
    entry: Entry | None = None


class Forward(Message, tag=6):
    """Coordinate this put: you keep the key (S-DOT-4). Never forwarded again."""

    put: Put


class Forwarded(Message, tag=7):
    """How the forwarded put ended."""

    outcome: Outcome


class Gossip(Message, tag=8):
    """The state of the sender, once a second and on a new link. `number` is its last durable
    sequence number, `remembered` the highest one of the receiver that the sender ever saw."""

    digests: tuple[bytes, ...]
    number: int
    remembered: int
    reply: bool = False


class Parts(Message, tag=9):
    """Ring parts that the receiver lacked, and the digests that the sender has now."""

    parts: RingParts
    digests: tuple[bytes, ...]


class Roots(Message, tag=10):
    """Ask for the tree roots of partitions (partition, term, version)."""

    partitions: list[tuple[int, int, int]]


class RootsReply(Message, tag=11):
    """Root by partition; a partition whose entry differs is missing (S-AE-2)."""

    roots: list[tuple[int, bytes]]


class Leaves(Message, tag=12):
    """Ask for the leaves of one partition's tree."""

    partition: int
    entry: tuple[int, int]


class LeavesReply(Message, tag=13):
    """All leaves, concatenated, in order."""

    leaves: bytes


class Listing(Message, tag=14):
    """Ask for key and digest of what lies in one leaf, after a store key."""

    partition: int
    entry: tuple[int, int]
    leaf: int
    after: bytes = b""


class ListingReply(Message, tag=15):
    """Store keys and digests in order; `more` when the leaf goes on."""

    rows: list[tuple[bytes, bytes]]
    more: bool = False


class FetchMany(Message, tag=16):
    """Read many records of one partition."""

    partition: int
    entry: tuple[int, int]
    keys: list[bytes]


class FetchedMany(Message, tag=17):
    """Records in the order asked, empty where nothing is held (or damaged)."""

    records: list[bytes]
    seen: int = 0


class Prepare(Message, tag=18):
    """S-RING-5: will you found this cluster with me? `name` is whom the sender takes you for."""

    cluster_id: str
    name: str


class Prepared(Message, tag=19):
    """The founder's id and client address, or why not."""

    node_id: int
    client: str
    refusal: str = ""


class Found(Message, tag=20):
    """The ring as created; the receiver is complete everywhere from this batch on (S-RING-6)."""

    parts: RingParts


class Founded(Message, tag=21):
    """Durably taken, or why not."""

    refusal: str = ""


class Admit(Message, tag=22):
    """S-MEM-4: my disk is lost; let me take the place of the name in the frame's head."""

    client: str
    zone: str
    weight: int
    asks: bool = True


class Admitted(Message, tag=23):
    """The ring with the new incarnation, or why not."""

    parts: RingParts | None
    refusal: str = ""


class Reach(Message, tag=24):
    """Do you hear this node id?"""

    name: str
    node_id: int


class Reached(Message, tag=25):
    """Whether it answers me."""

    up: bool


class Order(Message, tag=26):
    """Run anti-entropy over these partitions, for the repair named `repair` (S-AE-3)."""

    repair: str
    partitions: list[int]
    full: bool = False


class Progress(Message, tag=27):
    """How far the sender is with a repair; `failed` counts partitions that could not be done."""

    done: int
    total: int
    repaired: int
    failed: int = 0


class Keys(Message, tag=28):
    """List live keys of a partition after a store key, for administrators."""

    partition: int
    after: bytes
    limit: int


class KeysReply(Message, tag=29):
    """Store keys of live records; `more` when there are further rows behind `cursor`."""

    keys: list[bytes]
    more: bool = False
    cursor: bytes = b""


AnyMessage = (
    Fetch | Fetched | Store | Stored | Refused | Forward | Forwarded | Gossip | Parts | Roots
    | RootsReply | Leaves | LeavesReply | Listing | ListingReply | FetchMany | FetchedMany
    | Prepare | Prepared | Found | Founded | Admit | Admitted | Reach | Reached | Order | Progress
    | Keys | KeysReply
)  # fmt: skip

REPLIES: frozenset[type] = frozenset(
    (Fetched, Stored, Refused, Forwarded, RootsReply, LeavesReply, ListingReply, FetchedMany,
     Prepared, Founded, Admitted, Reached, Progress, KeysReply)
)  # fmt: skip
MEMBERSHIP_REPLIES: frozenset[type] = frozenset((Prepared, Founded, Admitted, Reached))


class Frame(msgspec.Struct, array_like=True, gc=False):
    """Everything one node says to another in one tick.

    `beat` is the sender's monotonic clock in ms within its `boot`; `echo_boot`, `echo` are the
    latest of the receiver that the sender had seen (S-NET-1). `address` is where to answer.
    """

    version: int
    cluster_id: str
    name: str
    node_id: int
    address: str
    boot: int
    beat: int
    echo_boot: int
    echo: int
    messages: list[AnyMessage]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one frame, without the length that the link puts before them."""
    return _encoder.encode(frame)


def decode_frame(data: bytes) -> Frame:
    """The inverse. Raises BadFrame whatever is wrong: bytes from outside never kill a node."""
    try:
        frame = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadFrame(str(error)) from error
    if frame.version != FRAME_VERSION:
        raise BadFrame(f"frame version {frame.version}, this node speaks {FRAME_VERSION}")
    return frame
