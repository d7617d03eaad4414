"""Links like TCP, with the real shell's sealing of frames, and a network card that corrupts them.

In most histories the network does more than TCP allows, and frames are sent unsealed. In histories
with a bad wire each directed link is a session: its frames arrive in order, sealed and opened by
the objects of the shell (S-NET-3), until one fails its check. Then the link closes, the sender
learns of it, and the next frame begins another session. A link must deliver the sent frames in
order, and it must not refuse a frame that was not corrupted.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from random import Random

import msgspec

from dynamo_core.errors import BadFrame
from dynamo_core.protocol.frame_tags import KEY_BYTES, Opener, Sealer, opened
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.process import Process
from dynamo_core.testing.surroundings import Surroundings

NOTICE_S = 0.001
"""The end of a link reaches its sender after this time."""
APART_S = 1e-7
"""Time between two frames of a link, so that equal times do not reorder them."""
KINDS = ("flip", "drop", "repeat", "swap")
REFUSED = {
    "flip": "frame with a flipped bit refused",
    "drop": "frame after a lost one refused",
    "repeat": "repeated frame refused",
    "swap": "frame out of its order refused",
    "cut": "frame after a cut refused",
}
"""The counter for each kind of corruption that a link notices."""


class Wire(msgspec.Struct, omit_defaults=True):
    """Shares of corrupted frames, and the node with the bad card: below 0 means every link."""

    card: int = -1
    flip: float = 0.0
    drop: float = 0.0
    repeat: float = 0.0
    swap: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether it corrupts anything."""
        return bool(self.flip or self.drop or self.repeat or self.swap)


def choose_wire(rng: Random, nodes: int) -> Wire:
    """A card that flips bits, or a link that loses and reorders frames, or both."""
    kinds = rng.choice((("flip",), ("flip",), ("drop",), ("repeat", "swap"), KINDS))
    card = rng.choice((-1, rng.randrange(nodes)))
    return Wire(card, **{kind: rng.choice((0.005, 0.02, 0.1)) for kind in kinds})


class Session:
    """One directed link from its handshake to its end."""

    __slots__ = (
        "address",
        "arrives_at",
        "due",
        "kept",
        "lives",
        "open",
        "opener",
        "sealer",
        "spoiled",
    )

    def __init__(self, link: int, lives: tuple[int, int]) -> None:
        key = link.to_bytes(KEY_BYTES, "big")
        self.sealer, self.opener = Sealer(key), Opener(key)
        self.lives = lives
        """The lives of sender and receiver: the link ends with either."""
        self.open = True
        self.due: deque[bytes] = deque()
        """Frames that were sent and have not arrived."""
        self.kept = b""
        """A frame that the next one overtakes."""
        self.address = ""
        """The address that the sender dialled."""
        self.arrives_at = 0.0
        self.spoiled = ""
        """The first corruption of the link."""


class Wires:
    """All links of a history with a bad wire."""

    def __init__(self, world: Surroundings, wire: Wire, seed: int) -> None:
        self.world = world
        self.wire = wire
        self._rng = Random(f"{seed} wires")
        self._sessions: dict[tuple[str, str], Session] = {}
        self._count = 0

    def send(
        self, sender: Process, receiver: Process, address: str, frame: bytes, cut: bool
    ) -> None:
        """One frame; a cut may drop it."""
        world = self.world
        session = self._session(sender, receiver)
        session.address = address
        sealed = session.sealer.head(frame) + frame
        session.due.append(frame)
        delays = world.network.delays()
        if cut or not delays:
            session.spoiled = session.spoiled or "cut"
            return
        session.arrives_at = max(world.now + delays[0], session.arrives_at)
        for piece in self._spoil(session, sender, receiver, sealed):
            session.arrives_at += APART_S
            delay = session.arrives_at - world.now
            world.later(delay, partial(self._arrive, session, sender, receiver, piece))

    def _session(self, sender: Process, receiver: Process) -> Session:
        names, lives = (sender.name, receiver.name), (sender.life, receiver.life)
        session = self._sessions.get(names)
        if session is None or session.lives != lives:
            self._count += 1
            session = self._sessions[names] = Session(self._count, lives)
        return session

    def _spoil(
        self, session: Session, sender: Process, receiver: Process, sealed: bytes
    ) -> list[bytes]:
        """The results of corrupting a frame, and of the frame that it overtakes."""
        kind = self._kind(sender, receiver)
        session.spoiled = session.spoiled or kind
        kept, session.kept = session.kept, b""
        pieces = [sealed]
        if kind == "flip":
            bit = self._rng.randrange(8 * len(sealed))
            bad = bytearray(sealed)
            bad[bit // 8] ^= 1 << bit % 8
            pieces = [bytes(bad)]
        elif kind == "drop":
            pieces = []
        elif kind == "repeat":
            pieces = [sealed, sealed]
        elif kind == "swap":
            session.kept, pieces = sealed, []
        return [*pieces, kept] if kept else pieces

    def _kind(self, sender: Process, receiver: Process) -> str:
        wire, processes = self.wire, self.world.processes
        mine = wire.card < 0 or processes[wire.card % len(processes)] in (sender, receiver)
        if self.world.healed or not mine:
            return ""
        chance = self._rng.random()
        for kind in KINDS:
            chance -= getattr(wire, kind)
            if chance < 0:
                return kind
        return ""

    def _arrive(self, session: Session, sender: Process, receiver: Process, piece: bytes) -> None:
        world = self.world
        if not session.open or session.lives[1] != receiver.life:
            return
        if world.network.is_cut((sender.name, receiver.name)):
            session.spoiled = session.spoiled or "cut"
            return
        try:
            frame = opened(session.opener, piece)
        except BadFrame as error:
            self._close(session, sender, receiver, error)
            return
        due = session.due.popleft() if session.due else b""
        if frame != due:
            detail = f"{receiver.name} took a frame of {sender.name} that is not the next: "
            world.events.append(Trouble("S-NET-3", detail + (session.spoiled or "none")))
        world.arrive(sender, receiver, session.address, frame)

    def _close(self, session: Session, sender: Process, receiver: Process, error: BadFrame) -> None:
        """The receiver closes the link, and the sender learns that it is lost."""
        world = self.world
        if session.spoiled:
            world.count(REFUSED[session.spoiled])
        else:
            detail = f"{receiver.name} refused a good frame of {sender.name}: {error}"
            world.events.append(Trouble("S-NET-3", detail))
        world.note(f"{receiver.name} closes the link of {sender.name}: {error}")
        session.open = False
        life = sender.life

        def noticed() -> None:
            if self._sessions.get((sender.name, receiver.name)) is session:
                del self._sessions[sender.name, receiver.name]
            world.lost(sender, life, session.address)

        world.later(NOTICE_S, noticed)
