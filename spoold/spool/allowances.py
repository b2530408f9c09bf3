"""What everybody gets, and may owe: the terms of a deployment, and allowances. Recorded and folded;
see `jobs` for the transaction.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

from spoold.model.errors import OperationError
from spoold.model.money import check_amount
from spoold.model.purse import Allowance
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.spool import accounts, store
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


ALLOWANCES_MAX = 20  # for one recipient
GROUP_ALLOWANCES_MAX = 100  # for groups and everybody: one person may be in all of them
CURRENCY_CHARACTERS_MAX = 8


def put_terms(writer: SqliteStore, change: store.PutTerms) -> None:
    terms = change.terms
    try:
        ZoneInfo(terms.zone)
    except (ValueError, OSError, KeyError) as error:  # an unknown one is a KeyError
        advice = "Use one as Europe/Berlin, or UTC."
        raise _bad(f"there is no time zone {plain(terms.zone[:60])!r}.", advice) from error
    if len(terms.currency) > CURRENCY_CHARACTERS_MAX or not terms.currency.isprintable():
        raise _bad(f"{plain(terms.currency[:40])!r} is no currency.", "Write it as EUR.")
    accounts.check_overdraft(terms.overdraft)
    if terms.spare_account and accounts.by_guid(writer.db, UUID(terms.spare_account)) is None:
        raise OperationError("not-found", "there is no such account.", "See `spoold account list`.")
    writer.add_record(Kind.TERMS_CHANGED, change.actor, change.now_us, asdict(terms))
    writer.db.execute(
        "INSERT INTO terms VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET fields = excluded.fields",
        (pack(asdict(terms)),),
    )


def put_allowance(writer: SqliteStore, change: store.PutAllowance) -> None:
    allowance = change.allowance
    if check_amount(allowance.amount) < 0 or check_amount(allowance.carry_over) < 0:
        raise _bad("an allowance is below zero.", "Give it as 5.00.")
    known = writer.db.execute(
        "SELECT fields FROM allowance WHERE guid = ?", (allowance.guid.bytes,)
    ).fetchone()
    if known is not None:
        before = Allowance.from_map(unpack(known[0]))
        allowance = replace(allowance, to=before.to, from_us=before.from_us)
    else:
        count = writer.db.execute(
            "SELECT count(*) FROM allowance WHERE recipient = ?", (allowance.to,)
        ).fetchone()[0]
        shared = writer.db.execute(
            "SELECT count(*) FROM allowance WHERE recipient = 'everybody' OR "
            "(recipient > 'group:' AND recipient < 'group;')"
        ).fetchone()[0]
        is_own = allowance.to.startswith(("person:", "account:"))
        if count >= ALLOWANCES_MAX or (not is_own and shared >= GROUP_ALLOWANCES_MAX):
            raise _bad("there are too many allowances already.", "Change one of them.")
    writer.add_record(
        Kind.ALLOWANCE_CHANGED,
        change.actor,
        change.now_us,
        {**allowance.as_map(), **_person(allowance.to)},
    )
    writer.db.execute(
        "INSERT INTO allowance VALUES (?, ?, ?) ON CONFLICT (guid) DO UPDATE SET "
        "fields = excluded.fields",
        (allowance.guid.bytes, allowance.to, pack(allowance.as_map())),
    )
    writer.events.append(store.MoneyCame(None))


def remove_allowance(writer: SqliteStore, change: store.RemoveAllowance) -> None:
    row = writer.db.execute(
        "SELECT recipient FROM allowance WHERE guid = ?", (change.guid.bytes,)
    ).fetchone()
    if row is None:
        raise OperationError(
            "not-found", "there is no such allowance.", "See `spoold account show`."
        )
    writer.add_record(
        Kind.ALLOWANCE_REMOVED,
        change.actor,
        change.now_us,
        {"allowance": change.guid.bytes, **_person(row[0])},
    )
    writer.db.execute("DELETE FROM allowance WHERE guid = ?", (change.guid.bytes,))


def _person(recipient: str) -> dict[str, bytes]:
    kind, _, key = recipient.partition(":")
    return {"person": UUID(key).bytes} if kind == "person" else {}


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)
