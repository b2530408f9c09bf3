"""The `socket` driver: raw TCP 9100 (AppSocket, JetDirect), with PJL and SNMP where there are any.

In: `socket://host[:9100]`. Out: a verdict by evidence: the device's own end after ours, PJL's word,
a counter. A device that has every byte and never ends is stalled, not done; where that is how it
is, `silence=acknowledged` takes `drain_timeout_s` of it for an end, and names it in the evidence.

A driver remembers whether its device did well the last time. Before it trusts a device it waits
`busy_wait_s` for a hang-up: a busy device accepts and closes, and bytes that its kernel took before
that are in doubt for ever. So keep one driver per device.

Options: connect_timeout_s=10, busy_wait_s=0.1, half_close=on, drain_timeout_s=10, stall_s=10,
silence=wait|acknowledged (the latter without half_close), pjl=off, pagecount=off, pjl_timeout_s=5,
status_poll_s=30, counter_wait_s=15, snmp=off (see `snmp`). Copies that the stream does not carry
itself: `QTY` inside a PJL job of ours, else the document is sent that many times, one behind the
other.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import trio

from spoold.codec import pjl
from spoold.driver import evidence, sending, snmp
from spoold.driver.backchannel import Ear
from spoold.driver.link import Delivery, DeviceStatus, Network, Progress
from spoold.driver.options import Options, seconds, switches, texts
from spoold.driver.sending import Meter, SourceFailed
from spoold.model.errors import OperationError
from spoold.model.job import JobReason
from spoold.model.outcome import Delivered, InDoubt, Outcome, Refused
from spoold.model.printer import Device
from spoold.net.stream import Stream

PORT: Final = 9100
EOF_PAUSE_S: Final = 0.001
EOF_PAUSE_S_MAX: Final = 1.0
IDLE_ANSWERS: Final = 3
NOT_ENDED: Final = (
    "the device has every byte, and has not ended the connection; "
    "for one that never does, set silence=acknowledged"
)
NOT_REPORTED: Final = "the device has every byte, and has not reported the job's end"


class RawDriver:
    options: ClassVar[Options] = {
        **seconds("connect_timeout_s", "busy_wait_s", "drain_timeout_s", "pjl_timeout_s"),
        **seconds("status_poll_s", "counter_wait_s"),
        **switches("half_close", "pjl", "pagecount"),
        **texts("silence"),
        **sending.OPTIONS,
        **snmp.OPTIONS,
    }

    def __init__(self, device: Device, network: Network) -> None:
        """Raises `OperationError` when the URI has no host, or an option cannot work."""
        self._device = device
        self._network = network
        self._host, self._port = sending.endpoint(device, PORT)
        self._where = f"{self._host}:{self._port}"
        self._connect_timeout_s = device.seconds("connect_timeout_s", 10.0)
        self._busy_wait_s = device.seconds("busy_wait_s", 0.1)
        self._is_trusted = False
        self._drain_timeout_s = device.seconds("drain_timeout_s", 10.0)
        self._pjl_timeout_s = device.seconds("pjl_timeout_s", 5.0)
        self._status_poll_s = device.seconds("status_poll_s", 30.0)
        self._counter_wait_s = device.seconds("counter_wait_s", 15.0)
        self._half_close = device.is_on("half_close", default=True)
        self._has_pjl = device.is_on("pjl")
        self._has_page_count = device.is_on("pagecount")
        self._agent = snmp.agent_of(device, self._host)
        silence = device.option("silence", "wait" if self._half_close else "acknowledged")
        if silence not in ("acknowledged", "wait"):
            raise OperationError(
                "bad-request",
                f"silence={silence} is no way to take a device's silence.",
                "Write silence=acknowledged or silence=wait.",
            )
        self._is_silence_enough = silence == "acknowledged"

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            stream = await self._network.connect(
                self._host, self._port, timeout_s=self._connect_timeout_s
            )
        except OSError as error:
            self._is_trusted = False
            return sending.not_connected(error, self._where)
        meter = Meter(stream, delivery.report, self._device)
        conversation = _Conversation(self, delivery, stream, meter)
        try:
            outcome = await conversation.run()
            self._is_trusted = isinstance(outcome, Delivered)
            if conversation.broken_by is None:
                await conversation.close()
        except SourceFailed:
            detail = f"The stored document could not be read; {conversation.taken()} bytes left."
            return Refused("document-damaged", detail)
        finally:
            stream.abort()
            delivery.report(Progress(bytes_sent=conversation.document_sent()))
        if conversation.broken_by is None:
            return outcome
        return await self._after_a_break(delivery, conversation)

    async def probe(self) -> DeviceStatus:
        """Connects; asks over PJL and SNMP where the device's options say that it answers."""
        counters: dict[str, Any] = {}
        reasons: tuple[str, ...] = ()
        detail = ""
        if self._agent is not None and (answer := await self._agent.ask()) is not None:
            reasons, detail = answer.reasons, answer.status
            if answer.page_count is not None:
                counters["snmp"] = answer.page_count
        try:
            ear = await self._ask()
        except OSError as error:
            failed = sending.not_connected(error, self._where)
            return DeviceStatus(False, (failed.reason, *reasons), failed.detail, counters)
        if ear is not None and (status := ear.status()) is not None:
            reasons, detail = tuple(dict.fromkeys((*reasons, *status.reasons))), status.display
        if ear is not None and (pages := ear.page_count()) is not None:
            counters["pjl"] = pages
        return DeviceStatus(True, reasons, detail, counters)

    async def _ask(self) -> Ear | None:
        """What the device says on a connection of its own; None when it breaks before that.

        Raises:
            OSError: there is no connection.
        """
        stream = await self._network.connect(
            self._host, self._port, timeout_s=self._connect_timeout_s
        )
        ear = Ear(stream, Meter(stream, _nobody, self._device))
        try:
            if self._has_pjl or self._has_page_count:
                token = "spoold-status"
                await stream.send_all(pjl.question(token, page_count=True, status=True))
                await ear.until(lambda: ear.has_echo(token), self._pjl_timeout_s)
            await stream.finish()
        except trio.BrokenResourceError:
            return ear if ear.messages else None
        finally:
            stream.abort()
        return ear

    async def page_count(self) -> int | None:
        """The page counter: over PJL on a connection of its own, or else over SNMP.

        One of the two for good: they may count differently.
        """
        if not self._has_page_count:
            answer = await self._agent.ask() if self._agent is not None else None
            return answer.page_count if answer is not None else None
        try:
            ear = await self._ask()
        except OSError:
            return None
        return ear.page_count() if ear is not None else None

    async def _after_a_break(self, delivery: Delivery, conversation: _Conversation) -> Outcome:
        """Ask the counter, while pages may still come out, and decide."""
        expected = evidence.expected_pages(delivery.job)
        pages = evidence.Pages(conversation.page_count_before, None, expected)
        if conversation.taken():
            pages = await evidence.watch_counter(pages, self.page_count, self._counter_wait_s)
        return evidence.after_a_break(
            conversation.taken(),
            conversation.document_bytes,
            conversation.broken_by or "",
            pages,
        )


def _nobody(progress: Progress) -> None:
    """Who hears of a question's progress."""


class _Conversation:
    """One connection and one job: what is said, in its order."""

    def __init__(self, driver: RawDriver, delivery: Delivery, stream: Stream, meter: Meter) -> None:
        self._driver = driver
        self._job = delivery.job
        self._source = delivery.source
        self._may_send = delivery.may_send
        self._stream = stream
        self._meter = meter
        self._ear = Ear(stream, meter)
        self._name = str(self._job.uuid)
        if self._job.documents > 1:
            self._name += f"-{self._job.document_number}"
        self._copies = 1 if self._job.copies_embedded else max(1, self._job.copies)
        self.document_bytes = self._source.size * self._copies
        self.page_count_before: int | None = None
        self.broken_by: str | None = None
        self._before_document: int | None = None
        self._acknowledged = 0
        self._speaks_pjl = False
        self._job_opened = False
        self._has_half_closed = False

    def taken(self) -> int:
        """How many bytes of the document the device's kernel has."""
        if self._before_document is None:
            return 0
        return max(0, min(self._acknowledged - self._before_document, self.document_bytes))

    def document_sent(self) -> int:
        """How many bytes of the document our kernel took."""
        if self._before_document is None:
            return 0
        return max(0, min(self._meter.sent - self._before_document, self.document_bytes))

    async def run(self) -> Outcome:
        """The verdict; when `broken_by` is set it is only what is known without a counter."""
        driver = self._driver
        if driver._agent is not None and not driver._has_page_count:
            self.page_count_before = await driver.page_count()
        try:
            if not driver._is_trusted and driver._busy_wait_s > 0:
                await self._ear.hear(driver._busy_wait_s)
            await self._may_send()
            if driver._has_pjl or driver._has_page_count:
                outcome = await self._speak()
                if outcome is not None:
                    return outcome
            else:
                await self._send()
            return await self._drain()
        except trio.BrokenResourceError as error:
            self.broken_by = str(error) or "the connection broke"
            return InDoubt("connection-lost")
        finally:
            self._acknowledged = self._meter.acknowledged()

    async def close(self) -> None:
        """End the connection in order: a reset might make the device drop what it has."""
        if not (self._has_half_closed and self._ear.is_ended):
            try:
                await self._stream.finish()
            except trio.BrokenResourceError:
                pass  # the verdict stands: it has its evidence

    # --- the document -----------------------------------------------------------------------------

    async def _send(self) -> None:
        self._before_document = self._meter.sent
        if self.document_bytes <= sending.SMALL_BYTES and self._source.fileno() is None:
            for _ in range(self._copies):
                await sending.send_document(self._stream, self._source, self._meter)
            return
        async with sending.watched(self._meter) as nursery:
            nursery.start_soon(self._ear.run)
            for _ in range(self._copies):
                await sending.send_document(self._stream, self._source, self._meter)

    async def _drain(self) -> Outcome:
        """Wait for the device's end; for hours if it must be."""
        driver, meter, ear = self._driver, self._meter, self._ear
        is_end_an_answer = not ear.is_ended  # an end that came before ours says nothing about ours
        if driver._half_close:
            await self._end_our_half()
        meter.awaited = NOT_ENDED
        tick_s = min(meter.tick_s, max(0.01, driver._drain_timeout_s / 2))
        pause_s = EOF_PAUSE_S
        while True:
            if not ear.is_ended:
                await ear.hear(tick_s)
            if ear.is_ended:
                if meter.is_all_acknowledged:
                    if is_end_an_answer:
                        return self._delivered("half-close" if self._has_half_closed else "closed")
                    if driver._is_silence_enough:
                        return self._delivered("tcp-acknowledged")
                    self.broken_by = "the device ended before we did"
                    return InDoubt("connection-lost")
                # It ended before it has everything. Is it still there? Ending our half again
                # does nothing to a live connection and fails on a dead one.
                await self._end_our_half()
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, EOF_PAUSE_S_MAX)
            meter.tick()
            if (
                driver._is_silence_enough
                and meter.can_know
                and meter.is_all_acknowledged
                and meter.quiet_s >= driver._drain_timeout_s
            ):
                return self._delivered("tcp-acknowledged")

    async def _end_our_half(self) -> None:
        await self._stream.send_eof()
        self._has_half_closed = True
        self._meter.ended()

    # --- PJL --------------------------------------------------------------------------------------

    async def _speak(self) -> Outcome | None:
        """Send the document with PJL around it; the verdict, or None when PJL gave none."""
        driver, ear = self._driver, self._ear
        await self._greet()
        head = await trio.to_thread.run_sync(self._source.read_at, 0, pjl.HEAD_BYTES)
        if driver._has_pjl and not pjl.has_own_job(head):
            media_type = "" if pjl.has_pjl(head) else self._job.document.format
            told = self._job.attributes
            sides, color = told.get("sides"), told.get("print-color-mode")
            opening = pjl.job(self._name, self._job.title, self._copies, media_type, sides, color)
            self._copies, self.document_bytes = 1, self._source.size
            await self._say(opening)
            self._job_opened = True
        await self._send()
        if self._job_opened:
            await self._say(pjl.end_of_job(self._name))
        if not self._speaks_pjl:
            return None
        reports = await self._wait_job_end() if driver._has_pjl else []
        if ear.is_ended:
            # Nothing more will be said. Whether it took everything is the drain's question,
            # whether it printed everything is the counter's.
            if driver._has_pjl and not reports:
                self.broken_by = "the device closed before it reported the job's end"
                return InDoubt("no-job-end")
            return self._reported(reports)
        page_count = await self._count_after() if driver._has_page_count else None
        await self._say(pjl.commands("USTATUSOFF") + pjl.UEL)
        return self._reported(reports, page_count)

    async def _say(self, text: bytes) -> None:
        await self._stream.send_all(text)
        self._meter.took(len(text))

    async def _greet(self) -> None:
        """Find out who listens, and what the counter says before the job."""
        driver, ear = self._driver, self._ear
        token = f"spoold-{self._name}"
        await self._say(
            pjl.opening(token, page_count=driver._has_page_count, follow_jobs=driver._has_pjl)
        )
        await self._say(pjl.question(f"{token}-ready"))
        self._speaks_pjl = await ear.until(
            lambda: ear.has_echo(f"{token}-ready"), driver._pjl_timeout_s
        )
        if self._speaks_pjl:
            ear.forget_before_echo(token)
            if (count := ear.page_count()) is not None:
                self.page_count_before = count

    async def _wait_job_end(self) -> list[pjl.JobReport]:
        """The reports on our job; none when the device ended, or is idle and said nothing."""
        driver, ear, meter = self._driver, self._ear, self._meter
        name = self._name if self._job_opened else ""
        meter.awaited = NOT_REPORTED
        idle_answers = 0
        asked_s = trio.current_time()
        while len(ear.ended_jobs(name)) < self._copies and not ear.is_ended:
            known = ear.status()
            await ear.hear(min(meter.tick_s, driver._status_poll_s))
            meter.tick()
            status = ear.status()
            if status is not None and status is not known:
                meter.reasons = status.reasons
                idle_answers = idle_answers + 1 if status.is_idle else 0
                if idle_answers >= IDLE_ANSWERS and meter.is_all_acknowledged:
                    break
            if trio.current_time() - asked_s >= driver._status_poll_s:
                asked_s = trio.current_time()
                await self._say(pjl.commands("INFO STATUS") + pjl.UEL)
        return ear.ended_jobs(name)

    async def _count_after(self) -> int | None:
        ear = self._ear
        token = f"spoold-{self._name}-after"
        await self._say(pjl.question(token, page_count=True))
        if await ear.until(lambda: ear.has_echo(token), self._driver._pjl_timeout_s):
            return ear.page_count()
        return None

    def _reported(
        self, reports: list[pjl.JobReport], page_count_after: int | None = None
    ) -> Outcome | None:
        pages = evidence.Pages(
            self.page_count_before, page_count_after, evidence.expected_pages(self._job)
        )
        found = pages.as_evidence()
        counts = [report.pages for report in reports if report.pages is not None]
        if counts:
            found["pages"] = sum(counts)
        results = [report.result for report in reports if report.result]
        if results:
            found["result"] = results[-1]
        if any(report.is_canceled for report in reports):
            said = results[-1] if results else "CANCELED"
            printed = f" after {sum(counts)} pages" if counts else ""
            detail = f"The device said {said}{printed}."
            return Refused(JobReason.JOB_CANCELED_AT_DEVICE, detail, found)
        if reports:
            return self._delivered("pjl-ustatus", found)
        if self._driver._has_pjl:
            return self._delivered("pjl-idle", found)
        if pages.is_proof:
            return self._delivered("page-counter", found)
        return None

    def _delivered(self, method: str, found: dict[str, Any] | None = None) -> Delivered:
        said = {"said": self._ear.said} if self._ear.said and not self._speaks_pjl else {}
        counted = (
            {} if self.page_count_before is None else {"page_count_before": self.page_count_before}
        )
        return Delivered(
            {"method": method, "bytes": self.document_bytes} | counted | said | (found or {})
        )
