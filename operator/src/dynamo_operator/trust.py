"""Certificates around a ring, as values: the ring's own authority, and what its nodes show.

`authority` reads them from Secrets. A mark is the first 16 digits of the SHA-256 of a certificate;
nodes name theirs by it in `/v1/status`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Mode = Literal["Disabled", "Allowed", "Required"]
"""`spec.tls.mode`."""
Phase = Literal["off", "allow", "require"]
"""How nodes speak with each other, as their setting `peer_tls` has it."""
SKEW_S = 300.0
"""A certificate is good from a moment before it was made: clocks differ."""


class Certificate(Struct, frozen=True):
    """One certificate; `signer`: the mark of the authority that signed it, "" for another one."""

    mark: str
    begins: float
    ends: float
    names: tuple[str, ...] = ()
    signer: str = ""

    @property
    def made(self) -> float:
        """When it was made, by the operator's clock."""
        return self.begins + SKEW_S

    def due(self, now: float) -> bool:
        """Whether two thirds of its life are over: then another one is made."""
        return now >= self.begins + (self.ends - self.begins) * 2 / 3


class Authority(Struct, frozen=True):
    """The ring's own. While it changes there are two: `next` is believed and signs nothing yet,
    `previous` is still believed and signs nothing any more. `asked`: the text with which a person
    asked last for another one."""

    current: Certificate
    next: Certificate | None = None
    previous: Certificate | None = None
    asked: str = ""
    version: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """The certificates of all authorities that must be trusted now."""
        all_ = (self.current, self.next, self.previous)
        return tuple(each.mark for each in all_ if each is not None)


class Trust(Struct, frozen=True):
    """What a look found. `certificate`: that of the Secret which is mounted into pods; `believed`:
    the authorities beside it, as PEM, and `marks` of them; `version`: of that Secret, "" where
    there is none; `fault`: why one of both Secrets cannot be used."""

    certificate: Certificate | None = None
    believed: str = ""
    marks: tuple[str, ...] = ()
    version: str = ""
    authority: Authority | None = None
    fault: str = ""


class Security(Struct, frozen=True):
    """What the objects of a ring are made with. `tls`: how nodes speak from the next start on;
    `https`: Services and scrapes say it; `replicas`: for so many pods the certificate has names;
    `believed`: for the ConfigMap that clients read; `keys` and `issuer`: of ServiceAccount tokens,
    as JWKS and as a URL; `outside`: names and addresses of load balancers, for the certificate;
    `copy_of`: the note on claims that are made from snapshots of another ring."""

    tls: Phase = "off"
    https: bool = False
    replicas: int = 0
    believed: str = ""
    keys: str = ""
    issuer: str = ""
    outside: tuple[str, ...] = ()
    copy_of: str = ""


PLAIN = Security()
