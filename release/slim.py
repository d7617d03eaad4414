"""Takes from installed libraries what no process loads: symbols and debug sections of ELF files.

    python -m release.slim DIRECTORY

Wheels bring up to ten times of what the loader maps. The usual tool, strip, is in no package whose
files have hashes in our lock, and an image installs nothing else; so these few lines do its work,
for 64-bit little-endian libraries, whose sections that are loaded come before all others. Any other
file stays as it is. Programs that run keep the names of what they export (`.dynsym`).
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
IDENT = b"\x7fELF\x02\x01\x01"
"""64 bits, little-endian, version 1."""
SHARED, STRTAB, NOBITS, ALLOC = 3, 3, 8, 2
NAME = b".shstrtab\0"


def slimmed(data: bytes) -> bytes:
    """A shared library without the sections behind the last that is loaded; `data` itself if it is
    not laid out so."""
    if len(data) < HEADER.size or not data.startswith(IDENT):
        return data
    head = list(HEADER.unpack_from(data))
    kind, first, table, size, count, names = head[1], head[5], head[6], head[11], head[12], head[13]
    segments = [SEGMENT.unpack_from(data, first + at * SEGMENT.size) for at in range(head[10])]
    if kind != SHARED or size != SECTION.size or not 0 < names < count:
        return data
    sections = [SECTION.unpack_from(data, table + at * size) for at in range(count)]
    kept = sections[: 1 + max(at for at, each in enumerate(sections) if at == 0 or each[2] & ALLOC)]
    end = max(
        first + head[10] * SEGMENT.size,
        *(each[2] + each[5] for each in segments),
        *(each[4] + each[5] for each in kept if each[1] != NOBITS),
    )
    if any(each[6] >= len(kept) for each in kept) or end > len(data):
        return data
    words, at = sections[names][4], end
    text, moved = b"\0", []
    for each in kept:
        begin = words + each[0]
        word = data[begin : data.index(b"\0", begin) + 1]
        moved.append(SECTION.pack(len(text) if word != b"\0" else 0, *each[1:]))
        text += word if word != b"\0" else b""
    moved.append(SECTION.pack(len(text), STRTAB, 0, 0, at, len(text + NAME), 0, 0, 1, 0))
    body = data[:end] + text + NAME
    body += bytes(-len(body) % 8)
    head[6], head[12], head[13] = len(body), len(moved), len(moved) - 1
    made = HEADER.pack(*head) + body[HEADER.size :] + b"".join(moved)
    return made if len(made) < len(data) else data


def main(directory: str) -> None:
    """Writes each library of the directory anew that gets smaller."""
    before = after = 0
    for file in sorted(Path(directory).rglob("*.so*")):
        if file.is_symlink() or not file.is_file():
            continue
        data = file.read_bytes()
        less = slimmed(data)
        before, after = before + len(data), after + len(less)
        if less is not data:
            file.write_bytes(less)
    print(f"libraries: {before / 2**20:.0f} MiB, without symbols {after / 2**20:.0f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
