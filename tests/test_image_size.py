"""What makes images light, and what weighs them (`release.slim`, `release.weigh`)."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from release import slim, weigh

HEAVY = "uvloop.loop"
"""Its wheel has debug sections."""
RUN = """
import asyncio, sys
from importlib.util import spec_from_file_location, module_from_spec
spec = spec_from_file_location("uvloop.loop", sys.argv[1])
import uvloop
loop = module_from_spec(spec)
sys.modules["uvloop.loop"] = loop
spec.loader.exec_module(loop)
print(loop.__file__, loop.Loop().run_until_complete(asyncio.sleep(0, "ran")))
"""


def library(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


def test_a_library_without_symbols_is_smaller_and_runs(tmp_path: Path) -> None:
    whole = library(HEAVY)
    (tmp_path / whole.name).write_bytes(whole.read_bytes())
    (tmp_path / "link.so").symlink_to(whole)
    slim.main(str(tmp_path))
    less = tmp_path / whole.name
    assert less.stat().st_size < whole.stat().st_size / 2
    command = [sys.executable, "-c", RUN, str(less)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(less), "ran"]
    assert slim.slimmed(less.read_bytes()) == less.read_bytes(), "a second time changes nothing"
    assert (tmp_path / "link.so").is_symlink()


@pytest.mark.parametrize("name", [HEAVY, "msgspec._core", "rocksdict.rocksdict"])
def test_all_that_is_loaded_stays(name: str) -> None:
    data = library(name).read_bytes()
    less = slim.slimmed(data)
    head = slim.HEADER.unpack_from(data)
    segments = [
        slim.SEGMENT.unpack_from(data, head[5] + at * slim.SEGMENT.size) for at in range(head[10])
    ]
    assert slim.HEADER.unpack_from(less)[:6] == head[:6]
    for _, _, begin, _, _, size, _, _ in segments:
        begin, end = max(begin, slim.HEADER.size), begin + size
        assert less[begin:end] == data[begin:end]
    assert _names(less) <= _names(data) and {".dynsym", ".text", ".dynamic"} <= _names(less)
    assert not {each for each in _names(less) if each.startswith(".debug")}


def _names(data: bytes) -> set[str]:
    """Sections by their names."""
    head = slim.HEADER.unpack_from(data)
    sections = [
        slim.SECTION.unpack_from(data, head[6] + at * slim.SECTION.size) for at in range(head[12])
    ]
    words = sections[head[13]][4]
    begins = [words + each[0] for each in sections]
    return {data[at : data.index(b"\0", at)].decode() for at in begins}


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01" + bytes(99), slim.IDENT])
def test_what_is_no_such_library_stays(data: bytes) -> None:
    assert slim.slimmed(data) is data


def packed(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def test_the_weight_of_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = packed({"usr/bin/python3": bytes(3 * weigh.MIB)})
    own = packed({"opt/lib/python3.13/site-packages/uvloop/loop.so": bytes(2 * weigh.MIB)})
    described = json.dumps([{"Layers": ["a.tar", "b.tar"]}]).encode()
    image = tmp_path / "image.tar"
    image.write_bytes(
        packed({"a.tar": gzip.compress(base), "b.tar": own, "manifest.json": described})
    )
    assert weigh.main([str(image)]) == 0
    told = capsys.readouterr().out
    assert "5.0 MiB unpacked" in told and "3.0    usr/bin" in told and "2.0    uvloop" in told
    first, second = weigh.layers_of(io.BytesIO(image.read_bytes()))
    assert first.packed == len(gzip.compress(base)) and 0 < second.packed < weigh.MIB / 100
    assert weigh.main([str(image), "--most-mb", "0.001"]) == 1
