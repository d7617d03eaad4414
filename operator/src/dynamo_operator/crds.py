"""`python -m dynamo_operator.crds DIRECTORY...`: writes the CRDs, one file each."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from dynamo_operator.definition import cluster_crd, repair_crd

HEADING = "# Made by `python -m dynamo_operator.crds`; edit operator/src/dynamo_operator/spec.py.\n"


def files() -> dict[str, str]:
    """Name and text of each file."""
    return {
        f"{crd['spec']['names']['plural']}.yaml": HEADING
        + yaml.safe_dump(crd, sort_keys=False, width=100, allow_unicode=True)
        for crd in (cluster_crd(), repair_crd())
    }


def main() -> None:
    """Writes the files into each directory of the command line."""
    for directory in map(Path, sys.argv[1:]):
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            (directory / name).write_text(text)


if __name__ == "__main__":
    main()
