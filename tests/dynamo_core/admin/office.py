"""Real nodes in one process, and administrators who ask them for changes of their ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamo_core.testing.town import Town

JOIN_D = {"join": [{"name": "d", "address": "d:1"}]}
Answer = tuple[int, dict[str, Any]]


class Office(Town):
    """A town with administrators."""

    def called(self, at: str, what: str, body: dict[str, Any]) -> list[Answer]:
        """The answers until now, of a call that the test does not wait for."""
        answers: list[Answer] = []
        call: Callable[..., None] = getattr(self.nodes[at].admin.planner, what)
        call(body, lambda status, said: answers.append((status, said)))
        self.deliver()
        return answers

    def told(self, at: str, what: str, body: dict[str, Any]) -> Answer:
        answers = self.called(at, what, body)
        self.until(lambda: bool(answers), 15.0)
        assert len(answers) == 1
        return answers[0]

    def made(self, at: str, body: dict[str, Any]) -> dict[str, Any]:
        status, plan = self.told(at, "plan", body)
        assert status == 200, plan
        return plan

    def apply(self, at: str, body: dict[str, Any], operation: str) -> Answer:
        quoted = {**body, "hash": self.made(at, body)["hash"], "operation_id": operation}
        return self.told(at, "apply", quoted)

    def operation(self, at: str) -> dict[str, Any]:
        return self.nodes[at].admin.status()["operation"]

    def add(self, name: str) -> None:
        """A node that is in no ring."""
        self.names.append(name)
        self.wipe(name)
        self.start(name)
        self.run(1.0)
