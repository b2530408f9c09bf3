"""Printing without a server, for `provider.alone`: the driver of sockets, and the page counter.

Both are the daemon's own. They run in an event loop that lives for one job; nothing of this is
loaded before a job is to be printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import trio

from spoold.counting.counter import Counter
from spoold.daemon import logs
from spoold.driver.link import Delivery, Progress
from spoold.driver.raw import RawDriver
from spoold.model.errors import OperationError
from spoold.model.job import Document as Stored
from spoold.model.job import Job, JobState
from spoold.model.outcome import Delivered, InDoubt, Outcome
from spoold.model.person import Known, Owner
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork
from spoold.provider.alone import OCTETS, Made
from spoold.provider.document import Document
from spoold.provider.notebook import DirectPrinter
from spoold.release.counting import count_of

CHECK_S = 0.25


class DevicePaper:
    """`provider.alone.Paper`."""

    def __init__(self) -> None:
        logs.configure("error", sys.stderr)

    def deliver(
        self,
        printer: DirectPrinter,
        job_uuid: UUID,
        document: Document,
        job: dict[str, Any],
        may_send: Callable[[], None],
        check: Callable[[], None],
    ) -> Made:
        device = Device(0, UUID(printer.printer_guid), printer.uri, printer.options)
        asked = _job(job_uuid, document, job)

        async def noted() -> None:
            may_send()  # the only one who waits for the disk is this job

        delivery = Delivery(asked, document, device, noted, _nobody)
        try:
            driver = RawDriver(device, TcpNetwork())
        except OperationError as error:
            return Made(detail=str(error))
        return _made(trio.run(_checked, driver, delivery, check))

    def count(
        self, job_uuid: UUID, document: Document, job: dict[str, Any]
    ) -> list[dict[str, Any]] | None:
        try:
            return trio.run(_count, _job(job_uuid, document, job), document)
        except (OSError, OperationError):
            return None


def _nobody(progress: Progress) -> None:
    """Nobody looks on."""


def _job(job_uuid: UUID, document: Document, job: dict[str, Any]) -> Job:
    """The job as the driver and the counter want it."""
    return Job(
        id=0,
        uuid=job_uuid,
        printer_id=0,
        state=JobState.PROCESSING,
        reasons=(),
        owner=Owner(job.get("user", ""), Known.CLAIMED),
        submitter="",
        title=job.get("title", ""),
        client_host="",
        intake="",
        priority=job.get("priority", 50),
        created_us=0,
        document=Stored(document.size, "", job.get("format", OCTETS)),
        position=0,
        attributes=job.get("attributes") or {},
        copies=job.get("copies", 1),
    )


async def _checked(driver: RawDriver, delivery: Delivery, check: Callable[[], None]) -> Outcome:
    """The outcome, or what `check` raised meanwhile."""
    outcome: Outcome | None = None
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            nonlocal raised
            while raised is None:
                await trio.sleep(CHECK_S)
                try:
                    check()
                except BaseException as error:
                    raised = error
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        outcome = await driver.deliver(delivery)
        nursery.cancel_scope.cancel()
    if outcome is None:
        assert raised is not None
        raise raised
    return outcome


def _made(outcome: Outcome) -> Made:
    if isinstance(outcome, Delivered):
        return Made(is_printed=True)
    if isinstance(outcome, InDoubt):
        return Made(is_in_doubt=True, detail=outcome.detail or outcome.reason)
    return Made(detail=outcome.detail or outcome.reason)


async def _count(job: Job, document: Document) -> list[dict[str, Any]] | None:
    descriptor = document.fileno()
    source = document.read_at(0, document.size) if descriptor is None else descriptor
    async with Counter() as counter:
        contents = await counter.count(source, media_type=job.document.format, colour=True)
    usage = count_of(job, {1: contents}).usage
    if not usage.is_known:
        return None
    return [
        {
            "impressions": one.impressions,
            "sheets": one.sheets,
            "color": one.color,
            "sides": one.sides,
            "media": one.media,
        }
        for one in usage.lines
    ]
