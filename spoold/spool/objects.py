"""How changes of printers, devices and providers are decided, recorded, and folded; see `jobs`."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.person import normalise_name
from spoold.model.printer import Printer
from spoold.model.record import Kind
from spoold.model.release import names_in
from spoold.model.transitions import JobEvent
from spoold.spool import gate, jobs, store
from spoold.spool.rows import (
    NUMBER,
    REMOVED_NAME,
    device_of,
    pack,
    printer_fields,
    printer_of,
    unpack,
)

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def put_device(writer: SqliteStore, change: store.PutDevice) -> Any:
    known = writer.db.execute(
        "SELECT id, uri FROM device WHERE guid = ?", (change.guid.bytes,)
    ).fetchone()
    if known is not None and known[1] != change.uri:
        note_old_address(writer, *known)
    fields = {"options": change.options, "serial": change.serial}
    writer.add_record(
        Kind.DEVICE_CHANGED,
        change.actor,
        change.now_us,
        {"device": change.guid.bytes, "uri": change.uri, **fields},
    )
    writer.db.execute(
        "INSERT INTO device (guid, uri, fields) VALUES (?, ?, ?) ON CONFLICT (guid) DO UPDATE "
        "SET uri = excluded.uri, fields = excluded.fields",
        (change.guid.bytes, change.uri, pack(fields)),
    )
    device = device_of(
        *writer.db.execute(
            "SELECT id, guid, uri, fields FROM device WHERE guid = ?", (change.guid.bytes,)
        ).fetchone()
    )
    for row in writer.db.execute(
        "SELECT id, guid, name, device_id, fields FROM printer "
        "WHERE device_id = ? AND name IS NOT NULL",
        (device.id,),
    ).fetchall():
        printer = printer_of(*row)
        writer.take_claim(printer.id)
        writer.events.append(store.PrinterChanged(printer.id, printer, device))
    return device


def note_old_address(writer: SqliteStore, device_id: int, uri: str) -> None:
    """What is under way went to `uri`: whoever settles it must not ask elsewhere."""
    writer.db.execute(
        "UPDATE attempt SET device_uri = ? WHERE device_id = ? AND ended_us IS NULL "
        "AND device_uri IS NULL AND job_id IN (SELECT id FROM job INDEXED BY job_unfinished "
        "WHERE finished_us IS NULL AND state IN (5, 6))",
        (uri, device_id),
    )


def put_printer(writer: SqliteStore, change: store.PutPrinter) -> Any:
    printer = change.printer
    db = writer.db
    taken = db.execute(
        "SELECT id FROM printer WHERE name = ? AND id != ?", (printer.name, printer.id)
    ).fetchone()
    if taken is not None:
        raise OperationError(
            "conflict", f"there is a printer {printer.name} already.", "Use `spoold printer set`."
        )
    device = None
    if printer.device_id is not None:
        row = db.execute(
            "SELECT id, guid, uri, fields FROM device WHERE id = ?", (printer.device_id,)
        ).fetchone()
        if row is None:
            raise OperationError("not-found", "there is no such device.")
        device = device_of(*row)
    if printer.id and printer.id not in writer.printers:
        raise OperationError("not-found", "the printer was removed.")
    printer = replace(printer, changed_us=change.now_us, owner_epoch=_epoch(db, printer))
    comes_home = printer.is_ours and _is_foreign(db, printer.id)
    fields = printer_fields(printer)
    rules = {name: fields[name] for name in ("policies", "senders")}
    names = names_in(printer.policies, printer.senders)
    writer.add_record(
        Kind.PRINTER_CHANGED,
        change.actor,
        change.now_us,
        {
            "printer": printer.guid.bytes,
            "name": printer.name,
            "device": device.guid.bytes if device else None,
            **{name: value for name, value in fields.items() if name not in rules},
        },
        {**rules, "names": names} if any(rules.values()) else None,  # they may name people
    )
    if printer.id:
        db.execute(
            "UPDATE printer SET name = ?, device_id = ?, fields = ? WHERE id = ?",
            (printer.name, printer.device_id, pack(fields), printer.id),
        )
    else:
        id_ = db.execute(
            "INSERT INTO printer (guid, name, device_id, fields) VALUES (?, ?, ?, ?)",
            (printer.guid.bytes, printer.name, printer.device_id, pack(fields)),
        ).lastrowid
        assert id_ is not None
        printer = replace(printer, id=id_)
    writer.printers[printer.id] = printer.guid.bytes
    writer.take_claim(printer.id)
    gate.learn(writer, printer)
    writer.events.append(store.PrinterChanged(printer.id, printer, device))
    if comes_home and printer.id in writer.gates:
        _stop_at_gate(writer, printer.id, change)
    return printer


def _is_foreign(db: sqlite3.Connection, printer_id: int) -> bool:
    """Whether the printer belongs to another node, before a change of it."""
    row = db.execute(
        "SELECT id, guid, name, device_id, fields FROM printer WHERE id = ?", (printer_id,)
    ).fetchone()
    return row is not None and not printer_of(*row).is_ours


def _stop_at_gate(writer: SqliteStore, printer_id: int, change: store.PutPrinter) -> None:
    """What waits for a printer that was another node's would have stopped there: it does here."""
    writer.flush()
    waiting = writer.db.execute(
        "SELECT id FROM job INDEXED BY job_unfinished WHERE finished_us IS NULL "
        "AND printer_id = ? AND state = ?",
        (printer_id, NUMBER[JobState.PENDING]),
    ).fetchall()
    for (job_id,) in waiting:
        if not gate.has_passed(writer.db, job_id):
            hold = store.ChangeJob(
                job_id,
                JobEvent.HOLD,
                change.now_us,
                change.actor,
                (writer.gates[printer_id],),
                only_from=(JobState.PENDING,),
            )
            jobs.change_job(writer, hold)


def _epoch(db: sqlite3.Connection, printer: Printer) -> int:
    """How often it was given to another owner, this time included."""
    if not printer.id:
        return 0
    row = db.execute(
        "SELECT id, guid, name, device_id, fields FROM printer WHERE id = ?", (printer.id,)
    ).fetchone()
    before = printer_of(*row)
    return before.owner_epoch + (before.owner != printer.owner)


def remove_printer(writer: SqliteStore, change: store.RemovePrinter) -> None:
    writer.flush()
    guid = writer.printers.get(change.printer_id)
    if guid is None:
        raise OperationError("not-found", "the printer was removed already.")
    waiting, name = writer.db.execute(
        "SELECT count(*), (SELECT name FROM printer WHERE id = ?1) FROM job "
        "WHERE printer_id = ?1 AND finished_us IS NULL",
        (change.printer_id,),
    ).fetchone()
    if waiting:
        raise OperationError(
            "not-possible",
            f"jobs that are not finished on {name}: {waiting}.",
            f"Move or cancel them first: `spoold printer redirect {name} OTHER` or "
            f"`spoold job cancel --printer {name}`.",
        )
    writer.add_record(Kind.PRINTER_REMOVED, change.actor, change.now_us, {"printer": guid})
    forget_printer(writer, change.printer_id)


def removed_printers(db: sqlite3.Connection) -> dict[int, str]:
    """What printers were called that are there no more, as far as that was kept."""
    rows = db.execute("SELECT id, fields FROM printer WHERE name IS NULL")
    return {id_: unpack(packed).get(REMOVED_NAME, "") for id_, packed in rows}


def forget_printer(writer: SqliteStore, printer_id: int) -> None:
    """Its row stays, and what it was called, for the jobs that it had; the name is free."""
    name, packed = writer.db.execute(
        "SELECT name, fields FROM printer WHERE id = ?", (printer_id,)
    ).fetchone()
    fields = pack({**unpack(packed), REMOVED_NAME: name})
    writer.db.execute(
        "UPDATE printer SET name = NULL, fields = ? WHERE id = ?", (fields, printer_id)
    )
    forget_repairs(writer.db, writer.printers.pop(printer_id))
    writer.take_claim(printer_id)
    writer.gates.pop(printer_id, None)
    writer.events.append(store.PrinterChanged(printer_id, None, None))


def forget_repairs(db: sqlite3.Connection, printer: bytes) -> None:
    """The printer was removed: what sites have changed of it waits for nobody's word any more."""
    db.execute("DELETE FROM repair WHERE printer = ?", (printer,))


def put_provider(writer: SqliteStore, change: store.PutProvider) -> None:
    db = writer.db
    row = db.execute("SELECT guid, revoked FROM provider WHERE name = ?", (change.name,)).fetchone()
    if row is not None and row[0] != change.guid.bytes:
        raise OperationError(
            "conflict", f"there is a provider {change.name} already.", "Revoke it, or rename."
        )
    if row is not None and row[1]:
        raise OperationError(
            "conflict", f"the provider {change.name} was revoked.", "Enrol it by another name."
        )
    fields = {"may_assert": [normalise_name(u) or u for u in change.may_assert]}
    writer.add_record(
        Kind.PROVIDER_ENROLLED,
        change.actor,
        change.now_us,
        {"provider": change.guid.bytes, "name": change.name, "serial": change.serial},
        fields,
    )
    db.execute(
        "INSERT INTO provider (guid, name, fields, revoked) VALUES (?, ?, ?, 0) "
        "ON CONFLICT (guid) DO UPDATE SET fields = excluded.fields",
        (change.guid.bytes, change.name, pack(fields)),
    )
    db.execute(
        "INSERT INTO certificate (serial, holder, not_after_us, revoked) VALUES (?, ?, ?, 0)",
        (change.serial, change.guid.bytes, change.not_after_us),
    )


def revoke_provider(writer: SqliteStore, change: store.RevokeProvider) -> list[str]:
    db = writer.db
    row = db.execute("SELECT guid FROM provider WHERE name = ?", (change.name,)).fetchone()
    if row is None:
        raise OperationError(
            "not-found", f"there is no provider {change.name}.", "See `spoold provider list`."
        )
    serials = [
        serial
        for (serial,) in db.execute("SELECT serial FROM certificate WHERE holder = ?", (row[0],))
    ]
    writer.add_record(
        Kind.PROVIDER_REVOKED,
        change.actor,
        change.now_us,
        {"provider": row[0], "name": change.name, "serials": serials},
    )
    db.execute("UPDATE provider SET revoked = 1 WHERE guid = ?", (row[0],))
    db.execute("UPDATE certificate SET revoked = 1 WHERE holder = ?", (row[0],))
    writer.events.append(store.ProviderRevoked(UUID(bytes=row[0]), tuple(serials)))
    return serials
