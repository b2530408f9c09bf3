"""Jobs over IPP at a whole node: printed, in steps, looked at, canceled, refused."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Tag
from spoold.driver.ipp_peer import job_name
from spoold.intake import ipp as intake_ipp
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.outcome import Delivered
from spoold.model.principal import Port
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, EndAttempt, StartAttempt
from support.ipp_node import OPERATOR, PDF, THERE, answer_of, decoded, job_group, post, request


async def test_a_print_job_is_kept_with_what_it_asks_for(node, spool):
    """Title, owner, copies, format and template attributes; the answer names the job."""
    answer = await node.ask(
        Operation.PRINT_JOB,
        ipp.name_("job-name", "Größe"),
        groups=[job_group(ipp.integer("copies", 3), ipp.keyword("sides", "one-sided"))],
        document=PDF,
    )
    assert answer.code == Status.SUCCESSFUL_OK
    group = answer.group(Tag.JOB)
    job = await spool.reader.job(group.first("job-id"))
    assert group.first("job-uri") == f"ipp://print.example.org:9191/jobs/{job.id}"
    assert group.first("job-uuid") == f"urn:uuid:{job.uuid}"
    assert (job.title, job.owner.name, job.copies) == ("Größe", "ada", 3)
    assert job.document.format == "application/pdf"
    assert job.attributes == {"sides": "one-sided"}


async def test_what_the_printer_cannot_do_is_named(node, spool):
    """It is left out of the job, or, with fidelity, there is no job."""
    wish = job_group(ipp.keyword("sides", "two-sided-long-edge"), ipp.keyword("colour-of-ink", "x"))
    answer = await node.ask(Operation.PRINT_JOB, groups=[wish], document=PDF)
    assert answer.code == Status.SUCCESSFUL_OK_IGNORED_OR_SUBSTITUTED_ATTRIBUTES
    unsupported = answer.group(Tag.UNSUPPORTED)
    assert unsupported.first("sides") == "two-sided-long-edge"
    assert unsupported.get("colour-of-ink").tag == Tag.UNSUPPORTED_VALUE
    strict = ipp.boolean("ipp-attribute-fidelity", True)
    answer = await node.ask(Operation.PRINT_JOB, strict, groups=[wish], document=PDF)
    assert answer.code == Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED
    assert len((await node.jobs())["jobs"]) == 1


async def test_a_request_that_is_sent_again_is_the_same_job(node):
    """With our job-uuid; another document under it is refused."""
    uuid = ipp.uri("spoold-job-uuid", f"urn:uuid:{uuid4()}")
    first = await node.ask(Operation.PRINT_JOB, uuid, document=PDF)
    again = await node.ask(Operation.PRINT_JOB, uuid, document=PDF)
    assert first.group(Tag.JOB).first("job-id") == again.group(Tag.JOB).first("job-id")
    other = await node.ask(Operation.PRINT_JOB, uuid, document=PDF + b"%")
    assert other.code == Status.CLIENT_ERROR_NOT_POSSIBLE
    assert len((await node.jobs())["jobs"]) == 1


@pytest.mark.parametrize("operation", ["PRINT_JOB", "CREATE_JOB", "VALIDATE_JOB"])
async def test_a_printer_whose_device_is_itself_is_told_so(node, spool, operation):
    """Its job would wait for another one that waits for it; by way of another printer, too. What
    has ended came round by hand.
    """
    made = await node.ask(Operation.PRINT_JOB, document=PDF)
    job = await spool.reader.job(made.group(Tag.JOB).first("job-id"))
    elsewhere = job_name("x" * 200, f"{uuid4()}/2")
    for name in (
        job_name("x" * 200, f"{job.uuid}/1"),
        job_name(job_name("x", f"{job.uuid}/1.2"), f"{uuid4()}/1"),
    ):
        answer = await node.ask(Operation[operation], ipp.name_("job-name", name))
        assert answer.code == Status.CLIENT_ERROR_NOT_FOUND
        assert "itself" in answer.group(Tag.OPERATION).first("status-message")
    document = PDF if operation == "PRINT_JOB" else b""

    async def asked(name):
        about = ipp.name_("job-name", name)
        return (await node.ask(Operation[operation], about, document=document)).code

    assert await asked(elsewhere) == Status.SUCCESSFUL_OK
    await spool.journal.commit(ChangeJob(job.id, JobEvent.CANCEL, spool.wall_clock()))
    assert await asked(job_name("x", f"{job.uuid}/1")) == Status.SUCCESSFUL_OK


async def test_a_fault_of_ours_is_answered_and_the_node_goes_on(node, monkeypatch):
    """A client that finds its connection reset asks again at once, and for ever."""

    async def fail(*_):
        raise ValueError("a bug")

    monkeypatch.setitem(intake_ipp.OPERATIONS, Operation.PRINT_JOB, fail)
    answer = await node.ask(Operation.PRINT_JOB, document=PDF)
    assert answer.code == Status.SERVER_ERROR_INTERNAL_ERROR
    monkeypatch.undo()
    assert (await node.ask(Operation.PRINT_JOB, document=PDF)).code == Status.SUCCESSFUL_OK


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ([ipp.name_("last-document", "true")], Status.CLIENT_ERROR_BAD_REQUEST),
        ([], Status.CLIENT_ERROR_BAD_REQUEST),
    ],
)
async def test_send_document_must_say_whether_it_is_the_last(node, attributes, status):
    """And say it as a boolean; the job stays open."""
    made = await node.ask(Operation.CREATE_JOB)
    job_id = made.group(Tag.JOB).first("job-id")
    answer = await node.ask(
        Operation.SEND_DOCUMENT, ipp.integer("job-id", job_id), *attributes, document=PDF
    )
    assert answer.code == status
    job = await node.spool.reader.job(job_id)
    assert job.is_incoming


async def test_a_job_in_two_steps(node, spool):
    """Create-Job, Send-Document, Close-Job: it waits when it is whole."""
    made = await node.ask(Operation.CREATE_JOB, ipp.name_("job-name", "in two"))
    group = made.group(Tag.JOB)
    assert group.first("job-state-reasons") == "job-incoming"
    about = ipp.integer("job-id", group.first("job-id"))
    last = ipp.boolean("last-document", False)
    answer = await node.ask(Operation.SEND_DOCUMENT, about, last, document=PDF)
    assert answer.code == Status.SUCCESSFUL_OK
    answer = await node.ask(Operation.CLOSE_JOB, about)
    assert answer.code == Status.SUCCESSFUL_OK
    job = await spool.reader.job(group.first("job-id"))
    assert (job.state, job.title, job.document.size) == (JobState.PENDING, "in two", len(PDF))


async def test_a_job_of_several_documents(node, spool):
    """Each Send-Document brings one more; the job and its documents tell of all of them."""
    bodies = (PDF, b"%!PS\n" * 1000, PDF)
    made = await node.ask(Operation.CREATE_JOB, ipp.name_("job-name", "three"))
    job_id = made.group(Tag.JOB).first("job-id")
    about = ipp.integer("job-id", job_id)
    for number, body in enumerate(bodies, 1):
        last = ipp.boolean("last-document", number == len(bodies))
        answer = await node.ask(Operation.SEND_DOCUMENT, about, last, document=body)
        assert answer.code == Status.SUCCESSFUL_OK
    job = (await node.ask(Operation.GET_JOB_ATTRIBUTES, about)).group(Tag.JOB)
    total = sum(map(len, bodies))
    assert (job.first("number-of-documents"), job.first("job-k-octets")) == (3, -(-total // 1024))
    await node.spool.journal.commit(StartAttempt(job_id, 1, 1, 1))
    end = EndAttempt(job_id, 1, Delivered({}), JobEvent.DELIVER, (), 1)
    await node.spool.journal.commit(end)
    asked = ipp.keyword("requested-attributes", "all")
    answer = await node.ask(Operation.GET_DOCUMENTS, about, asked)
    groups = [group for group in answer.groups if group.tag == Tag.DOCUMENT]
    assert [group.first("document-number") for group in groups] == [1, 2, 3]
    assert [group.first("document-state") for group in groups] == [9, 3, 3]
    assert [group.first("last-document") for group in groups] == [False, False, True]
    assert [group.first("k-octets") for group in groups] == [1, 5, 1]
    assert groups[1].first("document-format") == "application/postscript"
    answer = await node.ask(Operation.GET_DOCUMENTS, about, ipp.integer("limit", 2))
    assert len([group for group in answer.groups if group.tag == Tag.DOCUMENT]) == 2
    second = ipp.integer("document-number", 2)
    answer = await node.ask(Operation.GET_DOCUMENT_ATTRIBUTES, about, second)
    assert answer.group(Tag.DOCUMENT).first("document-number") == 2
    answer = await node.ask(Operation.CANCEL_DOCUMENT, about, second)
    assert answer.code == Status.CLIENT_ERROR_NOT_POSSIBLE
    answer = await node.ask(Operation.SEND_DOCUMENT, about, last, document=PDF)
    assert answer.code == Status.CLIENT_ERROR_NOT_POSSIBLE


async def test_a_job_that_is_closed_without_a_document_is_aborted(node, spool):
    """By Close-Job; or by a last document of no length, which is an error like any empty one."""
    last = [ipp.boolean("last-document", True)]
    for operation, more, status in (
        (Operation.CLOSE_JOB, [], Status.SUCCESSFUL_OK),
        (Operation.SEND_DOCUMENT, last, Status.CLIENT_ERROR_BAD_REQUEST),
    ):
        made = await node.ask(Operation.CREATE_JOB)
        about = ipp.integer("job-id", made.group(Tag.JOB).first("job-id"))
        answer = await node.ask(operation, about, *more)
        assert answer.code == status
        assert (await spool.reader.job(about.first)).state is JobState.ABORTED


async def test_jobs_of_others_are_shown_without_anything_personal(node, desk):
    """Whoever sent a job sees it whole; another address sees numbers and states."""
    await node.ask(Operation.PRINT_JOB, ipp.name_("job-name", "secret"), document=PDF)
    everything = ipp.keyword("requested-attributes", "all")
    for operation, more in (
        (Operation.GET_JOBS, []),
        (Operation.GET_JOB_ATTRIBUTES, [ipp.integer("job-id", 1)]),
    ):
        own = (await node.ask(operation, everything, *more)).group(Tag.JOB)
        assert own.first("job-name") == "secret"
        other = (await node.ask(operation, everything, *more, principal=THERE)).group(Tag.JOB)
        assert other.first("job-state") == 3
        assert not {"job-name", "job-originating-user-name", "sides"} & set(other.attributes)
        assert "secret" not in repr(other)
        staff = (await node.ask(operation, everything, *more, principal=OPERATOR)).group(Tag.JOB)
        assert staff.first("job-name") == "secret"


@pytest.mark.slow
async def test_many_jobs_come_in_one_answer(node, spool):
    """More than a page, each once, in order; limit and first-index choose among them."""
    printer = (await spool.reader.printers())[0]
    for _ in range(120):
        await spool.add_job(printer)
    answer = await node.ask(Operation.GET_JOBS)
    ids = [group.first("job-id") for group in answer.groups_of(Tag.JOB)]
    assert ids == list(range(1, 121))
    answer = await node.ask(
        Operation.GET_JOBS, ipp.integer("limit", 60), ipp.integer("first-index", 11)
    )
    assert [group.first("job-id") for group in answer.groups_of(Tag.JOB)] == list(range(11, 71))


@pytest.mark.parametrize("which", ["proof-print", "saved"])
async def test_kinds_of_jobs_that_are_never_made_are_none(node, which):
    """Whoever asks for them gets an empty list, and no error."""
    answer = await node.ask(Operation.GET_JOBS, ipp.keyword("which-jobs", which))
    assert (answer.code, answer.group(Tag.JOB)) == (Status.SUCCESSFUL_OK, None)


async def test_another_address_may_not_cancel(node):
    """Where nobody can log in it is forbidden; the sender may."""
    await node.ask(Operation.PRINT_JOB, document=PDF)
    about = ipp.integer("job-id", 1)
    answer = await node.ask(Operation.CANCEL_JOB, about, principal=THERE)
    assert answer.code == Status.CLIENT_ERROR_FORBIDDEN
    answer = await node.ask(Operation.CANCEL_JOB, about)
    assert answer.code == Status.SUCCESSFUL_OK


class OneUser:
    """A user `op` whose password is `right`."""

    async def login(self, name, password, address):
        if (name, password) != ("op", "right"):
            raise OperationError("unauthorized", "no such name and password.")
        return replace(OPERATOR, address=address)


async def test_a_login_is_asked_for_over_tls_before_the_document(node):
    """401 for what needs one and for a wrong one; a right one does what was asked."""
    tls = replace(THERE, port=Port.TLS)
    body = request(Operation.PAUSE_PRINTER)
    async with node.connection(tls, OneUser()) as client:
        await client.send_all(post(body))
        status, headers, _ = await answer_of(client)
        assert status == 401
        assert headers[b"www-authenticate"].startswith(b"Basic realm=")
        for word, expected in ((b"b3A6d3Jvbmc=", 401), (b"b3A6cmlnaHQ=", 200)):
            await client.send_all(post(body, b"Authorization: Basic " + word))
            status, _, _ = await answer_of(client)
            assert status == expected


async def test_a_page_in_a_browser_cannot_print(node):
    """Whoever names an Origin is a page, and is refused."""
    async with node.connection() as client:
        await client.send_all(post(request(Operation.PRINT_JOB) + PDF, b"Origin: http://x"))
        status, _, _ = await answer_of(client)
    assert status == 403
    assert (await node.jobs())["jobs"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\x02\x00\x00\x0b\x00\x00\x00\x09\x01\x47\x00\x12attr", Status.CLIENT_ERROR_BAD_REQUEST),
        (b"\x02\x00\x00\x0b\x00\x00\x00\x09\x03", Status.CLIENT_ERROR_BAD_REQUEST),
        (b"\x09\x00\x00\x0b\x00\x00\x00\x09\x03", Status.SERVER_ERROR_VERSION_NOT_SUPPORTED),
    ],
)
async def test_what_is_no_request_is_answered_in_its_own_terms(node, body, status):
    """With its number, and the connection goes on where it can."""
    async with node.connection() as client:
        await client.send_all(post(body))
        http, _, answer = await answer_of(client)
    message = decoded(answer)
    assert (http, message.code, message.request_id) == (200, status, 9)


async def test_a_body_too_short_for_ipp_is_refused_by_http(node):
    """There is not even a number to answer to."""
    async with node.connection() as client:
        await client.send_all(post(b"\x02\x00"))
        status, _, _ = await answer_of(client)
    assert status == 400


async def test_an_unknown_operation_is_not_supported(node):
    """A client with an extension of its own is told so."""
    answer = await node.ask(0x3FFF)
    assert answer.code == Status.SERVER_ERROR_OPERATION_NOT_SUPPORTED


async def test_events_are_fetched_by_who_subscribed(node):
    """A subscription to jobs hears of them; nobody else may read or end it."""
    wish = ipp.group(
        Tag.SUBSCRIPTION,
        [
            ipp.keyword("notify-pull-method", "ippget"),
            ipp.keyword("notify-events", "job-created", "job-completed"),
            ipp.integer("notify-lease-duration", 60),
        ],
    )
    made = await node.ask(Operation.CREATE_PRINTER_SUBSCRIPTIONS, groups=[wish])
    number = made.group(Tag.SUBSCRIPTION).first("notify-subscription-id")
    await node.ask(Operation.PRINT_JOB, document=PDF)
    await node.ask(Operation.CANCEL_JOB, ipp.integer("job-id", 1))
    ids = ipp.integer("notify-subscription-ids", number)
    answer = await node.ask(Operation.GET_NOTIFICATIONS, ids)
    events = answer.groups_of(Tag.EVENT)
    assert [event.first("notify-event") for event in events] == ["job-created", "job-completed"]
    assert events[1].first("job-state") == 7
    newer = ipp.integer("notify-sequence-numbers", 2)
    answer = await node.ask(Operation.GET_NOTIFICATIONS, ids, newer)
    assert len(answer.groups_of(Tag.EVENT)) == 1
    answer = await node.ask(Operation.GET_NOTIFICATIONS, ids, principal=THERE)
    assert answer.code == Status.CLIENT_ERROR_FORBIDDEN
    one = ipp.integer("notify-subscription-id", number)
    for operation, status in (
        (Operation.RENEW_SUBSCRIPTION, Status.SUCCESSFUL_OK),
        (Operation.CANCEL_SUBSCRIPTION, Status.SUCCESSFUL_OK),
        (Operation.GET_SUBSCRIPTION_ATTRIBUTES, Status.CLIENT_ERROR_NOT_FOUND),
    ):
        assert (await node.ask(operation, one)).code == status


async def test_what_a_printer_refers_to_is_there(node):
    """Its icon, and a page about it at printer-more-info."""
    answer = await node.ask(Operation.GET_PRINTER_ATTRIBUTES)
    group = answer.group(Tag.PRINTER)
    async with node.connection() as client:
        for name, kind, start in (
            ("printer-icons", b"image/png", b"\x89PNG"),
            ("printer-more-info", b"application/json", b'{"printer": "default"'),
        ):
            path = group.first(name).partition("print.example.org:9191")[2]
            await client.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, headers, body = await answer_of(client)
            assert (status, headers[b"content-type"]) == (200, kind)
            assert body.startswith(start)


async def test_supplies_are_the_devices(node, desk, monkeypatch):
    """In the packed form of PWG 5100.13, one for each; unknown ones are said to be unknown."""
    names = ipp.keyword("requested-attributes", "printer-supply", "printer-supply-description")

    async def supplies():
        group = (await node.ask(Operation.GET_PRINTER_ATTRIBUTES, names)).group(Tag.PRINTER)
        return group.get("printer-supply").all, group.get("printer-supply-description").all

    unknown = b"index=1;class=other;type=other;unit=other;maxcapacity=-2;level=-2;"
    assert await supplies() == ([unknown], ["unknown"])
    said = (
        {"name": "Black", "type": "toner", "color": "#000000", "level": 70, "is_low": False},
        {"name": "Waste; box=1", "type": "waste-toner", "color": "#000;level=9"},
    )
    status = replace(desk.services.dispatcher.status(1), supplies=said)
    monkeypatch.setattr(desk.services.dispatcher, "status", lambda _: status)
    packed, described = await supplies()
    assert described == ["Black", "Waste; box=1"]
    assert packed == [
        b"index=1;class=supplyThatIsConsumed;type=toner;unit=percent;maxcapacity=100;level=70;"
        b"colorantname=black;",
        b"index=2;class=receptacleThatIsFilled;type=wasteToner;unit=percent;maxcapacity=100;"
        b"level=-2;",
    ]


async def test_a_full_spool_is_a_reason_of_the_printers(node, desk):
    """CUPS's clients wait while it stands; a job that comes all the same is to come again."""
    desk.acceptance.limits = replace(desk.services.config.limits, reserve_bytes=1 << 60)
    answer = await node.ask(Operation.PRINT_JOB, document=PDF)
    assert answer.code == Status.SERVER_ERROR_TEMPORARY_ERROR
    answer = await node.ask(Operation.GET_PRINTER_ATTRIBUTES)
    reasons = answer.group(Tag.PRINTER).get("printer-state-reasons").all
    assert "spool-area-full" in reasons
