"""What records of other nodes change here, by their kinds; see `receiving` for how they come.

Facts are taken as they are: what was printed was printed, and what was charged is posted. A person
is the same one by key, else by the normalised name. Kinds that change nothing here (settings of the
other node, its sessions) are only kept; one that this program does not know is quarantined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model import policy
from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.person import normalise_name
from spoold.model.record import Kind, Record
from spoold.spool import booking, remote_jobs, repairs, store

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

guid_bytes = remote_jobs.guid_bytes


@dataclass(slots=True)
class Site:
    """Whose records are applied, and what one transaction has gathered of them.

    `jobs` are written together at the end: most records tell of the few jobs that go on. `erased`
    are positions whose personal part names somebody who is erased here. `by` posts its entries.
    """

    journal: UUID
    chain_id: int
    now_us: int
    jobs: dict[bytes, remote_jobs.Row] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)
    by: booking.By | None = None

    def write(self, writer: SqliteStore) -> None:
        remote_jobs.write(writer, self.journal.bytes, self.jobs)
        self.jobs.clear()

    def forget(self) -> None:
        """What was gathered was undone."""
        self.jobs.clear()


def apply(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    """Do what a record says.

    Raises:
        OperationError and others (`poison.POISON`): it cannot be done.
    """
    done = APPLY.get(fact.kind)
    if done is not None:
        done(writer, site, position, _at_our_time(fact, site.now_us))
    elif fact.kind not in KEPT:
        raise OperationError("not-possible", "this version of spoold does not know the kind.")


def _at_our_time(fact: Record, now_us: int) -> Record:
    """The record with the time when that was by the clock here; now, where nobody knows."""
    at_us = policy.told_at_us(fact.event_us, fact.clock_offset_us, now_us)
    if at_us == fact.event_us:
        return fact
    return replace(fact, event_us=now_us if at_us is None else at_us)


# -- people ------------------------------------------------------------------------------------


def person(writer: SqliteStore, key: bytes, name: str | None, now_us: int) -> tuple[bytes, bool]:
    """The key by which a person of another node is known here, and whether they are erased here.

    Who is not known yet is made, with that very key.
    """
    found = writer.lately.people.get(guid_bytes(key))
    if found is not None:
        return found
    db = writer.db
    row = db.execute("SELECT key, name FROM person WHERE key = ?", (key,)).fetchone()
    if row is None:
        row = db.execute(
            "SELECT person.key, person.name FROM joined JOIN person "
            "ON person.id = joined.person_id WHERE joined.key = ?",
            (key,),
        ).fetchone()
    if row is not None:
        return writer.lately.note_person(key, row[0], is_erased=row[1] is None)
    name = None if name is None else normalise_name(name)
    if name is not None:
        row = db.execute("SELECT id, key FROM person WHERE name = ?", (name,)).fetchone()
        if row is not None:
            db.execute("INSERT INTO joined VALUES (?, ?)", (key, row[0]))
            return row[1], False
        writer.add_record(Kind.PERSON_NAMED, "node", now_us, {"person": key}, {"name": name})
    db.execute("INSERT INTO person (key, name) VALUES (?, ?)", (key, name))
    return key, False


def _person_named(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    name = (fact.personal or {}).get("name")
    _, is_erased = person(writer, fact.payload["person"], name, site.now_us)
    if is_erased:
        site.erased.add(position)


# -- jobs --------------------------------------------------------------------------------------


def _job_accepted(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    told, personal = fact.payload, fact.personal or {}
    owner, is_erased = person(writer, told["owner"], None, site.now_us)
    if is_erased:
        site.erased.add(position)
        personal = {}
    state = JobState(told["state"])
    uuid = told["uuid"]
    site.jobs[uuid] = remote_jobs.Row(
        uuid=guid_bytes(uuid),
        job_id=int(told["job"]),
        printer=guid_bytes(told["printer"]),
        owner=owner,
        state=state,
        reasons=" ".join(told["reasons"]),
        title=str(personal.get("title", "")),
        intake=str(told["intake"]),
        copies=int(told["copies"]),
        size=int(told["size"]),
        format=str(told["format"]),
        created_us=int(fact.event_us),
        changed_us=int(fact.event_us),
        finished_us=fact.event_us if state.is_final else None,
    )
    remote_jobs.merge(writer, site.journal, uuid, state, site.now_us)


def _job_moved(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    """Any record that says in which state its job is from then on."""
    told = fact.payload
    row = remote_jobs.row_of(writer, site.journal.bytes, site.jobs, told)
    before, was_given = row.state, JobReason.JOB_WAITS_ELSEWHERE in row.reasons.split()
    row.state = JobState(told["state"])
    row.reasons = " ".join(told["reasons"])
    row.changed_us = int(fact.event_us)
    row.finished_us = row.changed_us if row.state.is_final else None
    if told.get("printer") is not None:
        row.printer = guid_bytes(told["printer"])
    if fact.kind == Kind.DOCUMENT_ADDED:
        first = told["number"] == 1
        row.size = int(told["size"]) + (0 if first else row.size)
        row.format = str(told["format"]) if first else row.format
    if row.state is JobState.CANCELED:
        if not before.is_final:
            journal, reasons, now_us = site.journal, told["reasons"], site.now_us
            remote_jobs.cancel_too(writer, journal, row.uuid, reasons, now_us, was_given=was_given)
    elif row.state is not before:
        remote_jobs.merge(writer, site.journal, row.uuid, row.state, site.now_us)
    elif JobReason.JOB_WAITS_ELSEWHERE in told["reasons"]:
        remote_jobs.note_given(writer, row.uuid)


def _attempt_started(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    told = fact.payload
    row = remote_jobs.row_of(writer, site.journal.bytes, site.jobs, told)
    row.state = JobState.PROCESSING
    row.reasons = ""
    row.attempts = int(told["attempt"])
    row.changed_us = int(fact.event_us)
    if told.get("printer") is not None:
        row.printer = guid_bytes(told["printer"])


def _job_counted(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    told = fact.payload
    row = remote_jobs.row_of(writer, site.journal.bytes, site.jobs, told)
    row.impressions = _count(told["impressions"])
    row.media_sheets = _count(told["media_sheets"])


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _job_set(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    row = remote_jobs.row_of(writer, site.journal.bytes, site.jobs, fact.payload)
    if "copies" in fact.payload:
        row.copies = int(fact.payload["copies"])
    title = (fact.personal or {}).get("title")
    if title is not None:
        row.title = str(title)


def _job_removed(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    told = fact.payload
    if told["documents_only"]:
        return
    site.jobs.pop(told["uuid"], None)
    remote_jobs.remove(writer, site.journal.bytes, told["uuid"])


# -- the rest ----------------------------------------------------------------------------------


def _posted(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    def known(key: bytes) -> UUID:
        found, _ = person(writer, key, None, site.now_us)
        return UUID(bytes=found)

    if site.by is None:
        site.by = booking.By(site.journal, site.chain_id, known, site.now_us)
    site.by.position = position
    booking.book(writer, fact, site.by)


def _repaired(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    repairs.note(writer, site.journal, position, fact)


def _told(writer: SqliteStore, site: Site, position: int, fact: Record) -> None:
    """Something that an operator of this node wants to hear of, too."""
    writer.events.append(store.SiteTold(site.journal, position, fact.kind))


Apply = Callable[["SqliteStore", Site, int, Record], None]
APPLY: dict[str, Apply] = {
    Kind.PERSON_NAMED: _person_named,
    Kind.JOB_ACCEPTED: _job_accepted,
    Kind.DOCUMENT_ADDED: _job_moved,
    Kind.JOB_CHANGED: _job_moved,
    Kind.JOB_RELEASED: _job_moved,
    Kind.JOB_COUNTED: _job_counted,
    Kind.JOB_ATTRIBUTES_SET: _job_set,
    Kind.JOB_REMOVED: _job_removed,
    Kind.ATTEMPT_STARTED: _attempt_started,
    Kind.ATTEMPT_ENDED: _job_moved,
    Kind.LEDGER_POSTED: _posted,
    Kind.PRINTER_REPAIRED: _repaired,
    Kind.LOGIN_REFUSED: _told,
    Kind.CERTIFICATE_REFUSED: _told,
    Kind.DOCUMENT_QUARANTINED: _told,
}
# Known, and kept: what they say concerns the other node alone.
KEPT = frozenset(map(str, Kind)) - APPLY.keys()
