"""Changes of repairs: what a site that is cut off changes of printers that are not its own."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(slots=True)
class RepairPrinter:
    """A site changes a printer of its application server, until that has settled it. Answer: None.

    `field` is `paused`, whose `value` is the reason or None for not paused, or `device`, a URI.
    Refused with `not-possible` for the site's own printers.
    """

    printer: UUID
    field: str
    value: str | None
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class EndRepair:
    """A site goes back to what its application server says, which hears of that even where there is
    no such repair. Answer: None.
    """

    printer: UUID
    field: str
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class SettleRepair:
    """An application server takes a site's repair over, or has it taken back. Answer: None.

    Refused with `not-found`.
    """

    site: UUID
    printer: UUID
    field: str
    is_accepted: bool
    now_us: int
    actor: str = "node"
