"""Printers and jobs steered by IPP: by whom, and to what effect; and CUPS's own operations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Tag
from spoold.model.job import JobState
from spoold.model.principal import Port, Principal, Role
from support.ipp_node import (
    OPERATOR,
    PDF,
    job_group,
)


async def held_job(node, **more):
    """The number of a job of `ada` that is held."""
    hold = job_group(ipp.keyword("job-hold-until", "indefinite"))
    answer = await node.ask(Operation.PRINT_JOB, groups=[hold], document=PDF, **more)
    return answer.group(Tag.JOB).first("job-id")


@pytest.mark.parametrize(
    ("operation", "field", "value"),
    [
        (Operation.RESUME_PRINTER, "paused", False),
        (Operation.RESTART_PRINTER, "paused", False),
        (Operation.PAUSE_PRINTER_AFTER_CURRENT_JOB, "paused", True),
        (Operation.DISABLE_PRINTER, "accepting", False),
        (Operation.CUPS_REJECT_JOBS, "accepting", False),
        (Operation.SHUTDOWN_PRINTER, "accepting", False),
        (Operation.STARTUP_PRINTER, "accepting", True),
        (Operation.ENABLE_PRINTER, "accepting", True),
        (Operation.HOLD_NEW_JOBS, "hold_new_jobs", True),
        (Operation.RELEASE_HELD_NEW_JOBS, "hold_new_jobs", False),
    ],
)
async def test_an_operator_steers_a_printer(node, operation, field, value):
    """By IPP as by command; nobody else may."""
    answer = await node.ask(operation)
    assert answer.code == Status.CLIENT_ERROR_FORBIDDEN
    answer = await node.ask(operation, principal=OPERATOR)
    assert answer.code == Status.SUCCESSFUL_OK
    shown = await node.desk.ask("printer.show", name="default")
    assert shown[field] is value


@pytest.mark.parametrize(
    ("operation", "attributes", "state"),
    [
        (Operation.RELEASE_JOB, [], JobState.PENDING),
        (Operation.HOLD_JOB, [ipp.keyword("job-hold-until", "indefinite")], JobState.PENDING_HELD),
        (Operation.CANCEL_JOBS, [], JobState.CANCELED),
        (Operation.CANCEL_JOBS, [ipp.integer("job-ids", 1)], JobState.CANCELED),
        (Operation.PURGE_JOBS, [], None),
    ],
)
async def test_an_operator_steers_jobs(node, operation, attributes, state):
    """One by one, and all of a printer."""
    job_id = await held_job(node)
    about = (
        []
        if operation in (Operation.CANCEL_JOBS, Operation.PURGE_JOBS)
        else [ipp.integer("job-id", job_id)]
    )
    answer = await node.ask(operation, *about, *attributes, principal=OPERATOR)
    assert answer.code == Status.SUCCESSFUL_OK
    job = await node.spool.reader.job(job_id)
    assert (None if job is None else job.state) is state


async def test_a_user_cancels_their_own_jobs(node):
    """Cancel-My-Jobs leaves those of others."""
    ada = Principal("user:2", Port.TLS, frozenset({Role.USER}), "ada", address="192.0.2.7")
    await held_job(node, principal=replace(ada, method="basic"))
    await held_job(node, user="bob")
    answer = await node.ask(Operation.CANCEL_MY_JOBS, principal=ada)
    assert answer.code == Status.SUCCESSFUL_OK
    states = {job["owner"]: job["state"] for job in (await node.jobs())["jobs"]}
    assert states == {"ada": "canceled", "bob": "pending-held"}


async def test_attributes_of_a_job_are_set_all_or_none(node):
    """What can be set is; a job's state cannot, and then nothing is."""
    job_id = await held_job(node)
    about = ipp.integer("job-id", job_id)
    good = [
        ipp.name_("job-name", "better"),
        ipp.integer("job-priority", 90),
        ipp.integer("copies", 2),
        ipp.keyword("sides", "one-sided"),
        ipp.keyword("job-hold-until", "no-hold"),
    ]
    bad = [*good, ipp.enum_("job-state", 9)]
    for attributes, status in (
        (bad, Status.CLIENT_ERROR_ATTRIBUTES_NOT_SETTABLE),
        (
            [ipp.keyword("sides", "three-sided")],
            Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED,
        ),
        (good, Status.SUCCESSFUL_OK),
    ):
        before = await node.spool.reader.job(job_id)
        answer = await node.ask(
            Operation.SET_JOB_ATTRIBUTES, about, groups=[job_group(*attributes)], principal=OPERATOR
        )
        assert answer.code == status
        job = await node.spool.reader.job(job_id)
        assert (job == before) is (status != Status.SUCCESSFUL_OK)
    assert (job.title, job.priority, job.copies, job.state) == ("better", 90, 2, JobState.PENDING)
    assert job.attributes["sides"] == "one-sided"


async def test_a_job_moves_to_another_printer(node, spool):
    """CUPS-Move-Job, of one job and of all that wait."""
    await spool.add_printer("second", uri="file:///elsewhere")
    first, second = await held_job(node), await held_job(node)
    to = job_group(ipp.uri("job-printer-uri", "ipp://localhost/printers/second"))
    one = ipp.uri("job-uri", f"ipp://localhost/jobs/{first}")
    answer = await node.ask(Operation.CUPS_MOVE_JOB, target=one, groups=[to], principal=OPERATOR)
    assert answer.code == Status.SUCCESSFUL_OK
    printers = {job["id"]: job["printer"] for job in (await node.jobs())["jobs"]}
    assert printers == {first: "second", second: "default"}
    answer = await node.ask(Operation.CUPS_MOVE_JOB, groups=[to], principal=OPERATOR)
    assert answer.code == Status.SUCCESSFUL_OK
    assert {job["printer"] for job in (await node.jobs())["jobs"]} == {"second"}


@pytest.mark.parametrize("operation", [Operation.RESUBMIT_JOB, Operation.REPROCESS_JOB])
async def test_a_finished_job_is_printed_as_a_new_one(node, operation):
    """With a number of its own."""
    job_id = await held_job(node)
    about = ipp.integer("job-id", job_id)
    await node.ask(Operation.CANCEL_JOB, about)
    answer = await node.ask(operation, about, principal=OPERATOR)
    assert answer.code == Status.SUCCESSFUL_OK
    assert answer.group(Tag.JOB).first("job-id") == job_id + 1
    assert (await node.spool.reader.job(job_id + 1)).document.size == len(PDF)


async def test_waiting_jobs_change_their_order(node):
    """Promote-Job, Schedule-Job-After."""
    for _ in range(3):
        await node.ask(Operation.PRINT_JOB, document=PDF)
    last = ipp.integer("job-id", 3)
    answer = await node.ask(Operation.PROMOTE_JOB, last, principal=OPERATOR)
    assert answer.code == Status.SUCCESSFUL_OK
    answer = await node.ask(
        Operation.SCHEDULE_JOB_AFTER,
        ipp.integer("job-id", 1),
        ipp.integer("predecessor-job-id", 3),
        principal=OPERATOR,
    )
    assert answer.code == Status.SUCCESSFUL_OK
    listed = await node.ask(Operation.GET_JOBS)
    assert [group.first("job-id") for group in listed.groups_of(Tag.JOB)] == [3, 1, 2]


async def test_printers_and_pools_are_listed_for_cups(node, spool):
    """More than a page of printers, each once; pools are classes; one is the default."""
    for number in range(45):
        await spool.add_printer(f"p{number:02}", uri=f"file:///p{number}")
    await node.desk.ask("printer.add", name="pool", members=["p00", "p01"])
    name = ipp.keyword("requested-attributes", "printer-name")
    answer = await node.ask(Operation.CUPS_GET_PRINTERS, name)
    names = [group.first("printer-name") for group in answer.groups_of(Tag.PRINTER)]
    assert names == ["default", *(f"p{number:02}" for number in range(45)), "pool"]
    answer = await node.ask(Operation.CUPS_GET_CLASSES)
    (group,) = answer.groups_of(Tag.PRINTER)
    assert group.get("member-names").all == ["p00", "p01"]
    answer = await node.ask(Operation.CUPS_GET_DEFAULT, name)
    assert answer.group(Tag.PRINTER).first("printer-name") == "default"
