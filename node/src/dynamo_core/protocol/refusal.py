"""Why a call has no answer: a node refused it, or no answer came.

Both are compared by identity, and a refusal of the own copy is the same one as that of a peer. On
the wire a refusal is its word, which msgspec writes and reads.
"""

from __future__ import annotations

from enum import Enum


class Refusal(Enum):
    """A node said no. The value is the word on the wire (C17): it is never changed."""

    ENTRY = "entry"
    """The receiver has another entry of the partition, which comes with the refusal (S-RING-4)."""
    NOT_A_MEMBER = "not-a-member"
    """The receiver serves no keys. No node says so; the word is kept."""
    FULL = "full"
    """The store takes no writes (S-DISK-4)."""
    CORRUPT = "corrupt"
    """What was sent does not hold (T-1), or what was asked for is damaged here."""
    INCOMPLETE = "incomplete"
    """The copy may miss keys, and its absence proves nothing."""
    STALE = "stale"
    """The record is older than a collection; the receiver's numbers come with it (S-DEL-3)."""
    APART = "apart"
    """The copy slept through a round and takes puts alone."""
    HINTS_FULL = "hints-full"
    """There is no room for a hint (S-HINT-4)."""
    PROMISED = "promised"
    """The partition is promised to another receiver (S-MOVE-1)."""
    SENSELESS = "senseless"
    """The message makes no sense (S-IN-2)."""
    TOO_MANY_SIBLINGS = "too-many-siblings"
    """The own copy would grow worse (S-SIB-1)."""
    REQUEST_ID_REUSED = "request-id-reused"
    """The id is of another write of the key (S-REQ-1)."""
    UNCERTAIN = "uncertain"
    """The own copy may have it, or not."""
    OTHER = "other"
    """A word of a newer node (C17): nothing was done."""

    @classmethod
    def _missing_(cls, value: object) -> Refusal | None:
        return cls.OTHER if isinstance(value, str) else None

    @property
    def words(self) -> str:
        """For people, in `explain` and logs."""
        return "refused " + self.value


class Failure(Enum):
    """No answer came that could be used. The value is for people; it is on no wire."""

    LINK = "link"
    """The link broke or was refused."""
    NO_ANSWER = "no answer"
    """The time is over."""
    CORRUPT_ANSWER = "corrupt record"
    """The answer came with a record that does not hold (T-1)."""
    SENSELESS_ANSWER = "senseless answer"
    """The answer does not fit its request (S-IN-2)."""
    NOT_DURABLE = "not durable"
    """It is persisted and not fsynced, where that was asked for."""
    DAMAGED = "corrupt"
    """The node answered that its own record is damaged, and is given up."""

    @property
    def words(self) -> str:
        """For people, in `explain` and logs."""
        return str(self.value)


Reason = Refusal | Failure
"""Why a machine is told that a call has failed."""
