"""Changes of devices, printers and providers."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from spoold.model.printer import Printer


@dataclass(slots=True)
class PutDevice:
    """Add a device, or change the one with this guid. Answer: the `Device`."""

    guid: UUID
    uri: str
    now_us: int
    options: dict[str, str] = field(default_factory=dict)
    serial: str = ""
    actor: str = "node"


@dataclass(slots=True)
class PutPrinter:
    """Add a printer (`printer.id` 0) or change it. Answer: the `Printer` with its id."""

    printer: Printer
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class RemovePrinter:
    """Remove a printer. Refused with `not-possible` while jobs wait on it. Answer: None."""

    printer_id: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class PutProvider:
    """Enrol a provider, or change it. Answer: None."""

    guid: UUID
    name: str
    serial: str  # of its certificate, hexadecimal
    may_assert: tuple[str, ...]  # user names, or ("*",)
    not_after_us: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class RevokeProvider:
    """Revoke a provider's certificates, now and for ever. Answer: the revoked serials."""

    name: str
    now_us: int
    actor: str = "node"
