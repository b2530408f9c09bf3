"""The file driver: whole files or none, and names that lead nowhere."""

from __future__ import annotations

import os
import resource
import unicodedata
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from spoold.driver import link
from spoold.driver.file import file_name, safe_title
from spoold.driver.link import driver_for
from spoold.model.errors import OperationError
from spoold.model.job import Document, Job, JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt, Refused
from spoold.model.person import Owner
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork
from support.foreign import install_driver

UUID_7 = UUID(int=7)
BODY = b"%PDF-1.7 page"


@pytest.fixture
def printed(tmp_path):
    directory = tmp_path / "printed"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(
    ("in_file", "title"), [(False, "Q3: report"), (True, "Q3: report"), (False, "Q3: report.pdf")]
)
async def test_a_document_becomes_a_file_of_its_name(attempt, printed, in_file, title):
    """Number, uuid, title and extension; whole, and nothing beside it."""
    body = os.urandom(9 << 20) if in_file else BODY
    driver, job = attempt(
        f"file://{printed}", body, in_file=in_file, title=title, format="application/pdf"
    )
    outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Delivered)
    assert outcome.evidence["method"] == "file-synced"
    name = f"0000000007-{job.delivery.job.uuid}-Q3__report.pdf"
    assert outcome.evidence["files"] == [name]
    assert os.listdir(printed) == [name]
    assert (printed / name).read_bytes() == body
    assert job.marks == 1


async def test_a_second_attempt_replaces_the_first(attempt, printed):
    """The same job has the same name, so a repeat never makes a second file."""
    for _ in range(2):
        driver, job = attempt(f"file://{printed}", BODY)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert len(os.listdir(printed)) == 1


async def test_what_a_cut_off_attempt_left_is_used_up(attempt, printed):
    """A half-written temporary file of the same job does not stay."""
    driver, job = attempt(f"file://{printed}", BODY)
    left = printed / f".{file_name(job.delivery.job)[:47]}.part"
    left.write_bytes(b"half of someth")
    assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert [name for name in os.listdir(printed) if name.startswith(".")] == []


async def test_copies_become_files_where_the_device_says_so(attempt, printed):
    """`copies=on` writes one file a copy; without it one file is the job."""
    driver, job = attempt(f"file://{printed}", BODY, copies=3)
    # the fixture takes `copies` for the job; the option is the device's
    on = driver_for(Device(1, UUID_7, f"file://{printed}", {"copies": "on"}), TcpNetwork())
    assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert len(os.listdir(printed)) == 1
    assert isinstance(await on.deliver(job.delivery), Delivered)
    assert len(os.listdir(printed)) == 3


async def test_the_last_directory_is_made_and_no_more(attempt, tmp_path):
    """A missing parent may be a disk that is not mounted: deferred, with advice."""
    driver, job = attempt(f"file://{tmp_path}/new", BODY)
    assert (await driver.probe()).reachable
    assert isinstance(await driver.deliver(job.delivery), Delivered)
    driver, job = attempt(f"file://{tmp_path}/disk/new", BODY)
    outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "directory-missing"
    assert "mount" in outcome.detail
    assert not (await driver.probe()).reachable


async def test_a_file_in_the_way_is_deferred(attempt, tmp_path):
    """The directory is a file."""
    (tmp_path / "printed").write_bytes(b"")
    driver, job = attempt(f"file://{tmp_path}/printed", BODY)
    outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "directory-missing"
    assert "what is in its place" in outcome.detail
    assert "Not a directory" in (await driver.probe()).detail


async def test_a_full_disk_is_deferred_and_leaves_nothing(attempt, printed):
    """The system takes no more bytes: what was written is gone again, the job waits."""
    driver, job = attempt(f"file://{printed}", b"x" * 300_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        outcome = await driver.deliver(job.delivery)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "directory-full"
    assert os.listdir(printed) == []


async def test_a_document_that_lost_its_end_is_refused(attempt, printed, tmp_path):
    """Shorter than it should be: no file, also no half one."""
    driver, job = attempt(f"file://{printed}", b"x" * 5000, in_file=True)
    os.truncate(tmp_path / "document", 100)
    outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Refused)
    assert os.listdir(printed) == []


def test_a_directory_elsewhere_is_refused_when_it_is_added():
    """A host, or no absolute path."""
    for uri in ("file://example.org/dir", "file:relative", "file://"):
        with pytest.raises(OperationError):
            driver_for(Device(1, UUID_7, uri), TcpNetwork())


@given(st.text(max_size=300), st.text(max_size=40))
def test_no_title_makes_a_name_that_leads_elsewhere(title, media_type):
    """Any text: one path component, not hidden, short enough, and the number leads it."""
    job = Job(
        id=2**31 - 1,
        uuid=UUID_7,
        printer_id=1,
        state=JobState.PROCESSING,
        reasons=(),
        owner=Owner(""),
        submitter="",
        title=title,
        client_host="",
        intake="raw",
        priority=50,
        created_us=0,
        document=Document(1, "blake3:00", media_type),
        position=1,
    )
    name = file_name(job, 999)
    assert "/" not in name
    assert "\0" not in name
    assert name.startswith("2147483647-")
    assert len(os.fsencode(name)) <= 200
    assert not any(unicodedata.category(c)[0] == "C" for c in name)
    assert safe_title("../../etc/passwd") == "etc_passwd"


async def test_a_third_party_adds_a_scheme_by_an_entry_point(attempt, tmp_path, monkeypatch):
    """The driver in README.md, in a distribution with an entry point, is all that it takes."""
    readme = Path(link.__file__).with_name("README.md").read_text()
    install_driver(tmp_path, monkeypatch, "acme")
    (tmp_path / "acme_printers.py").write_text(readme.split("```python\n")[1].split("```")[0])
    answers, got = [b"OK\n", b"what?"], []

    async def device(stream: trio.SocketStream) -> None:
        got.append(b"".join([data async for data in stream]))
        await stream.send_all(answers.pop(0))
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, device, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        uri = f"acme://127.0.0.1:{listener.socket.getsockname()[1]}"
        driver, job = attempt(uri, BODY)
        outcome = await driver.deliver(job.delivery)
        assert outcome == Delivered({"method": "acme-ok", "bytes": len(BODY)})
        assert job.marks == 1
        driver, job = attempt(uri, BODY)
        assert isinstance(await driver.deliver(job.delivery), InDoubt)
        nursery.cancel_scope.cancel()
    assert got == [BODY, BODY]
    driver, job = attempt(uri, BODY)
    assert isinstance(await driver.deliver(job.delivery), Deferred)
    assert not (await driver.probe()).reachable
    with pytest.raises(OperationError, match="Known schemes: acme, file"):
        link.driver_for(Device(1, UUID_7, "nothing://x"), TcpNetwork())
