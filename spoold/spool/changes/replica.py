"""What a site takes over from its application server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(slots=True)
class ApplyObjects:
    """Objects as they are upstream, and how far the copy has come with them. Answer: `Applied`.

    `objects` are (kind, key, state); a state of None: it is gone. Passwords in them are sealed.
    `told` is what upstream told to come back with. `is_anew`: a copy begins here, `is_last`: with
    these it is as upstream is; what was not in it goes then, some at a time (`Applied.is_whole`).
    `keys`, when there are new ones, are those of the hashes of cards and PINs, sealed.
    """

    objects: list[tuple[str, bytes, dict[str, Any] | None]] = field(repr=False)
    told: bytes
    upstream: UUID
    upstream_name: str
    site_name: str  # what the site's own objects are told apart by
    is_anew: bool
    is_last: bool
    now_us: int
    keys: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Applied:
    """`erased` are the keys of people whom upstream has erased, and who are known here."""

    is_whole: bool
    conflicts: int
    erased: tuple[bytes, ...]
