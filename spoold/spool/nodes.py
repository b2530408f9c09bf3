"""How changes of nodes are decided, recorded and folded, and how they are looked up; see `jobs`."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.node import Invite, Node, NodeState, Scope
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.spool import repairs, rights, store
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

_SELECT = "SELECT guid, name, state, key, fields, created_us, changed_us FROM node "


def find_all(db: sqlite3.Connection) -> list[Node]:
    """Every node by name, the revoked ones as well."""
    return [_node_of(row) for row in db.execute(_SELECT + "ORDER BY name, created_us")]


def names(db: sqlite3.Connection) -> dict[UUID, str]:
    """What each node is called, and found by: one that was revoked, and whose name another one has
    by now, by its GUID.
    """
    known = sorted(
        find_all(db), key=lambda one: (one.state is not NodeState.REVOKED, one.created_us)
    )
    called = {one.name: one.guid for one in known}
    return {one.guid: one.name if called[one.name] == one.guid else str(one.guid) for one in known}


def find_called(db: sqlite3.Connection, name: str) -> Node | None:
    """The node of this name or GUID."""
    found = (guid for guid, known in names(db).items() if name in (known, str(guid)))
    guid = next(found, None)
    return None if guid is None else find(db, guid)


def find(db: sqlite3.Connection, guid: UUID) -> Node | None:
    row = db.execute(_SELECT + "WHERE guid = ?", (guid.bytes,)).fetchone()
    return None if row is None else _node_of(row)


def invites(db: sqlite3.Connection, now_us: int) -> list[Invite]:
    """The invitations that can still be used, by name."""
    rows = db.execute(
        "SELECT name, is_approved, expires_us FROM invite WHERE expires_us > ? ORDER BY name",
        (now_us,),
    )
    return [Invite(name, bool(is_approved), expires_us) for name, is_approved, expires_us in rows]


def _node_of(row: tuple[Any, ...]) -> Node:
    guid, name, state, key, packed, created_us, changed_us = row
    fields = unpack(packed)
    return Node(
        UUID(bytes=guid),
        name,
        NodeState(state),
        key,
        created_us,
        changed_us,
        _scope_of(fields),
        fields.get("certificate", ""),
        fields.get("not_after_us", 0),
        fields.get("server", ""),
    )


def _scope_of(fields: dict[str, Any]) -> Scope:
    return Scope(tuple(fields.get("printers", ())), tuple(fields.get("groups", ())))


def _scope_fields(scope: Scope) -> dict[str, Any]:
    return {"printers": list(scope.printers), "groups": list(scope.groups)}


def _put(writer: SqliteStore, node: Node, serials: tuple[str, ...] = ()) -> Node:
    fields = {
        **_scope_fields(node.scope),
        "certificate": node.certificate_pem,
        "server": node.server_pem,
        "not_after_us": node.not_after_us,
    }
    writer.db.execute(
        "INSERT INTO node (guid, name, state, key, fields, created_us, changed_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (guid) DO UPDATE SET name = excluded.name, "
        "state = excluded.state, key = excluded.key, fields = excluded.fields, "
        "changed_us = excluded.changed_us",
        (
            node.guid.bytes, node.name, node.state.value, node.key, pack(fields),
            node.created_us, node.changed_us,
        ),
    )  # fmt: skip
    writer.events.append(store.NodeChanged(node, serials))
    return node


def unknown(name: str) -> OperationError:
    return OperationError(
        "not-found", f"there is no site {plain(name[:60])}.", "See `spoold site list`."
    )


def _by_name(writer: SqliteStore, name: str) -> Node | None:
    row = writer.db.execute(_SELECT + "WHERE name = ? AND state != 'revoked'", (name,)).fetchone()
    return None if row is None else _node_of(row)


def invite_node(writer: SqliteStore, change: store.InviteNode) -> Invite:
    writer.add_record(
        Kind.NODE_INVITED,
        change.actor,
        change.now_us,
        {
            "name": change.name,
            "is_approved": change.is_approved,
            "expires_us": change.expires_us,
            **_scope_fields(change.scope),
        },
    )
    writer.db.execute("DELETE FROM invite WHERE expires_us <= ?", (change.now_us,))
    writer.db.execute(
        "INSERT OR REPLACE INTO invite (name, secret, is_approved, fields, expires_us) "
        "VALUES (?, ?, ?, ?, ?)",
        (
            change.name, change.secret, change.is_approved, pack(_scope_fields(change.scope)),
            change.expires_us,
        ),
    )  # fmt: skip
    return Invite(change.name, change.is_approved, change.expires_us)


def join_node(writer: SqliteStore, change: store.JoinNode) -> Node:
    known = find(writer.db, change.guid)
    if known is not None and known.state is NodeState.REVOKED:
        raise OperationError(
            "forbidden",
            "this node was revoked.",
            "Start it with another data directory: it is another node then.",
        )
    if known is not None and known.key == change.key:
        return known
    row = None
    if change.secret is not None:
        row = writer.db.execute(
            "SELECT name, is_approved, fields FROM invite WHERE secret = ? AND expires_us > ?",
            (change.secret, change.now_us),
        ).fetchone()
    if row is None:
        raise OperationError(
            "unauthorized",
            "the token is used, too old, or of nobody.",
            "Make another one at the application server: `spoold site invite NAME`.",
        )
    name, is_approved, packed = row
    if known is not None and known.name != name:
        raise OperationError(
            "conflict",
            f"this node is the site {plain(known.name)}, and the token is for {plain(name)}.",
            f"Invite it as {plain(known.name)} to give it another key.",
        )
    taken = _by_name(writer, name)
    if taken is not None and taken.guid != change.guid:
        raise OperationError(
            "conflict",
            f"there is another site {plain(name)}, which is node {taken.guid}.",
            f"Revoke that one first (`spoold site revoke {plain(name)}`), or invite by another "
            "name.",
        )
    state = NodeState.APPROVED if is_approved else NodeState.PENDING
    serials = _revoke_serials(writer, change.guid.bytes)
    writer.add_record(
        Kind.NODE_JOINED,
        change.actor,
        change.now_us,
        {
            "node": change.guid.bytes,
            "name": name,
            "state": state.value,
            "key": change.key,
            "serials": serials,
        },
    )
    writer.db.execute("DELETE FROM invite WHERE name = ?", (name,))
    created_us = change.now_us if known is None else known.created_us
    scope = _scope_of(unpack(packed))
    node = Node(change.guid, name, state, change.key, created_us, change.now_us, scope)
    return _put(writer, node, tuple(serials))


def approve_node(writer: SqliteStore, change: store.ApproveNode) -> Node:
    node = _by_name(writer, change.name)
    if node is None and find_called(writer.db, change.name) is not None:
        raise OperationError(
            "not-possible",
            f"the site {plain(change.name[:60])} was revoked.",
            "Its machine may join as another node: with another data directory, and a token of "
            "`spoold site invite`.",
        )
    if node is None:
        raise unknown(change.name)
    scope = node.scope if change.scope is None else change.scope
    writer.add_record(
        Kind.NODE_APPROVED,
        change.actor,
        change.now_us,
        {"node": node.guid.bytes, "name": node.name, **_scope_fields(scope)},
    )
    return _put(
        writer,
        replace(node, state=NodeState.APPROVED, scope=scope, changed_us=change.now_us),
    )


def certify_node(writer: SqliteStore, change: store.CertifyNode) -> Node:
    node = find(writer.db, change.guid)
    if node is None or node.state is not NodeState.APPROVED:
        raise OperationError("forbidden", "the node is not approved.", "See `spoold site list`.")
    writer.add_record(
        Kind.NODE_CERTIFIED,
        change.actor,
        change.now_us,
        {
            "node": node.guid.bytes,
            "name": node.name,
            "serials": list(change.serials),
            "not_after_us": change.not_after_us,
        },
    )
    writer.db.executemany(
        "INSERT INTO certificate (serial, holder, not_after_us, revoked) VALUES (?, ?, ?, 0)",
        [(serial, node.guid.bytes, change.not_after_us) for serial in change.serials],
    )
    return _put(
        writer,
        replace(
            node,
            certificate_pem=change.certificate_pem,
            server_pem=change.server_pem,
            not_after_us=change.not_after_us,
            changed_us=change.now_us,
        ),
    )


def revoke_node(writer: SqliteStore, change: store.RevokeNode) -> list[str]:
    node = _by_name(writer, change.name)
    was_invited = writer.db.execute("DELETE FROM invite WHERE name = ?", (change.name,)).rowcount
    if node is None and not was_invited:
        raise unknown(change.name)
    serials: list[str] = []
    payload: dict[str, Any] = {"name": change.name}
    if node is not None:
        serials = _revoke_serials(writer, node.guid.bytes)
        payload |= {"node": node.guid.bytes, "serials": serials}
        gone = replace(node, state=NodeState.REVOKED, changed_us=change.now_us)
        _put(writer, gone, tuple(serials))
        rights.end(writer, node.guid)
        repairs.forget_site(writer.db, node.guid)
        writer.db.execute("DELETE FROM advertised WHERE site = ?", (node.guid.bytes,))
    writer.add_record(Kind.NODE_REVOKED, change.actor, change.now_us, payload)
    return serials


def note_advertised(writer: SqliteStore, change: store.NoteAdvertised) -> None:
    """See `NoteAdvertised`."""
    writer.db.execute(
        "INSERT OR REPLACE INTO advertised (site, told) VALUES (?, ?)",
        (change.site.bytes, pack(change.told)),
    )


def advertised(db: sqlite3.Connection) -> list[tuple[Node, dict[str, Any]]]:
    """Where clients of each site are to go, as it said last."""
    rows = db.execute("SELECT site, told FROM advertised").fetchall()
    found = [(find(db, UUID(bytes=site)), unpack(told)) for site, told in rows]
    return [(node, told) for node, told in found if node is not None]


def _revoke_serials(writer: SqliteStore, guid: bytes) -> list[str]:
    """The certificates of a node count no more: which ones."""
    rows = writer.db.execute(
        "SELECT serial FROM certificate WHERE holder = ? AND revoked = 0", (guid,)
    ).fetchall()
    writer.db.execute("UPDATE certificate SET revoked = 1 WHERE holder = ?", (guid,))
    return [row[0] for row in rows]
