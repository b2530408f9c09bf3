"""Whom and what a site is told of, by its scope: what it says of others is held against that."""

from __future__ import annotations

import sqlite3
from uuid import UUID

from spoold.model.node import Node
from spoold.model.purse import DECIDED, Payer, PayerKind
from spoold.spool import accounts, guests, leases, postings
from spoold.spool.rows import unpack


def has_person(db: sqlite3.Connection, node: Node, person: bytes) -> bool:
    """Whether somebody is copied to a site: by its groups, or as a guest."""
    if not node.scope.groups:
        return True
    is_of_them = not set(node.scope.groups).isdisjoint(_groups(db, person))
    return is_of_them or person in guests.among(db, node.guid, (person,))


def _groups(db: sqlite3.Connection, person: bytes) -> tuple[str, ...]:
    row = db.execute(
        "SELECT fields FROM directory JOIN person ON person.id = directory.person_id "
        "WHERE person.key = ?",
        (person,),
    ).fetchone()
    return () if row is None else tuple(unpack(row[0]).get("groups", ()))


def may_pay(db: sqlite3.Connection, node: Node, payer: Payer) -> bool:
    """Whether a site has a reason to let this one pay, as far as it is known here."""
    spender = payer.spender
    if spender is not None and not has_person(db, node, spender.bytes):
        return False
    if payer.kind is PayerKind.PERSON or payer.by in DECIDED:
        return True
    if payer.by == "limit":
        return str(payer.guid) == postings.terms(db).spare_account
    account = accounts.by_guid(db, payer.guid)
    if account is None or payer.by == "offline":
        return account is not None and leases.policy_of(db, node.guid).account == account.name
    if spender is None:
        return False
    return accounts.may_charge(db, account, spender, _groups(db, spender.bytes))


def has_printer(node: Node, printer: UUID) -> bool:
    """Whether a printer that is none of the site's own is copied to it."""
    return not node.scope.printers or str(printer) in node.scope.printers


def owns_printer(db: sqlite3.Connection, site: UUID, printer: UUID | None) -> bool:
    """Whether a printer stands at a site."""
    row = None
    if printer is not None:
        row = db.execute("SELECT fields FROM printer WHERE guid = ?", (printer.bytes,)).fetchone()
    return row is not None and unpack(row[0]).get("owner") == site.bytes
