"""What nodes say to each other about staleness: their samples of delays, and reads of canaries."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dynamo_core.bounds import Count, Name, StoreKey
from dynamo_core.protocol.messages import Message

TOLD_MAX = 256
"""Samples of one kind for one pair of nodes in one answer."""
PAIRS_MAX = 64
CANARIES_MAX = 1024
"""Reads of canaries in one answer."""
SERIALS_MAX = 8
"""Siblings of a canary that an answer tells."""
CANARY = b"dynamo-ring/canary/"
"""All canary keys begin so."""
Ways = Annotated[list[tuple[Count, Count]], Meta(max_length=TOLD_MAX)]
"""One-way delays (there, back) of calls, in µs."""
Own = Annotated[list[Count], Meta(max_length=TOLD_MAX)]
Canaries = Annotated[list[tuple[Count, bool]], Meta(max_length=CANARIES_MAX)]
Serials = Annotated[list[Count], Meta(max_length=SERIALS_MAX)]


class PairDelays(msgspec.Struct, array_like=True, gc=False):
    """The samples of the calls of one node to the node `to`; `lost` calls had no answer."""

    to: Name
    writes: Ways = []
    reads: Ways = []
    writes_lost: Count = 0
    reads_lost: Count = 0


class Delays(Message, tag=90):
    """Tell your samples of delays and the reads of your canaries."""


class DelaysTold(Message, tag=91):
    """`own`: after how many µs the sender has persisted a put that it coordinates. `canaries`: by
    how many µs each read began after the write was acknowledged, and whether it was fresh."""

    pairs: Annotated[list[PairDelays], Meta(max_length=PAIRS_MAX)]
    own: Own
    canaries: Canaries


class Glance(Message, tag=92):
    """Read this canary key when your clock is at `at` µs, with the defaults of the ring."""

    stored: StoreKey
    at: Count


class Glanced(Message, tag=93):
    """The read began at `began` µs of the sender's clock, and saw the writes with these numbers.
    `status` as of an answer to a client."""

    began: Count
    status: Count
    serials: Serials
