"""The waits of the stories."""

from __future__ import annotations

import pytest

from tests.e2e.kubectl import Object, Refused, Slow, until


def test_a_status_that_is_not_written_yet_is_waited_for() -> None:
    """A new resource has no `status` before the operator's first look."""
    resource: Object = {}
    looks = iter((Refused("no such object"), None, {"members": 0}, {"members": 3}))

    def members() -> bool:
        look = next(looks)
        if isinstance(look, Refused):
            raise look
        if look is not None:
            resource["status"] = look
        return bool(resource["status"]["members"] == 3)

    until("a ring of three", members, 60)
    assert next(looks, None) is None


def test_what_never_comes_is_named_with_what_was_seen_last() -> None:
    """The bound is kept, and the message says which field was missing."""
    resource: Object = {}
    with pytest.raises(
        Slow, match=r"a ring of three: not within 1 s; last seen: KeyError\('status'\)"
    ):
        until("a ring of three", lambda: resource["status"]["members"] == 3, 1)
