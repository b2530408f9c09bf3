"""`job.explain`: the whole story of a job, in order, why it waits, and who may act on it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import KNOWN, STAFF
from spoold.daemon.operations.jobs import JOB, device_names, find_job
from spoold.daemon.operations.ownership import why_not_printed
from spoold.daemon.operations.plans import is_in_doubt
from spoold.daemon.operations.story_of_costs import cost_entries, counted_entry
from spoold.daemon.operations.table import Call, Operation
from spoold.daemon.operations.views import PAGE_BYTES_MAX, job_map, packed_size, plain_value
from spoold.daemon.operations.watch import Known
from spoold.dispatch.status import PrinterStatus
from spoold.model.job import ACTIVE, Document, Job, JobReason, JobState
from spoold.model.person import Known as HowKnown
from spoold.model.printer import Order, Printer
from spoold.model.record import Kind, Record
from spoold.model.transitions import TABLE, JobEvent
from spoold.model.user import User
from spoold.spool.store import Attempt, JobFilter

# What was done to a job stands in the journal, which has no index by job. The story reads at most
# this many records behind the acceptance, and as many at the journal's end.
RECORDS_READ_MAX = 8000
RECORDS_PAGE = 500
AHEAD_COUNTED_MAX = 500
DOCUMENTS_SHOWN_MAX = 20

_INTAKES = {
    "raw": "a raw stream",
    "frames": "the frames protocol",
    "lpd": "LPD",
    "ipp": "IPP",
    "handed-on": "another node",
    "report": "its provider's report",
}
_OUTCOMES = {
    "delivered": "delivered",
    "handed-on": "handed on to another node",
    "deferred": "put off: nothing of it printed",
    "refused": "refused",
    "in-doubt": "in doubt: bytes left, and nobody knows whether they printed",
}
_ACTS: dict[str, str] = {
    JobEvent.SUBMIT: "whole: no more documents come",
    JobEvent.NEXT: "settled: taken as printed; the next document follows",
    JobEvent.HOLD: "held",
    JobEvent.RELEASE: "released",
    JobEvent.CANCEL: "canceled",
    JobEvent.STOP: "asked to stop",
    JobEvent.RETRY: "to be printed once more",
    JobEvent.MOVE: "moved",
    JobEvent.ASSUME: "settled: taken as printed",
    JobEvent.REPRINT: "settled: to be printed again",
    JobEvent.MISFIT: "held: it cannot print here as it is",
    JobEvent.DAMAGE: "ended: its document is damaged",
    JobEvent.STALL: "stalled: the device does not go on",
    JobEvent.RESUME: "going on",
    JobEvent.REFUSE: "refused",
    JobEvent.HAND_ON: "at another node",
}

_CHANGES = frozenset(
    {Kind.JOB_CHANGED, Kind.DOCUMENT_ADDED, Kind.JOB_ATTRIBUTES_SET, Kind.JOB_COUNTED}
)

Entry = dict[str, Any]


def _entry(at_us: int, what: str, detail: str = "") -> Entry:
    return {"at_us": at_us, "what": what, "detail": plain_value(detail)}


# -- what happened -----------------------------------------------------------------------------


def origin(job: Job, people: dict[str, str], documents: list[Document]) -> list[Entry]:
    """Where the job came from, whose it is and how that is known."""
    host = job.client_host or "this machine"
    way = _INTAKES.get(job.intake, job.intake)
    told = [
        _entry(job.created_us, f"received from {host} over {way}", _described(job.document)),
        _entry(job.created_us, _whose(job), f"handed over by {_named(job.submitter, people)}"),
    ]
    if len(documents) > 1:
        told[0]["detail"] = f"{job.bytes_total} bytes in {len(documents)} documents"
        told += [
            _entry(job.created_us, f"document {number}", _described(document))
            for number, document in enumerate(documents[:DOCUMENTS_SHOWN_MAX], 1)
        ]
    if job.copies > 1:
        by = "the document itself asks" if job.copies_embedded else "the printer is asked"
        told.append(_entry(job.created_us, f"{job.copies} copies", f"{by} for them"))
    return told


def _described(document: Document) -> str:
    if document.stored == "none":
        return "without a document"
    return f"{document.size} bytes of {document.format}, {document.digest}"


async def acceptance_entries(call: Call, job: Job, known: Known) -> list[Entry]:
    """What the record of the acceptance says beside; nothing when it is not kept any more."""
    records = await call.services.reader.records(job.position, 1)
    if not records or records[0].payload.get("uuid") != job.uuid.bytes:
        return []
    payload = records[0].payload
    state, reasons = payload.get("state"), payload.get("reasons", ())
    told = [_entry(job.created_us, f"accepted{_to(payload, known)}, {state}", ", ".join(reasons))]
    if JobReason.SUBMISSION_INTERRUPTED in reasons:
        why = job.message if JobReason.SUBMISSION_INTERRUPTED in job.reasons else ""
        told.append(_entry(job.created_us, "the submission was interrupted", why))
    return told


def _to(payload: dict[str, Any], known: Known) -> str:
    """The printer of a record, by the name that it has today."""
    printer = payload.get("printer")
    if printer is None:
        return ""
    names = [one.name for one in known.printers.values() if one.guid.bytes == printer]
    return f" to {names[0]}" if names else " to a printer that was removed since"


def _whose(job: Job) -> str:
    owner = job.owner
    if not owner.name:
        return "nobody said whose it is"
    by = f" ({owner.by})" if owner.by else ""
    return {
        HowKnown.CLAIMED: f"owner {owner.name}, as the sender claims{by}",
        HowKnown.MAPPED: f"owner {owner.name}, by a rule{by}",
        HowKnown.ASSERTED: f"owner {owner.name}, asserted by a provider{by}",
        HowKnown.AUTHENTICATED: f"owner {owner.name}, authenticated{by}",
    }[owner.known]


def _named(identity: str, people: dict[str, str]) -> str:
    kind, _, key = identity.partition(":")
    if kind == "provider":
        return f"the provider {people.get(key, key)}"
    if kind == "uid":
        return f"the local user {key}"
    if kind == "user":
        return f"the user {people.get(key, key)}"
    if kind == "address":
        return f"{key}, without credentials"
    return "the node" if identity == "node" else identity


def attempt_entries(attempt: Attempt, uri: str, documents: int) -> list[Entry]:
    """An attempt's beginning and, when it is known, its end with the evidence.

    `documents` is how many its job has.
    """
    what = f", document {attempt.document} of {documents}" if documents > 1 else ""
    told = [_entry(attempt.started_us, f"attempt {attempt.number} began{what}", uri)]
    if attempt.ended_us is None:
        return told
    parts = [attempt.reason, attempt.detail]
    if attempt.bytes_sent:
        parts.append(f"{attempt.bytes_sent} bytes sent")
    known = attempt.evidence.items()
    parts += [f"{key}={_in_words(plain_value(value))}" for key, value in known if key != "bytes"]
    outcome = _OUTCOMES.get(attempt.outcome, attempt.outcome)
    what = f"attempt {attempt.number} ended, {outcome}"
    return [*told, _entry(attempt.ended_us, what, "; ".join(part for part in parts if part))]


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def change_entry(record: Record, known: Known, people: dict[str, str]) -> Entry:
    """What somebody, or a rule, did to the job."""
    payload = record.payload
    if record.kind == Kind.JOB_COUNTED:
        return counted_entry(record)
    if record.kind == Kind.DOCUMENT_ADDED:
        number = payload.get("number", 1)
        what = "its document came" if number == 1 else f"document {number} came"
    elif record.kind == Kind.JOB_ATTRIBUTES_SET:
        names = [name for name in payload if name not in ("job", "uuid")]
        names += list(record.personal or ())
        what = f"changed: {', '.join(names)}"
    else:
        event = str(payload.get("event"))
        what = _ACTS.get(event, event) + _to(payload, known)
    by = "a client" if record.actor == "client" else _named(record.actor, people)
    reasons = ", ".join(payload.get("reasons", ()))
    parts = [reasons, (record.personal or {}).get("message", "")]
    return _entry(record.event_us, f"{what} by {by}", "; ".join(part for part in parts if part))


async def changes_of(call: Call, job: Job) -> tuple[list[Record], bool]:
    """The records of changes of the job, and whether all of the journal since was read."""
    services = call.services
    head = services.journal.head
    found: list[Record] = []
    start = job.position + 1
    ranges = [(start, head)]
    if head - start >= 2 * RECORDS_READ_MAX:
        ranges = [
            (start, start + RECORDS_READ_MAX - 1),
            (head - RECORDS_READ_MAX + 1, head),
        ]
    for first, last in ranges:
        while first <= last:
            records = await services.reader.records(first, min(RECORDS_PAGE, last - first + 1))
            if not records:
                break
            found += [
                one
                for one in records
                if one.kind in _CHANGES and one.payload.get("uuid") == job.uuid.bytes
            ]
            first = records[-1].position + 1
    return found, len(ranges) == 1


# -- why it waits, and who may act -------------------------------------------------------------


def why_held(job: Job) -> str:
    reasons = job.reasons
    message = f" {job.message[:1].upper()}{job.message[1:]}" if job.message else ""
    if job.is_incoming:
        return "It is open: its sender has still to send its document, or to say that it was all."
    if JobReason.JOB_IN_DOUBT in reasons:
        return (
            f"It is held because nobody knows whether it printed.{message} Look at the printer, "
            f"then `spoold job settle {job.id}`."
        )
    if JobReason.SUBMISSION_INTERRUPTED in reasons:
        why = f" ({job.message})" if job.message else ""
        return (
            f"It is held because its submission was interrupted{why}, so its end may be missing. "
            f"Cancel it, or print what there is: `spoold job release {job.id}`."
        )
    if JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH in reasons:
        return (
            "It is held because the printer wants to know its owner better."
            f"{message} An operator may `spoold job release {job.id}`."
        )
    if JobReason.JOB_REHOMED in reasons:
        why = message or (
            " Another node had its printer meanwhile, and may have printed it: print it "
            f"(`spoold job release {job.id}`), or cancel it (`spoold job cancel {job.id}`)."
        )
        return f"It is held until somebody settles it.{why}"
    if JobReason.JOB_WAITS_ELSEWHERE in reasons:
        return f"It waits at the application server now, for its owner at a machine.{message}"
    if waits := _why_at_gate(job):
        return f"{waits}{message}"
    if {JobReason.UNSUPPORTED_DOCUMENT_FORMAT, JobReason.DOCUMENT_FORMAT_ERROR} & set(reasons):
        return (
            f"It is held because the printer does not take {job.document.format}.{message} "
            f"`spoold job move {job.id} --to PRINTER`, then release it."
        )
    if JobReason.JOB_HELD_ON_CREATE in reasons:
        return (
            f"It is held because its printer held new jobs when it came.{message} An operator may "
            f"`spoold job release {job.id}`."
        )
    if job.release_us is not None:
        return f"It is held until {_clock(job.release_us)}, or until somebody releases it.{message}"
    return f"It is held until somebody releases it: `spoold job release {job.id}`.{message}"


def _why_at_gate(job: Job) -> str:
    """Why a job waits that its owner, or its printer, has to let through; empty if it does not."""
    reasons, operator = job.reasons, f"an operator may `spoold job release {job.id}`"
    if JobReason.JOB_RELEASE_WAIT in reasons and JobReason.JOB_NOT_ALLOWED not in reasons:
        lacks = ""
        if JobReason.ACCOUNT_LIMIT_REACHED in reasons:
            lacks = ", and whoever pays had not enough there"
        elif JobReason.ACCOUNT_INFO_NEEDED in reasons:
            lacks = ", and nobody was known there who pays"
        operator += ", with --to PRINTER elsewhere"
        return f"It waits for its owner at the machine{lacks}; {operator}."
    if JobReason.ACCOUNT_LIMIT_REACHED in reasons:
        return (
            "It is held because whoever pays has not enough. It goes on by itself when there is; "
            f"{operator} to have it tried at once."
        )
    if JobReason.ACCOUNT_INFO_NEEDED in reasons:
        return (
            "It is held because nobody is known who pays. It goes on by itself when the user "
            "(`spoold user add`), the account (`spoold account add` or `set`), or the printer's "
            "--default-account or --sender says so."
        )
    if JobReason.JOB_NOT_ALLOWED in reasons:
        return f"It is held because its printer does not take such jobs; {operator}."
    if JobReason.JOB_BEING_COUNTED in reasons:
        return "Its pages are being counted; it goes on by itself."
    return ""


def why_pending(job: Job, printer: Printer, status: PrinterStatus, ahead: int, now_us: int) -> str:
    """Why a job that may print does not, the first hindrance first."""
    if printer.paused:
        why = f" ({printer.pause_reason})" if printer.pause_reason else ""
        return f"{printer.name} is paused{why}: `spoold printer resume {printer.name}`."
    told = ""
    if status.retry_at_us is not None and status.retry_at_us > now_us:
        seconds = -(-(status.retry_at_us - now_us) // 1_000_000)
        troubles = ", ".join(status.reasons) or "it failed"
        detail = f": {status.message}" if status.message else ""
        times = "a failure" if status.failures == 1 else f"{status.failures} failures in a row"
        told = (
            f"The device of {printer.name} is tried again in {seconds} s, at "
            f"{_clock(status.retry_at_us)}, after {times} "
            f"({troubles}{detail}). "
        )
    if ahead:
        many = f"more than {ahead}" if ahead >= AHEAD_COUNTED_MAX else str(ahead)
        fair = " by age and priority; users take turns" if printer.order is Order.FAIR else ""
        noun = "job is" if many == "1" else "jobs are"
        return f"{told}{many} {noun} ahead of it on {printer.name}{fair}."
    if status.active_job_id not in (None, job.id):
        return f"{told}It is next on {printer.name}, after job {status.active_job_id}."
    return f"{told}It is next on {printer.name}."


def _clock(at_us: int) -> str:
    """As commands show times: by the clock on the wall here."""
    return datetime.fromtimestamp(at_us // 1_000_000).strftime("%Y-%m-%d %H:%M:%S")


async def count_ahead(call: Call, job: Job, printer: Printer) -> int:
    """How many jobs wait before this one on its printer, counted up to a limit."""
    reader = call.services.reader
    which = JobFilter(states=(JobState.PENDING,), printer_id=printer.id, limit=AHEAD_COUNTED_MAX)
    found = await reader.jobs(which)
    if printer.order is Order.FIFO:
        return sum(one.id < job.id for one in found)
    own = (-job.priority, job.id)
    return sum((-one.priority, one.id) < own for one in found)


async def why_it_waits(call: Call, job: Job, known: Known) -> str:
    """Why the job is where it is; empty for a finished one."""
    if job.state.is_final:
        return ""
    if job.state is JobState.PENDING_HELD:
        return why_held(job)
    printer = known.printers.get(job.printer_id)
    if printer is None:
        return "Its printer was removed: move it to another."
    if job.state in ACTIVE and JobReason.QUEUED_IN_DEVICE in job.reasons:
        stop = " It was asked to stop there." * (JobReason.PROCESSING_TO_STOP_POINT in job.reasons)
        return f"Another node prints it. {job.message}{stop}"
    if not printer.is_ours:
        return await why_not_printed(call.services, job, printer)
    status = call.services.dispatcher.status(printer.id)
    if job.state in ACTIVE:
        sent = f"{status.bytes_sent} bytes sent" if status.active_job_id == job.id else "printing"
        if JobReason.PROCESSING_TO_STOP_POINT in job.reasons:
            return f"It was asked to stop, and ends with its attempt ({sent})."
        detail = f" {job.message}" if job.message else ""
        if job.state is JobState.PROCESSING_STOPPED:
            return f"The device does not go on for now ({sent}).{detail}"
        return f"It is being printed ({sent}).{detail}"
    ahead = await count_ahead(call, job, printer)
    return why_pending(job, printer, status, ahead, call.services.wall_clock())


_VERBS = (
    (JobEvent.HOLD, "hold"),
    (JobEvent.RELEASE, "release"),
    (JobEvent.CANCEL, "cancel"),
    (JobEvent.STOP, "cancel"),
    (JobEvent.MOVE, "move"),
    (JobEvent.RETRY, "retry"),
)


async def people_of(call: Call, job: Job, changes: list[Record]) -> dict[str, str]:
    """The names of the providers and users of the story, by their GUIDs."""
    reader = call.services.reader
    found = {str(one.guid): one.name for one in await reader.providers()}
    actors = {job.submitter, *(one.actor for one in changes)}
    users = [UUID(one.removeprefix("user:")) for one in actors if one.startswith("user:")]
    return found | {str(guid): name for guid, name in (await reader.names(users)).items()}


def who_may_act(job: Job, people: dict[str, str], owner: User | None) -> list[str]:
    """Who may do what with the job, as it stands. `owner` is the user whose job it is."""
    verbs = [verb for event, verb in _VERBS if (job.state, event) in TABLE]
    if job.is_incoming:
        verbs.remove("release")
    elif job.state is JobState.PENDING_HELD:
        verbs.remove("hold")
    if is_in_doubt(job):
        verbs = ["settle", "cancel"]
    is_elsewhere = JobReason.JOB_WAITS_ELSEWHERE in job.reasons
    if is_elsewhere:
        verbs = ["cancel"]
    if job.document.stored == "gone" and "retry" in verbs:
        verbs.remove("retry")
    told = [f"operators: {', '.join(verbs)}"] if verbs else []
    may_cancel = "cancel" in verbs and not is_elsewhere
    kind = job.submitter.partition(":")[0]
    if kind == "provider":
        can = "show, follow, cancel" if may_cancel else "show, follow"
        told.append(f"{_named(job.submitter, people)}, with its certificate: {can}")
    if owner is not None:
        own = ["show", *(verb for verb in verbs if verb in ("hold", "release", "cancel"))]
        if is_elsewhere:
            own.remove("cancel")
        if job.awaits_release and "release" in own:
            own.remove("release")
            told.append(f"the user {owner.name} and who may for them, at the machine: release")
        told.append(f"the user {owner.name}, after a login: {', '.join(dict.fromkeys(own))}")
    if may_cancel and job.owner.known is HowKnown.CLAIMED and job.client_host:
        told.append(f"whoever is at {job.client_host}: cancel, as the owner is only claimed")
    return told


async def explain(call: Call) -> dict[str, Any]:
    services = call.services
    job = await find_job(call, call.args["job"])
    known = await services.catalogue.look()
    changes, is_complete = await changes_of(call, job)
    people = await people_of(call, job, changes)
    story = origin(job, people, await services.reader.documents(job.id))
    story += await acceptance_entries(call, job, known)
    told = [change_entry(one, known, people) for one in changes]
    told += await cost_entries(call, job, known)
    for attempt in await services.reader.attempts(job.id):
        told += attempt_entries(attempt, device_names(known, attempt)[0], job.documents)
    story += sorted(told, key=lambda entry: entry["at_us"])
    if job.finished_us is not None:
        parts = [", ".join(job.reasons), job.message]
        detail = "; ".join(part for part in parts if part)
        story.append(_entry(job.finished_us, job.state.value, detail))
    answer = {
        "job": job_map(job, known.name_of(job.printer_id)),
        "waits": await why_it_waits(call, job, known),
        "may_act": who_may_act(job, people, await services.reader.user(job.owner.name)),
    }
    return {**answer, "story": _shortened(story, is_complete, packed_size(answer))}


def _shortened(story: list[Entry], is_complete: bool, beside: int) -> list[Entry]:
    """The story as far as a message carries it: the beginning, and as much of the end."""
    opening = 4
    if not is_complete:
        gap = "see `spoold journal` for what was done to it in between"
        story.insert(opening, _entry(story[0]["at_us"], "the journal since then is long", gap))
    left = PAGE_BYTES_MAX - beside - sum(packed_size(one) for one in story[:opening])
    kept: list[Entry] = []
    for entry in reversed(story[opening:]):
        left -= packed_size(entry)
        if left < 0 or len(kept) >= 500:
            gone = len(story) - opening - len(kept)
            kept.append(_entry(entry["at_us"], f"{gone} entries are left out here"))
            break
        kept.append(entry)
    return story[:opening] + kept[::-1]


OPERATIONS = (Operation("job.explain", (JOB,), STAFF, KNOWN, explain, "A job's whole story."),)
