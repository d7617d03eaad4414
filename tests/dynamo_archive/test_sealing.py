"""Parts that only holders of a key can read."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest

from dynamo_archive.objects import Archive, ArchiveError
from dynamo_archive.parts import pack, unpack
from dynamo_archive.sealing import KEYS_MAX, PLAIN, BadKey, Sealing, read_identities
from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.records import EMPTY, Sibling, update
from dynamo_core.keys import DATA, store_key


def row(key: bytes) -> tuple[bytes, bytes]:
    """One row of the store."""
    record = update(EMPTY, EMPTY.context(), Sibling(7, 1, b"v" * 50, "text/plain"))
    return store_key(key), encode_record(key, record)


ROWS = sorted((row(b"tea"), row(b"milk")))


def keys(place: Path, count: int = 1) -> tuple[list[str], Path]:
    """Public keys, and the file of the secret ones."""
    made = [pyrage.x25519.Identity.generate() for _ in range(count)]
    place.write_text("# created: today\n" + "".join(f"{each}\n" for each in made))
    return [str(each.to_public()) for each in made], place


def test_a_part_is_read_with_a_secret_key_and_not_without(tmp_path: Path) -> None:
    public, secret = keys(tmp_path / "keys", 2)
    _, other = keys(tmp_path / "other")
    archive = Archive((tmp_path / "archive").as_uri())
    (part,), _ = pack(archive, "parts/one/0", DATA, ROWS, lambda: None, Sealing(public[:1]))
    data = archive.get(part.name)
    assert data is not None and b"tea" not in data and part.stored_bytes == len(data)
    assert sorted(unpack(archive, part, Sealing((), secret))) == sorted(ROWS)
    for sealing, words in (
        (PLAIN, "it is encrypted"),
        (Sealing(public), "it is encrypted"),
        (Sealing((), other), "none of the secret keys"),
        (Sealing((), tmp_path / "none"), "No such file"),
    ):
        with pytest.raises(ArchiveError, match=f"{part.name}.*{words}"):
            unpack(archive, part, sealing)


def test_what_was_never_encrypted_is_read_by_all(tmp_path: Path) -> None:
    _, secret = keys(tmp_path / "keys")
    archive = Archive((tmp_path / "archive").as_uri())
    (part,), _ = pack(archive, "parts/one/0", DATA, ROWS, lambda: None)
    assert sorted(unpack(archive, part, Sealing((), secret))) == sorted(ROWS)


@pytest.mark.parametrize("text", ["", "# nothing\n", "age1x\n", "AGE-SECRET-KEY-1XYZ\n", "ü\n"])
def test_a_file_without_keys_says_so_and_shows_none(text: str, tmp_path: Path) -> None:
    place = tmp_path / "keys"
    place.write_text(text)
    with pytest.raises(BadKey) as raised:
        read_identities(place)
    assert str(place) in str(raised.value) and "1XYZ" not in str(raised.value)


def test_more_keys_than_a_part_may_have_are_refused(tmp_path: Path) -> None:
    _, secret = keys(tmp_path / "keys", KEYS_MAX + 1)
    with pytest.raises(BadKey, match="1 to 16"):
        read_identities(secret)
    with pytest.raises(BadKey, match="public key"):
        Sealing(["age1nonsense"])
