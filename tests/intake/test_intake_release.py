"""Jobs for printers that keep them, and the owners that rules give to senders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spoold.intake.acceptance import Acceptance
from spoold.intake.opening import OpenJobs
from spoold.intake.submission import Submission
from spoold.model.job import JobState
from spoold.model.person import NOBODY, Known, Owner
from spoold.model.release import ReleaseMode, read_sender
from support.limits import Limits

SAP = read_sender("10.1.0.0/16 sap* -> erp charge works")
LABELS = read_sender("10.2.0.9 -> =")


@pytest.fixture
async def acceptance(spool):
    made = Acceptance(spool.journal, spool.reader, spool.documents, Limits(), spool.wall_clock)
    await made.start()
    return made


def submission(owner="", host="10.1.2.3", known=Known.CLAIMED):
    who = Owner(owner, known) if owner else NOBODY
    return Submission("safe", who, f"address:{host}", "raw", host)


async def submit(acceptance, one):
    upload = await acceptance.begin(one)
    await upload.write(b"a page\f")
    return await upload.commit(), upload


async def test_a_job_waits_at_the_one_door(spool, acceptance):
    """The upload knows why, for the answer to its sender."""
    await spool.add_printer("safe", release=ReleaseMode.HOLD)
    accepted, upload = await submit(acceptance, submission())
    assert accepted.state is JobState.PENDING_HELD
    assert upload.reasons == ("job-release-wait",)


@pytest.mark.parametrize(
    ("owner", "host", "known", "found"),
    [
        ("sapadm", "10.1.2.3", Known.CLAIMED, ("erp", Known.MAPPED, SAP.id)),
        ("sapadm", "::ffff:10.1.2.3", Known.CLAIMED, ("erp", Known.MAPPED, SAP.id)),
        ("sapadm", "10.9.2.3", Known.CLAIMED, ("sapadm", Known.CLAIMED, "")),
        ("other", "10.1.2.3", Known.CLAIMED, ("other", Known.CLAIMED, "")),
        ("sapadm", "10.1.2.3", Known.AUTHENTICATED, ("sapadm", Known.AUTHENTICATED, "")),
        ("anna", "10.2.0.9", Known.CLAIMED, ("anna", Known.MAPPED, LABELS.id)),
        ("", "10.2.0.9", Known.CLAIMED, ("", Known.CLAIMED, "")),
    ],
)
async def test_a_rule_says_whose_the_jobs_of_a_sender_are(
    spool, acceptance, owner, host, known, found
):
    """By address and name, on both ways in; but it does not outdo a proof."""
    await spool.add_printer("safe", senders=(SAP, LABELS))
    one = submission(owner, host, known)
    accepted, _ = await submit(acceptance, replace(one))
    open_jobs = OpenJobs(acceptance, spool.journal, spool.reader, lambda: 900.0)
    opened = await open_jobs.open(one)
    for job_id in (accepted.job_id, opened.job_id):
        kept = (await spool.reader.job(job_id)).owner
        assert (kept.name, kept.known, kept.by) == found


async def test_a_mapped_owner_is_known_well_enough_where_that_is_asked(spool, acceptance):
    """A printer may want owners by rule at least."""
    await spool.add_printer("safe", senders=(SAP,), least_owner=Known.MAPPED)
    accepted, _ = await submit(acceptance, submission("sap1"))
    assert accepted.state is JobState.PENDING
    accepted, _ = await submit(acceptance, submission("eve"))
    assert accepted.reasons == ("owner-not-known-well-enough",)
