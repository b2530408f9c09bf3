"""Charges as rows: how they are kept, and found by their keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.charge import Charge, ChargeState
from spoold.model.errors import OperationError
from spoold.model.pricing import Quote
from spoold.model.purse import Payer, PayerKind, Share
from spoold.model.usage import Usage
from spoold.spool import store
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

_COLUMNS = (
    "charge.key, charge.state, charge.job_id, charge.printer, charge.refunded, charge.is_shadow, "
    "charge.flags, charge.happened_us, charge.ended_us, charge.fields"
)
SELECT_CHARGE = f"SELECT {_COLUMNS} FROM charge "


class Kept(NamedTuple):
    """A charge, and what its purses gave for it so far."""

    charge: Charge
    shares: list[Share]


def charge_of(row: Sequence[Any]) -> Kept:
    """The charge behind a row of `SELECT_CHARGE`."""
    key, state, job_id, printer, refunded, is_shadow, flags, happened_us, ended_us, packed = row
    found = unpack(packed)
    uuid = found.get("uuid")
    charge = Charge(
        key,
        ChargeState(state),
        Payer.from_map(found["payer"]),
        Quote.from_map(found["quote"]),
        Usage.from_map(found["usage"]),
        found["reserved"],
        happened_us,
        None if printer is None else UUID(bytes=printer),
        job_id,
        None if uuid is None else UUID(bytes=uuid),
        refunded,
        bool(is_shadow),
        tuple(flags.split()),
        ended_us,
    )
    return Kept(charge, [Share(UUID(bytes=guid), amount) for guid, amount in found["shares"]])


def find(db: sqlite3.Connection, key: bytes) -> Kept | None:
    row = db.execute(SELECT_CHARGE + "WHERE charge.key = ?", (key,)).fetchone()
    return None if row is None else charge_of(row)


def found(writer: SqliteStore, key: bytes) -> Kept:
    kept = find(writer.db, key)
    if kept is None:
        raise OperationError("not-found", "nothing was reserved under this key.")
    return kept


def reserved_of(db: sqlite3.Connection, holder: UUID) -> list[Charge]:
    """What is reserved in a holder's purses."""
    rows = db.execute(
        SELECT_CHARGE + "WHERE charge.state = 'reserved' AND NOT is_shadow AND holder = ?",
        (holder.bytes,),
    )
    return [charge_of(row).charge for row in rows]


def keep(writer: SqliteStore, charge: Charge, shares: list[Share]) -> Charge:
    """Write the row of a charge, new or as it is from now on."""
    spender, usage = charge.payer.spender, charge.usage
    fields = {
        "payer": charge.payer.as_map(),
        "quote": charge.quote.as_map(),
        "usage": usage.as_map(),
        "reserved": charge.reserved,
        "shares": [[one.purse.bytes, one.amount] for one in shares],
        **({} if charge.job_uuid is None else {"uuid": charge.job_uuid.bytes}),
    }
    writer.db.execute(
        "INSERT INTO charge (key, state, holder, is_account, spender, job_id, printer, work, "
        "impressions, color_impressions, sheets, amount, refunded, is_shadow, flags, happened_us, "
        "ended_us, fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET state = excluded.state, "
        "impressions = excluded.impressions, color_impressions = excluded.color_impressions, "
        "sheets = excluded.sheets, amount = excluded.amount, refunded = excluded.refunded, "
        "flags = excluded.flags, happened_us = excluded.happened_us, "
        "ended_us = excluded.ended_us, fields = excluded.fields",
        (
            charge.key,
            charge.state.value,
            charge.payer.guid.bytes,
            charge.payer.kind is PayerKind.ACCOUNT,
            None if spender is None else spender.bytes,
            charge.job_id,
            None if charge.printer is None else charge.printer.bytes,
            usage.work.value,
            usage.impressions,
            usage.color_impressions,
            usage.sheets,
            charge.total,
            charge.refunded,
            charge.is_shadow,
            " ".join(charge.flags),
            charge.happened_us,
            charge.ended_us,
            pack(fields),
        ),
    )
    if charge.job_id is not None:
        if charge.state is ChargeState.RESERVED:
            writer.reserved[charge.job_id] = charge.key
        elif writer.reserved.get(charge.job_id) == charge.key:
            del writer.reserved[charge.job_id]
    writer.events.append(store.Charged(charge))
    return charge
