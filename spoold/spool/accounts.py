"""Shared accounts: decided, recorded, folded, and looked up.

As in `jobs`, whatever decides runs inside the writer's transaction; the look-ups run on any
connection. An account keeps its key when it is renamed, and its charges when it is removed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.account import (
    GROUPS_MAX,
    MEMBERS_MAX,
    Account,
    above,
    check_account_name,
    check_code,
)
from spoold.model.errors import OperationError
from spoold.model.money import check_amount
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.spool import store
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

ANYBODY = "*"  # the group of all
GROUPS_BYTES_MAX = 8 * 1024

_ACCOUNT = "SELECT guid, name, code, fields, created_us, changed_us FROM account "


def _account_of(row: tuple[Any, ...]) -> Account:
    guid, name, code, packed, created_us, changed_us = row
    found = unpack(packed)
    return Account(
        UUID(bytes=guid),
        name or "",
        code or "",
        tuple(found["groups"]),
        tuple(UUID(bytes=one) for one in found["members"]),
        found["restricted"],
        found["overdraft"],
        found["open"],
        created_us,
        changed_us,
    )


def by_guid(db: sqlite3.Connection, guid: UUID) -> Account | None:
    row = db.execute(_ACCOUNT + "WHERE guid = ? AND name IS NOT NULL", (guid.bytes,)).fetchone()
    return None if row is None else _account_of(row)


def by_name(db: sqlite3.Connection, name: str) -> Account | None:
    row = db.execute(_ACCOUNT + "WHERE name = ?", (name,)).fetchone()
    return None if row is None else _account_of(row)


def by_code(db: sqlite3.Connection, code: str) -> Account | None:
    row = db.execute(_ACCOUNT + "WHERE code = ?", (code,)).fetchone()
    return None if row is None else _account_of(row)


def missing(db: sqlite3.Connection, named: Iterable[str]) -> list[str]:
    """Of these names and codes those that no account has, in order."""
    return sorted({one for one in named if by_name(db, one) is None and by_code(db, one) is None})


def names(db: sqlite3.Connection, guids: Iterable[UUID]) -> dict[UUID, str]:
    """The names of accounts by their keys; those that were removed are `(removed)`."""
    found = {}
    for guid in guids:
        row = db.execute("SELECT name FROM account WHERE guid = ?", (guid.bytes,)).fetchone()
        if row is not None:
            found[guid] = row[0] or "(removed)"
    return found


def person_by_name(db: sqlite3.Connection, name: str) -> UUID | None:
    """The key of a person, who may be no user."""
    row = db.execute("SELECT key FROM person WHERE name = ?", (name,)).fetchone()
    return None if row is None else UUID(bytes=row[0])


def page(db: sqlite3.Connection, after: str, limit: int) -> list[Account]:
    """At most `limit` accounts behind a name, by name."""
    rows = db.execute(_ACCOUNT + "WHERE name > ? ORDER BY name LIMIT ?", (after, limit))
    return [_account_of(row) for row in rows]


def choices(
    db: sqlite3.Connection, person: UUID, groups: Iterable[str], limit: int = 500
) -> list[Account]:
    """The open accounts that a person of these groups may charge to, by name.

    Whoever may charge to an account may charge to those that lie in it.
    """
    allowed = [f"person:{person}", *(f"group:{one}" for one in (ANYBODY, *groups))]
    marks = ",".join("?" * len(allowed))
    rows = db.execute(
        "SELECT DISTINCT name FROM account_access JOIN account ON account.id = account_id "
        f"WHERE allowed IN ({marks}) AND name IS NOT NULL ORDER BY name",
        allowed,
    ).fetchall()
    found: dict[str, Account] = {}
    covered = ""
    for (name,) in rows:
        if covered and name.startswith(covered + "/"):
            continue  # found with the account that it lies in
        covered = name
        inside = db.execute(
            _ACCOUNT + "WHERE name = ? OR (name > ? AND name < ?) ORDER BY name LIMIT ?",
            (name, f"{name}/", f"{name}0", limit),
        )
        found |= {row[1]: _account_of(row) for row in inside}
        if len(found) >= limit:
            break
    is_open = {name: all(_is_open(db, found, one) for one in above(name)) for name in found}
    return [found[name] for name in sorted(found) if is_open[name]][:limit]


def _is_open(db: sqlite3.Connection, found: dict[str, Account], name: str) -> bool:
    account = found.get(name) or by_name(db, name)
    return account is not None and account.is_open


def may_charge(
    db: sqlite3.Connection, account: Account, person: UUID, groups: Iterable[str]
) -> bool:
    """Whether a person of these groups may charge to an account."""
    allowed = [f"person:{person}", *(f"group:{one}" for one in (ANYBODY, *groups))]
    marks = ",".join("?" * len(allowed))
    names = above(account.name)
    if not all(_is_open(db, {account.name: account}, one) for one in names):
        return False
    row = db.execute(
        "SELECT 1 FROM account_access JOIN account ON account.id = account_id "
        f"WHERE allowed IN ({marks}) AND name IN ({','.join('?' * len(names))})",
        (*allowed, *names),
    ).fetchone()
    return row is not None


def put_account(writer: SqliteStore, change: store.PutAccount) -> Account:
    name = check_account_name(change.name)
    before = by_name(writer.db, name)
    if before is None:
        if not change.is_new:
            raise unknown(name)
        before = Account(UUID(bytes=writer.random(16), version=4), name, created_us=change.now_us)
    elif change.is_new:
        raise _taken(name)
    account = _changed(change, before)
    if change.is_new or account.name != name:
        _check_place(writer, account.name, None if change.is_new else name)
    if account.code:
        other = by_code(writer.db, account.code)
        if other is not None and other.guid != account.guid:
            raise OperationError(
                "conflict", f"the code is that of {other.name}.", "Take another code."
            )
    members = [one.bytes for one in account.members]
    fields = {
        "groups": list(account.groups),
        "members": members,
        "restricted": account.is_restricted,
        "overdraft": account.overdraft,
        "open": account.is_open,
    }
    writer.add_record(
        Kind.ACCOUNT_CHANGED,
        change.actor,
        change.now_us,
        {
            "account": account.guid.bytes,
            "name": account.name,
            "code": account.code,
            "is_new": change.is_new,
            **({} if account.name == name else {"was": name}),
            **fields,
        },
    )
    _keep(writer, account, fields)
    if not change.is_new and account.name != name:
        _rename_inside(writer, name, account.name)
    return account


def _changed(change: store.PutAccount, before: Account) -> Account:
    """The account as it is to be; what the change does not name stays."""
    given = {
        "code": None if change.code is None else check_code(change.code),
        "groups": change.groups,
        "members": change.members,
        "is_restricted": change.is_restricted,
        "overdraft": change.overdraft,
        "is_open": change.is_open,
        "name": None if change.new_name is None else check_account_name(change.new_name),
    }
    new = {key: value for key, value in given.items() if value is not None}
    account = replace(before, changed_us=change.now_us, **new)  # type: ignore[arg-type]
    if len(account.members) > MEMBERS_MAX or len(account.groups) > GROUPS_MAX:
        raise OperationError(
            "bad-request",
            f"{MEMBERS_MAX} people and {GROUPS_MAX} groups can be named.",
            "Make a group of them.",
        )
    if sum(len(one.encode()) for one in account.groups) > GROUPS_BYTES_MAX:
        raise OperationError("bad-request", "the names of the groups are too long.", "Name fewer.")
    check_overdraft(account.overdraft)
    return account


def _check_place(writer: SqliteStore, name: str, was: str | None) -> None:
    """There is an account that it can lie in, and none of its name."""
    if by_name(writer.db, name) is not None:
        raise _taken(name)
    *parents, _ = above(name)
    if parents and by_name(writer.db, parents[-1]) is None:
        raise OperationError(
            "not-found", f"there is no account {parents[-1]}.", "Add that one before."
        )
    if was is None:
        return
    if name.startswith(was + "/"):
        raise OperationError("not-possible", "an account cannot lie in itself.")
    for _, inside in _inside(writer.db, was):
        check_account_name(name + inside[len(was) :])


def _inside(db: sqlite3.Connection, name: str) -> list[tuple[int, str]]:
    """Row and name of the accounts that lie in one: '0' is the character after '/'."""
    return db.execute(
        "SELECT id, name FROM account WHERE name > ? AND name < ? ORDER BY name",
        (f"{name}/", f"{name}0"),
    ).fetchall()


def _rename_inside(writer: SqliteStore, before: str, after: str) -> None:
    """The accounts that lie in a renamed one go with it."""
    for account_id, name in _inside(writer.db, before):
        writer.db.execute(
            "UPDATE account SET name = ? WHERE id = ?", (after + name[len(before) :], account_id)
        )


def _keep(writer: SqliteStore, account: Account, fields: dict[str, Any]) -> None:
    key, code = account.guid.bytes, account.code or None
    times = (account.created_us, account.changed_us)
    keep_row(writer, (key, account.name, code, pack(fields), *times))


def keep_row(writer: SqliteStore, values: tuple[Any, ...]) -> None:
    """Write the row of an account, and who may charge to it: guid, name, code, fields, times."""
    row = writer.db.execute(
        "INSERT INTO account (guid, name, code, fields, created_us, changed_us) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (guid) DO UPDATE SET name = excluded.name, "
        "code = excluded.code, fields = excluded.fields, changed_us = excluded.changed_us "
        "RETURNING id",
        values,
    ).fetchone()
    fields = unpack(values[3])
    writer.db.execute("DELETE FROM account_access WHERE account_id = ?", row)
    allowed = {f"group:{one}" for one in fields["groups"]}
    allowed |= {f"person:{UUID(bytes=one)}" for one in fields["members"]}
    writer.db.executemany(
        "INSERT INTO account_access VALUES (?, ?)", [(one, row[0]) for one in sorted(allowed)]
    )
    writer.events.append(store.AccountChanged(UUID(bytes=values[0])))


def remove_account(writer: SqliteStore, change: store.RemoveAccount) -> None:
    account = by_name(writer.db, change.name)
    if account is None:
        raise unknown(change.name)
    key = account.guid.bytes
    if inside := _inside(writer.db, account.name):
        raise OperationError(
            "not-possible", f"the account {inside[0][1]} lies in it.", "Remove that one before."
        )
    if writer.db.execute(
        "SELECT 1 FROM purse WHERE holder = ? AND balance != 0 AND until_us IS NULL UNION ALL "
        "SELECT 1 FROM charge WHERE holder = ? AND state = 'reserved'",
        (key, key),
    ).fetchone():
        raise OperationError(
            "not-possible",
            "it holds money or owes it, or work on it goes on.",
            "Bring its balance to 0.00 with `spoold account adjust`, or close it.",
        )
    writer.add_record(
        Kind.ACCOUNT_REMOVED, change.actor, change.now_us, {"account": key, "name": account.name}
    )
    writer.db.execute("UPDATE account SET name = NULL, code = NULL WHERE guid = ?", (key,))
    writer.db.execute(
        "DELETE FROM account_access WHERE account_id = (SELECT id FROM account WHERE guid = ?)",
        (key,),
    )
    writer.db.execute("DELETE FROM allowance WHERE recipient = ?", (f"account:{account.guid}",))


def check_overdraft(amount: int) -> None:
    """Raises OperationError: `bad-request`: it is no way down."""
    if check_amount(amount) < 0:
        raise OperationError(
            "bad-request",
            "an overdraft is below zero.",
            "Say how far the balance may go down, as 5.00.",
        )


def unknown(name: str) -> OperationError:
    return OperationError(
        "not-found",
        f"there is no account {plain(name[:60])}.",
        "See `spoold account list`; what people have is user:NAME.",
    )


def _taken(name: str) -> OperationError:
    return OperationError(
        "conflict", f"there is an account {plain(name[:60])} already.", "Use `spoold account set`."
    )
