"""The simulated printer, spoken to by hand: what it prints, counts and answers, and its faults."""

from __future__ import annotations

import pytest
import trio

from spoold.codec import pjl
from spoold.model.errors import OperationError
from spoold.simulate.printer import (
    FAULTS,
    Options,
    SimulatedPrinter,
    count_pages,
    parse_fault,
    run_printer,
)


async def send(port: int, data: bytes) -> bytes:
    """What the printer says to these bytes and the end behind them."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(data)
        await stream.send_eof()
        return b"".join([part async for part in stream])


@pytest.fixture
async def nursery_of_printer(nursery):
    async def switch_on(*faults, **options):
        printer = SimulatedPrinter(*faults, **options)
        await nursery.start(printer.run)
        return printer

    return switch_on


@pytest.mark.parametrize(
    ("document", "pages"),
    [
        (b"", 0),
        (b"text", 1),
        (b"one\ftwo", 2),
        (b"one\ftwo\f\r\n", 2),
        (b"%!PS\n%%Page: 1 1\n%%Page: 2 2\n", 2),
        (b"%PDF-1.4 /Type /Pages /Type /Page /Type/Page", 2),
        (b"%PDF-1.7 object streams only", 1),
    ],
)
def test_pages_are_counted_by_the_marks_of_the_format(document, pages):
    """Form feeds, DSC comments, page objects."""
    assert count_pages(document) == pages


def test_faults_are_words_some_with_a_number():
    """Each documented fault can be asked for; anything else names those that can."""
    for kind in FAULTS:
        with_number = kind in ("slow", "reset-after")
        assert parse_fault(f"{kind}=5" if with_number else kind)[0] == kind
    for wrong in ("melt", "slow", "slow=0", "slow=x", "busy=1", "reset-after=", ""):
        with pytest.raises(OperationError, match="never-read"):
            parse_fault(wrong)


async def test_a_raw_stream_is_one_paper_and_counts(nursery_of_printer):
    """The bytes as they came, the pages on the counter, and an end when all is printed."""
    printer = await nursery_of_printer()
    assert await send(printer.raw_port, b"one\ftwo\f") == b""
    (paper,) = printer.papers
    assert (paper.via, paper.data, paper.pages, paper.copies) == ("raw", b"one\ftwo\f", 2, 1)
    assert printer.page_count == 1002


async def test_pjl_is_obeyed_and_answered(nursery_of_printer):
    """ECHO, INFO, USTATUS and copies; a job's paper is its document without the PJL."""
    printer = await nursery_of_printer()
    said = await send(
        printer.raw_port,
        pjl.opening("t", page_count=True, follow_jobs=True)
        + pjl.job("id", "Title", 2)
        + b"one\f"
        + pjl.end_of_job("id")
        + pjl.question("u", page_count=True, status=True),
    )
    assert pjl.BackChannel().receive(said) == [
        pjl.Echo("t"),
        pjl.PageCount(1000),
        pjl.JobReport("START", "id"),
        pjl.JobReport("END", "id", 2, "OK"),
        pjl.Status(10001, "READY"),
        pjl.PageCount(1002),
        pjl.Echo("u"),
    ]
    (paper,) = printer.papers
    assert (paper.document, paper.copies, paper.title) == (b"one\f", 2, "Title")


async def test_a_question_is_no_paper(nursery_of_printer):
    """Asking for the state prints nothing and counts nothing."""
    printer = await nursery_of_printer()
    await send(printer.raw_port, pjl.question("t", status=True))
    assert not printer.papers
    assert printer.page_count == 1000


async def test_lpd_takes_files_and_prints_what_the_control_file_says(nursery_of_printer):
    """Acknowledged step by step; copies by print lines; both orders are one to it."""
    printer = await nursery_of_printer()
    control = b"Hhost\nPada\nJTitle\nldfA001host\nldfA001host\n"
    said = await send(
        printer.lpd_port,
        b"\x02queue\n\x03%d dfA001host\n" % 4
        + b"page\0\x02%d cfA001host\n" % len(control)
        + control
        + b"\0",
    )
    assert said == b"\0" * 5
    (paper,) = printer.papers
    assert (paper.via, paper.data, paper.copies) == ("lpd", b"page", 2)
    assert (paper.queue, paper.user, paper.title, paper.format) == ("queue", "ada", "Title", "l")


async def test_a_forgetful_printer_ends_in_order_and_has_nothing(nursery_of_printer):
    """Everything looks well on the wire, and the tray is empty."""
    printer = await nursery_of_printer("forget")
    assert await send(printer.raw_port, b"page\f") == b""
    assert not printer.papers
    assert printer.page_count == 1000


async def test_a_single_printer_resets_the_second_connection(nursery_of_printer):
    """One at a time; when the first has gone it takes another."""
    printer = await nursery_of_printer("single")
    first = await trio.open_tcp_stream("127.0.0.1", printer.raw_port)
    await first.send_all(b"page")
    while printer.connections < 1:
        await trio.testing.wait_all_tasks_blocked()
    with pytest.raises((trio.BrokenResourceError, OSError)):
        await send(printer.raw_port, b"other\f")
    await first.send_eof()
    assert await first.receive_some() == b""
    await first.aclose()
    await send(printer.raw_port, b"third\f")
    assert [paper.data for paper in printer.papers] == [b"page", b"third\f"]


async def test_a_printer_heals_while_it_runs(nursery_of_printer):
    """Faults concern the connections that come after they were set."""
    printer = await nursery_of_printer("reset-at-once")
    with pytest.raises((trio.BrokenResourceError, OSError)):
        await send(printer.raw_port, b"page")
    printer.set_faults()
    await send(printer.raw_port, b"page")
    assert len(await printer.wait_papers(1)) == 1


async def test_nonsense_ends_one_connection_and_no_printer(nursery_of_printer):
    """Bytes that are no LPD; the next job prints."""
    printer = await nursery_of_printer()
    with pytest.raises((trio.BrokenResourceError, OSError)):
        await send(printer.lpd_port, b"GET / HTTP/1.1\r\n\r\n")
    await send(printer.raw_port, b"page")
    assert len(printer.papers) == 1


async def test_a_printer_for_people_says_where_it_is_and_what_it_prints():
    """`spoold simulate printer`: its addresses, its faults, a line a paper."""
    said: list[str] = []
    heard = trio.Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    async with trio.open_nursery() as nursery:
        options = Options(raw_port=0, lpd_port=0, faults=("no-job-end",))
        nursery.start_soon(run_printer, options, say)
        await heard.wait()
        port = int(said[0].rpartition(":")[2])
        await send(port, b"page\f")
        nursery.cancel_scope.cancel()
    assert said[0].startswith("prints at socket://127.0.0.1:")
    assert said[1].startswith("prints at lpd://127.0.0.1:")
    assert said[2].startswith("fault no-job-end: ")
    assert said[3] == "raw: 5 bytes, 1 pages, 1 copies"
