"""Changes of sources, and of the people who come from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.model.source import Source


@dataclass(slots=True)
class PutSource:
    """Add a source (`is_new`), or change the one with this guid. Answer: the `Source`."""

    source: Source
    now_us: int
    is_new: bool = False
    actor: str = "node"


@dataclass(slots=True)
class RemoveSource:
    """Remove a source. Its users stay, as if made by hand. Answer: how many those are."""

    name: str
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class CardOfSource:
    """A card that a source says somebody has; see `PutCard`."""

    digests: tuple[bytes, ...] = field(repr=False)
    ending: str
    label: str


@dataclass(slots=True)
class SyncUser:
    """Make one user what the source says. Answer: what could not be done, in words; "" for all.

    `guid` None: a new one; `adopts`: one who was made by hand until now. `was` is the name until
    now, where that changes. `fields` are those of `PutUser`. `card`: None lets it be, no digests
    take it away.
    """

    source: Source
    id: str
    name: str
    now_us: int
    guid: UUID | None = None
    was: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_off: bool = False
    adopts: bool = False
    card: CardOfSource | None = None
    actor: str = "node"


@dataclass(slots=True)
class VanishUser:
    """The source knows this user no more: remove, or disable whoever has a balance, or where that
    is wanted. Answer: `remove` or `disable`.
    """

    source: Source
    guid: UUID
    now_us: int
    removes: bool = True
    actor: str = "node"


@dataclass(slots=True)
class EndRound:
    """A round of synchronisation is over; `told` is how it went, in plain values. Answer: None."""

    source: Source
    told: dict[str, Any]
    now_us: int
    actor: str = "node"
