"""SIGHUP: read settings, secrets and rights again; apply those that may change in a running node.

The node also checks the files of secrets, certificates and rights every `LOOK_S` and reads them
again when one has changed, because no program sends signals in Kubernetes. A wrong file changes
nothing. The log has one line for each changed setting: it holds from now on, or it needs a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from dynamo_node import log as logs
from dynamo_node.certificates import BadCertificates, Certificates
from dynamo_node.driver import Driver
from dynamo_node.keyring import Keyring
from dynamo_node.rights import BadRights
from dynamo_node.settings import BadSettings, NodeSettings, read

LIVE = (
    "log_level", "hedge_ms", "fsync_stall_ms", "exchange_ms", "exchanges_max", "moves_max",
    "latency_threshold_ms", "siblings_max", "hint_bytes_max", "anti_entropy", "replace_lost",
    "slow_request_ms", "delay_samples_per_minute", "canaries_per_minute",
)  # fmt: skip
"""Settings that take effect at once; the others are read only at the start."""
LOOK_S = 2.0
"""Seconds between two checks of the files."""
log = structlog.get_logger()


class Reload:
    """The settings of a running node. `again` is the handler of the signal."""

    def __init__(
        self,
        arguments: Sequence[str],
        settings: NodeSettings,
        keyring: Keyring,
        driver: Driver,
        certificates: Certificates | None = None,
    ) -> None:
        self._arguments = arguments
        self._settings = settings
        self._keyring = keyring
        self._driver = driver
        self._certificates = certificates
        self._marks_read = self._marks()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Check the files from now on."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def watch_no_more(self) -> None:
        """The node stops."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self.watch()  # first: an error in a file must not end the watch of all files
        if (marks := self._marks()) != self._marks_read:
            self._marks_read = marks
            self._take_files(self._settings)

    def _marks(self) -> list[tuple[int, int, int]]:
        """For each watched file, values that differ when its content has changed."""
        told = self._settings
        files = (
            told.cluster_secret_file, told.tls_cert_file, told.tls_key_file, told.tls_ca_file,
            told.access_file, told.jwks_file,
        )  # fmt: skip
        return [_mark(path) for path in files if path is not None]

    def _take_files(self, told: NodeSettings) -> None:
        """Rights, certificates and secrets. A wrong file leaves the present values."""
        self._take_access(told)
        if self._certificates is not None:
            try:
                self._certificates.take()
            except BadCertificates as error:
                log.error(f"certificates were not changed: {error}")
            else:
                log.info("certificates were read again", not_after=self._certificates.not_after)
        try:
            secrets = told.secrets()
        except BadSettings as error:
            log.error(f"secrets were not changed: {error}")
            return
        if secrets != self._keyring.secrets:
            self._keyring.take(secrets)
            log.info("secrets were read again", secrets=self._keyring.now.names)

    def _take_access(self, told: NodeSettings) -> None:
        access = self._driver.access
        if access is None:
            return
        try:
            access.take_keys()
        except BadRights as error:
            log.error(f"keys of ServiceAccounts were not changed: {error}")
        try:
            rights = told.rights()
        except BadSettings as error:
            log.error(f"rights were not changed: {error}")
            return
        assert rights is not None
        access.take(rights)
        log.info("rights were read again", rules=rights.rules)

    def again(self) -> None:
        """Read everything again and apply what may change."""
        try:
            told = read(self._arguments)
        except BadSettings as error:
            log.error(f"settings were not changed: {error}")
            return
        before = self._settings
        changed = [
            field
            for field in NodeSettings.model_fields
            if getattr(told, field) != getattr(before, field)
        ]
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
                log.warning("a changed setting needs a restart", **values)
        self._marks_read = self._marks()
        self._take_files(self._settings)
        log.info("settings were read again", changed=len(live))


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_ino, found.st_size


def _shown(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
