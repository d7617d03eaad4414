"""A simulated archive: objects in memory, and the rows of a disk as parts."""

from __future__ import annotations

from hashlib import sha256

from dynamo_core.backup.archive_calls import (
    ArchiveFailed,
    Bring,
    Brought,
    Done,
    Measure,
    Measured,
    Pack,
    Packed,
    Put,
    Unpack,
    Unpacked,
)
from dynamo_core.backup.manifest import decode_rows, encode_rows, split_rows
from dynamo_core.errors import BadParameter, Corrupt
from dynamo_core.keys import HINTS
from dynamo_core.protocol.backup_messages import Part
from dynamo_core.protocol.messages import Message
from dynamo_core.replica.hints import split_hint_key
from dynamo_core.replica.store import StoreContract

ROWS_MAX = 3
"""Of one part: few, so that a partition has several."""


class Objects(dict[str, bytes]):
    """What is kept, by name."""

    def answer(self, request: Message, store: StoreContract) -> Message:
        """As the shell would; `store` is that of the node that asks."""
        if isinstance(request, Put):
            if request.create and request.name in self:
                return Done(0, False)
            self[request.name] = request.data
            return Done(0)
        if isinstance(request, Bring):
            return Brought(0, self.get(request.name))
        if isinstance(request, Measure):
            here = request.prefixes
            return Measured(
                0, {name: len(data) for name, data in self.items() if name.startswith(here)}
            )
        if isinstance(request, Pack):
            return self._packed(request, store)
        assert isinstance(request, Unpack)
        data = self.get(request.part.name)
        if data is None or sha256(data).hexdigest() != request.part.sha256:
            return ArchiveFailed(0, f"{request.part.name}: not what was kept")
        try:
            return Unpacked(0, decode_rows(data))
        except BadParameter as error:
            return ArchiveFailed(0, str(error))

    def _packed(self, request: Pack, store: StoreContract) -> Message:
        rows, unread = [], []
        start = request.start
        while True:
            try:
                rows += store.scan(request.family, start, request.end, 1 << 30)
                break
            except Corrupt as error:
                rows += store.scan(request.family, start, error.key, 1 << 30)
                key = error.key
                unread.append(split_hint_key(key)[1] if request.family == HINTS else key)
                start = key + b"\x00"
        good, damaged = split_rows(request.family, rows)
        parts = []
        for index, at in enumerate(range(0, len(good), ROWS_MAX)):
            some = good[at : at + ROWS_MAX]
            data = encode_rows(some)
            name = f"{request.prefix}-{index}"
            size = sum(len(key) + len(record) for key, record in some)
            digest = sha256(data).hexdigest()
            parts.append(Part(name, len(some), size, len(data), digest))
            self[name] = data
        return Packed(0, parts, tuple(unread + damaged))
