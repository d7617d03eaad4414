"""Archives in a directory, on real servers of S3 and Azure, and on one that fails, throttles and
cuts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard

from dynamo_archive.objects import RETRIES_MAX, Archive, ArchiveError
from dynamo_archive.parts import PART_BYTES_MAX, pack, unpack
from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.records import EMPTY, Sibling, update
from dynamo_core.keys import DATA, store_key
from dynamo_core.protocol.backup_messages import Part
from tests.dynamo_archive import azure_server
from tests.dynamo_archive.s3_server import CREDENTIALS, Port, proxy, s3_server

Trouble = Callable[[str, str, int], str]


@pytest.fixture(scope="module")
def server() -> Iterator[Port]:
    with s3_server() as port:
        yield port


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch, server: Port) -> Callable[[Port], None]:
    """Archives on s3:// are there from now on."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)

    def dial(port: Port) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    dial(server)
    return dial


@pytest.fixture(scope="module")
def azure() -> Iterator[str]:
    if why := azure_server.missing():
        pytest.skip(why)
    with azure_server.azure_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["file", "s3", "az"])
def archive(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Archive:
    if request.param == "file":
        return Archive(tmp_path.as_uri())
    if request.param == "s3":
        request.getfixturevalue("dialled")
    else:
        for name, value in azure_server.CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AZURE_ENDPOINT", request.getfixturevalue("azure"))
    return Archive(f"{request.param}://shop/{tmp_path.name}")


def rows(count: int) -> list[tuple[bytes, bytes]]:
    made = []
    for index in range(count):
        key = b"key %d" % index
        record = update(EMPTY, EMPTY.context(), Sibling(7, 1, b"v" * 1000 + key, "text/plain"))
        made.append((store_key(key), encode_record(key, record)))
    return sorted(made)


def packed(archive: Archive, count: int = 50) -> Part:
    (part,), damaged = pack(archive, "parts/one/0001", DATA, rows(count), lambda: None)
    assert damaged == []
    return part


def test_objects_come_back_are_listed_and_go(archive: Archive) -> None:
    assert archive.get("backups/one/manifest.json") is None
    for index in range(5):
        archive.put(f"parts/one/{index}", b"x" * index)
    archive.put("parts/two/0", b"other")
    archive.put("parts/two/0", b"again")
    assert dict(archive.names("parts/one/")) == {f"parts/one/{n}": n for n in range(5)}
    assert archive.get("parts/two/0") == b"again"
    archive.delete(["parts/one/0", "parts/one/none"])
    assert archive.get("parts/one/0") is None and len(list(archive.names("parts/"))) == 5


def test_of_two_that_create_an_object_one_keeps_it(archive: Archive) -> None:
    name = "backups/one/manifest.json"
    with ThreadPoolExecutor(8) as threads:
        data = [b"told by %d" % index for index in range(8)]
        kept = list(threads.map(lambda one: archive.create(name, one), data))
    assert sum(kept) == 1 and archive.unconditional == ""
    assert archive.get(name) == data[kept.index(True)]
    assert not archive.create(name, b"later")
    archive.put(name, b"put over it")
    assert archive.get(name) == b"put over it"


def test_a_server_without_conditions_keeps_the_object_and_says_why(
    dialled: Callable[[Port], None], server: Port, tmp_path: Path
) -> None:
    with proxy(server, lambda method, path, before: "unconditional") as opened:
        dialled(opened.port)
        archive = Archive(f"s3://shop/{tmp_path.name}")
        assert archive.create("backups/one/manifest.json", b"first")
        assert "backups/one/manifest.json" in archive.unconditional
        assert not archive.create("backups/one/manifest.json", b"second")
        assert archive.get("backups/one/manifest.json") == b"first"


def test_a_part_comes_back_whole(archive: Archive) -> None:
    assert unpack(archive, packed(archive)) == rows(50)


@pytest.mark.parametrize("what", ["fail", "throttle"])
def test_what_fails_now_and_then_is_asked_again(
    what: str, server: Port, dialled: Callable[[Port], None]
) -> None:
    with proxy(server, lambda method, path, before: what if before < 2 else "") as opened:
        dialled(opened.port)
        archive = Archive(f"s3://shop/{what}s-twice")
        assert unpack(archive, packed(archive)) == rows(50)
    assert opened.troubles == [what] * 4


@pytest.mark.parametrize("what", ["fail", "throttle"])
def test_what_only_fails_ends_with_one_line(
    what: str, server: Port, dialled: Callable[[Port], None]
) -> None:
    with proxy(server, lambda method, path, before: what) as opened:
        dialled(opened.port)
        archive = Archive(f"s3://shop/{what}s")
        with pytest.raises(ArchiveError) as failed:
            archive.put("parts/one/0", b"data")
    assert len(str(failed.value).splitlines()) == 1 and "parts/one/0" in str(failed.value)
    assert len(opened.troubles) == RETRIES_MAX + 1


def test_an_answer_that_is_cut_is_never_taken_for_the_whole(
    server: Port, dialled: Callable[[Port], None]
) -> None:
    always = False

    def trouble(method: str, path: str, before: int) -> str:
        return "cut" if method == "GET" and (always or before == 0) else ""

    with proxy(server, trouble) as opened:
        dialled(opened.port)
        archive = Archive("s3://shop/cut")
        part = packed(archive)
        try:
            assert unpack(archive, part) == rows(50)
        except ArchiveError:
            assert unpack(archive, part) == rows(50)
        always = True
        with pytest.raises(ArchiveError):
            unpack(archive, part)
    assert "cut" in opened.troubles


@pytest.mark.parametrize("what", ["cut", "shorten"])
def test_a_listing_that_is_cut_is_an_error_and_no_shorter_list(
    what: str, server: Port, dialled: Callable[[Port], None]
) -> None:
    listed = "list-type"
    with proxy(server, lambda method, path, before: what if listed in path else "") as opened:
        dialled(opened.port)
        archive = Archive(f"s3://shop/list-{what}")
        for index in range(20):
            archive.put(f"parts/one/{index}", b"x")
        with pytest.raises(ArchiveError):
            list(archive.names("parts/"))
    assert what in opened.troubles


def test_an_object_that_became_shorter_is_refused(
    server: Port, dialled: Callable[[Port], None]
) -> None:
    with proxy(server, lambda method, path, before: "shorten" if method == "GET" else "") as opened:
        dialled(opened.port)
        archive = Archive("s3://shop/short")
        part = packed(archive)
        with pytest.raises(ArchiveError, match="checksum"):
            unpack(archive, part)


def test_a_server_that_is_not_there_ends_with_one_line(dialled: Callable[[Port], None]) -> None:
    dialled(1)
    with pytest.raises(ArchiveError) as failed:
        Archive("s3://shop/nowhere").put("parts/one/0", b"data")
    assert len(str(failed.value).splitlines()) == 1


def test_a_part_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(archive: Archive) -> None:
    """An object may have been put there by others: it says itself how large it becomes."""
    bomb = zstandard.ZstdCompressor().compress(bytes(PART_BYTES_MAX + 1))
    archive.put("parts/one/0", bomb)
    part = Part("parts/one/0", 1, 1, len(bomb), sha256(bomb).hexdigest())
    with pytest.raises(ArchiveError, match=r"parts/one/0: .*too large"):
        unpack(archive, part)


def test_an_object_that_is_too_large_is_refused_before_it_is_read(archive: Archive) -> None:
    name = "backups/one/manifest.json"
    archive.put(name, b"x" * 1000)
    with pytest.raises(ArchiveError, match=f"{name}: 1000 bytes, at most 999"):
        archive.get(name, 999)
    assert archive.get(name, 1000) == b"x" * 1000


def test_what_a_directory_keeps_is_there_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is flushed before the next one begins, with the directories that lead to it: the
    manifest is written last, and says that all parts are there."""
    flushed: set[int] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    Archive(f"{tmp_path.as_uri()}/a%20b").put("parts/one/0", b"x" * 1000)
    file = tmp_path / "a b/parts/one/0"
    places = [file, *file.parents[:3]]
    assert {place.stat().st_ino for place in places} <= flushed
