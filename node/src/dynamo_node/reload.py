"""SIGHUP: settings and the secret are read again; what may change while a node runs does.

A file that is wrong changes nothing. Each setting that changed is told in one line of the log:
either it holds from now on, or it needs a restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from dynamo_node import log as logs
from dynamo_node.driver import Driver
from dynamo_node.settings import BadSettings, NodeSettings, read

LIVE = (
    "log_level", "hedge_ms", "fsync_stall_ms", "exchange_ms", "exchanges_max", "moves_max",
    "latency_threshold_ms", "siblings_max", "hint_bytes_max", "anti_entropy", "replace_lost",
    "slow_request_ms",
)  # fmt: skip
"""Fields that take effect at once; the others are read at the start."""
log = structlog.get_logger()


class Reload:
    """What a running node knows of its settings. `again` is for the signal."""

    def __init__(
        self, arguments: Sequence[str], settings: NodeSettings, secret: bytes, driver: Driver
    ) -> None:
        self._arguments = arguments
        self._settings = settings
        self._secret = secret
        self._driver = driver

    def again(self) -> None:
        """Read everything and do what can be done."""
        try:
            told = read(self._arguments)
            secret = told.secret()
        except BadSettings as error:
            log.error(f"settings are left as they were: {error}")
            return
        before = self._settings
        changed = [
            field for field in NodeSettings.model_fields
            if getattr(told, field) != getattr(before, field)
        ]  # fmt: skip
        live = {field: getattr(told, field) for field in changed if field in LIVE}
        self._settings = before.model_copy(update=live)
        if "log_level" in live:
            logs.configure(told.log_level, before.name)
        if live:
            self._driver.enter()
            self._driver.node.retune(self._settings.of_core())
        for field in changed:
            values = {
                "setting": field,
                "before": getattr(before, field),
                "told": getattr(told, field),
            }
            values = {name: _shown(value) for name, value in values.items()}
            if field in live:
                log.info("a setting has changed", **values)
            else:
                log.warning("a setting needs a restart to change", **values)
        if secret != self._secret:
            log.warning("a setting needs a restart to change", setting="cluster_secret_file")
        log.info("settings are read again", changed=len(live))


def _shown(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
