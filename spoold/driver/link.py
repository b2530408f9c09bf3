"""The driver contract, the registry of schemes, and what drivers share: connecting, with deadlines.

A third party adds a scheme by an entry point in the group `spoold.drivers`: its name is the URI
scheme, its value a callable that takes `(device, network)` and returns a `Driver`. It may raise
`OperationError` when the URI or an option cannot work; that is what `printer add` answers. Where it
has a table `options` (see `driver.options`), others are refused there, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, runtime_checkable

from spoold.driver import options
from spoold.model.errors import OperationError
from spoold.model.job import Job
from spoold.model.outcome import Outcome
from spoold.model.printer import Device
from spoold.net.stream import Stream


class Source(Protocol):
    """The bytes of a document, readable any number of times. `size` in bytes.

    `fileno` is a descriptor for `os.sendfile`, or None when the bytes are in memory.
    """

    size: int

    def fileno(self) -> int | None: ...

    def read_at(self, offset: int, bytes_max: int) -> bytes:
        """Up to `bytes_max` bytes from `offset`; b"" at the end. Blocks on the disk for a file."""
        ...


class Network(Protocol):
    """What drivers need of the world."""

    async def connect(
        self, host: str, port: int, *, timeout_s: float, source_ports: range | None = None
    ) -> Stream:
        """A connected stream.

        Raises:
            OSError: refused, unreachable, no such host; `TimeoutError` after `timeout_s`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """What a driver reports while it works; never waits. `reasons` are printer-state-reasons.

    `stalled_s` is how long the device has taken no byte (0 when it takes bytes).
    """

    bytes_sent: int = 0
    stalled_s: float = 0.0
    reasons: tuple[str, ...] = ()
    detail: str = ""


DOCUMENT_SENT: Final = "document-sent"  # of `Delivery.notes`: the device said that it has it


async def keep_no_note(evidence: dict[str, Any]) -> None:
    """For a delivery whose notes nobody keeps."""


@dataclass(slots=True)
class Delivery:
    """One attempt: what to send where.

    `may_send` must be awaited before the first byte that could print leaves: it returns once the
    mark that bytes may leave is durable. Connecting may go on meanwhile. Cancelling a delivery
    (shutdown, an operator's cancel) must close the connection and let `Cancelled` through; what
    had been sent is in the last `report`.

    For devices that can be asked later; other drivers leave these alone: `note` adds to `notes`,
    what is known of this attempt, and returns once that is durable; with `DOCUMENT_SENT` spoold may
    stop at once, for the device has all. `number` is the attempt's own from the moment that
    `may_send` has returned. `is_canceled` says to a delivery that is being cancelled that an
    operator wants this job off the device, too; there are some seconds for it.
    """

    job: Job
    source: Source
    device: Device
    may_send: Callable[[], Awaitable[None]]
    report: Callable[[Progress], None]
    note: Callable[[dict[str, Any]], Awaitable[None]] = keep_no_note
    notes: dict[str, Any] = field(default_factory=dict)
    number: int = 1
    is_canceled: bool = False


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What a device says of itself when asked, `age_s` ago; empty where it cannot say.

    A supply has a `name`, and `type`, `color` and `level` (per cent) where they are known.
    """

    reachable: bool
    reasons: tuple[str, ...] = ()
    detail: str = ""
    counters: dict[str, Any] = field(default_factory=dict)
    supplies: tuple[dict[str, Any], ...] = ()
    age_s: float = 0.0


class Driver(Protocol):
    async def deliver(self, delivery: Delivery) -> Outcome:
        """Send the document; the world's faults are outcomes, not errors."""
        ...

    async def probe(self) -> DeviceStatus:
        """Ask the device how it is, without printing anything."""
        ...


@runtime_checkable
class Local(Protocol):
    """A driver whose device is of this machine: `printer add` probes it, and tells at once."""

    is_local: bool


@runtime_checkable
class Resuming(Protocol):
    """A driver whose devices know what became of a job: it is asked before a policy decides."""

    async def resume(self, delivery: Delivery) -> Outcome | None:
        """Find out what became of an attempt that the end of a spoold cut off, and finish it.

        Called instead of `deliver`, after a restart, with the attempt's own `number` and `notes`.
        It may go on with that attempt for as long as it takes. None: there is no way to find out.
        """
        ...


@runtime_checkable
class Telling(Protocol):
    """A driver whose devices can be asked how they are at any time, beside a job, too."""

    def last_said(self, age_max_s: float) -> DeviceStatus | None:
        """What the device said last, if that is no longer ago; never waits."""
        ...

    async def probe(self) -> DeviceStatus: ...


class Elsewhere(Protocol):
    """Another node, over an open connection."""

    @property
    def node_guid(self) -> str: ...
    async def call(
        self,
        op: str,
        args: dict[str, Any],
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]: ...


@runtime_checkable
class HandingOn(Protocol):
    """A driver whose devices are nodes: what becomes of a job there is followed."""

    def connected(self) -> AbstractAsyncContextManager[Elsewhere]:
        """A connection, as long as the block lasts; raises OSError or `Lost`: there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Learned:
    """What a new printer is told about its device. `options` are as `Printer.options` has them."""

    options: dict[str, Any]
    info: str = ""
    location: str = ""
    serial: str = ""


@runtime_checkable
class Learning(Protocol):
    """A driver whose devices say what they can do."""

    async def learn(self) -> Learned:
        """Ask.

        Raises:
            OperationError: the device cannot be asked now.
        """
        ...


@runtime_checkable
class Pinning(Protocol):
    """A driver whose devices show a certificate that may have to be trusted by its fingerprint.

    `needs_trust`: its options neither name the certificate nor who vouches for it.
    """

    needs_trust: bool

    async def probe(self) -> DeviceStatus: ...

    async def fingerprint(self) -> str:
        """The fingerprint of the certificate that the device shows now, whoever vouches for it.

        Raises:
            OSError: there is none to be had.
        """
        ...


DriverFactory = Callable[[Device, Network], Driver]
GROUP = "spoold.drivers"


def driver_for(device: Device, network: Network) -> Driver:
    """The driver of the device's scheme.

    Raises:
        OperationError: `bad-request`, no such scheme, or the driver cannot work with the URI.
    """
    return _factory_of(device)(device, network)


def check_options(device: Device) -> None:
    """Let through options of the device that its driver knows. For what an operator asks for: one
    that is there already works as well as it can.

    Raises:
        OperationError: `bad-request`, no such scheme, or an option that cannot be.
    """
    known: options.Options | None = getattr(_factory_of(device), "options", None)
    if known is not None:
        options.check(device, known)


def _factory_of(device: Device) -> DriverFactory:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    entry = found.get(device.scheme)
    if entry is None:
        raise OperationError(
            "bad-request",
            f"no driver for {device.scheme or 'a URI without scheme'}: in {device.uri!r}.",
            f"Known schemes: {', '.join(sorted(found))}.",
        )
    factory: DriverFactory = entry.load()
    return factory
