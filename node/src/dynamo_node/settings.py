"""Settings of a node: flags over `DYNAMO_*` variables over a TOML file (docs/operations.md).

One model gives all three and `--help`. What is wrong ends the process with exit code 2 and one
line that names the setting.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal, NoReturn, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
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
from dynamo_node.setting_values import Address, Count, Dialled, Listened, Name, is_loopback

PREFIX = "DYNAMO_"
VALUE_BYTES_LIMIT_MAX = 8 * 1024 * 1024
_CORE = core.Settings()


class BadSettings(Exception):
    """One line for people, naming the setting."""


class NodeSettings(BaseSettings):
    """One node of dynamo-ring: a process on one data directory with three listeners. Each flag is
    also a variable (--data-dir: DYNAMO_DATA_DIR) and a word in the TOML file of --config FILE
    (data_dir); flags win over variables, these over the file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, cli_prog_name="dynamo-node",
        cli_kebab_case=True, cli_hide_none_type=True, cli_avoid_json=True, env_ignore_empty=True,
        nested_model_default_partial_update=False,
    )  # fmt: skip

    # fmt: off
    name: Name = Field(default_factory=socket.gethostname, min_length=1, max_length=253,
        description="stable name of this node; default: the host name")
    data_dir: Path = Field(Path("data"), description="RocksDB, id, quarantine")
    client_listen: Address = Field("127.0.0.1:8080", description="client HTTP; port 0: any free")
    admin_listen: Address = Field("127.0.0.1:8081", description="admin HTTP, metrics, probes")
    peer_listen: Address = Field("127.0.0.1:8082", description="node to node")
    advertise: Dialled | None = Field(None,
        description="host:port that other nodes dial; default: the peer listener")
    client_advertise: Dialled | None = Field(None,
        description="host:port that clients dial; default: advertised host, client port")
    admin_advertise: Dialled | None = Field(None,
        description="host:port that administrators dial; default: advertised host, admin port")
    seeds: Annotated[tuple[Dialled, ...], NoDecode] = Field((), max_length=1024,
        description="comma list of peer addresses; a name may stand for many")
    zone: str = Field("", max_length=253, description="failure domain")
    weight: int = Field(1, ge=1, le=1000, description="relative capacity")
    cluster_secret_file: Path | None = Field(None,
        description="secrets, one a line: contexts, links, the admin's token; the first makes")
    tls_cert_file: Path | None = Field(None, description="certificate chain of this node, PEM")
    tls_key_file: Path | None = Field(None, description="its key, PEM")
    tls_ca_file: Path | None = Field(None, description="authorities that peers and clients need")
    peer_tls: Literal["off", "allow", "require"] | None = Field(None,
        description="links; default: require with tls_cert_file, else off")
    client_tls: Listened | None = Field(None,
        description="client HTTP; default: on with tls_cert_file, else off")
    admin_tls: Listened | None = Field(None,
        description="admin HTTP; default: on with tls_cert_file, else off")
    access_file: Path | None = Field(None, description="who may do what, TOML; none: all may")
    jwks_file: Path | None = Field(None,
        description="public keys by which ServiceAccount tokens are verified, JWKS")
    token_issuer: str = Field("", max_length=512, description="who issues ServiceAccount tokens")
    token_audience: str = Field("dynamo-ring", min_length=1, max_length=512,
        description="whom ServiceAccount tokens have to be for")
    cluster: str = Field("", max_length=253, description="a disk of another cluster is refused")
    replace_lost: bool = Field(_CORE.replace_lost,
        description="an empty disk under a member's name takes its place")
    tombstone_age_min_s: float = Field(_CORE.tombstone_age_min_s, ge=1, le=1e9,
        description="before a tombstone may be collected")
    anti_entropy: Literal["on", "off"] = Field("on", description="off: only repairs on demand")
    engine: Literal["rocksdb", "memory"] = Field("rocksdb", description="memory keeps nothing")
    http_front: Literal["protocol", "asgi"] = Field("protocol",
        description="how client HTTP is answered; asgi is the slower, plain way")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="logs")
    insecure: CliImplicitFlag[bool] = Field(False,
        description="listen beyond loopback without a cluster secret")
    hedge_ms: float = Field(_CORE.hedge_s * 1000, gt=0, le=30_000,
        description="ask one node more after this silence")
    fsync_stall_ms: float = Field(_CORE.fsync_stall_s * 1000, ge=10, le=60_000,
        description="an fsync that lasts so long stalls; others coordinate then")
    heartbeat_ms: float = Field(_CORE.heartbeat_s * 1000, ge=10, le=60_000,
        description="gossip to every member so often")
    suspect_ms: float = Field(_CORE.suspect_s * 1000, ge=30, le=600_000,
        description="a peer silent for longer is down")
    exchange_ms: float = Field(_CORE.exchange_s * 1000, ge=10, le=3_600_000,
        description="compare with one peer so often")
    exchanges_max: Count = Field(_CORE.exchanges_max, description="partitions exchanged at once")
    moves_max: Count = Field(_CORE.moves_max, description="partitions received at once")
    latency_threshold_ms: float = Field(_CORE.latency_threshold_ms, ge=1, le=60_000,
        description="background work slows down while p99 of reads is above")
    slow_request_ms: float = Field(_CORE.slow_s * 1000, ge=0, le=60_000,
        description="requests that take this many ms get a line in the log; 0: none")
    otel_endpoint: str = Field("", description="OTLP over HTTP: spans of sampled requests go there")
    value_bytes_max: int = Field(VALUE_BYTES_MAX, ge=1, le=VALUE_BYTES_LIMIT_MAX,
        description="a value beyond it is 413")
    in_flight_max: Count = Field(_CORE.in_flight_max, description="operations at once, then 503")
    siblings_max: Count = Field(_CORE.siblings_max, description="then puts need a context (409)")
    hint_bytes_max: Count = Field(_CORE.hint_bytes_max, description="hints for one node")
    peer_protocol_min: int = Field(VERSION_OLDEST, ge=VERSION_OLDEST, le=VERSION,
        description="2 once nothing of the first version is left: links, contexts, tokens")
    peer_arriving_bytes_max: int = Field(ARRIVING_BYTES_MAX, ge=1 << 20,
        description="beginnings of frames of all peers; one frame may go beyond")
    peer_waiting_bytes_max: int = Field(WAITING_BYTES_MAX, ge=1 << 20,
        description="frames waiting for all peers; one frame may go beyond")
    memtable_bytes: int = Field(64 << 20, ge=1 << 20, le=1 << 30, description="of RocksDB")
    # fmt: on

    @field_validator("seeds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("otel_endpoint")
    @classmethod
    def _receiver(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not (parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("wants a URL like http://host:4318")
        return value

    @model_validator(mode="after")
    def _heard_before_suspected(self) -> Self:
        if self.suspect_ms < 3 * self.heartbeat_ms:
            raise ValueError("suspect_ms: wants three heartbeats (heartbeat_ms) at least")
        return self

    @model_validator(mode="after")
    def _tls_has_its_files(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file: both or none")
        asked = {"peer_tls": self.of_peer_tls, "client_tls": self.of_client_tls,
                 "admin_tls": self.of_admin_tls}  # fmt: skip
        for name, how in asked.items():
            if how != "off" and self.tls_cert_file is None:
                raise ValueError(f"{name}: wants tls_cert_file and tls_key_file")
            if (how == "mutual" or (name == "peer_tls" and how != "off")) and not self.tls_ca_file:
                raise ValueError(f"{name}: wants tls_ca_file")
        return self

    @model_validator(mode="after")
    def _accounts_have_rights(self) -> Self:
        if self.jwks_file is not None and not (self.token_issuer and self.access_file):
            raise ValueError("jwks_file: wants token_issuer and access_file")
        return self

    @property
    def of_peer_tls(self) -> str:
        """How links are made and taken."""
        return self.peer_tls or ("require" if self.tls_cert_file else "off")

    @property
    def of_client_tls(self) -> str:
        """How clients connect."""
        return self.client_tls or ("on" if self.tls_cert_file else "off")

    @property
    def of_admin_tls(self) -> str:
        """How administrators connect."""
        return self.admin_tls or ("on" if self.tls_cert_file else "off")

    def certificates(self) -> Certificates | None:
        """Of this node, None where nothing asks for them. Raises BadSettings."""
        used = {self.of_peer_tls, self.of_client_tls, self.of_admin_tls} != {"off"}
        if not used or self.tls_cert_file is None or self.tls_key_file is None:
            return None
        try:
            files = TlsFiles(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
            return Certificates(files, self.name if self.of_peer_tls != "off" else "")
        except BadCertificates as error:
            raise BadSettings(str(error)) from None

    def rights(self) -> Rights | None:
        """Who may do what; None where all may. Raises BadSettings."""
        if self.access_file is None:
            return None
        try:
            return read_rights(self.access_file)
        except BadRights as error:
            raise BadSettings(f"access_file: {error}") from None

    def access(self, audit: Audit) -> Access | None:
        """What the listeners ask; None where they ask nothing. Raises BadSettings."""
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
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, *_: Any, **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Flags come before all of these."""
        toml = TomlConfigSettingsSource(settings_cls, _config_file)
        return init_settings, env_settings, toml

    def of_core(self) -> core.Settings:
        """The part that the pure node wants."""
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
            hint_bytes_max=self.hint_bytes_max,
            volatile=self.engine == "memory",
            anti_entropy=self.anti_entropy == "on",
            replace_lost=self.replace_lost,
        )

    def of_links(self) -> LinkLimits:
        """The part that the links between nodes want."""
        return LinkLimits(
            self.peer_protocol_min, self.peer_arriving_bytes_max, self.peer_waiting_bytes_max
        )

    def secrets(self) -> tuple[bytes, ...]:
        """The cluster's, the one that makes first; () when there are none. Raises BadSettings."""
        if self.cluster_secret_file is None:
            return ()
        try:
            return read_secrets(self.cluster_secret_file)
        except BadSecret as error:
            raise BadSettings(f"cluster_secret_file: {error}") from None

    def doubts(self) -> list[str]:
        """What is wrong and does not keep a node from starting."""
        path = self.cluster_secret_file
        if path is None or not path.stat().st_mode & 0o004:
            return []
        return [f"cluster_secret_file: {path} may be read by every user of this machine"]

    def check_exposure(self, secrets: tuple[bytes, ...]) -> None:
        """Without a secret only this machine may reach a node. Raises BadSettings."""
        for field in ("client_listen", "admin_listen", "peer_listen"):
            address = getattr(self, field)
            if not (secrets or self.insecure or is_loopback(address)):
                raise BadSettings(
                    f"{field}: {address} is reachable from outside and there is no"
                    " cluster_secret_file; give one, or --insecure"
                )


_config_file: Path | None = None


def load(arguments: Sequence[str]) -> NodeSettings:
    """As `read`; exits 2 when they are wrong."""
    try:
        return read(arguments)
    except BadSettings as error:
        refuse(str(error))


def read(arguments: Sequence[str]) -> NodeSettings:
    """Settings from flags, environment and the file of `--config`. Raises BadSettings with one line
    that names the setting."""
    global _config_file
    try:
        rest, _config_file = _take_config(list(arguments))
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


def _take_config(arguments: list[str]) -> tuple[list[str], Path | None]:
    """`--config FILE` taken out: it says where settings are and is none itself."""
    for at, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return arguments[:at] + arguments[at + 1 :], Path(argument.partition("=")[2])
        if argument == "--config":
            if at + 1 == len(arguments):
                raise BadSettings("config: wants a file")
            return arguments[:at] + arguments[at + 2 :], Path(arguments[at + 1])
    return arguments, None


def refuse(line: str) -> NoReturn:
    """One line on standard error, exit code 2."""
    print(f"dynamo-node: {line}", file=sys.stderr)
    raise SystemExit(2)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """`DYNAMO_*` variables that mean nothing: most likely misspelt."""
    known = {PREFIX + field.upper() for field in NodeSettings.model_fields}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
