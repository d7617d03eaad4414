"""What a release adds to wheel and images: `python -m release.pack krew|chart`, run in the root.

    krew WHEEL REQUIREMENTS      dist/kubectl-dynamo.tar.gz and its manifest dist/dynamo.yaml
    chart REGISTRY NODE OPERATOR  dist/chart, whose images are REGISTRY's by these digests

The archive has no times and no names of this machine, so the same inputs give the same digest.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import sys
import tarfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
SOURCE = "https://github.com/dynamo-ring/dynamo-ring"
ARCHIVE = "kubectl-dynamo.tar.gz"
PLATFORMS = (("linux", "amd64"), ("linux", "arm64"), ("darwin", "amd64"), ("darwin", "arm64"))
"""The archive has no machine code; pip chooses wheels for the machine."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def version() -> str:
    """The version of the package."""
    found = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert found is not None
    return found[1]


def archive(wheel: Path, requirements: Path) -> bytes:
    """The archive of the krew plugin."""
    members = [
        ("LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644),
        (wheel.name, wheel.read_bytes(), 0o644),
        ("kubectl-dynamo", (ROOT / "release/kubectl-dynamo").read_bytes(), 0o755),
        ("requirements.txt", requirements.read_bytes(), 0o644),
    ]
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name, data, mode in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            made.addfile(member, io.BytesIO(data))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as zipped:
        zipped.write(tar.getvalue())
    return packed.getvalue()


def krew_manifest(digest: str) -> str:
    """The manifest of the plugin for the index of krew; `digest` is the archive's SHA-256."""
    tag = f"v{version()}"
    platforms = [
        {
            "selector": {"matchLabels": {"os": os, "arch": arch}},
            "uri": f"{SOURCE}/releases/download/{tag}/{ARCHIVE}",
            "sha256": digest,
            "bin": "kubectl-dynamo",
            "files": [{"from": "*", "to": "."}],
        }
        for os, arch in PLATFORMS
    ]
    made = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "dynamo"},
        "spec": {
            "version": tag,
            "homepage": SOURCE,
            "shortDescription": "Look into dynamo-ring and change its rings",
            "description": (
                "Shows and changes rings of dynamo-ring, an always-writeable key-value store:\n"
                "nodes, partitions and plans, keys and values. It forwards ports of the pods with\n"
                "your rights.\n"
            ),
            "caveats": (
                "Needs Python 3.11 or newer. The first call installs its packages, each by its\n"
                "hash, into ~/.cache/dynamo-ring.\n"
            ),
            "platforms": platforms,
        },
    }
    return yaml.safe_dump(made, sort_keys=False, width=100)


def released_chart(place: Path, registry: str, node: str, operator: str) -> None:
    """The chart with the images of a release. Raises ValueError for a digest that is none."""
    for digest in (node, operator):
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r}: needs sha256: and 64 hex digits")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT / "charts/dynamo-ring", place)
    images = {part: f"{registry}/dynamo-ring-{part}" for part in ("node", "operator")}
    values = (place / "values.yaml").read_text()
    for before, after in (
        ("  repository: dynamo-ring-operator\n", f"  repository: {images['operator']}\n"),
        ('  digest: ""\n', f"  digest: {operator}\n"),
        ('nodeImage: ""\n', f"nodeImage: {images['node']}:{version()}@{node}\n"),
    ):
        if values.count(before) != 1:
            raise ValueError(f"values.yaml: {before.strip()!r} is not there once")
        values = values.replace(before, after)
    (place / "values.yaml").write_text(values)
    chart = (place / "Chart.yaml").read_text()
    for part in images:
        chart = chart.replace(f"ghcr.io/dynamo-ring/dynamo-ring-{part}:", f"{images[part]}:")
    (place / "Chart.yaml").write_text(chart)


def main(words: list[str]) -> None:
    """One of both commands."""
    DIST.mkdir(exist_ok=True)
    match words:
        case ["krew", wheel, requirements]:
            data = archive(Path(wheel), Path(requirements))
            (DIST / ARCHIVE).write_bytes(data)
            (DIST / "dynamo.yaml").write_text(krew_manifest(hashlib.sha256(data).hexdigest()))
        case ["chart", registry, node, operator]:
            released_chart(DIST / "chart", registry, node, operator)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
