"""Settings of a node: flags over `DYNAMO_*` variables over a TOML file (docs/operations.md).

One model defines all three and `--help`. Wrong settings end the process with exit code 2 and one
line that names the setting.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliImplicitFlag,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

import dynamo_core.settings as core
from dynamo_archive.sealing import BadKey, Sealing, read_identities
from dynamo_archive.targets import STORES
from dynamo_core.keys import VALUE_BYTES_MAX
from dynamo_node.access import Access
from dynamo_node.audit import Audit
from dynamo_node.certificates import BadCertificates, Certificates, TlsFiles
from dynamo_node.handshake import VERSION, VERSION_OLDEST
from dynamo_node.keyring import BadSecret, read_secrets
from dynamo_node.link_bytes import ARRIVING_BYTES_MAX, WAITING_BYTES_MAX
from dynamo_node.link_ends import LinkLimits
from dynamo_node.rights import BadRights, Rights, read_rights
from dynamo_node.service_accounts import ServiceAccounts
from dynamo_node.setting_values import (
    Address,
    CopySource,
    Count,
    Dialled,
    Listened,
    Name,
    Prefix,
    Receiver,
    Recipient,
    UrlBegin,
    is_loopback,
    take_config,
)

PREFIX = "DYNAMO_"
VALUE_BYTES_LIMIT_MAX = 8 * 1024 * 1024
HISTORY_BYTES_LIMIT_MAX = 64 * 1024 * 1024
"""A look at the history of one key reads over all that is kept."""
_CORE = core.Settings()


class BadSettings(Exception):
    """One line for people that names the setting."""


class NodeSettings(BaseSettings):
    """One node of dynamo-ring: a process with one data directory and three listeners. Each flag is
    also a variable (--data-dir: DYNAMO_DATA_DIR) and a key in the TOML file of --config FILE
    (data_dir). Flags take precedence over variables, and variables over the file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        cli_prog_name="dynamo-node",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        env_ignore_empty=True,
        nested_model_default_partial_update=False,
    )

    # fmt: off
    name: Name = Field(default_factory=socket.gethostname, min_length=1, max_length=253,
        description="stable name of this node; default: the host name")
    data_dir: Path = Field(Path("data"), description="directory for the store and the node's id")
    client_listen: Address = Field("127.0.0.1:8080", description="client HTTP; port 0: any port")
    admin_listen: Address = Field("127.0.0.1:8081", description="admin HTTP, metrics, probes")
    peer_listen: Address = Field("127.0.0.1:8082", description="links from other nodes")
    advertise: Dialled | None = Field(None,
        description="host:port that other nodes dial; default: the peer listener")
    client_advertise: Dialled | None = Field(None,
        description="host:port that clients dial; default: advertised host, client port")
    admin_advertise: Dialled | None = Field(None,
        description="host:port that administrators dial; default: advertised host, admin port")
    seeds: Annotated[tuple[Dialled, ...], NoDecode] = Field((), max_length=1024,
        description="peer addresses, with commas; a name may have many addresses")
    zone: str = Field("", max_length=253, description="failure domain of the node")
    weight: int = Field(1, ge=1, le=1000, description="relative capacity")
    cluster_secret_file: Path | None = Field(None,
        description="secrets, one in each line; the node seals with the first")
    tls_cert_file: Path | None = Field(None, description="certificate chain of this node, PEM")
    tls_key_file: Path | None = Field(None, description="key of the certificate, PEM")
    tls_ca_file: Path | None = Field(None, description="authorities of peers and clients, PEM")
    peer_tls: Literal["off", "allow", "require"] | None = Field(None,
        description="links between nodes; default: require with tls_cert_file, else off")
    client_tls: Listened | None = Field(None,
        description="client HTTP; default: on with tls_cert_file, else off")
    admin_tls: Listened | None = Field(None,
        description="admin HTTP; default: on with tls_cert_file, else off")
    access_file: Path | None = Field(None,
        description="file of rights, TOML; none: every client may use every key")
    jwks_file: Path | None = Field(None,
        description="public keys that verify ServiceAccount tokens, JWKS")
    token_issuer: str = Field("", max_length=512, description="issuer of ServiceAccount tokens")
    token_audience: str = Field("dynamo-ring", min_length=1, max_length=512,
        description="audience that ServiceAccount tokens must have")
    cluster: str = Field("", max_length=253,
        description="name of the cluster; the node refuses a disk of another cluster")
    copy_of: CopySource = Field("", max_length=512,
        description="CLUSTER RING_ID: a copy of a disk of that cluster becomes one of this ring")
    replace_lost: bool = Field(_CORE.replace_lost,
        description="a node with an empty disk takes the place of the member of its name")
    tombstone_age_min_s: float = Field(_CORE.tombstone_age_min_s, ge=1, le=1e9,
        description="minimum age in seconds of a tombstone before it is collected")
    anti_entropy: Literal["on", "off"] = Field("on", description="off: no regular exchange")
    engine: Literal["rocksdb", "memory"] = Field("rocksdb", description="memory: lost at a restart")
    http_front: Literal["protocol", "asgi"] = Field("protocol",
        description="implementation of client HTTP; asgi is slower and plainer")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")
    insecure: CliImplicitFlag[bool] = Field(False,
        description="allow listeners beyond loopback without a cluster secret")
    hedge_ms: float = Field(_CORE.hedge_s * 1000, gt=0, le=30_000,
        description="a read asks its other nodes after this time")
    fsync_stall_ms: float = Field(_CORE.fsync_stall_s * 1000, ge=10, le=60_000,
        description="fsync time after which other owners coordinate this node's puts")
    heartbeat_ms: float = Field(_CORE.heartbeat_s * 1000, ge=10, le=60_000,
        description="time between two gossip messages to a member")
    suspect_ms: float = Field(_CORE.suspect_s * 1000, ge=30, le=600_000,
        description="time of silence after which a peer is down")
    exchange_ms: float = Field(_CORE.exchange_s * 1000, ge=10, le=3_600_000,
        description="time between two comparisons with a peer")
    exchanges_max: Count = Field(_CORE.exchanges_max, description="partitions exchanged at once")
    moves_max: Count = Field(_CORE.moves_max, description="partitions received at once")
    latency_threshold_ms: float = Field(_CORE.latency_threshold_ms, ge=1, le=60_000,
        description="p99 of reads above which background work slows down")
    slow_request_ms: float = Field(_CORE.slow_s * 1000, ge=0, le=60_000,
        description="time from which a request is logged as slow; 0: never")
    delay_samples_per_minute: int = Field(_CORE.delay_samples_per_minute, ge=0, le=6000,
        description="samples of delays that predict staleness; 0: none")
    canaries_per_minute: int = Field(_CORE.canaries_per_minute, ge=0, le=3000,
        description="canary keys that measure staleness; 0: none")
    otel_endpoint: Receiver = Field("", description="OTLP/HTTP receiver of spans")
    value_bytes_max: int = Field(VALUE_BYTES_MAX, ge=1, le=VALUE_BYTES_LIMIT_MAX,
        description="a larger value is refused (413)")
    in_flight_max: Count = Field(_CORE.in_flight_max, description="client operations at once")
    siblings_max: Count = Field(_CORE.siblings_max,
        description="number of siblings of a key from which on a put needs a context")
    hint_bytes_max: Count = Field(_CORE.hint_bytes_max, description="bytes of hints for one node")
    history_bytes_max: int = Field(_CORE.history_bytes_max, ge=0, le=HISTORY_BYTES_LIMIT_MAX,
        description="memory for the causal history of watched keys; 0: none is kept")
    history_prefixes: Annotated[tuple[Prefix, ...], NoDecode] = Field((), max_length=64,
        description="comma list: watch only keys that begin with one of these")
    history_one_in: Count = Field(_CORE.history_one_in, description="n: watch one of n keys")
    backup_targets: Annotated[tuple[UrlBegin, ...], NoDecode] = Field(STORES, max_length=64,
        description="comma list: archives may have URLs that begin with one of these")
    backup_recipients: Annotated[tuple[Recipient, ...], NoDecode] = Field((), max_length=16,
        description="comma list of public keys of age that encrypt parts of backups")
    backup_identity_file: Path | None = Field(None,
        description="secret keys of age, one in each line, which decrypt in a restore")
    peer_protocol_min: int = Field(VERSION_OLDEST, ge=VERSION_OLDEST, le=VERSION,
        description="set 2 when no node or program of version 1 is left")
    peer_arriving_bytes_max: int = Field(ARRIVING_BYTES_MAX, ge=1 << 20,
        description="incomplete frames from all peers; one frame may exceed it")
    peer_waiting_bytes_max: int = Field(WAITING_BYTES_MAX, ge=1 << 20,
        description="waiting frames to all peers; one frame may exceed it")
    memtable_bytes: int = Field(64 << 20, ge=1 << 20, le=1 << 30, description="RocksDB's buffer")
    # fmt: on

    @field_validator(
        "seeds", "history_prefixes", "backup_targets", "backup_recipients", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _heard_before_suspected(self) -> Self:
        if self.suspect_ms < 3 * self.heartbeat_ms:
            raise ValueError("suspect_ms: needs at least three heartbeats (heartbeat_ms)")
        return self

    @model_validator(mode="after")
    def _tls_has_its_files(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file: give both or none")
        asked = {
            "peer_tls": self.of_peer_tls,
            "client_tls": self.of_client_tls,
            "admin_tls": self.of_admin_tls,
        }
        for name, how in asked.items():
            if how != "off" and self.tls_cert_file is None:
                raise ValueError(f"{name}: needs tls_cert_file and tls_key_file")
            if (how == "mutual" or (name == "peer_tls" and how != "off")) and not self.tls_ca_file:
                raise ValueError(f"{name}: needs tls_ca_file")
        return self

    @model_validator(mode="after")
    def _accounts_have_rights(self) -> Self:
        if self.jwks_file is not None and not (self.token_issuer and self.access_file):
            raise ValueError("jwks_file: needs token_issuer and access_file")
        return self

    @property
    def of_peer_tls(self) -> str:
        """Whether links have TLS."""
        return self.peer_tls or ("require" if self.tls_cert_file else "off")

    @property
    def of_client_tls(self) -> str:
        """Whether clients connect with TLS."""
        return self.client_tls or ("on" if self.tls_cert_file else "off")

    @property
    def of_admin_tls(self) -> str:
        """Whether administrators connect with TLS."""
        return self.admin_tls or ("on" if self.tls_cert_file else "off")

    def certificates(self) -> Certificates | None:
        """The node's certificates, None if no setting needs them. Raises BadSettings."""
        used = {self.of_peer_tls, self.of_client_tls, self.of_admin_tls} != {"off"}
        if not used or self.tls_cert_file is None or self.tls_key_file is None:
            return None
        try:
            files = TlsFiles(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
            return Certificates(files, self.name if self.of_peer_tls != "off" else "")
        except BadCertificates as error:
            raise BadSettings(str(error)) from None

    def rights(self) -> Rights | None:
        """Who may do what; None if everyone may do everything. Raises BadSettings."""
        if self.access_file is None:
            return None
        try:
            return read_rights(self.access_file)
        except BadRights as error:
            raise BadSettings(f"access_file: {error}") from None

    def access(self, audit: Audit) -> Access | None:
        """The rights that listeners check; None if they check none. Raises BadSettings."""
        rights = self.rights()
        if rights is None:
            return None
        accounts = None
        if self.jwks_file is not None:
            try:
                accounts = ServiceAccounts(self.jwks_file, self.token_issuer, self.token_audience)
            except BadRights as error:
                raise BadSettings(str(error)) from None
        return Access(rights, accounts, audit)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources other than flags; flags take precedence."""
        toml = TomlConfigSettingsSource(settings_cls, _config_file)
        return init_settings, env_settings, toml

    def of_core(self) -> core.Settings:
        """The settings of the pure node."""
        return core.Settings(
            hedge_s=self.hedge_ms / 1000,
            fsync_stall_s=self.fsync_stall_ms / 1000,
            heartbeat_s=self.heartbeat_ms / 1000,
            suspect_s=self.suspect_ms / 1000,
            exchange_s=self.exchange_ms / 1000,
            exchanges_max=self.exchanges_max,
            moves_max=self.moves_max,
            latency_threshold_ms=self.latency_threshold_ms,
            tombstone_age_min_s=self.tombstone_age_min_s,
            in_flight_max=self.in_flight_max,
            siblings_max=self.siblings_max,
            slow_s=self.slow_request_ms / 1000,
            delay_samples_per_minute=self.delay_samples_per_minute,
            canaries_per_minute=self.canaries_per_minute,
            hint_bytes_max=self.hint_bytes_max,
            volatile=self.engine == "memory",
            anti_entropy=self.anti_entropy == "on",
            replace_lost=self.replace_lost,
            history_bytes_max=self.history_bytes_max,
            history_prefixes=tuple(prefix.encode() for prefix in self.history_prefixes),
            history_one_in=self.history_one_in,
        )

    def of_links(self) -> LinkLimits:
        """The settings of the links between nodes."""
        return LinkLimits(
            self.peer_protocol_min, self.peer_arriving_bytes_max, self.peer_waiting_bytes_max
        )

    def secrets(self) -> tuple[bytes, ...]:
        """The cluster's secrets, the one that makes first; () without any. Raises BadSettings."""
        if self.cluster_secret_file is None:
            return ()
        try:
            return read_secrets(self.cluster_secret_file)
        except BadSecret as error:
            raise BadSettings(f"cluster_secret_file: {error}") from None

    def sealing(self) -> Sealing:
        """The keys of backups."""
        return Sealing(self.backup_recipients, self.backup_identity_file)

    def doubts(self) -> list[str]:
        """Problems that do not stop a start."""
        found = []
        for field in ("cluster_secret_file", "tls_key_file", "backup_identity_file"):
            path = getattr(self, field)
            if path is not None and path.exists() and path.stat().st_mode & 0o004:
                found.append(f"{field}: every user of this machine can read {path}")
        if self.backup_identity_file is not None:
            try:
                read_identities(self.backup_identity_file)
            except BadKey as error:
                found.append(f"backup_identity_file: {error}")
        return found

    def check_exposure(self, secrets: tuple[bytes, ...]) -> None:
        """Without a secret, only this machine may reach a node. Raises BadSettings."""
        for field in ("client_listen", "admin_listen", "peer_listen"):
            address = getattr(self, field)
            if not (secrets or self.insecure or is_loopback(address)):
                raise BadSettings(
                    f"{field}: {address} is reachable from other machines, and there is no"
                    " cluster_secret_file; give one, or give --insecure"
                )


_config_file: Path | None = None


def load(arguments: Sequence[str]) -> NodeSettings:
    """As `read`; exits with 2 if settings are wrong."""
    try:
        return read(arguments)
    except BadSettings as error:
        refuse(str(error))


def read(arguments: Sequence[str]) -> NodeSettings:
    """Settings from flags, environment and the file of `--config`. Raises BadSettings with one line
    that names the setting."""
    global _config_file
    try:
        rest, _config_file = take_config(list(arguments))
        if _config_file is not None and not _config_file.is_file():
            raise BadSettings(f"config: {_config_file}: no such file")
        return NodeSettings(_cli_parse_args=rest, _cli_exit_on_error=False)  # type: ignore[call-arg]
    except (TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadSettings(f"config: {_config_file}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            reason = "no such setting"
        raise BadSettings(f"{where}: {reason}" if where else reason) from None
    except (BadSettings, SettingsError, ValueError) as error:
        raise BadSettings(" ".join(str(error).split())) from None
    finally:
        _config_file = None


def refuse(line: str) -> NoReturn:
    """One line on standard error, exit code 2."""
    print(f"dynamo-node: {line}", file=sys.stderr)
    raise SystemExit(2)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """`DYNAMO_*` variables that have no meaning: most likely misspelt."""
    known = {PREFIX + field.upper() for field in NodeSettings.model_fields}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
