"""What is added to the journal itself, and taken from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class AddRecord:
    """A fact that changes no table of the spool. Answer: its position."""

    kind: str
    payload: dict[str, Any]
    now_us: int
    actor: str = "node"
    personal: dict[str, Any] | None = None


@dataclass(slots=True)
class PutCursor:
    """Move the durable, named cursor of a reader of the journal. Answer: None."""

    name: str
    position: int
    now_us: int


@dataclass(slots=True)
class RemoveCursor:
    """Forget a cursor; it stops holding records back. Answer: None."""

    name: str
    now_us: int


@dataclass(slots=True)
class PruneRecords:
    """Forget records before `position` (an anchor with its hash stays). Answer: how many."""

    position: int
    now_us: int
