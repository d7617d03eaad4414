"""What the nodes of a ring need outside of it: for every archive that they may be asked to use, and
for every pod that runs or will run."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from dynamo_operator.egress import STORES, Outward
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.variables import of_pod


def outward(o: Snapshot) -> Outward:
    """Runs that have ended count too: `backup.retention` deletes what they have left."""
    schemes = {urlsplit(url).scheme for url in _archives(o)}
    wish = o.spec.pod_template.spec
    variables = of_pod(wish, o.spec.backup.secret_name) | o.archive_variables
    if o.workload is not None:
        variables |= o.workload.variables
    for pod in o.pods.values():
        variables |= pod.variables
    return Outward(frozenset(schemes.intersection(STORES)), variables)


def _archives(o: Snapshot) -> Iterator[str]:
    if o.spec.backup.target is not None:
        yield o.spec.backup.target
    if o.spec.bootstrap is not None and o.spec.bootstrap.from_backup.target is not None:
        yield o.spec.bootstrap.from_backup.target
    for run in o.runs:
        if run.archive:
            yield run.archive
