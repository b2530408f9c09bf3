"""The simulated IPP printer, spoken to in IPP by hand: what it prints, counts, answers, forgets."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from spoold.codec import ipp
from spoold.codec.http_client import BodyChunk, End, HttpClient, Response
from spoold.codec.ipp_names import JobState, Operation, Status
from spoold.codec.ipp_values import Message, Tag
from spoold.model.errors import OperationError
from spoold.simulate.ipp_engine import FAULTS, WITH_NUMBER, parse_fault
from spoold.simulate.ipp_printer import PATH, SimulatedIppPrinter, run_ipp_printer


class Client:
    """Asks a printer, a connection for each question."""

    def __init__(self, printer: SimulatedIppPrinter) -> None:
        self.printer = printer

    async def ask(self, operation, *attributes, wishes=(), job=None, document=b"", expect=200):
        """The answer; None where the printer closed without one."""
        target = [ipp.uri("printer-uri", self.printer.uri)]
        target += [ipp.integer("job-id", job)] if job is not None else []
        first = [
            ipp.charset("attributes-charset", "utf-8"),
            ipp.language("attributes-natural-language", "en"),
            *target,
            ipp.name_("requesting-user-name", "ada"),
            *attributes,
        ]
        groups = [ipp.group(Tag.OPERATION, first)]
        if wishes:
            groups.append(ipp.group(Tag.JOB, wishes))
        body = ipp.encode(Message((2, 0), operation, 1, groups)) + document
        response, answer = await self._post(body)
        if response is None:
            return None
        assert response.status == expect
        return ipp.Decoder(ipp.ANSWER_LIMITS).feed(answer) if expect == 200 else response

    async def _post(self, body: bytes):
        http, response, answer = HttpClient(), None, b""
        async with await trio.open_tcp_stream("127.0.0.1", self.printer.port) as stream:
            headers = [("Host", "printer"), ("Content-Type", "application/ipp")]
            head = http.request("POST", PATH, headers, len(body))
            await stream.send_all(head + http.body(body) + http.end())
            while not isinstance(event := http.next_event(), End):
                if event is None:
                    http.receive_data(data := await stream.receive_some())
                    if not data and response is None:
                        return None, b""
                elif isinstance(event, Response):
                    response = event
                elif isinstance(event, BodyChunk):
                    answer += event.data
        return response, answer

    async def job(self, job_id: int):
        answer = await self.ask(Operation.GET_JOB_ATTRIBUTES, job=job_id)
        return answer.group(Tag.JOB)

    async def wait_final(self, job_id: int):
        with trio.fail_after(30):
            while (job := await self.job(job_id)).first("job-state") < JobState.CANCELED:
                await trio.testing.wait_all_tasks_blocked(0.001)
        return job


@pytest.fixture
async def client_of(nursery):
    async def switch_on(*faults, **options):
        printer = SimulatedIppPrinter(*faults, **options)
        await nursery.start(printer.run)
        return Client(printer)

    return switch_on


TEXT = ipp.mime("document-format", "text/plain")
LAST = ipp.boolean("last-document", True)


def test_faults_are_words_some_with_a_number():
    """Each documented fault can be asked for; anything else names those that can."""
    for kind in FAULTS:
        assert parse_fault(f"{kind}=5" if kind in WITH_NUMBER else kind)[0] == kind
    for wrong in ("melt", "busy", "busy=x", "forget=1", ""):
        with pytest.raises(OperationError, match="lose-create"):
            parse_fault(wrong)


async def test_it_says_what_it_is(client_of):
    """All attributes, or those that were asked for."""
    client = await client_of()
    answer = await client.ask(Operation.GET_PRINTER_ATTRIBUTES)
    group = answer.group(Tag.PRINTER)
    assert group.first("printer-state") == 3
    assert Operation.CREATE_JOB in group.get("operations-supported").all
    asked = ipp.keyword("requested-attributes", "printer-state", "copies-supported")
    answer = await client.ask(Operation.GET_PRINTER_ATTRIBUTES, asked)
    assert set(answer.group(Tag.PRINTER).attributes) == {"printer-state", "copies-supported"}


async def test_a_job_in_one_step_and_in_two(client_of):
    """Print-Job, or Create-Job and Send-Document: paper, counter, and states until completed."""
    client = await client_of()
    name = ipp.name_("job-name", "Report")
    answer = await client.ask(Operation.PRINT_JOB, name, TEXT, document=b"one\ftwo\f")
    assert answer.group(Tag.JOB).first("job-id") == 1
    wishes = [ipp.integer("copies", 2)]
    answer = await client.ask(Operation.CREATE_JOB, name, wishes=wishes)
    group = answer.group(Tag.JOB)
    assert group.first("job-state-reasons") == "job-incoming"
    await client.ask(Operation.SEND_DOCUMENT, TEXT, LAST, job=2, document=b"page\f")
    job = await client.wait_final(2)
    assert job.first("job-state") == JobState.COMPLETED
    assert job.first("job-impressions-completed") == 2
    assert client.printer.engine.sheets == 4
    assert client.printer.engine.page_count == 1004
    assert [paper.user for paper in client.printer.engine.papers] == ["ada", "ada"]


async def test_jobs_are_listed_by_what_became_of_them(client_of):
    """Those that wait, and those that have ended; mine, or anybody's."""
    client = await client_of()
    for number in range(3):
        await client.ask(Operation.CREATE_JOB, ipp.name_("job-name", f"job {number}"))
    assert (await client.ask(Operation.CANCEL_JOB, job=2)).code == Status.SUCCESSFUL_OK
    again = await client.ask(Operation.CANCEL_JOB, job=2)
    assert again.code == Status.CLIENT_ERROR_NOT_POSSIBLE
    assert (await client.ask(Operation.CANCEL_JOB, job=9)).code == Status.CLIENT_ERROR_NOT_FOUND
    for which, ids in (("not-completed", [1, 3]), ("completed", [2])):
        asked = ipp.keyword("which-jobs", which), ipp.boolean("my-jobs", True)
        answer = await client.ask(Operation.GET_JOBS, *asked)
        assert [job.first("job-id") for job in answer.groups_of(Tag.JOB)] == ids


async def test_what_it_does_not_print_it_refuses(client_of):
    """Another format, an operation that it does not know."""
    client = await client_of()
    pcl = ipp.mime("document-format", "application/vnd.hp-pcl")
    answer = await client.ask(Operation.VALIDATE_JOB, pcl)
    assert answer.code == Status.CLIENT_ERROR_DOCUMENT_FORMAT_NOT_SUPPORTED
    answer = await client.ask(0x4F4F)
    assert answer.code == Status.SERVER_ERROR_OPERATION_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("busy=1", Status.SERVER_ERROR_BUSY),
        ("not-accepting", Status.SERVER_ERROR_NOT_ACCEPTING_JOBS),
        ("reject-wishes", Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED),
        ("print-job-only", Status.SERVER_ERROR_OPERATION_NOT_SUPPORTED),
        ("ignore-wishes", Status.SUCCESSFUL_OK_IGNORED_OR_SUBSTITUTED_ATTRIBUTES),
        ("old", Status.SERVER_ERROR_VERSION_NOT_SUPPORTED),
    ],
)
async def test_faults_that_show_in_the_status(client_of, fault, status):
    """Each as RFC 8011 names it; a number says how often."""
    client = await client_of(fault)
    wishes = [ipp.keyword("sides", "two-sided-long-edge")]
    answer = await client.ask(Operation.CREATE_JOB, wishes=wishes)
    assert answer.code == status
    if fault == "busy=1":
        answer = await client.ask(Operation.CREATE_JOB)
        assert answer.code == Status.SUCCESSFUL_OK


@pytest.mark.parametrize(
    ("fault", "status"),
    [("login", 401), ("upgrade", 426), ("unavailable=1", 503)],
)
async def test_faults_that_show_in_http(client_of, fault, status):
    """Refused before IPP is read."""
    client = await client_of(fault)
    await client.ask(Operation.GET_PRINTER_ATTRIBUTES, expect=status)


@pytest.mark.parametrize(
    ("fault", "operation", "document"),
    [
        ("lose-create=1", Operation.CREATE_JOB, b""),
        ("lose-print=1", Operation.PRINT_JOB, b"page\f"),
    ],
)
async def test_a_lost_answer_is_lost_after_the_deed(client_of, fault, operation, document):
    """The printer has the job, and the client hears nothing of it; once."""
    client = await client_of(fault)
    assert await client.ask(operation, TEXT, document=document) is None
    assert list(client.printer.engine.jobs) == [1]
    assert await client.ask(operation, TEXT, document=document) is not None


async def test_a_forgetful_printer_has_paper_and_no_job(client_of):
    """Printed, and not found any more."""
    client = await client_of("forget")
    await client.ask(Operation.PRINT_JOB, TEXT, document=b"page\f")
    await client.printer.wait_papers(1)
    answer = await client.ask(Operation.GET_JOB_ATTRIBUTES, job=1)
    assert answer.code == Status.CLIENT_ERROR_NOT_FOUND


@pytest.mark.parametrize(
    ("fault", "state", "sheets"),
    [
        ("abort=1", JobState.ABORTED, 0),
        ("abort-late=1", JobState.ABORTED, 1),
        ("cancel", JobState.CANCELED, 0),
        ("bad-document", JobState.ABORTED, 0),
    ],
)
async def test_jobs_that_come_to_a_bad_end(client_of, fault, state, sheets):
    """With as much paper as was out by then."""
    client = await client_of(fault)
    await client.ask(Operation.PRINT_JOB, TEXT, document=b"one\ftwo\f")
    job = await client.wait_final(1)
    assert job.first("job-state") == state
    assert client.printer.engine.sheets == sheets


@pytest.mark.parametrize("faults", [(), ("eager",)])
async def test_half_a_document(client_of, faults):
    """A connection that breaks inside of one: aborted without paper, or printed as far as it is."""
    client = await client_of(*faults)
    groups = [ipp.group(Tag.OPERATION, [ipp.charset("attributes-charset", "utf-8")])]
    head = ipp.encode(Message((2, 0), Operation.PRINT_JOB, 1, groups))
    http = HttpClient()
    async with await trio.open_tcp_stream("127.0.0.1", client.printer.port) as stream:
        request = http.request("POST", PATH, [("Host", "printer")], len(head) + 1000)
        await stream.send_all(request + http.body(head) + http.body(b"one\ftw"))
    job = await client.wait_final(1) if client.printer.engine.jobs else None
    with trio.fail_after(30):
        while job is None:
            await trio.testing.wait_all_tasks_blocked(0.001)
            job = await client.wait_final(1) if client.printer.engine.jobs else None
    assert "submission-interrupted" in job.get("job-state-reasons").all
    assert client.printer.engine.sheets == (2 if faults else 0)


async def test_it_tells_people_of_its_port_and_its_papers(nursery):
    """What `spoold simulate printer --ipp` says."""
    said: list[str] = []
    heard = trio.Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    nursery.start_soon(run_ipp_printer, "127.0.0.1", 0, ("slow=1",), say)
    with trio.fail_after(30):
        await heard.wait()
        printer = SimulatedIppPrinter(port=int(said[0].rpartition(":")[2].partition("/")[0]))
        name = ipp.name_("job-name", "Report")
        await Client(printer).ask(Operation.PRINT_JOB, name, TEXT, document=b"one\ftwo\f")
        while len(said) < 3:
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert said[0].startswith("prints at ipp://127.0.0.1:")
    assert SimulatedIppPrinter(host="::1", port=631).uri == "ipp://[::1]:631/ipp/print"
    assert said[1].startswith("fault slow: takes N milliseconds a page")
    assert said[2] == "ipp: 8 bytes, 2 pages, 1 copies 'Report' of ada"
