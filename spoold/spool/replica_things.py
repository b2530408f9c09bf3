"""What else a site copies: printers with their devices, who comes in, accounts, prices, terms.

A name is one thing's. What is the site's own and has a name from upstream is called otherwise from
then on, as `NAME-SITE`; what upstream has called otherwise meanwhile is, for the moment until that
comes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.job import JobReason
from spoold.model.mfd import SessionEnd
from spoold.model.pricing import PriceList
from spoold.model.printer import Device, Printer
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent
from spoold.spool import accounts, gate, handed, jobs, mfds, objects, repairs, sessions, store
from spoold.spool.replica_people import forget_certificates, put_certificates
from spoold.spool.rows import device_of, pack, printer_fields, printer_of, unpack

if TYPE_CHECKING:
    from spoold.spool.replica import Taking
    from spoold.spool.sqlite import SqliteStore

WAS_ELSEWHERE = (
    "Its printer was another node's meanwhile, which may have printed it: print it "
    "(`spoold job release`), or cancel it (`spoold job cancel`)."
)
_NAMING = ("members", "standby", "releases_at")  # fields of a printer that name others


def _free_name(writer: SqliteStore, table: str, name: str, taking: Taking) -> str:
    wanted = f"{name}-{taking.site_name}"
    number, found = 1, wanted
    while writer.db.execute(f"SELECT 1 FROM {table} WHERE name = ?", (found,)).fetchone():
        number += 1
        found = f"{wanted}-{number}"
    return found


def _make_way(writer: SqliteStore, table: str, name: str, key: bytes, taking: Taking) -> None:
    """Nothing else has the name from now on."""
    db = writer.db
    row = db.execute(f"SELECT guid FROM {table} WHERE name = ? AND guid != ?", (name, key))
    other = row.fetchone()
    if other is None:
        return
    is_upstreams = db.execute(
        "SELECT 1 FROM replica WHERE kind = ? AND key = ?", (table, other[0])
    ).fetchone()
    if is_upstreams:
        became = f"{name} ({other[0].hex()[:12]})"
    elif table == "printer" and _gives_way(writer, other[0], taking):
        return
    else:
        became = _free_name(writer, table, name, taking)
        taking.note(table, other[0], name, became)
        writer.add_record(
            Kind.OBJECT_RENAMED,
            "node",
            taking.now_us,
            {"kind": table, "object": other[0], "was": name, "name": became},
        )
    db.execute(f"UPDATE {table} SET name = ? WHERE guid = ?", (became, other[0]))
    if not is_upstreams:
        _follow(writer, table, name, became)
    if table == "printer":
        _tell_printer(writer, other[0])
    elif table == "mfd":
        _tell_mfd(writer, other[0], (), ends_tokens=False)


def _gives_way(writer: SqliteStore, guid: bytes, taking: Taking) -> bool:
    """The printer that this node has made for itself, and that nobody has used, goes."""
    printer, _ = _look(writer, guid)
    if not printer.is_automatic or _naming(writer, printer.name):
        return False
    used = writer.db.execute("SELECT 1 FROM job WHERE printer_id = ? LIMIT 1", (printer.id,))
    if used.fetchone() is not None:
        return False
    writer.add_record(Kind.PRINTER_REMOVED, "node", taking.now_us, {"printer": guid})
    objects.forget_printer(writer, printer.id)
    return True


def _naming(writer: SqliteStore, name: str) -> list[tuple[int, bytes, dict[str, Any]]]:
    """The site's own printers that name this one: row, GUID and fields."""
    rows = writer.db.execute(
        "SELECT id, guid, fields FROM printer WHERE name IS NOT NULL "
        "AND guid NOT IN (SELECT key FROM replica WHERE kind = 'printer')"
    ).fetchall()
    found = [(id_, guid, unpack(packed)) for id_, guid, packed in rows]
    return [one for one in found if any(name in one[2].get(key, ()) for key in _NAMING)]


def _follow(writer: SqliteStore, table: str, name: str, became: str) -> None:
    """What of the site's own names the thing, or lies in it, goes with it."""
    db = writer.db
    if table == "account":
        db.execute(
            "UPDATE account SET name = ? || substr(name, ?) WHERE name > ? AND name < ? "
            "AND guid NOT IN (SELECT key FROM replica WHERE kind = 'account')",
            (became, len(name) + 1, f"{name}/", f"{name}0"),
        )
    elif table == "printer":
        for printer_id, guid, fields in _naming(writer, name):
            fields |= {
                key: [became if one == name else one for one in fields[key]]
                for key in _NAMING
                if key in fields
            }
            db.execute("UPDATE printer SET fields = ? WHERE id = ?", (pack(fields), printer_id))
            _tell_printer(writer, guid)


# -- printers ----------------------------------------------------------------------------------


def apply_printer(
    writer: SqliteStore, key: bytes, state: dict[str, Any] | None, taking: Taking
) -> None:
    if state is None:
        _remove_printer(writer, key, taking)
        return
    db = writer.db
    _make_way(writer, "printer", state["name"], key, taking)
    device_id = _put_device(writer, *state["device"]) if state["device"] else None
    before = db.execute("SELECT id, fields FROM printer WHERE guid = ?", (key,)).fetchone()
    db.execute(
        "INSERT INTO printer (guid, name, device_id, fields) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (guid) DO UPDATE SET name = excluded.name, device_id = excluded.device_id, "
        "fields = excluded.fields",
        (key, state["name"], device_id, state["fields"]),
    )
    repairs.keep_over(writer, key, taking.now_us)
    if before is not None:
        _fence(writer, before[0], unpack(before[1]), unpack(state["fields"]), taking.now_us)
    _tell_printer(writer, key)


def _fence(
    writer: SqliteStore,
    printer_id: int,
    before: dict[str, Any],
    fields: dict[str, Any],
    now_us: int,
) -> None:
    """A printer of this site was another node's meanwhile, which may have printed what this one was
    given before: in the transaction by which it can print again, that is held until it is offered
    once more. What is in doubt here is to be settled first.
    """
    if fields["owner"] is not None or before.get("owner_epoch") == fields.get("owner_epoch"):
        return
    for job_id, words in handed.fetched_of(writer.db, printer_id):
        reasons = tuple(dict.fromkeys((*words, JobReason.JOB_REHOMED.value)))
        change = store.ChangeJob(job_id, JobEvent.HOLD, now_us, "node", reasons, WAS_ELSEWHERE)
        jobs.change_job(writer, change)


def _put_device(writer: SqliteStore, guid: bytes, uri: str, fields: bytes) -> int:
    db = writer.db
    known = db.execute("SELECT id, uri, fields FROM device WHERE guid = ?", (guid,)).fetchone()
    if known is None:
        row = db.execute(
            "INSERT INTO device (guid, uri, fields) VALUES (?, ?, ?) RETURNING id",
            (guid, uri, fields),
        ).fetchone()
        return int(row[0])
    if known[1:] != (uri, fields):
        if known[1] != uri:
            objects.note_old_address(writer, known[0], known[1])
        db.execute("UPDATE device SET uri = ?, fields = ? WHERE id = ?", (uri, fields, known[0]))
        others = db.execute(
            "SELECT guid FROM printer WHERE device_id = ? AND name IS NOT NULL", (known[0],)
        )
        for (other,) in others.fetchall():
            _tell_printer(writer, other)
    return int(known[0])


def _look(writer: SqliteStore, guid: bytes) -> tuple[Printer, Device | None]:
    *row, device_guid, uri, fields = writer.db.execute(
        "SELECT printer.id, printer.guid, printer.name, device_id, printer.fields, device.guid, "
        "device.uri, device.fields FROM printer LEFT JOIN device ON device.id = device_id "
        "WHERE printer.guid = ?",
        (guid,),
    ).fetchone()
    device = None if row[3] is None else device_of(row[3], device_guid, uri, fields)
    return printer_of(*row), device


def _tell_printer(writer: SqliteStore, guid: bytes) -> None:
    """The printer is as this transaction leaves it."""
    printer, device = _look(writer, guid)
    writer.printers[printer.id] = guid
    writer.take_claim(printer.id)
    gate.learn(writer, printer)
    writer.events.append(store.PrinterChanged(printer.id, printer, device))


def _remove_printer(writer: SqliteStore, key: bytes, taking: Taking) -> None:
    """It goes, unless jobs wait on it here: then it stays, the site's own, and takes no more."""
    db = writer.db
    row = db.execute(
        "SELECT id, name FROM printer WHERE guid = ? AND name IS NOT NULL", (key,)
    ).fetchone()
    if row is None:
        return
    printer_id, name = row
    (waiting,) = db.execute(
        "SELECT count(*) FROM job WHERE printer_id = ? AND finished_us IS NULL", (printer_id,)
    ).fetchone()
    if waiting:
        printer, _ = _look(writer, key)
        closed = replace(printer, accepting=False, changed_us=taking.now_us)
        db.execute(
            "UPDATE printer SET fields = ? WHERE id = ?", (pack(printer_fields(closed)), printer_id)
        )
        objects.forget_repairs(db, key)
        taking.note("printer", key, name, f"removed upstream; {waiting} jobs wait here")
        _tell_printer(writer, key)
        return
    objects.forget_printer(writer, printer_id)


# -- who comes in ------------------------------------------------------------------------------


def apply_mfd(
    writer: SqliteStore, key: bytes, state: dict[str, Any] | None, taking: Taking
) -> None:
    db = writer.db
    row = db.execute("SELECT token, revoked FROM mfd WHERE guid = ?", (key,)).fetchone()
    if state is None:
        if row is not None:
            db.execute("UPDATE mfd SET token = NULL, revoked = 1 WHERE guid = ?", (key,))
            sessions.end_at(writer, key, SessionEnd.DEVICE_REVOKED, taking.now_us, "node")
            forget_certificates(writer, key)
            _tell_mfd(writer, key, (), ends_tokens=True)
            db.execute("DELETE FROM mfd WHERE guid = ?", (key,))
        return
    _make_way(writer, "mfd", state["name"], key, taking)
    db.execute(
        "INSERT INTO mfd (guid, name, fields, token, revoked, created_us, changed_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (guid) DO UPDATE SET name = excluded.name, "
        "fields = excluded.fields, token = excluded.token, revoked = excluded.revoked, "
        "changed_us = excluded.changed_us",
        (
            key, state["name"], state["fields"], state["token"], state["revoked"],
            state["created_us"], state["changed_us"],
        ),
    )  # fmt: skip
    if state["revoked"] and row is not None and not row[1]:
        sessions.end_at(writer, key, SessionEnd.DEVICE_REVOKED, taking.now_us, "node")
    serials = put_certificates(writer, key, state["certificates"])
    is_other = row is not None and row[0] is not None and row[0] != state["token"]
    _tell_mfd(writer, key, serials, ends_tokens=is_other)


def _tell_mfd(
    writer: SqliteStore, guid: bytes, serials: tuple[str, ...], *, ends_tokens: bool
) -> None:
    mfd, token = mfds.find(writer.db, guid)
    writer.events.append(store.MfdChanged(mfd, token, serials, ends_tokens=ends_tokens))


def apply_provider(
    writer: SqliteStore, key: bytes, state: dict[str, Any] | None, taking: Taking
) -> None:
    db = writer.db
    if state is None:
        forget_certificates(writer, key)
        db.execute("DELETE FROM provider WHERE guid = ?", (key,))
        writer.events.append(store.ProviderRevoked(UUID(bytes=key), ()))
        return
    _make_way(writer, "provider", state["name"], key, taking)
    db.execute(
        "INSERT INTO provider (guid, name, fields, revoked) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (guid) DO UPDATE SET name = excluded.name, fields = excluded.fields, "
        "revoked = excluded.revoked",
        (key, state["name"], state["fields"], state["revoked"]),
    )
    serials = put_certificates(writer, key, state["certificates"])
    if serials:
        writer.events.append(store.ProviderRevoked(UUID(bytes=key), serials))


# -- money -------------------------------------------------------------------------------------


def apply_account(
    writer: SqliteStore, key: bytes, state: dict[str, Any] | None, taking: Taking
) -> None:
    db = writer.db
    if state is None:
        db.execute("UPDATE account SET name = NULL, code = NULL WHERE guid = ?", (key,))
        db.execute(
            "DELETE FROM account_access WHERE account_id IN "
            "(SELECT id FROM account WHERE guid = ?)",
            (key,),
        )
        return
    _make_way(writer, "account", state["name"], key, taking)
    # Whoever had the code before has another one upstream, or is the site's own.
    db.execute("UPDATE account SET code = NULL WHERE code = ? AND guid != ?", (state["code"], key))
    row = (key, state["name"], state["code"], state["fields"])
    accounts.keep_row(writer, (*row, state["created_us"], state["changed_us"]))


def apply_prices(
    writer: SqliteStore, key: bytes, state: dict[str, Any] | None, taking: Taking
) -> None:
    db, version = writer.db, int(key)
    if state is None:
        db.execute("DELETE FROM price_list WHERE version = ?", (version,))
    else:
        PriceList.from_map(unpack(state["fields"]))  # what can be read here
        # Prices are those of the whole deployment: charges keep what they were made by.
        own = db.execute(
            "DELETE FROM price_list WHERE CAST(version AS BLOB) NOT IN "
            "(SELECT key FROM replica WHERE kind = 'prices') RETURNING version"
        ).fetchall()
        for (one,) in own:
            writer.price_lists.pop(one, None)
            taking.note("prices", key, str(one), "the prices of upstream")
        db.execute(
            "INSERT INTO price_list VALUES (?, ?, ?) ON CONFLICT (version) DO UPDATE SET "
            "from_us = excluded.from_us, fields = excluded.fields",
            (version, state["from_us"], state["fields"]),
        )
    writer.price_lists.pop(version, None)
    writer.events.append(store.PricesChanged(version))


def apply_terms(
    writer: SqliteStore, key: bytes, state: dict[str, Any] | None, taking: Taking
) -> None:
    if state is None:
        writer.db.execute("DELETE FROM terms")
        return
    writer.db.execute(
        "INSERT INTO terms VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET fields = excluded.fields",
        (state["fields"],),
    )
