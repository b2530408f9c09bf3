"""Documents of every kind arrive byte for byte, and spoold sees what they are."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from spoold.provider.client import Provider
from spoold.simulate.printer import SimulatedPrinter
from support.documents import KINDS, PDF, document, large_pdf
from support.peers import Backend, Jobs, finished, printed_files
from support.process import config_with, send_raw

pytestmark = pytest.mark.slow

CONFIG = config_with("lpd")
LARGE_BYTES = 20_000_000


@asynccontextmanager
async def simulated(daemon, name: str, uri: str):
    """A simulated printer that keeps what comes, and the daemon's printer `name` for it."""
    printer = SimulatedPrinter(speaks_pjl=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(printer.run)
        where = uri.format(raw=printer.raw_port, lpd=printer.lpd_port)
        await trio.to_thread.run_sync(lambda: daemon.call("printer.add", name=name, uri=where))
        yield printer
        nursery.cancel_scope.cancel()


def assert_documents(papers, bodies: dict[str, bytes]) -> None:
    """Each body came out once, and nothing else did."""
    by_bytes = {body: kind for kind, body in bodies.items()}
    came = [by_bytes.get(paper.data, f"{paper.data[:40]!r}…") for paper in papers]
    assert sorted(came) == sorted(bodies)


@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_document_becomes_the_same_file(daemon, folder, kind):
    """Raw in, file out: the same bytes, under the format that they are."""
    jobs = Jobs(daemon)
    assert send_raw(daemon.port, document(kind))
    job = jobs.one_finished()
    assert (job["state"], job["format"]) == ("completed", KINDS[kind])
    assert printed_files(folder, job) == [document(kind)]


def test_what_a_windows_driver_says_in_pjl_is_known(daemon):
    """Name, user, copies and duplex of the header; the copies are the stream's own affair."""
    jobs = Jobs(daemon)
    assert send_raw(daemon.port, document("windows-pcl"))
    job = jobs.one_finished()
    assert (job["title"], job["owner"], job["copies"]) == ("Quarter äöü", "cashier", 2)
    assert (job["owner_known"], job["owner_by"]) == ("claimed", "pjl")


async def test_documents_over_frames_reach_a_raw_printer_as_they_are(daemon):
    """All kinds and a large one at once, pipelined over one connection."""
    bodies = {kind: document(kind) for kind in KINDS} | {"large": large_pdf(LARGE_BYTES)}
    async with simulated(daemon, "frames-to-raw", "socket://127.0.0.1:{raw}") as printer:

        async def submit(kind: str) -> None:
            receipt = await provider.submit(
                bodies[kind],
                printer="frames-to-raw",
                title=kind,
                format=KINDS.get(kind, PDF),
            )
            job = await trio.to_thread.run_sync(finished, daemon, receipt.job_id)
            assert (job["state"], job["title"]) == ("completed", kind)
            assert job["format"] == KINDS.get(kind, PDF)

        with trio.fail_after(60):
            async with (
                Provider([f"127.0.0.1:{daemon.port}"]) as provider,
                trio.open_nursery() as nursery,
            ):
                for kind in bodies:
                    nursery.start_soon(submit, kind)
            assert_documents(await printer.wait_papers(len(bodies)), bodies)


async def test_a_provider_that_names_no_format_gets_it_guessed(daemon):
    """`application/octet-stream` means that the sender does not know."""
    async with simulated(daemon, "guessed", "socket://127.0.0.1:{raw}"):
        with trio.fail_after(30):
            async with Provider([f"127.0.0.1:{daemon.port}"]) as provider:
                for kind in ("pdfwrite", "pxlcolor", "tiff24nc", "zpl", "epson"):
                    receipt = await provider.submit(document(kind), printer="guessed")
                    job = await trio.to_thread.run_sync(finished, daemon, receipt.job_id)
                    assert job["format"] == KINDS[kind]


@pytest.mark.parametrize("order", ["control,data", "data,control"])
async def test_documents_over_lpd_leave_over_lpd_as_they_are(daemon, tmp_path, order):
    """CUPS hands over by LPD, spoold hands on by LPD, in the same order of files."""
    bodies = {kind: document(kind) for kind in KINDS}
    port = daemon.ports["lpd"].rpartition(":")[2]
    queue = f"lpd-{order[0]}"
    backend = Backend("lpd", tmp_path)
    uri = f"lpd://127.0.0.1:{{lpd}}/paper?order={order}"
    async with simulated(daemon, queue, uri) as printer:
        for kind, body in bodies.items():
            path = tmp_path / kind
            path.write_bytes(body)
            jobs = Jobs(daemon)
            with trio.fail_after(30):
                await trio.to_thread.run_sync(
                    backend.send,
                    f"lpd://127.0.0.1:{port}/{queue}?order={order}&reserve=none",
                    str(path),
                )
                job = await trio.to_thread.run_sync(jobs.one_finished)
            assert (job["state"], job["format"]) == ("completed", KINDS[kind]), kind
        with trio.fail_after(30):
            papers = await printer.wait_papers(len(bodies))
        assert_documents(papers, bodies)
        assert {(paper.queue, paper.title, paper.user) for paper in papers} == {
            ("paper", "Weekly report", "cashier")
        }
