"""Objects as sites copy them: what has changed since a site looked last, and how each is now.

State is sent, not changes: users with their hashes, cards and certificates, printers with their
devices, MFDs, providers, shared accounts, prices and terms; each as it is when it is read. A site
gives back what it was told last (`Copy`, which means nothing to it), and that says whether its copy
is of this chain at all: one of another incarnation, or ahead of a server that was restored, or of
another scope is taken anew. What was taken away from somebody goes first.

The hashes go over a line with certificates at both ends alone. Every function is a look-up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from spoold.model.node import EVERYTHING, Scope
from spoold.spool import guests
from spoold.spool.rows import CHAIN_SHIFT, pack, unpack

TOGETHER = 250  # objects of one look: logins wait for the reader as well


class Cursor(NamedTuple):
    """Behind an object in the order of changes; (position) alone is before all of that position."""

    position: int = 0
    kind: str = ""
    key: bytes = b""

    @property
    def is_sound(self) -> bool:
        """Whether it can be looked for: it comes from outside."""
        return _is_number(self.position) and (type(self.kind), type(self.key)) == (str, bytes)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


START = Cursor()


@dataclass(frozen=True, slots=True)
class Head:
    """The end of this node's chain; `position` is that of its last record's id."""

    journal: bytes
    incarnation: bytes
    position: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Copy:
    """How far a site's copy has come: in the order of changes, and of what was taken away.

    `seen` is where the chain ended when it was told this, `seen_hash` the hash there.
    """

    journal: bytes
    incarnation: bytes
    scope: bytes
    after: Cursor = START
    revoked: Cursor = START
    seen: int = 0
    seen_hash: bytes = b""

    def packed(self) -> bytes:
        own = (self.journal, self.incarnation, self.scope)
        made: bytes = pack([*own, self.after, self.revoked, self.seen, self.seen_hash])
        return made

    @classmethod
    def from_packed(cls, packed: bytes) -> Copy | None:
        """None: this is nothing that we have told anybody."""
        try:
            journal, incarnation, scope, after, revoked, seen, seen_hash = unpack(packed)
            found = cls(
                journal, incarnation, scope, Cursor(*after), Cursor(*revoked), seen, seen_hash
            )
        except (ValueError, TypeError):
            return None
        texts = (journal, incarnation, scope, seen_hash)
        is_sound = found.after.is_sound and found.revoked.is_sound and _is_number(seen)
        return found if is_sound and all(type(one) is bytes for one in texts) else None


class Changed(NamedTuple):
    """An object that has changed; `state` is None when it is gone, or not for this site."""

    kind: str
    key: bytes
    state: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Target:
    """The site that asks, and the node that answers: printers have owners."""

    site: UUID
    node: UUID
    scope: Scope = EVERYTHING

    @property
    def digest(self) -> bytes:
        """What the scope comes down to: another one means another copy."""
        limits = [sorted(self.scope.printers), sorted(self.scope.groups), self.site.bytes]
        return sha256(pack(limits)).digest()[:16]


def head(db: sqlite3.Connection) -> Head:
    id_, journal, incarnation, position, hash_ = db.execute(
        "SELECT id, journal, incarnation, position, hash FROM chain WHERE is_own = 1 "
        "ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return Head(journal, incarnation, id_ << CHAIN_SHIFT | position, hash_)


def newest(db: sqlite3.Connection) -> int:
    """The position of the last change of any object."""
    (position,) = db.execute("SELECT max(position) FROM object").fetchone()
    return int(position or 0)


def note_revocation(db: sqlite3.Connection, kind: str, key: bytes) -> None:
    """What this transaction changed of an object took something away: sites hear of it first."""
    db.execute("UPDATE object SET revoked = position WHERE kind = ? AND key = ?", (kind, key))


def begin(db: sqlite3.Connection, told: bytes, target: Target) -> tuple[Copy, Head, bool]:
    """Where a site goes on that was `told` this last, and whether it takes the copy anew."""
    end = head(db)
    copy = Copy.from_packed(told) if told else None
    if copy is None or not _is_of(db, copy, end, target):
        return Copy(end.journal, end.incarnation, target.digest), end, True
    return copy, end, False


def _is_of(db: sqlite3.Connection, copy: Copy, end: Head, target: Target) -> bool:
    """Whether a copy is an earlier state of this very chain."""
    if (copy.journal, copy.incarnation, copy.scope) != (
        end.journal,
        end.incarnation,
        target.digest,
    ):
        return False
    if max(copy.seen, copy.after.position - 1, copy.revoked.position - 1) > end.position:
        return False
    # A machine that was set back, and has counted on past what the site saw, has other records
    # there. Records that were pruned cannot tell.
    row = db.execute("SELECT hash FROM record WHERE id = ?", (copy.seen,)).fetchone()
    return row is None or row[0] == copy.seen_hash


def step(
    db: sqlite3.Connection, copy: Copy, end: Head, target: Target, limit: int = TOGETHER
) -> tuple[list[Changed], Copy, bool]:
    """At most `limit` objects that follow, the copy with them, and whether there are more.

    Only what had changed by `end` is looked for; how it is told is as of now.
    """
    keys = _behind(db, "revoked", copy.revoked, end, limit)
    if keys:
        copy = replace(copy, revoked=keys[-1])
    is_over = len(keys) < limit
    if is_over:
        rest = _behind(db, "position", copy.after, end, limit - len(keys))
        is_over = len(keys) + len(rest) < limit
        if rest:
            copy = replace(copy, after=rest[-1])
        keys += rest
    if is_over:
        done = Cursor(end.position + 1)
        copy = replace(copy, after=done, revoked=done)
    # Also when there is more: this page is of a chain that has this end.
    copy = replace(copy, seen=end.position, seen_hash=end.hash)
    return _states(db, keys, target), copy, not is_over


def _behind(
    db: sqlite3.Connection, column: str, cursor: Cursor, end: Head, limit: int
) -> list[Cursor]:
    rows = db.execute(
        f"SELECT {column}, kind, key FROM object WHERE {column} IS NOT NULL "
        f"AND ({column}, kind, key) > (?, ?, ?) AND {column} <= ? "
        f"ORDER BY {column}, kind, key LIMIT ?",
        (*cursor, end.position, limit),
    )
    return [Cursor(*row) for row in rows]


# -- how they are now --------------------------------------------------------------------------


def _states(db: sqlite3.Connection, cursors: Iterable[Cursor], target: Target) -> list[Changed]:
    """The objects in their order, each once."""
    order = list(dict.fromkeys((one.kind, one.key) for one in cursors))
    by_kind: dict[str, list[bytes]] = {}
    for kind, key in order:
        by_kind.setdefault(kind, []).append(key)
    found = {
        kind: _LOOKS[kind](db, keys, target) for kind, keys in by_kind.items() if kind in _LOOKS
    }
    return [Changed(kind, key, found[kind].get(key)) for kind, key in order if kind in found]


States = dict[bytes, dict[str, Any]]


def _marks(keys: Sequence[Any]) -> str:
    return ",".join("?" * len(keys))


def _users(db: sqlite3.Connection, keys: list[bytes], target: Target) -> States:
    found: States = {}
    by_id: dict[int, dict[str, Any]] = {}
    groups = set(target.scope.groups)
    others = guests.among(db, target.site, keys) if groups else set()
    for key, name, id_, fields, password, pin, created_us, changed_us in db.execute(
        "SELECT person.key, person.name, person_id, fields, password, pin, created_us, changed_us "
        f"FROM person JOIN directory ON person_id = person.id WHERE key IN ({_marks(keys)})",
        keys,
    ):
        is_of_them = not groups.isdisjoint(unpack(fields).get("groups", ()))
        if groups and not is_of_them and key not in others:
            continue
        found[key] = by_id[id_] = {
            "name": name,
            "fields": fields,
            "password": password,
            "pin": pin,
            "cards": [],
            "certificates": [],
            "created_us": created_us,
            "changed_us": changed_us,
        }
    ids = list(by_id)
    for id_, *card in db.execute(
        "SELECT person_id, digest, number, label, ending, added_us FROM card "
        f"WHERE person_id IN ({_marks(ids)}) ORDER BY number",
        ids,
    ):
        by_id[id_]["cards"].append(card)
    _add_certificates(db, found)
    for (key,) in db.execute(
        # Who has no name any more, and has not become somebody else, was erased.
        f"SELECT key FROM person WHERE key IN ({_marks(keys)}) AND name IS NULL "
        "AND key NOT IN (SELECT key FROM joined)",
        keys,
    ):
        found[key] = {"is_erased": True}
    return found


def _add_certificates(db: sqlite3.Connection, found: States) -> None:
    keys = list(found)
    for holder, *certificate in db.execute(
        "SELECT holder, serial, not_after_us, revoked FROM certificate "
        f"WHERE holder IN ({_marks(keys)}) ORDER BY serial",
        keys,
    ):
        found[holder]["certificates"].append(certificate)


def _printers(db: sqlite3.Connection, keys: list[bytes], target: Target) -> States:
    found: States = {}
    wanted = {UUID(one).bytes for one in target.scope.printers}
    for guid, name, packed, *device in db.execute(
        "SELECT printer.guid, printer.name, printer.fields, device.guid, device.uri, device.fields "
        "FROM printer LEFT JOIN device ON device.id = device_id "
        f"WHERE printer.guid IN ({_marks(keys)}) AND printer.name IS NOT NULL",
        keys,
    ):
        fields = unpack(packed)
        owner = fields.get("owner") or target.node.bytes
        if wanted and guid not in wanted and owner != target.site.bytes:
            continue
        # Nobody's name stands for the node that says so: it is another one there.
        fields["owner"] = None if owner == target.site.bytes else owner
        found[guid] = {
            "name": name,
            "fields": pack(fields),
            "device": device if device[0] is not None else None,
        }
    return found


def _mfds(db: sqlite3.Connection, keys: list[bytes], target: Target) -> States:
    found: States = {}
    wanted = {UUID(one).bytes for one in target.scope.printers}
    for guid, name, fields, token, revoked, created_us, changed_us in db.execute(
        "SELECT guid, name, fields, token, revoked, created_us, changed_us FROM mfd "
        f"WHERE guid IN ({_marks(keys)})",
        keys,
    ):
        bound = unpack(fields)["printers"]
        if wanted and bound and wanted.isdisjoint(bound):
            continue
        found[guid] = {
            "name": name,
            "fields": fields,
            "token": token,
            "revoked": revoked,
            "created_us": created_us,
            "changed_us": changed_us,
            "certificates": [],
        }
    _add_certificates(db, found)
    return found


def _providers(db: sqlite3.Connection, keys: list[bytes], target: Target) -> States:
    found: States = {
        guid: {"name": name, "fields": fields, "revoked": revoked, "certificates": []}
        for guid, name, fields, revoked in db.execute(
            f"SELECT guid, name, fields, revoked FROM provider WHERE guid IN ({_marks(keys)})",
            keys,
        )
    }
    _add_certificates(db, found)
    return found


def _accounts(db: sqlite3.Connection, keys: list[bytes], target: Target) -> States:
    return {
        guid: {
            "name": name,
            "code": code,
            "fields": fields,
            "created_us": created_us,
            "changed_us": changed_us,
        }
        for guid, name, code, fields, created_us, changed_us in db.execute(
            "SELECT guid, name, code, fields, created_us, changed_us FROM account "
            f"WHERE guid IN ({_marks(keys)}) AND name IS NOT NULL",
            keys,
        )
    }


def _prices(db: sqlite3.Connection, keys: list[bytes], target: Target) -> States:
    versions = [int(key) for key in keys]
    return {
        str(version).encode("ascii"): {"from_us": from_us, "fields": fields}
        for version, from_us, fields in db.execute(
            "SELECT version, from_us, fields FROM price_list "
            f"WHERE version IN ({_marks(versions)})",
            versions,
        )
    }


def _terms(db: sqlite3.Connection, keys: list[bytes], target: Target) -> States:
    row = db.execute("SELECT fields FROM terms").fetchone()
    return {} if row is None else {keys[0]: {"fields": row[0]}}


_LOOKS: dict[str, Callable[[sqlite3.Connection, list[bytes], Target], States]] = {
    "user": _users,
    "printer": _printers,
    "mfd": _mfds,
    "provider": _providers,
    "account": _accounts,
    "prices": _prices,
    "terms": _terms,
}
