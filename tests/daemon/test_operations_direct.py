"""Printing without a server, as servers see it: told in advance, and reported afterwards."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from spoold.intake import arguments
from spoold.intake.submission import Submission
from spoold.model.errors import OperationError
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Principal, Role
from spoold.model.record import Kind
from spoold.spool.store import JobFilter

ADMIN = Principal("uid:0", Port.CONTROL, frozenset({Role.ADMIN}), "root")
SOCKET = "socket://192.0.2.7"
DIGEST = "blake3:" + "0" * 64


def provider(*users: str, port=Port.MUTUAL) -> Principal:
    return Principal(
        "provider:7", port, frozenset({Role.PROVIDER}), "till", users, address="192.0.2.9"
    )


TILL = provider("*")


async def refused(desk, op, principal=TILL, **args) -> OperationError:
    with pytest.raises(OperationError) as error:
        await desk.ask(op, principal, **args)
    return error.value


@pytest.fixture
async def till(desk):
    """A printer that providers may print on; its GUID."""
    await desk.ask("printer.add", name="other", uri="socket://192.0.2.8")
    options = {"pjl": "off", "snmp_community": "secret"}
    made = await desk.ask(
        "printer.add", name="till", uri=SOCKET, options=options, when_unreachable="direct"
    )
    return made["guid"]


async def test_providers_are_told_where_they_may_print(desk, till):
    """One printer of two, with what the driver needs, and no community string of SNMP."""
    answer = await desk.ask("printer.direct", TILL)
    assert answer == {
        "printers": [
            {
                "printer": "till",
                "printer_guid": till,
                "uri": SOCKET,
                "options": {"pjl": "off"},
                "formats": [],
            }
        ],
        "next_after_id": None,
    }
    assert (await desk.ask("printer.show", name="till"))["when_unreachable"] == "direct"


@pytest.mark.parametrize(
    "settings", [{"accepting": False}, {"hold_new_jobs": True}, {"least_owner": "authenticated"}]
)
async def test_what_a_server_would_not_print_waits_for_one(desk, till, settings):
    """A closed or paused printer, one that holds new jobs, or wants its users' own word."""
    await desk.ask("printer.set", name="till", **settings)
    assert (await desk.ask("printer.direct", TILL))["printers"] == []
    back = {"accepting": True, "hold_new_jobs": False, "least_owner": "claimed"}
    await desk.ask("printer.set", name="till", **back)
    assert len((await desk.ask("printer.direct", TILL))["printers"]) == 1
    await desk.ask("printer.pause", name="till")
    assert (await desk.ask("printer.direct", TILL))["printers"] == []


@pytest.mark.parametrize(
    "principal",
    [
        provider("*", port=Port.CLEAR),
        Principal("address:192.0.2.9", Port.CLEAR),
        Principal("user:1", Port.MUTUAL, frozenset({Role.USER}), "ada"),
    ],
)
async def test_nobody_else_hears_of_it_or_reports(desk, till, principal):
    """Not without a certificate, not with a user's."""
    assert (await refused(desk, "printer.direct", principal)).code == "forbidden"
    told = {"job_uuid": str(uuid4()), "printer_guid": till, "size": 1, "digest": DIGEST}
    assert (await refused(desk, "job.report", principal, **told)).code == "forbidden"


async def test_a_provider_that_may_speak_for_nobody_prints_nothing(desk, till):
    """It has no jobs of anybody, so it is told of no printer, and not believed."""
    nobody = provider()
    assert (await desk.ask("printer.direct", nobody))["printers"] == []
    told = {"job_uuid": str(uuid4()), "printer_guid": till, "size": 1, "digest": DIGEST}
    error = await refused(desk, "job.report", nobody, **told)
    assert (error.code, "--may-assert" in error.advice) == ("forbidden", True)


@pytest.mark.parametrize(
    "settings",
    [
        {"release": "hold"},
        {"uri": "ipp://192.0.2.7/ipp/print"},
        {"uri": "lpd://192.0.2.7/raw"},
        {"members": ["other"]},
    ],
)
async def test_direct_goes_with_an_open_printer_and_a_socket_alone(desk, till, settings):
    """Whatever is set first: what waits for its owner is never printed without a server."""
    error = await refused(desk, "printer.set", ADMIN, name="till", **settings)
    assert error.code == "bad-request"
    assert "--when-unreachable hold" in error.advice
    await desk.ask("printer.set", name="till", when_unreachable="hold", **settings)
    error = await refused(desk, "printer.set", ADMIN, name="till", when_unreachable="direct")
    assert error.code == "bad-request"


async def test_a_report_is_a_job_that_is_over(desk, till):
    """Charged once, also when its answer was lost; nothing prints."""
    await desk.ask("user.add", name="ada")
    await desk.ask("price.set", rates=[{"price": 500}])
    await desk.ask("printer.set", name="till", charging="on")
    told = {
        "job_uuid": str(uuid4()),
        "printer_guid": till,
        "user": "ada",
        "title": "Receipts",
        "size": 3,
        "digest": DIGEST,
        "lines": [{"impressions": 2}],
    }
    first = await desk.ask("job.report", TILL, **told)
    assert (first["state"], first["duplicate"]) == ("completed", False)
    assert (first["total"], first["flags"]) == (1000, ["not-reserved", "beyond-limit"])
    again = await desk.ask("job.report", TILL, **told)
    assert again == {**first, "duplicate": True}
    job = await desk.ask("job.show", job=told["job_uuid"])
    assert job["reasons"] == ["job-completed-successfully", "job-printed-directly"]
    assert (job["owner"], job["owner_known"], job["title"]) == ("ada", "asserted", "Receipts")
    [charge] = (await desk.ask("account.charges", job=job["id"]))["charges"]
    assert (charge["paid"], charge["payer"]) == (1000, "user:ada")
    error = await refused(desk, "job.retry", ADMIN, job=str(job["id"]))
    assert "never came" in error.message


async def test_a_report_is_not_refused_for_what_a_job_would_be(desk, till):
    """Not in doubt, uncounted, of nobody's account, and for a user whom it may not speak for."""
    await desk.ask("price.set", rates=[{"price": 500}], unknown="refuse")
    await desk.ask("printer.set", name="till", charging="on", accepting=False)
    told = {"job_uuid": str(uuid4()), "printer_guid": till, "size": 3, "digest": DIGEST}
    answer = await desk.ask(
        "job.report", provider("bob"), user="mallory", in_doubt=True, ago_s=60, **told
    )
    assert (answer["total"], answer["flags"]) == (0, ["not-reserved", "not-counted"])
    job = await desk.ask("job.show", job=told["job_uuid"])
    assert (job["owner"], job["owner_known"]) == ("mallory", "claimed")
    assert job["reasons"] == ["job-assumed-printed", "job-printed-directly"]
    assert (job["finished_us"] - job["created_us"]) // 1_000_000 == 60
    assert "Nobody knows whether all of it came out." in job["message"]


async def test_nobody_pays_by_a_word_that_the_printer_does_not_accept(desk, till):
    """A provider cannot charge those for whom it may not speak."""
    await desk.ask("user.add", name="ada")
    await desk.ask("price.set", rates=[{"price": 500}])
    await desk.ask("printer.set", name="till", charging="on", least_owner="asserted")
    told = {"printer_guid": till, "user": "ada", "size": 3, "digest": DIGEST}
    for principal, total in ((provider("bob"), None), (provider("ada"), 500)):
        report = told | {"job_uuid": str(uuid4()), "lines": [{"impressions": 1}]}
        assert (await desk.ask("job.report", principal, **report))["total"] == total
    assert (await desk.ask("account.show", name="user:ada"))["balance"] == -500


async def test_nobody_pays_by_a_report_for_a_printer_that_is_not_direct(desk, till):
    """It may be so by now, or made up: the job is kept, and somebody looks at what it cost."""
    await desk.ask("user.add", name="ada")
    await desk.ask("price.set", rates=[{"price": 500}])
    await desk.ask("printer.set", name="till", charging="on", when_unreachable="hold")
    told = {"job_uuid": str(uuid4()), "printer_guid": till, "user": "ada", "size": 3}
    report = told | {"digest": DIGEST, "lines": [{"impressions": 1}]}
    for _ in range(2):
        answer = await desk.ask("job.report", TILL, **report)
        assert (answer["state"], answer["total"]) == ("completed", None)
        assert answer["flags"] == ["not-reserved", "not-direct"]
    assert (await desk.ask("account.show", name="user:ada"))["balance"] == 0


async def test_a_job_that_was_handed_on_is_canceled_by_who_did_so(desk, till):
    """Another provider may know its uuid, and speak for anybody: it is none of its jobs."""
    uuid, gate = uuid4(), replace(TILL, identity="provider:8")
    asked = {"job_uuid": str(uuid), "printer": "till", "handed_on": {"submitter": "provider:1"}}
    await desk.ask("printer.pause", name="till")
    upload = await desk.acceptance.begin(arguments.submission(asked, TILL, ""))
    await upload.write(b"body")
    await upload.commit()
    [told] = [
        one.payload["handed_by"]
        for one in await desk.spool.reader.records(1, 99)
        if one.kind == Kind.JOB_ACCEPTED
    ]
    assert told == TILL.identity
    error = await refused(desk, "handed.cancel", gate, job=str(uuid))
    assert (error.code, error.message) == ("forbidden", "somebody else handed this job on.")
    assert await desk.ask("handed.cancel", TILL, job=str(uuid)) == {"state": "canceled"}


async def test_a_job_that_waits_here_is_not_printed_once_more(desk, till):
    """After a restore a server may have what the provider printed since; that is paid for, once."""
    await desk.ask("user.add", name="ada")
    await desk.ask("price.set", rates=[{"price": 500}])
    await desk.ask("printer.set", name="till", charging="on")
    uuid = uuid4()
    await desk.ask("printer.pause", name="till")
    submission = Submission(
        "till", Owner("ada", Known.ASSERTED, "till"), TILL.identity, "frames", "", uuid=uuid, size=4
    )
    upload = await desk.acceptance.begin(submission)
    await upload.write(b"body")
    accepted = await upload.commit()
    [waiting] = await desk.spool.reader.jobs(JobFilter())
    told = {"job_uuid": str(uuid), "printer_guid": till, "size": 4}
    told |= {"digest": waiting.document.digest, "lines": [{"impressions": 2}]}
    for _ in range(2):
        answer = await desk.ask("job.report", TILL, **told)
        assert (answer["job_id"], answer["duplicate"]) == (accepted.job_id, True)
        assert answer["total"] == 1000
    job = await desk.ask("job.show", job=str(uuid))
    assert job["state"] == "canceled"
    assert job["reasons"] == ["job-done-elsewhere", "job-printed-directly"]
    assert (await desk.ask("account.show", name="user:ada"))["balance"] == -1000


@pytest.mark.parametrize(
    "wrong",
    [{"job_uuid": "x"}, {"printer_guid": str(uuid4())}, {"digest": "md5:00"}, {"copies": 0}],
)
async def test_a_report_that_makes_no_sense(desk, till, wrong):
    """Refused with what is wrong; nothing is there of it."""
    told = {"job_uuid": str(uuid4()), "printer_guid": till, "size": 4, "digest": DIGEST}
    error = await refused(desk, "job.report", **{**told, **wrong})
    assert error.code in ("bad-request", "not-found")
    assert await desk.spool.reader.jobs(JobFilter()) == []
