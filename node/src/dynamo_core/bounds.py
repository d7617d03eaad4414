"""The bounds of single values that come from outside (S-IN-2), and the peers that broke them.

The types of messages carry the bounds of numbers and lengths, so the decoder refuses a frame with
an impossible number. The bounds are far above what a ring reaches, and far below what an encoder
or an index cannot bear. So a number within its bound can be counted up for years. `gate` and
`intake` check whether several values make sense together.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import Annotated

from msgspec import Meta

VERSION_MAX = 2**31 - 1
"""Of versions, terms and incarnations. An entry's id has 32 bits of digest below its version,
so 31 bits are left for the version."""
COUNTER_MAX = 2**62 - 1
"""Of dots, stamps and ids: one more can still be encoded."""
ROUND_MAX = 2**58 - 1
"""Of the numbers of rounds. 32 of the bits are random, so this is ten years of a round every five
seconds in one partition. With a higher floor a node would refuse every record for ever."""
MILLISECONDS_MAX = 2**53
"""Of a monotonic clock."""
EXPIRES_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999, in ms since 1970: RFC 3339 has no later time."""
PARTITIONS_MAX = 4096
OWNERS_MAX = 1024
"""Of one partition."""
MEMBERS_MAX = 4096
"""Lines of a ring, including the lines of members that have LEFT."""
NAME_BYTES_MAX = 255
"""The key of a hint has one byte for the length of its target's name."""
TEXT_MAX = 1024
"""Characters of zones, addresses, operation ids, reasons."""
WHY_MAX = 500
"""Characters of what another program said of a failure."""
ACTORS_MAX = 1 << 16
"""Of one history: there is one for each start of a node that coordinated puts of this key."""
REFUSED_PEERS_MAX = 1024
"""This many peers are counted by name; all others are counted together."""

Version = Annotated[int, Meta(ge=0, le=VERSION_MAX)]
Count = Annotated[int, Meta(ge=0, le=COUNTER_MAX)]
RoundNumber = Annotated[int, Meta(ge=0, le=ROUND_MAX)]
Milliseconds = Annotated[int, Meta(ge=0, le=MILLISECONDS_MAX)]
Random = Annotated[int, Meta(ge=0)]
"""64 random bits; the encoding has no more."""
NodeId = Annotated[int, Meta(ge=1)]
Partition = Annotated[int, Meta(ge=0, lt=PARTITIONS_MAX)]
EntryId = tuple[Version, Random]
Flags = Annotated[int, Meta(ge=0, lt=1 << 16)]
StoreKey = Annotated[bytes, Meta(min_length=5, max_length=4 + 1024)]
"""Four bytes of a key's position and the key."""
Cursor = Annotated[bytes, Meta(max_length=4 + 1024)]
Digest = Annotated[bytes, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=TEXT_MAX)]
Why = Annotated[str, Meta(max_length=WHY_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]

_ADDRESS = re.compile(r"[^\s@]+:[0-9]{1,5}")


def name_fault(name: str) -> str:
    """What is wrong with the name of a node, "" when nothing is. A node makes up routes and targets
    that begin with ~, @ or =; a ring document contains none of them."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "a name is text in UTF-8"
    if not 0 < size <= NAME_BYTES_MAX or name[0] in "~@=":
        return f"a name has 1 to {NAME_BYTES_MAX} bytes, no ~, @ or = first"
    return ""


def address_fault(address: str) -> str:
    """What is wrong with an address, "" when nothing is."""
    if len(address) > TEXT_MAX or not _ADDRESS.fullmatch(address):
        return f"{address[:40]!r} is not host:port"
    return ""


def one_line(words: str) -> str:
    """What another program said, as people may be shown it: cut, and what does not print is ?."""
    return "".join(c if c.isprintable() else "?" for c in words[:WHY_MAX])


class Refusals:
    """Counts input that made no sense, by the peer that sent it. Each pair of peer and kind is
    logged once."""

    def __init__(self) -> None:
        self.by_peer: Counter[str] = Counter()
        self.untold: deque[tuple[str, str, str]] = deque(maxlen=REFUSED_PEERS_MAX)
        """Peer, kind, reason: for the shell to log."""
        self._told: set[tuple[str, str]] = set()

    def add(self, peer: str, kind: str, why: str) -> None:
        """One refusal more."""
        if peer not in self.by_peer and len(self.by_peer) >= REFUSED_PEERS_MAX:
            peer = "(others)"
        self.by_peer[peer] += 1
        if (peer, kind) not in self._told:
            self._told.add((peer, kind))
            self.untold.append((peer, kind, why[:TEXT_MAX]))
