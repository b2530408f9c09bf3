"""What of the spool speaks of one person, and how it is taken away; `erasure` leads through it.

Records say who they are about by the person's key, or by a job of that person; what names people
lies in their personal part, which goes, and the chain over the rest still verifies. A record whose
personal part says the very name, in a list of several, goes by the name. What others wrote about
somebody in a text stays: it is others' record. It is counted, so that somebody looks at it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from spoold.codec.record import SALT_BYTES
from spoold.model.errors import OperationError
from spoold.model.record import Kind
from spoold.spool import store, synchronised
from spoold.spool.rows import CHAIN_SHIFT, pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

ROWS_MAX = 2000  # of records that are looked at in one go
# Tables that know a person by row, and in which nothing stays. Those that know somebody by key,
# as the ledger does, stay as they are: nobody is behind that key any more.
_TABLES = ("directory", "card", "delegate", "sourced", "joined")


class Person(NamedTuple):
    """`joined` are keys by which records know the person, too: see `synchronised`."""

    id: int
    key: bytes
    name: str
    full_name: str = ""
    joined: tuple[bytes, ...] = ()

    @property
    def keys(self) -> tuple[bytes, ...]:
        return (self.key, *self.joined)

    @property
    def spelled(self) -> tuple[bytes, ...]:
        """The names as they may stand in what cannot be read."""
        return tuple(one.encode() for one in (self.name, self.full_name) if one)

    @property
    def names(self) -> re.Pattern[str]:
        """Finds a name of the person in a text, as a word of its own, in whatever case."""
        every = "|".join(re.escape(one) for one in (self.name, self.full_name) if one)
        return re.compile(rf"(?<!\w)({every})(?!\w)", re.IGNORECASE)


class Traces(NamedTuple):
    """What a stretch of the journal says of somebody."""

    last_id: int  # the last record that was looked at; 0: there was none
    records: list[int]  # those that have a personal part which is to go
    jobs: set[int]
    uuids: list[bytes]
    mentions: list[int]  # records of others whose personal part has a text that names the person


# -- look-ups ----------------------------------------------------------------------------------


def find_person(db: sqlite3.Connection, name: str) -> Person | None:
    """Whoever has this name, with or without being a user."""
    row = db.execute("SELECT id, key, name FROM person WHERE name = ?", (name,)).fetchone()
    return None if row is None else _person(db, row)


def _person(db: sqlite3.Connection, row: tuple[int, bytes, str]) -> Person:
    packed = db.execute("SELECT fields FROM directory WHERE person_id = ?", row[:1]).fetchone()
    full_name = unpack(packed[0]).get("full_name", "") if packed else ""
    return Person(*row, full_name, synchronised.joined(db, row[0]))


def find_by_key(db: sqlite3.Connection, key: bytes) -> Person | None:
    row = db.execute(
        "SELECT id, key, name FROM person WHERE key = ? AND name IS NOT NULL", (key,)
    ).fetchone()
    return None if row is None else _person(db, row)


def jobs_of(
    db: sqlite3.Connection, person_id: int, after_id: int, limit: int
) -> list[tuple[int, int, bool]]:
    """(id, state, whether it has finished) of the next jobs that somebody owns."""
    rows = db.execute(
        "SELECT id, state, finished_us IS NOT NULL FROM job WHERE owner_id = ? AND id > ? "
        "ORDER BY id LIMIT ?",
        (person_id, after_id, limit),
    )
    return rows.fetchall()


def traces(
    db: sqlite3.Connection, person: Person, jobs: set[int], after_id: int, limit: int
) -> Traces:
    """The next records behind a row, and which of them speak of somebody who had these jobs."""
    found = Traces(after_id, [], set(jobs), [], [])
    last_id, names = 0, person.names
    has_key = " OR ".join(["instr(payload, ?)"] * len(person.keys))
    # The first incarnation of each journal of others stands for all of them.
    journals = dict(
        db.execute(
            "SELECT chain.id, (SELECT min(id) FROM chain AS first WHERE first.journal = "
            "chain.journal) FROM chain WHERE is_own = 0"
        )
    )
    rows = db.execute(
        f"SELECT id, payload, personal, {has_key} FROM record WHERE id > ? ORDER BY id LIMIT ?",
        (*person.keys, after_id, limit),
    )
    for id_, payload, personal, has_key in rows:
        last_id = id_
        is_about = _speaks_of(found, person, payload, has_key, journals.get(id_ >> CHAIN_SHIFT, 0))
        if personal is None:
            continue
        texts = [] if is_about else _texts(personal)
        if texts is None:  # it is in quarantine
            is_about, texts = any(one in personal for one in person.spelled), []
        if is_about or person.name in texts:
            found.records.append(id_)
        elif any(names.search(text) for text in texts):
            found.mentions.append(id_)
    return found._replace(last_id=last_id)


def count_reasons(db: sqlite3.Connection, person: Person) -> int:
    """In how many entries of the ledger that are others' the reason names somebody."""
    rows = db.execute("SELECT reason FROM entry WHERE reason != '' AND holder != ?", (person.key,))
    names = person.names
    return sum(names.search(reason) is not None for (reason,) in rows)


def _speaks_of(found: Traces, person: Person, packed: bytes, has_key: int, journal: int) -> bool:
    """Whether a record is about the person or one of the person's jobs, which it may tell of.

    Each node numbers its own jobs: `journal` (0: this node's) tells them apart.
    """
    payload = _map(packed)
    if payload is None:
        return bool(has_key)
    job = payload.get("job")
    if isinstance(job, int):
        job |= journal << CHAIN_SHIFT
    if has_key and payload.get("owner") in person.keys and isinstance(job, int):
        found.jobs.add(job)
    if isinstance(job, int) and job in found.jobs:
        if isinstance(payload.get("uuid"), bytes):
            found.uuids.append(payload["uuid"])
        return True
    return bool(has_key) and any(key in payload.values() for key in person.keys)


def _map(packed: bytes) -> dict[Any, Any] | None:
    """What is packed there; None: nothing that a record may hold. Other nodes send such, too."""
    try:
        found = unpack(packed)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    return found if isinstance(found, dict) else None


def _texts(personal: bytes) -> list[str] | None:
    """The values of a personal part that are texts, alone or in a list; None: it cannot be read."""
    values = _map(personal[SALT_BYTES:])
    return None if values is None else list(_flat(values))


def _flat(values: dict[Any, Any]) -> Iterator[str]:
    for value in values.values():
        every = value if isinstance(value, list) else [value]
        yield from (one for one in every if isinstance(one, str))


# -- changes -----------------------------------------------------------------------------------


def erase_records(writer: SqliteStore, change: store.EraseRecords) -> None:
    writer.db.executemany(
        "UPDATE record SET personal = NULL WHERE id = ?", [(one,) for one in change.ids]
    )


def erase_person(writer: SqliteStore, change: store.ErasePerson) -> int:
    """The last step: nobody finds the person any more, and nothing is added about them."""
    writer.flush()
    db = writer.db
    person = find_by_key(db, change.key)
    if person is None:
        raise OperationError("not-found", "this person is erased already.")
    if db.execute("SELECT 1 FROM job WHERE owner_id = ? LIMIT 1", (person.id,)).fetchone():
        raise OperationError("busy", "a job of this person came in meanwhile.", "Erase once more.")
    erased = _erase_tail(writer, person, change)
    for table in _TABLES:
        db.execute(f"DELETE FROM {table} WHERE person_id = ?", (person.id,))
    db.execute("DELETE FROM delegate WHERE delegate_id = ?", (person.id,))
    db.execute("DELETE FROM verifier WHERE person = ?", (change.key,))
    db.execute("UPDATE person SET name = NULL WHERE id = ?", (person.id,))
    db.executemany(
        "UPDATE tombstone SET submitter = '' WHERE uuid = ? AND submitter LIKE 'address:%'",
        [(uuid,) for uuid in change.uuids],
    )
    marks = ",".join("?" * len(person.keys))
    db.execute(f"UPDATE remote_job SET title = '' WHERE owner IN ({marks})", person.keys)
    # What an accountant wrote beside an amount; the record of it has it in its personal part.
    db.execute("UPDATE entry SET reason = '' WHERE holder = ?", (person.key,))
    _forget_spokesmen(db, person.name)
    synchronised.forget_troubles(db)
    writer.people.pop(person.name, None)
    writer.lately.clear()
    writer.add_record(Kind.PERSON_ERASED, change.actor, change.now_us, {"person": person.key})
    return erased


def _erase_tail(writer: SqliteStore, person: Person, change: store.ErasePerson) -> int:
    """Records that were written while the others were looked through."""
    after_id, jobs, count = change.after_id, set(change.job_ids), 0
    while True:
        found = traces(writer.db, person, jobs, after_id, ROWS_MAX)
        erase_records(writer, store.EraseRecords(tuple(found.records)))
        count += len(found.records)
        if not found.last_id:
            return count
        after_id, jobs = found.last_id, found.jobs


def _forget_spokesmen(db: sqlite3.Connection, name: str) -> None:
    """No provider speaks for somebody who is not there."""
    for guid, packed in db.execute("SELECT guid, fields FROM provider").fetchall():
        fields = unpack(packed)
        if name in fields.get("may_assert", ()):
            fields["may_assert"] = [one for one in fields["may_assert"] if one != name]
            db.execute("UPDATE provider SET fields = ? WHERE guid = ?", (pack(fields), guid))
