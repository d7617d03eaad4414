"""Weighs an image: each layer as a registry keeps it, and unpacked.

    docker save dynamo-ring-node:0.1.0 | python -m release.weigh [--most-mb 200] [FILE]

FILE is what `docker save`, `podman save` or `buildah push docker-archive:` writes, "-" or nothing
is standard input. A layer that is not packed there is packed with gzip, as registries get it. Ends
with 1 if the packed layers together are more than `--most-mb` megabytes (1,000,000 bytes each).
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

CHUNK_BYTES = 1 << 20
LEVEL = 6
"""What gzip, docker and buildah pack with."""
MIB, MB = 2**20, 10**6
GZIP = b"\x1f\x8b"


class Layer(NamedTuple):
    """One layer in bytes: packed, unpacked; and the largest directories in it, by bytes."""

    packed: int
    unpacked: int
    places: list[tuple[int, str]]


def layers_of(archive: IO[bytes]) -> Iterator[Layer]:
    """The layers of an archive of one image, the base first."""
    with tarfile.open(fileobj=archive) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        (described,) = json.load(manifest)
        for name in described["Layers"]:
            layer = image.extractfile(name)
            assert layer is not None
            yield _weighed(layer)


def _weighed(layer: IO[bytes]) -> Layer:
    data = layer.read()
    packed, plain = len(data), data
    if data.startswith(GZIP):
        plain = gzip.decompress(data)
    else:
        pack = zlib.compressobj(LEVEL, wbits=31)
        parts = range(0, len(data), CHUNK_BYTES)
        packed = sum(len(pack.compress(data[at : at + CHUNK_BYTES])) for at in parts)
        packed += len(pack.flush())
    places: dict[str, int] = {}
    with tarfile.open(fileobj=io.BytesIO(plain)) as files:
        for file in files:
            places[_place(file.name)] = places.get(_place(file.name), 0) + file.size
    most = sorted(((size, name) for name, size in places.items()), reverse=True)
    return Layer(packed, sum(places.values()), most)


def _place(name: str) -> str:
    """A package of Python, else the two directories at the top."""
    parts = Path(name).parts
    if "site-packages" in parts:
        at = parts.index("site-packages") + 1
        return "/".join(parts[at : at + 1]) or "site-packages"
    return "/".join(parts[:2])


def main(words: list[str]) -> int:
    """Prints the layers; 1 if they are too heavy."""
    parser = argparse.ArgumentParser(prog="release.weigh", description=str(__doc__).split("\n")[0])
    parser.add_argument("file", nargs="?", default="-")
    parser.add_argument("--most-mb", type=float, default=200.0)
    parser.add_argument("--places", type=int, default=5, help="largest directories of each layer")
    options = parser.parse_args(words)
    piped = options.file == "-"
    archive = io.BytesIO(sys.stdin.buffer.read() if piped else Path(options.file).read_bytes())
    layers = [layer for layer in layers_of(archive) if layer.unpacked]
    for at, layer in enumerate(layers):
        _say(f"layer {at}", layer.packed, layer.unpacked)
        for size, name in layer.places[: options.places]:
            print(f"{'':34}{size / MIB:7.1f}    {name}")
    packed, unpacked = sum(each.packed for each in layers), sum(each.unpacked for each in layers)
    _say("image", packed, unpacked)
    heavy = packed > options.most_mb * MB
    print(f"{packed / MB:.0f} MB packed, {'more than' if heavy else 'of'} {options.most_mb:.0f} MB")
    return int(heavy)


def _say(what: str, packed: int, unpacked: int) -> None:
    print(f"{what:10}{packed / MIB:7.1f} MiB packed{unpacked / MIB:7.1f} MiB unpacked")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
