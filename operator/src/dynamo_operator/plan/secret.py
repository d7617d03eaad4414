"""The row about a cluster secret that nodes refuse, such as a short one of version 0.1.0.

Nodes of 0.1.0 run with it, and later ones do not start. The operator cannot know which image does
which, so it starts and updates no pod until a person has changed the secret. Pods that run go on.
"""

from __future__ import annotations

from dynamo_operator import children
from dynamo_operator.actions import Step
from dynamo_operator.drift import covers
from dynamo_operator.plan import pods
from dynamo_operator.plan.objects import INVALID_S, stateful_set
from dynamo_operator.snapshot import STATEFUL_SET, Snapshot
from dynamo_operator.tokens import secret_fault


def fault(o: Snapshot) -> str:
    """What is wrong with the secret, and the commands that change it; "" if nothing is."""
    why = secret_fault(o.secret_text) if o.secret else ""
    if not why:
        return ""
    name = children.secret_name(o.owner, o.spec)
    write = (
        f"kubectl patch secret {name} -n {o.namespace} --type=merge -p"
        ' "{\\"stringData\\": {\\"secret\\": \\"$(head -c 32 /dev/urandom | base64)\\"}}"'
    )
    if not o.pods:
        return f"Secret {name}, {why}: {write}"
    stop, start = (
        f"kubectl patch dring {o.name} -n {o.namespace} --type=merge"
        f' -p \'{{"spec": {{"stopped": {state}}}}}\''
        for state in ("true", "false")
    )
    return (
        f"Secret {name}, {why}: a node that starts again would end. Stop the ring ({stop}), change"
        f" the secret when no pod is left ({write}), start the ring ({start})"
    )


def unusable(o: Snapshot) -> Step | None:
    """No pod is started or updated with a secret that nodes refuse."""
    if o.spec.stopped or not (why := fault(o)) or not _would_start(o):
        return None
    return Step("SecretUnusable", why, progressing=False, invalid=True, again_s=INVALID_S)


def _would_start(o: Snapshot) -> bool:
    """Whether the rows below would start or update a pod."""
    existing = o.objects.get((STATEFUL_SET, o.name))
    if existing is None or not o.replicas or pods.to_roll(o):
        return True
    wanted = stateful_set(o, o.replicas)["spec"]["template"]
    return not covers(wanted, existing["spec"]["template"])
