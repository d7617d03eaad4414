"""Why a call has no answer: a node refused it, or no answer came.

Both are compared by identity. A refusal by the local copy is the same object as one by a peer. On
the wire a refusal is its word; msgspec writes and reads it.
"""

from __future__ import annotations

from enum import Enum


class Refusal(Enum):
    """A node refused the call. The value is the word on the wire and must not change (C17)."""

    ENTRY = "entry"
    """The receiver has another entry of the partition, which comes with the refusal (S-RING-4)."""
    NOT_A_MEMBER = "not-a-member"
    """The receiver serves no keys. No node sends this today; the word stays reserved."""
    FULL = "full"
    """The store takes no writes (S-DISK-4)."""
    CORRUPT = "corrupt"
    """The digest of what was sent is wrong (T-1), or the record that was asked for is damaged."""
    INCOMPLETE = "incomplete"
    """The copy may miss keys, so a key that is absent there proves nothing."""
    STALE = "stale"
    """The record is older than a collection; the refusal has the receiver's numbers (S-DEL-3)."""
    APART = "apart"
    """The copy may have missed a round; it takes only puts until it is compared."""
    HINTS_FULL = "hints-full"
    """There is no room for a hint (S-HINT-4)."""
    PROMISED = "promised"
    """The partition is promised to another receiver (S-MOVE-1)."""
    SENSELESS = "senseless"
    """The message makes no sense (S-IN-2)."""
    TOO_MANY_SIBLINGS = "too-many-siblings"
    """The local copy has too many siblings already (S-SIB-1)."""
    REQUEST_ID_REUSED = "request-id-reused"
    """Another write of the key has used this id (S-REQ-1)."""
    UNCERTAIN = "uncertain"
    """The local copy may have the write, or not."""
    OTHER = "other"
    """The word of a newer node (C17): that node did nothing."""

    @classmethod
    def _missing_(cls, value: object) -> Refusal | None:
        return cls.OTHER if isinstance(value, str) else None

    @property
    def words(self) -> str:
        """For people, in `explain` and logs."""
        return "refused " + self.value


class Failure(Enum):
    """No usable answer came. The value is for people; it is never sent."""

    LINK = "link"
    """The link broke or was refused."""
    NO_ANSWER = "no answer"
    """The time for an answer has passed."""
    CORRUPT_ANSWER = "corrupt record"
    """The digest of the record in the answer is wrong (T-1)."""
    SENSELESS_ANSWER = "senseless answer"
    """The answer does not fit its request (S-IN-2)."""
    NOT_DURABLE = "not durable"
    """The write is persisted but not fsynced, and the request asked for an fsync."""
    DAMAGED = "corrupt"
    """The node answered that its own record is damaged; it gives the record up."""
    NOT_KNOWN = "its older version does not know this call"
    """The call was not sent (C17)."""

    @property
    def words(self) -> str:
        """For people, in `explain` and logs."""
        return str(self.value)


Reason = Refusal | Failure
"""Why a machine is told that a call has failed."""
