"""The configuration of a node: what it needs to start, and nothing else.

A TOML file enters, frozen dataclasses leave; they are the schema that `schema.table` reads by.
Unknown keys, wrong types and impossible values are refused with file, key and advice. Printers,
people and the like are objects of the spool, not configuration.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from spoold.daemon.schema import (
    DAY_S,
    GIB,
    MIB,
    Wrong,
    duration_s,
    flag,
    host,
    listed,
    number,
    one_of,
    path,
    seconds,
    size,
    table,
    takes,
    text,
    whole,
)
from spoold.daemon.systemd import socket_names
from spoold.model.errors import ConfigError, OperationError
from spoold.model.printer import check_printer_name
from spoold.net import credentials
from spoold.net.address import Address, parse_address

Network = IPv4Network | IPv6Network


@takes('"HOST:PORT", or "systemd:NAME" for a socket that systemd hands over')
def address(value: Any) -> Address:
    written = text(value)
    if written.startswith("systemd:") and written.removeprefix("systemd:"):
        return Address("", 0, written.removeprefix("systemd:"))
    try:
        return parse_address(written)
    except ConfigError as error:
        raise Wrong(f"{written!r}: {error.cause}", error.advice) from None


@takes('"HOST:PORT" as clients see it')
def endpoint(value: Any) -> str:
    """An address that others can dial: never a wildcard, never port 0."""
    where = address(value)
    if where.socket_name or not where.port or where.host in ("0.0.0.0", "::"):
        raise Wrong(f"nobody can connect to {value!r}", 'Write "HOST:PORT" as clients see it.')
    return str(where)


@takes("an IP address or network, as 192.0.2.0/24")
def network(value: Any) -> Network:
    try:
        return ip_network(text(value), strict=False)
    except ValueError:
        raise Wrong(
            f"{value!r} is no IP address or network", 'Write "192.0.2.7" or "192.0.2.0/24".'
        ) from None


@takes("the name of a printer")
def printer_name(value: Any) -> str:
    try:
        return check_printer_name(text(value))
    except OperationError as error:
        raise Wrong(error.message.rstrip("."), error.advice) from None


@takes("a GUID, as 6d9a…-…")
def guid(value: Any) -> UUID:
    try:
        return UUID(text(value))
    except ValueError:
        raise Wrong(f"{value!r} is no GUID", "Leave it out: one is made then.") from None


@takes("at most 63 letters, digits, '.', '-' and '_'")
def node_name(value: Any) -> str:
    if re.fullmatch(r"[\w][\w.-]{0,62}", text(value)) is None:
        raise Wrong(
            f"{value!r} cannot name a node",
            "Use at most 63 letters, digits, '.', '-' and '_', as in NODE/ID of a job.",
        )
    return str(value)


@dataclass(frozen=True, slots=True)
class EndsOn:
    """How the end of a raw job is known: `half-close`, `idle` (after `idle_s`) or `zpl`."""

    kind: str = "half-close"
    idle_s: float = 0.0

    def __str__(self) -> str:
        return f"idle {self.idle_s:g}s" if self.kind == "idle" else self.kind


@takes('"half-close", "idle 2s" or "zpl"')
def ends_on(value: Any) -> EndsOn:
    advice = 'Use "half-close", "idle 2s" or "zpl".'
    written = text(value)
    if written in ("half-close", "zpl"):
        return EndsOn(written)
    kind, _, rest = written.partition(" ")
    try:
        idle_s = duration_s(rest)
    except ValueError:
        raise Wrong(f"{written!r} says no way to end a job", advice) from None
    if kind != "idle" or not 0.1 <= idle_s <= 3600:
        raise Wrong(f"{written!r} says no way to end a job", f"{advice} Idle: 0.1s to 1h.")
    return EndsOn("idle", idle_s)


DOORS = ("clear", "tls", "mutual", "lpd")  # keys of [listen], and names of systemd's sockets

Seconds = Annotated[float, seconds(0.1, 365 * DAY_S)]
SecondsOrZero = Annotated[float, seconds(0, 3650 * DAY_S)]
Addresses = Annotated[tuple[Address, ...], listed(address)]
Networks = Annotated[tuple[Network, ...], listed(network)]
Endpoints = Annotated[tuple[str, ...], listed(endpoint)]
OptionalPath = Annotated[Path | None, path]
PrinterName = Annotated[str, printer_name]
HowItEnds = Annotated[EndsOn, ends_on]


@dataclass(frozen=True, slots=True)
class Node:
    """`data_dir` holds everything that must survive; relative paths start at the file's folder.

    A node keeps the `guid` of its first start; without one it makes its own.
    """

    name: Annotated[str, node_name] = ""
    role: Annotated[str, one_of("application", "site")] = "application"
    data_dir: Annotated[Path, path] = Path("spoold-data")
    guid: Annotated[UUID | None, guid] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawListener:
    """One address for one printer, as a Windows TCP/IP port expects."""

    address: Annotated[Address, address]
    printer: PrinterName
    ends_on: HowItEnds = EndsOn()


@dataclass(frozen=True, slots=True)
class Listen:
    """What is bound. `raw_printer` takes the raw streams of 9191, 9192 and 9195 that name none.

    Without a key of its own each of the first four takes the sockets that systemd hands over under
    its name; "systemd:NAME" is one of another name. Connections from `proxy_from` come through load
    balancers that say who they are for (PROXY protocol, version 2).
    """

    clear: Addresses = (Address("127.0.0.1", 9191),)
    tls: Addresses = (Address("127.0.0.1", 9192),)
    mutual: Addresses = (Address("127.0.0.1", 9195),)
    lpd: Addresses = ()
    raw_printer: PrinterName = "default"
    ends_on: HowItEnds = EndsOn()
    raw: Annotated[tuple[RawListener, ...], listed(table(RawListener))] = ()
    proxy_from: Networks = ()

    def every_address(self) -> Iterator[tuple[str, Address]]:
        """Each address with the key that names it."""
        for key in DOORS:
            for index, one in enumerate(getattr(self, key)):
                yield f"listen.{key}[{index}]", one
        for index, raw in enumerate(self.raw):
            yield f"listen.raw[{index}].address", raw.address


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them, may take. IPv6 counts by /64; `exempt` is not counted.

    `minimum_rate_bytes_s` is asked of a sender after `minimum_rate_grace_s`. New jobs are refused
    when the file system would be fuller than `spool_share`, or have less free than `reserve_bytes`:
    no less than what the spool sets aside for all else, and gives up when the disk is full.
    A job that was made without its document waits `multiple_operation_time_out_s` for it; several
    documents of one job have `job_bytes_max` together.
    """

    connections_max: Annotated[int, whole(1, 1_000_000)] = 10_000
    connections_per_address_max: Annotated[int, whole(1, 1_000_000)] = 1_000
    exempt: Networks = ()
    handshake_deadline_s: Seconds = 10.0
    header_deadline_s: Seconds = 10.0
    idle_deadline_s: Seconds = 60.0
    minimum_rate_bytes_s: Annotated[int, whole(0, 1_000_000_000)] = 1_000
    minimum_rate_grace_s: Seconds = 30.0
    document_bytes_max: Annotated[int, size(1, 1024 * 1024 * GIB)] = 16 * GIB
    job_bytes_max: Annotated[int, size(1, 1024 * 1024 * GIB)] = 64 * GIB
    spool_share: Annotated[float, number(0.01, 1, {}, "0.95")] = 0.95
    reserve_bytes: Annotated[int, size(16 * MIB, 1024 * GIB)] = 64 * MIB
    multiple_operation_time_out_s: Annotated[float, seconds(60, 30 * DAY_S)] = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvertiseTo:
    """Endpoints for the clients in `networks` alone."""

    networks: Networks
    endpoints: Endpoints


@dataclass(frozen=True, slots=True)
class Advertise:
    """What others are told: `names` go into the certificate, `endpoints` to print providers."""

    names: Annotated[tuple[str, ...], listed(host)] = ()
    endpoints: Endpoints = ()
    to: Annotated[tuple[AdvertiseTo, ...], listed(table(AdvertiseTo))] = ()

    def endpoints_for(self, client: IPv4Address | IPv6Address | str) -> tuple[str, ...]:
        """The endpoints that a client at this address is told; the first network wins."""
        try:
            where = ip_address(client) if isinstance(client, str) else client
        except ValueError:
            return self.endpoints
        for one in self.to:
            if any(where in network for network in one.networks):
                return one.endpoints
        return self.endpoints


@dataclass(frozen=True, slots=True)
class DnsSd:
    """Printers marked as shared are announced on `interfaces`: names, none for all but loopback."""

    enabled: Annotated[bool, flag] = True
    interfaces: Annotated[tuple[str, ...], listed(text)] = ()


@dataclass(frozen=True, slots=True)
class Tls:
    """A PEM chain and key of your own for 9192; without them the deployment CA signs one.

    "credential:NAME" is what systemd hands over by `LoadCredential=NAME:…`.
    """

    certificate: OptionalPath = None
    key: OptionalPath = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a site's application servers are, in order; the site dials, they never do.

    What the application servers tell of themselves comes after `servers`. A beat goes every
    `beat_s`; three that are missed, and the line is gone.
    """

    servers: Endpoints = ()
    connect_timeout_s: Annotated[float, seconds(0.1, 60)] = 5.0
    beat_s: Annotated[float, seconds(0.25, 10)] = 0.25
    retry_max_s: Annotated[float, seconds(0.25, 600)] = 10.0
    question_deadline_s: Annotated[float, seconds(0.05, 10)] = 0.3


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished things stay. Records stay at least 30 days; 0 keeps no documents.

    `charges_s`: what was booked longer ago is one sum, and usage of then is known by month.
    `quarantine_s` is for damaged and ownerless documents that were moved aside.
    """

    finished_jobs_s: SecondsOrZero = 30.0 * DAY_S
    finished_jobs_max: Annotated[int, whole(0, 100_000_000)] = 1_000_000
    documents_s: SecondsOrZero = 1.0 * DAY_S
    documents_bytes_max: Annotated[int, size(0, 1024 * 1024 * GIB)] = 64 * GIB
    records_s: Annotated[float, seconds(30 * DAY_S, 3650 * DAY_S)] = 90.0 * DAY_S
    charges_s: Annotated[float, seconds(62 * DAY_S, 36_500 * DAY_S)] = 400.0 * DAY_S
    quarantine_s: SecondsOrZero = 90.0 * DAY_S
    sweep_interval_s: Seconds = 60.0


@dataclass(frozen=True, slots=True)
class Dispatch:
    """How a printer that fails is tried again, and how many deliveries run at once.

    Idle IPP printers are asked every `refresh_s` how they are; 0: never.
    """

    backoff_first_s: Seconds = 2.0
    backoff_max_s: Seconds = 300.0
    stalled_after_s: Seconds = 30.0
    deliveries_max: Annotated[int, whole(1, 10_000)] = 256
    refresh_s: SecondsOrZero = 240.0


@dataclass(frozen=True, slots=True)
class Conversion:
    """What one converter may take: memory, processor, what it writes, and time in all."""

    memory_bytes_max: Annotated[int, size(16 * MIB, 1024 * GIB)] = GIB
    cpu_s_max: Seconds = 300.0
    output_bytes_max: Annotated[int, size(MIB, 1024 * GIB)] = 4 * GIB
    deadline_s: Seconds = 600.0
    at_once: Annotated[int, whole(1, 256)] = 2


@dataclass(frozen=True, slots=True)
class Drain:
    """How long SIGTERM lets uploads and deliveries finish."""

    deadline_s: SecondsOrZero = 30.0


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents up to `inline_bytes_max` lie in the database, larger ones in files."""

    inline_bytes_max: Annotated[int, size(0, 16 * MIB)] = 128 * 1024


@dataclass(frozen=True, slots=True)
class Health:
    """From which on `/healthz` and `spoold status` warn. A backup is missed only if `backup_age_s`
    is not 0. A store that needs `commit_failed_s` for a commit makes them answer 503.
    """

    commit_s: Seconds = 1.0
    commit_failed_s: Seconds = 20.0
    loop_lag_s: Seconds = 0.5
    disk_share: Annotated[float, number(0.01, 1, {}, "0.85")] = 0.85
    printer_stopped_s: SecondsOrZero = 900.0
    job_waiting_s: Seconds = 3600.0
    certificate_days: Annotated[float, number(0, 365, {}, "14")] = 14.0
    backup_age_s: SecondsOrZero = 0.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """Who may read `/metrics` without a login of staff, and how many printers have their own."""

    allow: Networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    printers_max: Annotated[int, whole(0, 100_000)] = 500


@dataclass(frozen=True, slots=True)
class Config:
    node: Annotated[Node, table(Node)] = field(default_factory=Node)
    listen: Annotated[Listen, table(Listen)] = field(default_factory=Listen)
    advertise: Annotated[Advertise, table(Advertise)] = field(default_factory=Advertise)
    dnssd: Annotated[DnsSd, table(DnsSd)] = field(default_factory=DnsSd)
    limits: Annotated[Limits, table(Limits)] = field(default_factory=Limits)
    tls: Annotated[Tls, table(Tls)] = field(default_factory=Tls)
    upstream: Annotated[Upstream, table(Upstream)] = field(default_factory=Upstream)
    retention: Annotated[Retention, table(Retention)] = field(default_factory=Retention)
    dispatch: Annotated[Dispatch, table(Dispatch)] = field(default_factory=Dispatch)
    conversion: Annotated[Conversion, table(Conversion)] = field(default_factory=Conversion)
    drain: Annotated[Drain, table(Drain)] = field(default_factory=Drain)
    documents: Annotated[Documents, table(Documents)] = field(default_factory=Documents)
    health: Annotated[Health, table(Health)] = field(default_factory=Health)
    metrics: Annotated[Metrics, table(Metrics)] = field(default_factory=Metrics)


# The sections that a running daemon cannot take over; the others change on SIGHUP.
NEEDS_RESTART = frozenset(
    {"node", "listen", "advertise", "upstream", "tls", "dispatch", "documents"}
)


def load(file: Path | str | None, environ: Mapping[str, str]) -> Config:
    """The configuration in `file`, or the defaults without one, complete and checked.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it cannot be.
    """
    where = "the defaults" if file is None else str(file)
    try:
        written = {} if file is None else _parse(Path(file))
        config: Config = table(Config)(_with_surroundings(written, environ))
        config = _in_folder(config, Path() if file is None else Path(file).parent, environ)
        _check_together(config)
    except Wrong as wrong:
        subject = f"{where}: {wrong.key}" if wrong.key else where
        raise ConfigError("configuration", subject, wrong.cause, wrong.advice) from None
    return config


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        advice = "Name a readable file with --config; an empty one will do."
        raise Wrong(error.strerror or str(error), advice) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Wrong(f"this is not TOML: {error}", "Correct the file at that place.") from None


def _with_surroundings(written: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """`written` with the defaults that only the machine knows."""
    node, listen = written.get("node", {}), written.get("listen", {})
    if not isinstance(node, dict) or not isinstance(listen, dict):
        return written
    names = socket_names(environ)
    handed = {key: [f"systemd:{key}"] for key in DOORS if key in names}
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())[:63].strip(".-")
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    here = {"name": host or "spoold", "data_dir": state or str(Path.cwd() / "spoold-data")}
    return {**written, "node": {**here, **node}, "listen": {**handed, **listen}}


def _in_folder(config: Config, folder: Path, environ: Mapping[str, str]) -> Config:
    """`config` with its relative paths starting at `folder`, and credentials where they lie."""
    node, tls = config.node, config.tls

    def placed(key: str, written: Path | None) -> Path | None:
        try:
            return written and (folder / credentials.resolve(str(written), environ)).absolute()
        except FileNotFoundError as error:
            name = str(written).removeprefix(credentials.PREFIX)
            advice = f"Add LoadCredential={name}:PATH to the unit."
            raise Wrong(error.strerror or str(error), advice, key) from None

    return replace(
        config,
        node=replace(node, data_dir=(folder / node.data_dir).absolute()),
        tls=Tls(placed("tls.certificate", tls.certificate), placed("tls.key", tls.key)),
    )


def _check_together(config: Config) -> None:
    """What single values cannot show."""
    taken: dict[Address, str] = {}
    for key, one in config.listen.every_address():
        if one in taken and (one.port or one.socket_name):
            raise Wrong(f"{one} is already {taken[one]}", "Give each its own port.", key)
        taken[one] = key
    if config.upstream.servers and config.node.role != "site":
        raise Wrong(
            "an application server has no upstream",
            'Write role = "site" in [node], or remove it.',
            "upstream.servers",
        )
    for key, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(config.tls, key) and not getattr(config.tls, other):
            raise Wrong("the other half is missing", f"Add tls.{other}, a PEM file.", f"tls.{key}")
    if config.limits.job_bytes_max < config.limits.document_bytes_max:
        raise Wrong(
            "a job would be smaller than its document may be",
            "Make it as large as limits.document_bytes_max, or that smaller.",
            "limits.job_bytes_max",
        )
    if config.dispatch.backoff_first_s > config.dispatch.backoff_max_s:
        raise Wrong(
            "the first wait is longer than the longest",
            "Make dispatch.backoff_max_s larger.",
            "dispatch.backoff_first_s",
        )


def difference(old: Config, new: Config) -> list[str]:
    """A line for each key that changed, and whether it takes effect now or after a restart."""
    lines = []
    for (key, before), (_, after) in zip(_flat(old), _flat(new), strict=True):
        if before != after:
            restart = key.split(".")[0] in NEEDS_RESTART
            when = "needs a restart" if restart else "takes effect now"
            lines.append(f"{key}: {_shown(before)} -> {_shown(after)} ({when})")
    return lines


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value) and not isinstance(value, EndsOn):
            yield from _flat(value, f"{prefix}{one.name}.")
        else:
            yield prefix + one.name, value


def _shown(value: Any) -> str:
    if isinstance(value, RawListener):
        return f"{value.address} {value.printer} {value.ends_on}"
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(one) for one in value)}]"
    return "none" if value is None else str(value)
