"""The pages about Kubernetes name every reason that a condition can have."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/kubernetes/conditions.md").read_text()
OPERATOR = ROOT / "operator/src/dynamo_operator"


def reasons(*modules: str) -> set[str]:
    """CamelCase words that stand as strings in the modules."""
    text = "".join((OPERATOR / f"{module}.py").read_text() for module in modules)
    return set(
        re.findall(
            r'(?:Step\(|reason=|yield |Fact\([^"]*"[A-Z]\w+", \w+, )\(?\s*"([A-Z]\w+)"', text
        )
    )


def test_every_reason_is_on_the_page() -> None:
    known = reasons("conditions") | reasons(*(path.stem for path in OPERATOR.glob("plan*.py")))
    assert {"VolumeLost", "ScalingUp", "BelowQuorum"} <= known
    missing = {reason for reason in known if f"`{reason}`" not in PAGE}
    assert missing == set()
