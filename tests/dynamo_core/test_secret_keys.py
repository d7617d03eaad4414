"""Keys by purpose: those of RFC 5869, and none that tells another."""

from __future__ import annotations

import pytest

from dynamo_core.causality.context import Context, seal, unseal
from dynamo_core.causality.records import History
from dynamo_core.errors import BadContext
from dynamo_core.secret_keys import derived, hkdf, keys_of, token_of

OLD, NEW = b"the secret that was there first", b"the secret that takes its place"
CONTEXT = Context(History({7: 3}).encode(), "n")


def test_hkdf_is_that_of_rfc_5869() -> None:
    """Test case 3 of its appendix A: SHA-256, no salt, no info."""
    assert hkdf(b"\x0b" * 22, b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_a_token_stays_the_same_for_ever() -> None:
    """It is in the files and heads of people and in other programs."""
    assert token_of(b"x" * 32) == (
        "1a3028e7d70644174bbd6c2df9b867089d37c4a1a0d8f8d90dc8af9baaee25d2"
    )


def test_no_key_is_another_one() -> None:
    keys = keys_of((OLD, NEW))
    tokens = [bytes.fromhex(token) for token in keys.tokens]
    found = [*tokens, *(key for pair in keys.peers for key in pair)]
    found += [derived(secret, "contexts") for secret in (OLD, NEW)]
    assert len(set(found)) == len(found) == 8
    names = [bytes.fromhex(name) for name in keys.names]
    assert not [key for key in found for name in names if name in key]


@pytest.mark.parametrize("former", [True, False])
def test_contexts_are_taken_until_their_secret_is_taken_away(former: bool) -> None:
    made = {s: seal(keys_of((s,), former).contexts, b"k", CONTEXT) for s in (OLD, NEW)}
    for held, taken in (((OLD,), {OLD}), ((OLD, NEW), {OLD, NEW}), ((NEW,), {NEW})):
        for later in (True, False):
            keys = keys_of(held, later).contexts
            for secret, text in made.items():
                if secret in taken:
                    assert unseal(keys, b"k", text) == CONTEXT
                else:
                    with pytest.raises(BadContext):
                        unseal(keys, b"k", text)


def test_a_node_of_the_first_version_reads_contexts_while_one_may_be_left() -> None:
    """C17: its tag is a keyed BLAKE2b, whose key is a BLAKE2b of the secret."""
    assert seal(keys_of((b"between us",)).contexts, b"cart", CONTEXT) == (
        "ARs4fx_v17H7ADMmKtp8JM-TxBDKPwIp3GiB_I9Vp0PdzPEZxAaTgQcDkJChbg"
    )
    assert seal(keys_of((b"between us",), False).contexts, b"cart", CONTEXT) != (
        "ARs4fx_v17H7ADMmKtp8JM-TxBDKPwIp3GiB_I9Vp0PdzPEZxAaTgQcDkJChbg"
    )


def test_without_a_secret_there_is_no_token_and_all_nodes_agree() -> None:
    keys = keys_of(())
    assert (keys.tokens, keys.former_tokens, keys.names) == ((), (), ())
    assert unseal(keys.contexts, b"k", seal(keys_of(()).contexts, b"k", CONTEXT)) == CONTEXT
    assert keys.peers == keys_of(()).peers


def test_the_secret_itself_is_a_token_only_for_the_first_version() -> None:
    assert keys_of((OLD,)).former_tokens == (OLD.decode(),)
    assert keys_of((OLD,), former=False).former_tokens == ()
