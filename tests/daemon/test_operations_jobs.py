"""Operations on jobs: how they are named, seen, listed and steered."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from spoold.daemon.operations.plans import plan_cancel, plan_hold
from spoold.daemon.operations.steering import BATCH_JOBS, apply
from spoold.daemon.operations.table import Call
from spoold.model.job import JobReason, JobState
from spoold.model.outcome import Deferred, Delivered
from spoold.model.person import Known
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, JobFilter, RemoveJobs
from support.asking import (
    OPERATOR,
    PROVIDER,
    STRANGER,
    accept,
    end,
    put_in_doubt,
    refused,
    start,
    state,
)


async def test_a_job_is_named_by_number_node_or_uuid(desk):
    """ID, text ID, NODE/ID by name and by GUID, and the uuid in each of its forms are one job."""
    printer = await desk.spool.add_printer()
    uuid = uuid4()
    id_ = await accept(desk, printer, uuid=uuid)
    guid = desk.services.node_guid
    names = (id_, str(id_), f"library/{id_}", f"{guid}/{id_}", uuid.hex, str(uuid), uuid.urn)
    for name in (*names, f"library/{uuid}"):
        assert (await desk.ask("job.show", job=name))["id"] == id_


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (99, "not-found"),
        ("99", "not-found"),
        ("cellar/1", "not-found"),
        ("one", "bad-request"),
        ("", "bad-request"),
        ("/", "not-found"),
        ("²", "bad-request"),
        (str(UUID(int=5)), "not-found"),
    ],
)
async def test_a_name_of_no_job_here_is_refused(desk, name, code):
    """A job of another node is not looked for by its number here."""
    await accept(desk, await desk.spool.add_printer())
    error = await refused(desk, "job.show", job=name)
    assert error.code == code


async def test_without_credentials_a_job_shows_no_names(desk):
    """Number, uuid, state and reasons; no title, no owner, no host, not even in a cancel's line."""
    id_ = await accept(desk, await desk.spool.add_printer(), title="t", client_host="192.0.2.7")
    shown = await desk.ask("job.show", STRANGER, job=id_)
    assert set(shown) == {"id", "uuid", "state", "reasons"}
    answer = await desk.ask("job.cancel", STRANGER, job=id_)
    assert answer["results"][0]["title"] == ""
    assert await state(desk, id_) == (JobState.CANCELED, ("job-canceled-by-user",))


@pytest.mark.parametrize(
    ("host", "known", "allowed"),
    [
        ("192.0.2.7", Known.CLAIMED, True),
        ("::ffff:192.0.2.7", Known.CLAIMED, True),
        ("192.0.2.8", Known.CLAIMED, False),
        ("192.0.2.7", Known.ASSERTED, False),
        ("192.0.2.7", Known.AUTHENTICATED, False),
        ("", Known.CLAIMED, False),
        ("till.example.org", Known.CLAIMED, False),
    ],
)
async def test_only_the_sender_of_a_claimed_job_cancels_it_without_credentials(
    desk, host, known, allowed
):
    """The address that sent it, and only while nobody vouches for another owner."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer, client_host=host, known=known)
    if allowed:
        await desk.ask("job.cancel", STRANGER, job=id_)
    else:
        assert (await refused(desk, "job.cancel", STRANGER, job=id_)).code == "forbidden"
    assert ((await state(desk, id_))[0] is JobState.CANCELED) is allowed


async def test_strangers_and_providers_name_one_job(desk):
    """A filter would reach jobs of others."""
    await accept(desk, await desk.spool.add_printer())
    for who in (STRANGER, PROVIDER):
        error = await refused(desk, "job.cancel", who, filter={"states": ["pending"]})
        assert error.code == "bad-request"
    assert await state(desk, 1) == (JobState.PENDING, ())


async def test_a_provider_knows_its_own_jobs_only(desk):
    """What another submitted does not exist for it; its own it sees in full, and cancels."""
    printer = await desk.spool.add_printer()
    own = await accept(desk, printer, submitter=PROVIDER.identity, title="mine")
    other = await accept(desk, printer, submitter=f"provider:{UUID(int=1)}")
    assert (await desk.ask("job.show", PROVIDER, job=own))["title"] == "mine"
    for op in ("job.show", "job.cancel", "job.follow"):
        assert (await refused(desk, op, PROVIDER, job=other)).code == "not-found"
    await desk.ask("job.cancel", PROVIDER, job=own)
    assert await state(desk, own) == (JobState.CANCELED, ("job-canceled-by-user",))
    assert (await state(desk, other))[0] is JobState.PENDING


async def test_show_tells_the_attempts(desk):
    """Each attempt with its device, its outcome and its evidence, oldest first."""
    printer = await desk.spool.add_printer(uri="socket://192.0.2.9")
    id_ = await accept(desk, printer, attributes={"sides": "one-sided", "raw": b"\xff"})
    number = await start(desk, id_, printer)
    await end(desk, id_, number, Deferred("device-busy", "Busy."), JobEvent.DEFER, "device-busy")
    number = await start(desk, id_, printer)
    done = Delivered({"method": "half-close", "bytes": 5})
    await end(desk, id_, number, done, JobEvent.DELIVER, "job-completed-successfully")
    shown = await desk.ask("job.show", job=id_)
    assert shown["attributes"] == {"sides": "one-sided", "raw": "ff"}
    told = [(one["number"], one["outcome"], one["device"]) for one in shown["attempts_list"]]
    assert told == [(1, "deferred", "socket://192.0.2.9"), (2, "delivered", "socket://192.0.2.9")]
    assert shown["attempts_list"][1]["evidence"] == {"method": "half-close", "bytes": 5}


async def test_listing_filters(desk):
    """Owner by any spelling, title by a part, printer, states, reason and time."""
    one, two = await desk.spool.add_printer("one"), await desk.spool.add_printer("two")
    a = await accept(desk, one, owner="ada", title="Annual report")
    b = await accept(desk, two, owner="ben", title="Labels")
    await desk.ask("job.hold", job=b)
    between = (await desk.spool.reader.job(b)).created_us

    async def ids(**which):
        return [job["id"] for job in (await desk.ask("job.list", **which))["jobs"]]

    assert await ids() == [a, b]
    assert await ids(newest_first=True) == [b, a]
    assert await ids(owner="EXAMPLE\\Ada") == [a]
    assert await ids(owner="nobody-here") == []
    assert await ids(title="REPORT") == [a]
    assert await ids(printer="two") == [b]
    assert await ids(states=["pending-held"]) == [b]
    assert await ids(reason="job-hold-until-specified") == [b]
    assert await ids(since_us=between) == [b]
    assert await ids(until_us=between) == [a]
    error = await refused(desk, "job.list", printer="tow")
    assert (error.code, error.advice) == ("not-found", "Did you mean two?")
    assert (await refused(desk, "job.list", states=["held"])).code == "bad-request"


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_of_a_listing_meet_without_gap_or_overlap(desk, newest_first):
    """Each job once, however large the pages, also when the titles fill a message first."""
    printer = await desk.spool.add_printer()
    wanted = [await accept(desk, printer, title="\U0001f5a8" * 1000) for _ in range(45)]
    for limit in (7, 45, 500):
        rows, pages = await desk.ask_all("job.list", "jobs", limit=limit, newest_first=newest_first)
        found = [job["id"] for job in rows]
        assert found == (wanted[::-1] if newest_first else wanted)
        assert pages >= 3


async def test_hold_and_release(desk):
    """Holding twice is as good as once; the records name who did it."""
    id_ = await accept(desk, await desk.spool.add_printer(), title="t")
    for _ in range(2):
        answer = await desk.ask("job.hold", OPERATOR, job=id_)
        assert answer["results"] == [
            {
                "id": id_,
                "uuid": str((await desk.spool.reader.job(id_)).uuid),
                "title": "t",
                "ok": True,
                "state": "pending-held",
                "error": "",
                "advice": "",
            }
        ]
    assert await state(desk, id_) == (JobState.PENDING_HELD, ("job-hold-until-specified",))
    await desk.ask("job.release", OPERATOR, job=id_)
    assert await state(desk, id_) == (JobState.PENDING, ())
    error = await refused(desk, "job.release", job=id_)
    assert error.code == "not-possible"
    records = await desk.spool.reader.records(1, 100)
    assert [one.actor for one in records if one.kind == "job-changed"] == ["uid:1000"] * 2


@pytest.mark.parametrize("op", ["hold", "move"])
async def test_what_is_held_or_moved_forgets_what_its_printer_said(desk, op):
    """It has nothing to do with that device any more; other reasons for a hold stay."""
    printer, _ = await desk.spool.add_printer(), await desk.spool.add_printer("other")
    id_ = await accept(desk, printer)
    number = await start(desk, id_, printer)
    silent = Deferred("connecting-to-device", "No answer.")
    await end(desk, id_, number, silent, JobEvent.DEFER, "connecting-to-device")
    assert (await state(desk, id_))[1] == ("connecting-to-device",)
    await desk.ask(f"job.{op}", OPERATOR, job=id_, **({"to": "other"} if op == "move" else {}))
    job = await desk.spool.reader.job(id_)
    assert job.reasons == (("job-hold-until-specified",) if op == "hold" else ())
    assert job.message == ""


async def test_what_is_in_doubt_is_settled_not_released(desk):
    """No blind reprint: release refuses, hold keeps the doubt, settle decides."""
    printer = await desk.spool.add_printer()
    first, second = await accept(desk, printer), await accept(desk, printer)
    for id_ in (first, second):
        await put_in_doubt(desk, id_, printer)
    error = await refused(desk, "job.release", job=first)
    assert error.code == "not-possible"
    assert f"job settle {first}" in error.advice
    await desk.ask("job.hold", job=first)
    assert (await state(desk, first))[1] == ("job-in-doubt",)
    await desk.ask("job.settle", job=first, printed=True)
    assert await state(desk, first) == (JobState.COMPLETED, ("job-assumed-printed",))
    await desk.ask("job.settle", job=second, printed=False)
    assert await state(desk, second) == (JobState.PENDING, ())
    assert (await refused(desk, "job.settle", job=second, printed=True)).code == "not-possible"


async def test_cancel_asks_a_printing_job_to_stop(desk):
    """The attempt ends first: the job is processing still, with the reason for the dispatcher."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    await start(desk, id_, printer)
    line = (await desk.ask("job.cancel", OPERATOR, job=id_))["results"][0]
    assert (line["ok"], line["state"]) == (True, "processing")
    found = (JobState.PROCESSING, ("processing-to-stop-point", "job-canceled-by-operator"))
    assert await state(desk, id_) == found
    await desk.ask("job.cancel", OPERATOR, job=id_)
    assert await state(desk, id_) == found


async def test_a_job_that_moved_on_is_planned_again(desk):
    """Read as pending, found processing: a cancel becomes a request to stop, a hold is refused."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    read = await desk.spool.reader.job(id_)
    await start(desk, id_, printer)

    async def send(name, args): ...

    call = Call(desk.services, OPERATOR, OPERATOR.roles, {}, send)
    (held,) = await apply(call, [read], plan_hold(), dry_run=False)
    assert (held.error.code, held.error.message) == (
        "not-possible",
        "a job that is processing does not take hold.",
    )
    planner = plan_cancel(JobReason.JOB_CANCELED_BY_OPERATOR)
    (canceled,) = await apply(call, [read], planner, dry_run=False)
    assert (canceled.error, canceled.state) == (None, JobState.PROCESSING)
    assert (await state(desk, id_))[1][0] == "processing-to-stop-point"


async def test_retry_prints_a_finished_job_again(desk):
    """Unless its document is gone, or its printer."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    await desk.ask("job.cancel", job=id_)
    await desk.ask("job.retry", job=id_)
    assert await state(desk, id_) == (JobState.PENDING, ())
    assert (await refused(desk, "job.retry", job=id_)).code == "not-possible"
    await desk.ask("job.cancel", job=id_)
    await desk.ask("printer.remove", name="default")
    error = await refused(desk, "job.retry", job=id_)
    assert (error.code, error.message) == ("not-possible", "its printer was removed.")
    gone = RemoveJobs((id_,), desk.services.wall_clock(), documents_only=True)
    await desk.spool.journal.commit(gone)
    error = await refused(desk, "job.retry", job=id_)
    assert error.advice == "Submit the job again."


async def test_move_checks_what_the_other_printer_takes(desk):
    """Format, owner, acceptance; a held job stays held and keeps its reasons."""
    here = await desk.spool.add_printer("here")
    there = await desk.spool.add_printer("there", formats=("application/pdf",))
    strict = await desk.spool.add_printer("strict", least_owner=Known.ASSERTED)
    closed = await desk.spool.add_printer("closed", accepting=False)
    text = await accept(desk, here)
    pdf = await accept(desk, here, format="application/pdf")
    error = await refused(desk, "job.move", job=text, to="there")
    assert error.message == "there does not take text/plain."
    error = await refused(desk, "job.move", job=text, to="strict")
    assert (error.code, "asserted" in error.message) == ("not-possible", True)
    assert (await refused(desk, "job.move", job=text, to="closed")).code == "not-accepting"
    assert (await refused(desk, "job.move", job=text, to="nowhere")).code == "not-found"
    await desk.ask("job.hold", job=pdf)
    line = (await desk.ask("job.move", job=pdf, to="there"))["results"][0]
    assert (line["state"], f"job release {pdf}" in line["advice"]) == ("pending-held", True)
    moved = await desk.spool.reader.job(pdf)
    assert (moved.printer_id, moved.reasons) == (there.id, ("job-hold-until-specified",))
    assert (await desk.spool.reader.job(text)).printer_id == here.id
    assert strict.id != closed.id


async def test_a_dry_run_changes_nothing(desk):
    """It says what would be, errors included, and writes no record."""
    id_ = await accept(desk, await desk.spool.add_printer())
    head = desk.spool.journal.head
    line = (await desk.ask("job.hold", job=id_, dry_run=True))["results"][0]
    assert (line["ok"], line["state"]) == (True, "pending-held")
    assert (await refused(desk, "job.release", job=id_, dry_run=True)).code == "not-possible"
    answer = await desk.ask("job.cancel", filter={"states": ["pending"]}, dry_run=True)
    assert [one["state"] for one in answer["results"]] == ["canceled"]
    assert desk.spool.journal.head == head


async def test_a_filter_takes_every_job_once_page_by_page(desk):
    """More jobs than a batch: each gets a line, each is changed, in few transactions."""
    one, two = await desk.spool.add_printer("one"), await desk.spool.add_printer("two")
    wanted = [await accept(desk, one) for _ in range(2 * BATCH_JOBS + 3)]
    other = await accept(desk, two)
    commits = desk.spool.journal.commits
    rows, pages = await desk.ask_all("job.hold", "results", filter={"printer": "one"})
    assert [row["id"] for row in rows] == wanted
    assert all(row["ok"] for row in rows)
    assert desk.spool.journal.commits - commits == pages == 3
    held = await desk.spool.reader.jobs(JobFilter(states=(JobState.PENDING_HELD,), limit=500))
    assert [job.id for job in held] == wanted
    assert (await state(desk, other))[0] is JobState.PENDING


async def test_a_filter_with_a_refusal_goes_on(desk):
    """A line for each: in doubt and interrupted ones are refused with advice, the rest released."""
    printer = await desk.spool.add_printer()
    doubtful, good, cut = [await accept(desk, printer) for _ in range(2)] + [
        await accept(
            desk, printer, state=JobState.PENDING_HELD, reasons=("submission-interrupted",)
        )
    ]
    await put_in_doubt(desk, doubtful, printer)
    await desk.ask("job.hold", job=good)
    rows, _ = await desk.ask_all("job.release", "results", filter={"printer": "default"})
    assert [(row["id"], row["ok"]) for row in rows] == [
        (doubtful, False),
        (good, True),
        (cut, False),
    ]
    assert "settle" in rows[0]["advice"]
    assert "submission-interrupted" in rows[2]["advice"]
    which = {"reason": "submission-interrupted"}
    rows, _ = await desk.ask_all("job.release", "results", filter=which)
    assert [(row["id"], row["ok"]) for row in rows] == [(cut, True)]


async def test_a_retry_by_filter_takes_failed_jobs_only(desk):
    """Printing finished jobs again needs the state to be said."""
    printer = await desk.spool.add_printer()
    failed, canceled = await accept(desk, printer), await accept(desk, printer)
    change = ChangeJob(failed, JobEvent.REFUSE, desk.services.wall_clock())
    await desk.spool.journal.commit(change)
    await desk.ask("job.cancel", job=canceled)
    rows, _ = await desk.ask_all("job.retry", "results", filter={"printer": "default"})
    assert [row["id"] for row in rows] == [failed]


async def test_a_filter_that_chooses_nothing_in_particular_is_refused(desk):
    """An empty filter is a slip, and a job beside a filter is unclear."""
    await accept(desk, await desk.spool.add_printer())
    for args in ({"filter": {}}, {}, {"job": 1, "filter": {"printer": "default"}}):
        assert (await refused(desk, "job.cancel", **args)).code == "bad-request"
    assert (await state(desk, 1))[0] is JobState.PENDING
