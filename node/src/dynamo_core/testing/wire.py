"""Links as TCP carries them, with the seals of the real shell, and a card that spoils frames.

In most histories the network does more than TCP allows, and frames go as they are. In those with a
bad wire each directed link is a session: its frames arrive in their order, sealed and opened by the
very objects of the shell (S-NET-3), until one does not pass; then the link is closed, the sender
learns of it, and the next frame begins another session. What comes out of a link must be what went
in, in its order, and nothing may be refused that nobody spoiled.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import msgspec

from dynamo_core.errors import BadFrame
from dynamo_core.protocol.frame_tags import KEY_BYTES, Opener, Sealer, opened
from dynamo_core.testing.history import Trouble

if TYPE_CHECKING:
    from dynamo_core.testing.process import Process
    from dynamo_core.testing.world import World

NOTICE_S = 0.001
"""The end of a link reaches its sender after so long."""
APART_S = 1e-7
"""Between two frames of a link, which ties of the clock must not swap."""
KINDS = ("flip", "drop", "repeat", "swap")
REFUSED = {
    "flip": "frame with a flipped bit refused",
    "drop": "frame after a lost one refused",
    "repeat": "repeated frame refused",
    "swap": "frame out of its order refused",
    "cut": "frame after a cut refused",
}
"""What is counted when a link notices what was done to it."""


class Wire(msgspec.Struct, omit_defaults=True):
    """Shares of frames that are spoiled, and by whose card: below 0 on every link."""

    card: int = -1
    flip: float = 0.0
    drop: float = 0.0
    repeat: float = 0.0
    swap: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether it spoils anything."""
        return bool(self.flip or self.drop or self.repeat or self.swap)


def choose_wire(rng: Random, nodes: int) -> Wire:
    """A card that flips bits, as they do, or a link on which frames go astray, or all of it."""
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

    def __init__(self, number: int, lives: tuple[int, int]) -> None:
        key = number.to_bytes(KEY_BYTES, "big")
        self.sealer, self.opener = Sealer(key), Opener(key)
        self.lives = lives
        """Of sender and receiver: it ends with either."""
        self.open = True
        self.due: deque[bytes] = deque()
        """What was sent and has not come out."""
        self.kept = b""
        """A frame that is overtaken by the next."""
        self.address = ""
        """At which the sender dialled."""
        self.arrives_at = 0.0
        self.spoiled = ""
        """The first thing that was done to it."""


class Wires:
    """All links of a history with a bad wire."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wire = world.plan.wire
        self._rng = Random(f"{world.plan.seed} wires")
        self._sessions: dict[tuple[str, str], Session] = {}
        self._number = 0

    def send(
        self, sender: Process, receiver: Process, address: str, frame: bytes, cut: bool
    ) -> None:  # fmt: skip
        """One frame; it may vanish in a cut."""
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
            self._number += 1
            session = self._sessions[names] = Session(self._number, lives)
        return session

    def _spoil(
        self, session: Session, sender: Process, receiver: Process, sealed: bytes
    ) -> list[bytes]:
        """What becomes of a frame, and of the one that it overtakes."""
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

    def _arrive(
        self, session: Session, sender: Process, receiver: Process, piece: bytes
    ) -> None:  # fmt: skip
        world = self.world
        if not session.open or session.lives[1] != receiver.life:
            return
        if world.network.is_cut(sender.name, receiver.name):
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

    def _close(
        self, session: Session, sender: Process, receiver: Process, error: BadFrame
    ) -> None:  # fmt: skip
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
