"""Repairs: a site that is cut off pauses a printer of its application server, or moves its device.

At the site a repair lies over what comes from upstream, and ends when upstream says the same, or
says that it is over. Upstream it is shown until somebody accepts it, and so changes the printer for
all, or reverts it. What was settled is over whatever becomes of the printer then: the site asks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.printer import Device, Printer
from spoold.model.record import Kind, Record
from spoold.spool import gate, objects, received, sending, store
from spoold.spool.rows import device_of, pack, printer_fields, printer_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

PAUSED, DEVICE = "paused", "device"
REPAIRS_MAX = 1000  # that are listed
_SELECT = (
    "SELECT site, printer, field, value, was, position, since_us, actor, is_reverted FROM repair "
)


class Repair(NamedTuple):
    """One field of a printer that a site has changed; see the schema."""

    site: UUID
    printer: UUID
    field: str
    value: str | None
    was: str | None
    position: int
    since_us: int
    actor: str
    is_reverted: bool


def find_all(db: sqlite3.Connection, site: UUID | None = None) -> list[Repair]:
    """What is not settled yet, of one site or of all."""
    which, values = ("", ()) if site is None else ("WHERE site = ? ", (site.bytes,))
    rows = db.execute(_SELECT + which + "ORDER BY printer, field LIMIT ?", (*values, REPAIRS_MAX))
    return [_repair_of(row) for row in rows]


def _repair_of(row: tuple[Any, ...]) -> Repair:
    return Repair._make((UUID(bytes=row[0]), UUID(bytes=row[1]), *row[2:8], bool(row[8])))


def _find(db: sqlite3.Connection, site: UUID, printer: UUID, field: str) -> Repair | None:
    row = db.execute(
        _SELECT + "WHERE site = ? AND printer = ? AND field = ?", (site.bytes, printer.bytes, field)
    ).fetchone()
    return None if row is None else _repair_of(row)


def _put(db: sqlite3.Connection, repair: Repair) -> None:
    db.execute(
        "INSERT OR REPLACE INTO repair VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (repair.site.bytes, repair.printer.bytes, *repair[2:]),
    )


def _drop(db: sqlite3.Connection, site: UUID, printer: UUID, field: str) -> None:
    db.execute(
        "DELETE FROM repair WHERE site = ? AND printer = ? AND field = ?",
        (site.bytes, printer.bytes, field),
    )


# -- at the site -------------------------------------------------------------------------------


def repair_printer(writer: SqliteStore, change: store.RepairPrinter) -> None:
    """See `RepairPrinter`."""
    printer, device = _look(writer.db, change.printer)
    if not _is_upstreams(writer.db, change.printer):
        raise OperationError(
            "not-possible", f"{printer.name} is this node's own.", "Change it: `spoold printer`."
        )
    site = writer.journal
    before = _find(writer.db, site, change.printer, change.field)
    was = _value(printer, device, change.field) if before is None else before.was
    position = _record(writer, change, was)
    _apply(writer, printer, device, change.field, change.value)
    if change.value == was:
        _drop(writer.db, site, change.printer, change.field)
        return
    repair = Repair(
        site, change.printer, change.field, change.value, was, position, change.now_us,
        change.actor, False,
    )  # fmt: skip
    _put(writer.db, repair)


def _record(writer: SqliteStore, change: store.RepairPrinter, was: str | None) -> int:
    return writer.add_record(
        Kind.PRINTER_REPAIRED,
        change.actor,
        change.now_us,
        {"printer": change.printer.bytes, "field": change.field, "value": change.value, "was": was},
    )


def end_repair(writer: SqliteStore, change: store.EndRepair) -> None:
    """See `EndRepair`."""
    repair = _find(writer.db, writer.journal, change.printer, change.field)
    was = None if repair is None else repair.was
    again = store.RepairPrinter(change.printer, change.field, was, change.now_us, change.actor)
    if repair is None:
        _record(writer, again, was)
    else:
        repair_printer(writer, again)


def keep_over(writer: SqliteStore, printer_key: bytes, now_us: int) -> None:
    """Upstream's state of a printer and its device has come: repairs lie over it, unless they say
    the same. Upstream hears of the end of those that do: it may have said so by itself.
    """
    rows = writer.db.execute(
        _SELECT + "WHERE site = ?1 AND (printer = ?2 OR (field = 'device' AND printer IN "
        "(SELECT other.guid FROM printer AS one JOIN printer AS other USING (device_id) "
        "WHERE one.guid = ?2 AND other.name IS NOT NULL)))",
        (writer.journal.bytes, printer_key),
    ).fetchall()
    for repair in map(_repair_of, rows):
        printer, device = _look(writer.db, repair.printer)
        theirs = _value(printer, device, repair.field)
        if theirs == repair.value:
            end = store.RepairPrinter(repair.printer, repair.field, theirs, now_us)
            _record(writer, end, theirs)
            _drop(writer.db, repair.site, repair.printer, repair.field)
            continue
        _put(writer.db, repair._replace(was=theirs))
        _apply(writer, printer, device, repair.field, repair.value)


class Told(NamedTuple):
    """A repair with the record in which its site has told of it; `hash` is empty where that is
    kept no longer.
    """

    printer: UUID
    field: str
    incarnation: UUID
    position: int
    hash: bytes


def told(db: sqlite3.Connection, site: UUID) -> list[Told]:
    """What this site has changed and goes on with."""
    found, chains = [], sending.chains(db)
    for one in find_all(db, site):
        chain = next(
            each
            for each in reversed(chains)
            if each.parent is None or each.parent.position < one.position
        )
        rows = sending.stored(db, chain.id, one.position, 1)
        hash_ = rows[0][-1] if rows and rows[0][0] == one.position else b""
        found.append(Told(one.printer, one.field, chain.incarnation, one.position, hash_))
    return found


def _is_upstreams(db: sqlite3.Connection, printer: UUID) -> bool:
    row = db.execute(
        "SELECT 1 FROM replica WHERE kind = 'printer' AND key = ?", (printer.bytes,)
    ).fetchone()
    return row is not None


def _look(db: sqlite3.Connection, guid: UUID) -> tuple[Printer, Device | None]:
    row = db.execute(
        "SELECT printer.id, printer.guid, printer.name, device_id, printer.fields, device.guid, "
        "device.uri, device.fields FROM printer LEFT JOIN device ON device.id = device_id "
        "WHERE printer.guid = ? AND printer.name IS NOT NULL",
        (guid.bytes,),
    ).fetchone()
    if row is None:
        raise OperationError("not-found", "there is no such printer.")
    device = None if row[3] is None else device_of(row[3], *row[5:])
    return printer_of(*row[:5]), device


def _value(printer: Printer, device: Device | None, field: str) -> str | None:
    if field == PAUSED:
        return printer.pause_reason if printer.paused else None
    return None if device is None else device.uri


def _apply(
    writer: SqliteStore, printer: Printer, device: Device | None, field: str, value: str | None
) -> None:
    """The printer is so from now on, whoever it belongs to."""
    db = writer.db
    if field == PAUSED:
        printer = replace(printer, paused=value is not None, pause_reason=value or "")
        fields = pack(printer_fields(printer))
        db.execute("UPDATE printer SET fields = ? WHERE id = ?", (fields, printer.id))
    elif device is None or value is None:
        raise OperationError("not-possible", f"{printer.name} has no device.")
    else:
        objects.note_old_address(writer, device.id, device.uri)
        db.execute("UPDATE device SET uri = ? WHERE id = ?", (value, device.id))
    rows = db.execute(
        "SELECT guid FROM printer WHERE name IS NOT NULL AND (id = ? OR device_id = ?)",
        (printer.id, -1 if device is None or field == PAUSED else device.id),
    ).fetchall()
    for (guid,) in rows:
        found, its = _look(db, UUID(bytes=guid))
        writer.take_claim(found.id)
        gate.learn(writer, found)
        writer.events.append(store.PrinterChanged(found.id, found, its))


# -- at the application server -----------------------------------------------------------------


def forget_site(db: sqlite3.Connection, site: UUID) -> None:
    """It was revoked: what it has changed is seen by nobody else."""
    db.execute("DELETE FROM repair WHERE site = ?", (site.bytes,))


def note(writer: SqliteStore, site: UUID, position: int, fact: Record) -> None:
    """A site tells of a repair, or that it has ended.

    Raises:
        OperationError: `not-found`: nothing like that can be repaired here.
    """
    told = fact.payload
    printer, field = UUID(bytes=told["printer"]), str(told["field"])
    row = writer.db.execute("SELECT name FROM printer WHERE guid = ?", (printer.bytes,)).fetchone()
    if row is None or field not in (PAUSED, DEVICE):
        raise OperationError("not-found", "there is no such printer, or it has no such field.")
    value, was = (None if told[key] is None else str(told[key]) for key in ("value", "was"))
    if row[0] is None:
        return  # it was removed
    if value in (was, _value(*_look(writer.db, printer), field)):
        _drop(writer.db, site, printer, field)
        if value != was:
            writer.events.append(store.RepairSettled(site))
        return
    repair = Repair(site, printer, field, value, was, position, fact.event_us, fact.actor, False)
    _put(writer.db, repair)


def over(db: sqlite3.Connection, site: UUID, those: Sequence[Told]) -> set[tuple[UUID, str, int]]:
    """What a site is to end: (printer, field, position) of what was reverted, and of `those` that
    were heard of here and are not open any more, as they were accepted or said what was so already.
    """
    rows = {(one.printer, one.field): one for one in find_all(db, site)}
    found = {(*key, one.position) for key, one in rows.items() if one.is_reverted}
    for one in those:
        row = rows.get((one.printer, one.field))
        if (row is None or row.is_reverted) and received.has(
            db, site, one.incarnation, one.position, one.hash
        ):
            found.add((one.printer, one.field, one.position))
    return found


def settle_repair(writer: SqliteStore, change: store.SettleRepair) -> None:
    """See `SettleRepair`."""
    repair = _find(writer.db, change.site, change.printer, change.field)
    if repair is None or change.site == writer.journal:
        raise OperationError(
            "not-found", "there is no such repair.", "See `spoold site overrides list`."
        )
    payload = {
        "site": change.site.bytes,
        "printer": change.printer.bytes,
        "field": change.field,
        "is_accepted": change.is_accepted,
    }
    writer.add_record(Kind.REPAIR_SETTLED, change.actor, change.now_us, payload)
    writer.events.append(store.RepairSettled(change.site))
    if not change.is_accepted:
        _put(writer.db, repair._replace(is_reverted=True))
        return
    printer, device = _look(writer.db, change.printer)
    if change.field == PAUSED:
        changed = replace(printer, paused=repair.value is not None, pause_reason=repair.value or "")
        objects.put_printer(writer, store.PutPrinter(changed, change.now_us, change.actor))
    elif device is None or repair.value is None:
        raise OperationError("not-possible", f"{printer.name} has no device here.")
    else:
        put = store.PutDevice(
            device.guid, repair.value, change.now_us, device.options, device.serial, change.actor
        )
        objects.put_device(writer, put)
    _drop(writer.db, change.site, change.printer, change.field)
