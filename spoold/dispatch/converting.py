"""Drivers of printers that have documents converted: around any driver, for one printer.

In: a delivery of a document as it came. Out: the driver's own outcome of the converted one, with a
note of the conversion in its evidence; or why there is nothing to deliver. It happens before bytes
may leave, so that an attempt whose conversion fails or is cut off has left nothing on the device.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from spoold.dispatch.convert import Converter, NotConverted
from spoold.dispatch.verdict import with_notes
from spoold.driver.link import Delivery, DeviceStatus, Driver, Resuming
from spoold.model.outcome import Deferred, Outcome
from spoold.model.printer import Printer


def converting(converter: Converter, printer: Printer, driver: Driver) -> Driver:
    """`driver`, which gets what `printer` does not take converted."""
    if not printer.conversions:
        return driver
    if isinstance(driver, Resuming):
        return _ConvertingResuming(converter, printer, driver)
    return _Converting(converter, printer, driver)


class _Converting:
    """A driver that gets documents as the printer takes them."""

    def __init__(self, converter: Converter, printer: Printer, driver: Driver) -> None:
        self._converter = converter
        self._printer = printer
        self._driver = driver

    async def probe(self) -> DeviceStatus:
        return await self._driver.probe()

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            async with self._prepared(delivery) as note:
                outcome = with_notes(await self._driver.deliver(delivery), note)
        except NotConverted as error:
            return error.outcome
        if not isinstance(outcome, Deferred):
            self._converter.forget(delivery.job.id)
        return outcome

    @asynccontextmanager
    async def _prepared(self, delivery: Delivery) -> AsyncIterator[dict[str, Any]]:
        """The delivery has the document that the printer takes; what is to be said of that."""
        conversion = self._printer.conversion_for(delivery.job.document.format)
        if conversion is None:
            yield {}
            return
        async with self._converter.converted(delivery.job, delivery.source, conversion) as made:
            delivery.job, delivery.source = made.job, made.source
            yield made.note


class _ConvertingResuming(_Converting):
    """Such a driver whose devices can be asked what became of a job."""

    async def resume(self, delivery: Delivery) -> Outcome | None:
        assert isinstance(self._driver, Resuming)
        try:
            async with self._prepared(delivery) as note:
                outcome = await self._driver.resume(delivery)
        except NotConverted:
            return None  # what has left cannot be compared with anything
        self._converter.forget(delivery.job.id)
        return outcome and with_notes(outcome, note)
