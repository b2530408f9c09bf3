"""IPP never releases a job from a printer that keeps it for its owner."""

from __future__ import annotations

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Tag
from spoold.model.principal import Port, Principal, Role
from support.ipp_node import OPERATOR, PDF, job_group

ADA = Principal("user:2", Port.TLS, frozenset({Role.USER, Role.ANYBODY}), "ada", method="basic")
NO_HOLD = job_group(ipp.keyword("job-hold-until", "no-hold"))


@pytest.fixture(params=["hold", "find-me"])
async def kept(node, request):
    """The printer `default` keeps its jobs; it could print them at once."""
    await node.spool.add_printer("other", "file:///other")
    if request.param == "hold":
        await node.desk.ask("printer.set", name="default", release="hold")
    else:
        await node.desk.ask("printer.remove", name="default")
        await node.desk.ask("printer.add", name="default", release="find-me")
    return node


async def job_of(node, principal=ADA):
    answer = await node.ask(Operation.PRINT_JOB, document=PDF, principal=principal)
    assert answer.code == Status.SUCCESSFUL_OK
    return answer.group(Tag.JOB)


async def test_the_client_is_told_that_the_job_waits(kept):
    """In the answer to Print-Job, and to the last document of a job that was created."""
    group = await job_of(kept)
    assert group.first("job-state") == 4
    assert group.first("job-state-reasons") == "job-release-wait"
    created = (await kept.ask(Operation.CREATE_JOB, principal=ADA)).group(Tag.JOB)
    about = [ipp.integer("job-id", created.first("job-id")), ipp.boolean("last-document", True)]
    sent = await kept.ask(Operation.SEND_DOCUMENT, *about, document=PDF, principal=ADA)
    assert sent.group(Tag.JOB).first("job-state-reasons") == "job-release-wait"


@pytest.mark.parametrize("principal", [ADA, OPERATOR], ids=["owner", "operator"])
@pytest.mark.parametrize(
    ("operation", "groups"),
    [
        (Operation.RELEASE_JOB, []),
        (Operation.RESUME_JOB, []),
        (Operation.RESTART_JOB, []),
        (Operation.REPROCESS_JOB, []),
        (Operation.RESUBMIT_JOB, []),
        (Operation.SET_JOB_ATTRIBUTES, [NO_HOLD]),
        (Operation.PROMOTE_JOB, []),
        (Operation.RELEASE_HELD_NEW_JOBS, []),
    ],
    ids=lambda one: one.name if isinstance(one, Operation) else "",
)
@pytest.mark.parametrize("hold", [False, True], ids=["waits", "held-too"])
async def test_no_operation_lets_it_print(kept, operation, groups, principal, hold):
    """Whoever asks, and whatever else the job is held for."""
    job_id = (await job_of(kept)).first("job-id")
    about = [ipp.integer("job-id", job_id)]
    if hold:
        await kept.ask(Operation.HOLD_JOB, *about, principal=ADA)
    if operation is Operation.RELEASE_HELD_NEW_JOBS:
        about = []
    await kept.ask(operation, *about, groups=groups, principal=principal)
    assert await kept.spool.reader.waiting() == []
    assert (await kept.spool.reader.job(job_id)).awaits_release


async def test_a_finished_job_waits_when_it_is_restarted(kept):
    """Restart-Job makes no way round the machine."""
    job_id = (await job_of(kept)).first("job-id")
    about = ipp.integer("job-id", job_id)
    await kept.ask(Operation.CANCEL_JOB, about, principal=ADA)
    answer = await kept.ask(Operation.RESTART_JOB, about, principal=ADA)
    assert answer.code == Status.SUCCESSFUL_OK
    assert await kept.spool.reader.waiting() == []


async def test_who_moves_a_job_away_does_not_release_it(kept):
    """An operator may move it; it waits there, too."""
    job_id = (await job_of(kept)).first("job-id")
    await kept.desk.ask("job.move", OPERATOR, job=job_id, to="other")
    assert await kept.spool.reader.waiting() == []


async def test_counts_are_told_by_ipp(kept):
    """job-impressions of one copy, job-media-sheets of all."""
    answer = await kept.ask(
        Operation.PRINT_JOB, groups=[job_group(ipp.integer("copies", 2))],
        document=b"one\ftwo\f", principal=ADA,
    )  # fmt: skip
    job_id = answer.group(Tag.JOB).first("job-id")
    await kept.desk.counts.count(await kept.spool.reader.job(job_id))
    asked = [
        ipp.integer("job-id", job_id),
        ipp.keyword("requested-attributes", "job-impressions", "job-media-sheets"),
    ]
    group = (await kept.ask(Operation.GET_JOB_ATTRIBUTES, *asked, principal=ADA)).group(Tag.JOB)
    assert (group.first("job-impressions"), group.first("job-media-sheets")) == (2, 4)
