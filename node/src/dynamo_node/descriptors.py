"""Descriptors of files and sockets: the number that each part of a node may hold (T-7).

At the start the node raises the soft limit to the hard limit. It then divides the descriptors
before it opens anything: a node that gives its last one to a client can neither open a file of its
store nor dial a peer. Each part is held to its share, so the node never gets `EMFILE`.

    OWN + store + 2 links + strangers + admin + clients <= limit

The store and the links get theirs first, because the node answers nothing without them.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import NamedTuple

from dynamo_node.strangers import STRANGERS_MAX

OWN = 72
"""Listeners, that of links several times; logs, the event loop, and files that the store opens
besides its tables."""
STORE_WANTED, STORE_MIN = 512, 32
"""Tables that the store keeps open. With fewer, a get may first have to open a table."""
LINKS_WANTED = 256
"""Links in one direction: a ring of 256 nodes."""
LINKS_MAX = 2048
"""Links in one direction if there are enough descriptors."""
DESCRIPTORS_MIN = 200


class TooFew(Exception):
    """One line for people: a node cannot run with so few descriptors."""


class Shares(NamedTuple):
    """How many descriptors each part may hold."""

    store: int
    links: int
    """In each direction."""
    strangers: int
    """Accepted links without a proof."""
    admin: int
    clients: int


def raise_limit() -> int:
    """Raises the soft limit to the hard limit; returns the limit that then holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # the kernel's bound is below an unlimited hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit_now()


def limit_now() -> int:
    """The soft limit."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def store_share(limit: int) -> int:
    """How many tables the store keeps open."""
    return min(STORE_WANTED, max(STORE_MIN, (limit - OWN) // 4))


def shares(limit: int, admin_wanted: int, clients_wanted: int) -> Shares:
    """Divides the limit. Raises TooFew."""
    if limit < DESCRIPTORS_MIN:
        raise TooFew(f"the limit of open files is {limit}, a node needs at least {DESCRIPTORS_MIN}")
    shared = limit - OWN
    store = store_share(limit)
    links = min(LINKS_WANTED, shared // 8)
    strangers = min(STRANGERS_MAX, shared // 8)
    admin = min(admin_wanted, shared // 8)
    rest = shared - store - 2 * links - strangers - admin
    clients = min(clients_wanted, rest)
    links = min(LINKS_MAX, links + (rest - clients) // 2)
    return Shares(store, links, strangers, admin, clients)
