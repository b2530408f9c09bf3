"""Fixtures that several floors use: a real spool in a temporary directory."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
import structlog
import trio
from hypothesis import HealthCheck, settings

from spoold.model.person import NOBODY, Owner
from spoold.model.printer import Printer
from spoold.spool.documents import Documents
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import open_store
from spoold.spool.store import (
    NO_DOCUMENT,
    AcceptJob,
    AttachDocument,
    NewDocument,
    OpenJob,
    PutDevice,
    PutPrinter,
)
from support.campaign import IS_LONG
from support.schema import lay_schema
from support.sites import HQ, SITE

# CI tries the same examples each time, so that what fails there fails everywhere; the long form
# looks for others. How long an example takes depends on what else the machine does.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", derandomize=True, **PATIENT)
settings.register_profile("long", **PATIENT)
settings.load_profile("long" if IS_LONG else "ci")

JOURNAL = UUID("00000000-0000-4000-8000-000000000001")


@pytest.fixture(autouse=True, scope="session")
def _loggers_ask_each_time():
    """A logger that remembers how it was configured would go on so in the tests that follow."""
    configure = structlog.configure

    def forgetful(**settings):
        configure(**settings | {"cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", forgetful)
        yield


@pytest.fixture(autouse=True)
def _own_logging():
    """How a test has events written is its own affair."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def group_of(nodeid: str) -> str:
    """Tests of one file share fixtures, those of systemd a machine: a group stays together."""
    file = nodeid.partition("::")[0]
    folder = file.rpartition("/")[0]
    return folder if folder.endswith("/systemd") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Which of those that run at a time runs what."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return Groups(config, log)


def seconds_of(item) -> float:
    """About how long a test takes, as its marker `slow` says."""
    marker = item.get_closest_marker("slow")
    return 0.0 if marker is None else marker.args[0] if marker.args else 0.5


def pytest_collection_modifyitems(config, items):
    """Where several run at a time, groups that take long come first: at the end there are short
    ones, so that all have done at about the same time.
    """
    if hasattr(config, "workerinput"):
        lasting = Counter()
        for item in items:
            lasting[group_of(item.nodeid)] += seconds_of(item)
        items.sort(key=lambda item: -lasting[group_of(item.nodeid)])


def wall_clock() -> int:
    return time.time_ns() // 1000


class OpenSpool(SimpleNamespace):
    """A running journal with its reader and documents, and short ways to use them."""

    async def add_printer(self, name="default", uri="file:///nowhere", **fields) -> Printer:
        device = await self.journal.commit(PutDevice(uuid4(), uri, wall_clock()))
        printer = Printer(0, uuid4(), name, device.id, **fields)
        return await self.journal.commit(PutPrinter(printer, wall_clock()))

    async def add_job(self, printer: Printer, body=b"page\f", owner="", **fields):
        document = NewDocument(len(body), "blake3:00", "text/plain", body)
        known = Owner(owner) if owner else NOBODY
        return await self.journal.commit(
            AcceptJob(printer.id, known, "address:127.0.0.1", document, wall_clock(), **fields)
        )

    async def open_job(self, printer: Printer, owner="", **fields):
        known = Owner(owner) if owner else NOBODY
        return await self.journal.commit(
            OpenJob(printer.id, known, "address:127.0.0.1", NO_DOCUMENT, wall_clock(), **fields)
        )

    async def attach(self, job_id: int, body=b"page\f", submitter="address:127.0.0.1", **fields):
        document = NewDocument(len(body), "blake3:00", "text/plain", body)
        return await self.journal.commit(
            AttachDocument(job_id, submitter, document, wall_clock(), **fields)
        )


@asynccontextmanager
async def open_spool(data_dir: Path, journal: UUID = JOURNAL):
    """The spool in `data_dir`, opened as the daemon does."""
    lay_schema(data_dir)
    writer, store = await open_store(data_dir, wall_clock(), os.urandom, journal)
    reader = await SqliteReader.open(data_dir)
    journal = Journal(writer, store)
    documents = Documents(data_dir, reader)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)
            yield OpenSpool(
                journal=journal,
                reader=reader,
                documents=documents,
                store=store,
                data_dir=data_dir,
                wall_clock=wall_clock,
            )
            journal.close_nowait()
    finally:
        await reader.close()
        await writer.close()
        store.close()


@pytest.fixture
def spool_at():
    """`async with spool_at(path) as spool`: for tests that open a spool more than once."""
    return open_spool


@pytest.fixture
async def spool(tmp_path):
    async with open_spool(tmp_path) as opened:
        yield opened


@pytest.fixture
async def site(tmp_path):
    """The spool of a site; `hq` is that of its application server."""
    (tmp_path / "site").mkdir()
    async with open_spool(tmp_path / "site", SITE) as opened:
        yield opened


@pytest.fixture
async def hq(tmp_path):
    (tmp_path / "hq").mkdir()
    async with open_spool(tmp_path / "hq", HQ) as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 32 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)
