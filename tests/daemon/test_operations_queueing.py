"""Jobs in their queues: attributes, holds, places, copies, and the end of many."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from spoold.model.job import JobReason, JobState
from spoold.model.outcome import Delivered, InDoubt
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Principal, Role
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    AcceptJob,
    AttachDocument,
    EndAttempt,
    NewDocument,
    PutPrinter,
    RemoveJobs,
    StartAttempt,
)
from support.asking import refused

OPERATOR = Principal("uid:1000", Port.CONTROL, frozenset({Role.OPERATOR}))
ADA = Principal(
    "user:ad", Port.TLS, frozenset({Role.USER, Role.ANYBODY}), "ada", (), "192.0.2.7", "basic"
)
PROVIDER = Principal("provider:7", Port.MUTUAL, frozenset({Role.PROVIDER}), "ada")
STRANGER = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")
HELD = JobReason.JOB_HOLD_UNTIL_SPECIFIED
ON_CREATE = JobReason.JOB_HELD_ON_CREATE
FAR = 4_000_000_000_000_000


async def accept(desk, printer, owner="ada", known=Known.CLAIMED, **fields) -> int:
    body = fields.pop("body", b"page\f")
    document = fields.pop("document", NewDocument(len(body), "blake3:00", "text/plain", body))
    change = AcceptJob(
        printer.id,
        Owner(owner, known),
        fields.pop("submitter", "address:192.0.2.7"),
        document,
        desk.services.wall_clock(),
        client_host="192.0.2.7",
        **fields,
    )
    return (await desk.spool.journal.commit(change)).job_id


async def job(desk, job_id):
    return await desk.spool.reader.job(job_id)


async def print_it(desk, printer, job_id):
    now = desk.services.wall_clock()
    start = StartAttempt(job_id, printer.device_id, printer.id, now)
    number = await desk.spool.journal.commit(start)
    end = EndAttempt(job_id, number, Delivered({}), JobEvent.DELIVER, (), now)
    await desk.spool.journal.commit(end)


# -- attributes ----------------------------------------------------------------------------------


async def test_a_waiting_job_is_changed_by_its_owner_or_an_operator(desk):
    """Every attribute that is named, in one go; somebody else's job is left alone."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer, attributes={"sides": "one-sided"})
    answer = await desk.ask(
        "job.set",
        ADA,
        job=id_,
        title="New",
        priority=60,
        copies=2,
        hold_until="indefinite",
        attributes={"sides": None, "page-ranges": ["1-2"]},
    )
    assert answer["results"][0]["state"] == "pending-held"
    found = await job(desk, id_)
    assert (found.title, found.priority, found.copies) == ("New", 60, 2)
    assert found.attributes == {"page-ranges": ["1-2"]}
    assert (found.reasons, found.hold_until) == ((HELD,), "indefinite")
    await desk.ask("job.set", OPERATOR, job=id_, hold_until="no-hold")
    assert (await job(desk, id_)).state is JobState.PENDING
    other = await accept(desk, printer, "ben")
    assert (await refused(desk, "job.set", ADA, job=other, priority=1)).code == "forbidden"
    assert (await refused(desk, "job.set", STRANGER, job=id_, priority=1)).code == "forbidden"


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ({"priority": 0}, "priority"),
        ({"priority": 101}, "priority"),
        ({"copies": 0}, "copies"),
        ({"hold_until": "tomorrow"}, "hold_until"),
        ({"hold_until": "time"}, "until when"),
        ({"attributes": {"no-such": 1}}, "no-such"),
        ({"attributes": {"copies": 2}}, "copies"),
        ({"attributes": {"sides": 5}}, "sides"),
    ],
)
async def test_what_cannot_be_set_is_refused_whole(desk, args, word):
    """Nothing of a request is done that has something wrong in it."""
    id_ = await accept(desk, await desk.spool.add_printer())
    head = desk.spool.journal.head
    error = await refused(desk, "job.set", job=id_, title="New", **args)
    assert error.code == "bad-request"
    assert word in str(error)
    assert desk.spool.journal.head == head


async def test_only_a_waiting_job_is_changed(desk):
    """What prints, or has ended, is what it was; also when only its hold is asked for."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    await print_it(desk, printer, id_)
    for args in ({"title": "x"}, {"hold_until": "indefinite"}, {}):
        assert (await refused(desk, "job.set", job=id_, **args)).code == "not-possible"


# -- holds ---------------------------------------------------------------------------------------


async def test_a_hold_has_an_end(desk):
    """Until a time, a time of the day, or for ever; a later word counts."""
    id_ = await accept(desk, await desk.spool.add_printer())
    await desk.ask("job.hold", ADA, job=id_, hold_until="time", hold_until_us=FAR)
    assert (await job(desk, id_)).release_us == FAR
    await desk.ask("job.hold", ADA, job=id_, hold_until="indefinite")
    assert (await job(desk, id_)).release_us == FAR  # it is held: nothing to do
    await desk.ask("job.hold", ADA, job=id_, hold_until_us=FAR + 1)
    assert (await job(desk, id_)).release_us == FAR + 1
    await desk.ask("job.hold", ADA, job=id_, hold_until="no-hold")
    found = await job(desk, id_)
    assert (found.state, found.hold_until) == (JobState.PENDING, "")
    await desk.ask("job.hold", ADA, job=id_, hold_until="no-hold")
    await desk.ask("job.hold", ADA, job=id_, hold_until_us=1)  # that is long ago
    assert (await job(desk, id_)).state is JobState.PENDING


async def test_an_owner_does_not_release_what_others_hold(desk):
    """The end of the owner's hold leaves what the printer holds; an operator releases all."""
    printer = await desk.spool.add_printer()
    held = {"state": JobState.PENDING_HELD, "hold_until": "indefinite"}
    id_ = await accept(desk, printer, reasons=(HELD.value, ON_CREATE.value), **held)
    assert (await refused(desk, "job.release", ADA, job=id_)).code == "not-possible"
    await desk.ask("job.hold", ADA, job=id_, hold_until="no-hold")
    assert (await job(desk, id_)).reasons == (ON_CREATE,)
    await desk.ask("job.release", OPERATOR, job=id_)
    assert (await job(desk, id_)).state is JobState.PENDING


async def test_an_open_job_is_held_and_released_before_it_is_whole(desk):
    """The hold waits for the document; a release of it does not print anything yet."""
    printer = await desk.spool.add_printer()
    opened = await desk.spool.open_job(printer)
    id_ = opened.job_id
    error = await refused(desk, "job.release", job=id_)
    assert (error.code, "still to come" in error.message) == ("not-possible", True)
    await desk.ask("job.hold", job=id_)
    assert (await job(desk, id_)).reasons == (JobReason.JOB_INCOMING, HELD)
    await desk.ask("job.release", job=id_)
    assert (await job(desk, id_)).reasons == (JobReason.JOB_INCOMING,)
    explained = await desk.ask("job.explain", job=id_)
    assert "still to send its document" in explained["waits"]
    assert explained["story"][0]["detail"] == "without a document"
    await desk.spool.attach(id_)
    story = (await desk.ask("job.explain", job=id_))["story"]
    assert "its document came by a client" in [entry["what"] for entry in story]


async def test_a_retry_may_be_held(desk):
    """Restart-Job with a hold: the job waits for its time and never starts in between."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    await print_it(desk, printer, id_)
    moves = []
    desk.spool.journal.listen(lambda events: moves.extend(event.new for event in events))
    await desk.ask("job.retry", ADA, job=id_, hold_until="indefinite")
    assert moves == [JobState.PENDING_HELD]
    assert (await job(desk, id_)).hold_until == "indefinite"


# -- places --------------------------------------------------------------------------------------


async def test_operators_say_who_is_next(desk):
    """Promoted, or right after another one; to others it has the highest priority."""
    printer = await desk.spool.add_printer()
    first, second = await accept(desk, printer), await accept(desk, printer)
    await desk.ask("job.promote", job=second)
    assert (await desk.ask("job.show", job=second))["priority"] == 100
    await desk.ask("job.schedule-after", job=first, after=second)
    assert await desk.spool.reader.following() == [(first, second, JobState.PENDING)]
    assert (await refused(desk, "job.schedule-after", job=first, after=99)).code == "not-found"
    assert (await refused(desk, "job.promote", ADA, job=first)).code == "forbidden"


# -- copies --------------------------------------------------------------------------------------


async def test_a_finished_job_is_made_anew(desk):
    """A job of its own, of the owner who asks for it; the first one stays as it is."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer, title="Old", attributes={"sides": "one-sided"}, priority=70)
    await print_it(desk, printer, id_)
    made = await desk.ask("job.resubmit", ADA, job=id_, title="New", copies=3)
    assert (made["state"], made["reasons"]) == ("pending", [])
    found = await job(desk, made["id"])
    assert (found.title, found.copies, found.priority) == ("New", 3, 70)
    assert found.attributes == {"sides": "one-sided"}
    assert (found.owner.known, found.submitter) == (Known.AUTHENTICATED, ADA.identity)
    assert await desk.spool.reader.document_body(found.id) == b"page\f"
    assert (await job(desk, id_)).state is JobState.COMPLETED


async def test_a_large_document_is_not_copied_but_named_again(desk):
    """The bytes stay until the last job that has them is forgotten."""
    printer = await desk.spool.add_printer()
    body = os.urandom(300_000)
    incoming = desk.spool.documents.begin("")
    await incoming.write(body)
    id_ = await accept(desk, printer, document=await incoming.keep("text/plain"))
    made = await desk.ask("job.resubmit", job=id_)
    first, second = [path for path in desk.spool.documents.dir.rglob("*") if path.is_file()]
    assert first.samefile(second)
    source = await desk.spool.documents.open(await job(desk, made["id"]))
    assert source.read_at(0, len(body) + 1) == body
    source.close()


async def test_a_copy_is_held_where_a_new_job_would_be(desk):
    """By its sender's word, by the printer's, and when the owner is not known well enough."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    await desk.spool.journal.commit(
        PutPrinter(replace(printer, hold_new_jobs=True, least_owner=Known.ASSERTED), 1)
    )
    made = await desk.ask("job.resubmit", OPERATOR, job=id_, hold_until="indefinite")
    assert made["reasons"] == [HELD, ON_CREATE, JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH]
    made = await desk.ask("job.resubmit", ADA, job=id_)
    assert (made["state"], made["reasons"]) == ("pending-held", [ON_CREATE])


async def test_what_cannot_be_made_anew(desk):
    """Somebody else's job, a document that is gone or never came, a format, a removed printer."""
    printer = await desk.spool.add_printer()
    other = await desk.spool.add_printer("other", formats=("application/pdf",))
    id_ = await accept(desk, printer)
    assert (await refused(desk, "job.resubmit", ADA, job=await accept(desk, printer, "ben"))).code
    assert (await refused(desk, "job.resubmit", job=id_, printer="other")).code == "not-possible"
    opened = await desk.spool.open_job(printer)
    assert (await refused(desk, "job.resubmit", job=opened.job_id)).code == "not-possible"
    await print_it(desk, printer, id_)
    await desk.spool.journal.commit(RemoveJobs((id_,), 1, documents_only=True))
    assert (await refused(desk, "job.resubmit", job=id_)).code == "not-possible"
    assert other.formats


# -- many ----------------------------------------------------------------------------------------


async def test_named_jobs_are_canceled_all_or_none(desk):
    """One that has ended keeps the others from being canceled, and is named."""
    printer = await desk.spool.add_printer()
    a, b, done = [await accept(desk, printer) for _ in range(3)]
    await print_it(desk, printer, done)
    error = await refused(desk, "job.cancel-many", printer="default", jobs=[a, done, b])
    assert error.code == "not-possible"
    assert (await job(desk, a)).state is JobState.PENDING
    answer = await desk.ask("job.cancel-many", OPERATOR, printer="default", jobs=[a, b, a])
    assert (answer["canceled"], answer["next_after_id"]) == (2, None)
    assert (await job(desk, b)).reasons == (JobReason.JOB_CANCELED_BY_OPERATOR,)
    other = await desk.spool.add_printer("other")
    c = await accept(desk, other)
    error = await refused(desk, "job.cancel-many", printer="default", jobs=[c])
    assert error.code == "not-found"


async def test_all_jobs_of_a_printer_are_canceled(desk):
    """However many there are; those of other printers go on."""
    printer, other = await desk.spool.add_printer(), await desk.spool.add_printer("other")
    for _ in range(120):
        await accept(desk, printer)
    kept = await accept(desk, other)
    printing = await accept(desk, printer)
    await desk.spool.journal.commit(StartAttempt(printing, printer.device_id, printer.id, 1))
    answer = await desk.ask("job.cancel-many", OPERATOR, printer="default")
    assert (answer["canceled"], len(answer["results"])) == (121, 50)
    assert (await desk.spool.reader.counts()) == {
        printer.id: {JobState.PROCESSING: 1},
        other.id: {JobState.PENDING: 1},
    }
    assert (await job(desk, printing)).reasons[0] == JobReason.PROCESSING_TO_STOP_POINT
    assert (await job(desk, kept)).state is JobState.PENDING


@pytest.mark.parametrize(
    ("principal", "args", "canceled"),
    [
        (ADA, {}, "ada-claimed ada-asserted"),
        (ADA, {"owner": "ben"}, "ada-claimed ada-asserted"),
        (STRANGER, {"owner": "ada"}, "ada-claimed"),
        (STRANGER, {"owner": "cem"}, ""),
        (PROVIDER, {}, "by-provider"),
    ],
)
async def test_everybody_cancels_their_own(desk, principal, args, canceled):
    """By login, by the address and name that sent them, or by certificate; never others'."""
    printer = await desk.spool.add_printer()
    jobs = {
        "ada-claimed": await accept(desk, printer),
        "ada-asserted": await accept(desk, printer, known=Known.ASSERTED),
        "ben-claimed": await accept(desk, printer, "ben"),
        "by-provider": await accept(
            desk, printer, "cem", Known.ASSERTED, submitter=PROVIDER.identity
        ),
    }
    answer = await desk.ask("job.cancel-many", principal, mine=True, **args)
    ended = [
        name for name, id_ in jobs.items() if (await job(desk, id_)).state is JobState.CANCELED
    ]
    assert ended == canceled.split()
    assert answer["canceled"] == len(ended)
    if principal is STRANGER:
        assert all(line["title"] == "" for line in answer["results"])


async def test_nobody_cancels_all_but_operators(desk):
    """Neither all of a printer, nor named ones that are another's."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer, "ben", Known.AUTHENTICATED)
    for principal in (ADA, STRANGER):
        assert (await refused(desk, "job.cancel-many", principal)).code == "forbidden"
        error = await refused(desk, "job.cancel-many", principal, mine=True, jobs=[id_])
        assert error.code == "forbidden"


# -- several documents ---------------------------------------------------------------------------

BODIES = (b"one", b"the second", b"3")


async def of_documents(desk, printer, **fields) -> int:
    id_ = (await desk.spool.open_job(printer, **fields)).job_id
    for number, body in enumerate(BODIES, 1):
        await desk.spool.attach(id_, body, last=number == len(BODIES))
    return id_


async def test_the_story_of_a_job_tells_its_documents(desk):
    """What they are, and which attempt was about which of them; the answers count them all."""
    printer = await desk.spool.add_printer()
    id_ = await of_documents(desk, printer)
    for _ in range(2):
        await print_it(desk, printer, id_)
    shown = await desk.ask("job.show", job=id_)
    assert (shown["documents"], shown["document_number"], shown["size"]) == (3, 3, 14)
    assert [one["document"] for one in shown["attempts_list"]] == [1, 2]
    story = (await desk.ask("job.explain", job=id_))["story"]
    told = [entry["what"] for entry in story]
    assert story[0]["detail"] == "14 bytes in 3 documents"
    assert {"document 1", "document 2", "document 3"} <= set(told)
    assert "document 2 came by a client" in told
    assert "attempt 2 began, document 2 of 3" in told


async def test_settling_a_document_says_what_comes(desk):
    """In doubt at the first of three: printed, and the job goes on."""
    printer = await desk.spool.add_printer()
    id_ = await of_documents(desk, printer)
    now = desk.services.wall_clock()
    start = StartAttempt(id_, printer.device_id, printer.id, now)
    number = await desk.spool.journal.commit(start)
    doubt = InDoubt("connection-lost", "", 1)
    reasons = (JobReason.JOB_IN_DOUBT.value,)
    await desk.spool.journal.commit(
        EndAttempt(id_, number, doubt, JobEvent.DOUBT, reasons, now, "lost")
    )
    answer = await desk.ask("job.settle", job=id_, printed=True)
    assert "document 2 of 3" in str(answer)
    found = await job(desk, id_)
    assert (found.state, found.document_number) == (JobState.PENDING, 2)


async def test_a_copy_of_a_job_has_all_its_documents(desk):
    """In rows or in files, from the first one on; the copy's copies are those of the job."""
    printer = await desk.spool.add_printer()
    large = os.urandom(300_000)
    id_ = (await desk.spool.open_job(printer, "ada", copies=2)).job_id
    for number, body in enumerate((b"small", large), 1):
        incoming = desk.spool.documents.begin("", "blake3")
        await incoming.write(body)
        document = await incoming.keep("text/plain")
        sender = "address:127.0.0.1"
        attach = AttachDocument(id_, sender, document, 1, last=number == 2, copies=5)
        attach.copies_embedded = number == 1
        await desk.spool.journal.commit(attach)
    for _ in range(2):
        await print_it(desk, printer, id_)
    made = await desk.ask("job.resubmit", job=id_)
    found = await job(desk, made["id"])
    assert (found.documents, found.document_number, found.copies) == (2, 1, 5)
    await print_it(desk, printer, found.id)
    found = await job(desk, made["id"])
    assert (found.copies, found.copies_embedded) == (2, False)
    source = await desk.spool.documents.open(found)
    assert source.read_at(0, 400_000) == large
    source.close()
    for file in await desk.spool.journal.commit(RemoveJobs((id_,), 1)):
        desk.spool.documents.remove(file)
    source = await desk.spool.documents.open(found)
    source.close()
    odd = await desk.spool.add_printer("odd", formats=("application/pdf",))
    error = await refused(desk, "job.resubmit", job=found.id, printer=odd.name)
    assert error.code == "not-possible"
