"""`make e2e`: the stories, one after another, on the cluster that KUBECONFIG names.

    python -m tests.e2e.run [--no-images] [--list] [STORY ...]

Each story ends with its figure. If one fails, all evidence is written to `.local/e2e/`, and the
other stories do not run.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.e2e import (
    stories_autoscale,
    stories_begin,
    stories_change,
    stories_keep,
    stories_machines,
    stories_network,
    stories_secure,
    stories_snapshots,
    stories_troubles,
    stories_upgrade,
)
from tests.e2e.kubectl import Refused, Slow, kubectl
from tests.e2e.stage import RINGS, ROOT, SHOPPERS, SYSTEM, Ring, images, namespaces

KEPT = ROOT / ".local/e2e"
STORIES: tuple[Callable[[], str], ...] = (
    stories_begin.chart_is_sound,
    stories_upgrade.upgraded_from_the_release_and_back,
    stories_begin.installed,
    stories_begin.rules_on_the_api_server,
    stories_begin.used_from_another_namespace,
    stories_begin.pod_killed,
    stories_begin.claim_lost,
    stories_begin.foreign_changes_reverted,
    stories_troubles.selectors_put_back,
    stories_troubles.refused_told,
    stories_troubles.slips_taken_back,
    stories_begin.operator_deleted,
    stories_change.scaled_up_and_down,
    stories_change.flipped_midway,
    stories_change.token_moves_approved,
    stories_change.repair_heals,
    stories_change.updated_and_back,
    stories_secure.rights_by_service_account,
    stories_secure.stranger_in_the_namespace,
    stories_network.policy_enforced,
    stories_machines.machine_stopped,
    stories_machines.machine_cut_off,
    stories_machines.shrunk_past_a_dead_machine,
    stories_change.operator_killed_midway,
    stories_machines.made_again_on_kept_claims,
    stories_machines.rings_never_mix,
    stories_machines.chart_upgraded_and_uninstalled,
)
LONG: tuple[Callable[[], str], ...] = (
    stories_secure.certificates_and_secret_change_under_load,
    stories_secure.plain_ring_goes_over_and_back,
    stories_keep.backed_up_by_the_clock,
    stories_keep.restored_after_the_namespace_was_deleted,
    stories_snapshots.snapshots_begin_another_ring,
    stories_autoscale.autoscaled,
)
"""They wait for kubelets to bring files up to date, for an autoscaler, for a storage driver, or for
the clock, some minutes each: played by name alone, after the chart was installed."""


def keep(story: str, error: str) -> Path:
    """Saves the evidence of a failed story."""
    place = KEPT / f"{time.strftime('%H%M%S')}-{story}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "error.txt").write_text(error)
    commands = {
        "objects": ("get", "all,pvc,pdb,dynamo,nodes", "-A", "-o", "wide"),
        "rings": ("get", "dring", "-A", "-o", "yaml"),
        "runs": ("get", "drepair,dbackup,drestore", "-A", "-o", "yaml"),
        "snapshots": ("get", "volumesnapshots,volumesnapshotcontents", "-A", "-o", "yaml"),
        "described": ("describe", "dring", "-A"),
        "events": ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp"),
        "operator": ("logs", "-n", SYSTEM, "deploy/dynamo-ring", "--tail=2000"),
    }
    for namespace in (RINGS, SHOPPERS, stories_keep.KEPT.namespace, stories_keep.AGAIN.namespace):
        try:
            pods = kubectl("get", "pods", "-n", namespace, "-o", "name").split()
        except Refused:
            pods = []
        for pod in pods:
            name = pod.removeprefix("pod/")
            commands[name] = ("logs", "-n", namespace, name, "--tail=2000")
    for name, words in commands.items():
        try:
            (place / f"{name}.txt").write_text(kubectl(*words))
        except Refused as refused:
            (place / f"{name}.txt").write_text(str(refused))
    for ordinal in range(5):
        for document in ("ring", "status"):
            try:
                text = str(Ring().ask(ordinal, f"/v1/{document}"))
                (place / f"{document}-{ordinal}.txt").write_text(text)
            except (Refused, ValueError):
                continue
    return place


def main() -> None:
    """Runs the stories; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description="The stories on a real cluster.")
    parser.add_argument("--no-images", action="store_true", help="they are on the machines already")
    parser.add_argument("--list", action="store_true", help="only name the stories")
    parser.add_argument("stories", nargs="*", help="only these")
    options = parser.parse_args()
    if options.list:
        print("\n".join(story.__name__ for story in (*STORIES, *LONG)))
        return
    played = [
        story
        for story in (*STORIES, *LONG)
        if (story.__name__ in options.stories if options.stories else story in STORIES)
    ]
    unknown = set(options.stories) - {story.__name__ for story in played}
    if unknown:
        parser.error(f"no such story: {', '.join(sorted(unknown))}")
    console = Console(width=160)
    rows = Table("story", "figure", "seconds", box=None)
    began = time.monotonic()
    if not options.no_images:
        images()
        rows.add_row("images", "built and on every machine", f"{time.monotonic() - began:.0f}")
    namespaces()
    failed = 0
    for story in played:
        at = time.monotonic()
        console.print(f"{story.__name__} ...", highlight=False)
        try:
            figure = story()
        except (AssertionError, Refused, Slow, LookupError, ValueError):
            error = traceback.format_exc()
            print(error, file=sys.stderr)
            figure, failed = f"FAILED, see {keep(story.__name__, error)}", 1
        console.print(f"    {figure}", highlight=False)
        rows.add_row(story.__name__.replace("_", " "), figure, f"{time.monotonic() - at:.0f}")
        if failed:
            break
    console.print(rows)
    console.print(f"{rows.row_count} rows in {time.monotonic() - began:.0f} s")
    sys.exit(failed)


if __name__ == "__main__":
    main()
