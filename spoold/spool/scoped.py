"""Whom and what a site is told of, by its scope: what it says of others is held against that."""

from __future__ import annotations

import sqlite3
from uuid import UUID

from spoold.model.node import Node
from spoold.spool import guests, nodes
from spoold.spool.rows import unpack


def limited(db: sqlite3.Connection, site: UUID) -> Node | None:
    """The site, where its copy is of some groups alone; None: it is told of everybody."""
    node = nodes.find(db, site)
    return node if node is not None and node.scope.groups else None


def has_person(db: sqlite3.Connection, node: Node, person: bytes) -> bool:
    """Whether somebody is copied to a site: by its groups, or as a guest."""
    if not node.scope.groups:
        return True
    row = db.execute(
        "SELECT fields FROM directory JOIN person ON person.id = directory.person_id "
        "WHERE person.key = ?",
        (person,),
    ).fetchone()
    groups = () if row is None else unpack(row[0]).get("groups", ())
    is_of_them = not set(node.scope.groups).isdisjoint(groups)
    return is_of_them or person in guests.among(db, node.guid, (person,))


def has_printer(node: Node, printer: UUID) -> bool:
    """Whether a printer that is none of the site's own is copied to it."""
    return not node.scope.printers or str(printer) in node.scope.printers
