"""The `lpd` driver: RFC 1179 from the client's side.

In: `lpd://host[:515]/queue`. Out: `Delivered` for the device's acknowledgement of the last file. A
negative one before that is `Deferred`. A last one that never came is in doubt, for many devices
print while the bytes come; nothing is sent again in here.

Options: order=control,data|data,control, reserve=none|any|rfc1179 (source ports), format=l (a
letter), manual_copies=on (the data file holds the copies; off: its print line is repeated),
banner=off, longnumber=off, host=(ours), connect_timeout_s=10, timeout_s=300 (acknowledgements
before the last), stall_s=10, snmp=off (see `snmp`), counter_wait_s=15,
lost_acknowledgement=in-doubt|delivered|deferred.
"""

from __future__ import annotations

import socket
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import trio

from spoold.codec import lpd
from spoold.driver import evidence, sending, snmp
from spoold.driver.link import Delivery, DeviceStatus, Network, Progress
from spoold.driver.options import Options, seconds, switches, texts
from spoold.driver.sending import Meter, SourceFailed
from spoold.model.errors import OperationError
from spoold.model.job import Job
from spoold.model.outcome import Deferred, Delivered, InDoubt, Outcome, Refused
from spoold.model.printer import Device
from spoold.net.stream import Stream

HOST_CHARACTERS_MAX: Final = 15  # of a file's name: old servers cut it there, or choke
STATE_BYTES_MAX: Final = 2048
ACK_FAIL: Final = 3  # LPRng: this job, never
SOURCE_PORTS: Final[dict[str, range | None]] = {
    "none": None,
    "any": range(1023, 511, -1),
    "rfc1179": range(721, 732),
}
ORDERS: Final = ("control,data", "data,control")
LOST: Final = ("in-doubt", "delivered", "deferred")


class LpdDriver:
    options: ClassVar[Options] = {
        **seconds("connect_timeout_s", "timeout_s", "counter_wait_s"),
        **switches("manual_copies", "banner", "longnumber"),
        **texts("order", "reserve", "format", "host", "lost_acknowledgement"),
        **sending.OPTIONS,
        **snmp.OPTIONS,
    }

    def __init__(self, device: Device, network: Network) -> None:
        """Raises `OperationError` when the URI names no queue, or an option cannot work."""
        self._device = device
        self._network = network
        self._host, self._port = sending.endpoint(device, lpd.PORT)
        self._where = f"{self._host}:{self._port}"
        self.queue = queue_of(device)
        self._connect_timeout_s = device.seconds("connect_timeout_s", 10.0)
        self._timeout_s = device.seconds("timeout_s", 300.0)
        self._counter_wait_s = device.seconds("counter_wait_s", 15.0)
        self._source_ports = SOURCE_PORTS[_choice(device, "reserve", tuple(SOURCE_PORTS))]
        self._is_control_first = _choice(device, "order", ORDERS) == ORDERS[0]
        self._lost = _choice(device, "lost_acknowledgement", LOST)
        self._format = _choice(device, "format", ("l", *lpd.FORMATS))
        self._makes_copies = device.is_on("manual_copies", default=True)
        self._has_banner = device.is_on("banner")
        self._is_long = device.is_on("longnumber")
        self._our_host = device.option("host", "") or socket.gethostname()
        self._agent = snmp.agent_of(device, self._host)

    async def deliver(self, delivery: Delivery) -> Outcome:
        pages = evidence.Pages(expected=evidence.expected_pages(delivery.job))
        if self._agent is not None:
            pages = evidence.Pages(await self._page_count(), None, pages.expected)
        try:
            stream = await self._connect()
        except OSError as error:
            return sending.not_connected(error, self._where)
        meter = Meter(stream, delivery.report, self._device)
        submission = _Submission(self, delivery, stream, meter)
        try:
            outcome = await submission.run()
        except SourceFailed:
            detail = f"The stored document could not be read; {submission.taken()} bytes left."
            return Refused("document-damaged", detail)
        finally:
            stream.abort()
            delivery.report(Progress(bytes_sent=submission.data_sent()))
        if isinstance(outcome, InDoubt):
            return await self._settle(outcome, pages)
        return outcome

    async def probe(self) -> DeviceStatus:
        """Asks for the short state of the queue."""
        counters: dict[str, Any] = {}
        reasons: tuple[str, ...] = ()
        if self._agent is not None and (answer := await self._agent.ask()) is not None:
            reasons = answer.reasons
            if answer.page_count is not None:
                counters["snmp"] = answer.page_count
        try:
            said = await self._queue_state()
        except OSError as error:
            failed = sending.not_connected(error, self._where)
            return DeviceStatus(False, (failed.reason, *reasons), failed.detail, counters)
        return DeviceStatus(True, reasons, said.partition("\n")[0].strip(), counters)

    async def _connect(self) -> Stream:
        return await self._network.connect(
            self._host,
            self._port,
            timeout_s=self._connect_timeout_s,
            source_ports=self._source_ports,
        )

    async def _page_count(self) -> int | None:
        answer = await self._agent.ask() if self._agent is not None else None
        return answer.page_count if answer is not None else None

    async def _queue_state(self) -> str:
        """What the queue says of itself, cut short; "" when it says nothing.

        Raises:
            OSError: there is no connection.
        """
        stream = await self._connect()
        said = bytearray()
        try:
            with trio.move_on_after(min(self._timeout_s, self._connect_timeout_s)):
                await stream.send_all(lpd.queue_state(self.queue))
                while len(said) < STATE_BYTES_MAX and (data := await stream.receive_some()):
                    said += data
        except trio.BrokenResourceError:
            pass  # what came before counts
        finally:
            stream.abort()
        text = bytes(said[:STATE_BYTES_MAX]).decode("utf-8", "replace")
        return "".join(c if c.isprintable() or c == "\n" else " " for c in text)

    async def _settle(self, doubt: InDoubt, pages: evidence.Pages) -> Outcome:
        """Ask the counter and the queue, and decide."""
        is_whole = doubt.reason == "acknowledgement-lost"
        pages = await evidence.watch_counter(pages, self._page_count, self._counter_wait_s)
        found = doubt.evidence | pages.as_evidence()
        if is_whole and pages.is_proof:
            return Delivered({"method": "page-counter", "pages": pages.printed} | found)
        if is_whole and self._lost == "delivered":
            return Delivered({"method": "tcp-acknowledged"} | found)
        if is_whole and self._lost == "deferred":
            return Deferred(doubt.reason, doubt.detail)
        try:
            found["queue_says"] = await self._queue_state()
        except OSError as error:
            found["queue_says"] = f"({error.strerror or 'no answer'})"
        return InDoubt(doubt.reason, doubt.detail, doubt.bytes_sent, found)

    def control_file(self, job: Job, data_name: bytes) -> bytes:
        """The control file of a job whose one data file is `data_name`."""
        lines = 1 if self._makes_copies or job.copies_embedded else max(1, job.copies)
        user = job.owner.name or "anonymous"
        return lpd.build_control(
            lpd.ControlFile(
                host=self._our_host,
                user=user,
                job_name=job.title,
                job_class=self._our_host if self._has_banner else "",
                banner_user=user if self._has_banner else "",
                files=[
                    lpd.PrintFile(
                        data_name,
                        self._format,
                        lines,
                        title=job.title if self._format == "p" else "",
                        source=job.title,
                    )
                ],
                unlink=[data_name],
            )
        )

    def names(self, job: Job) -> tuple[bytes, bytes]:
        """The names of control file and data file: the same for each attempt of a document."""
        host = self._our_host[:HOST_CHARACTERS_MAX]
        index = job.document_number - 1
        control = lpd.file_name("c", index, job.id, host, is_long=self._is_long)
        return control, lpd.file_name("d", index, job.id, host, is_long=self._is_long)

    def copies_in_data(self, job: Job) -> int:
        return max(1, job.copies) if self._makes_copies and not job.copies_embedded else 1


class _Refusal(Exception):
    """A negative acknowledgement, or none where one was due. `code` 0: none came."""

    def __init__(self, code: int, step: str) -> None:
        super().__init__(step)
        self.code = code
        self.step = step


class _Submission:
    """One connection and one job."""

    def __init__(self, driver: LpdDriver, delivery: Delivery, stream: Stream, meter: Meter) -> None:
        self._driver = driver
        self._delivery = delivery
        self._stream = stream
        self._meter = meter
        self._copies = driver.copies_in_data(delivery.job)
        self._data_bytes = delivery.source.size * self._copies
        self._before_data: int | None = None
        self._acknowledged = 0
        self._has_data_ended = False  # its acknowledgement came
        self._is_last_awaited = False

    def taken(self) -> int:
        """How many bytes of the data file the device's kernel has."""
        if self._before_data is None:
            return 0
        return max(0, min(self._acknowledged - self._before_data, self._data_bytes))

    def data_sent(self) -> int:
        """How many bytes of the data file our kernel took."""
        if self._before_data is None:
            return 0
        return max(0, min(self._meter.sent - self._before_data, self._data_bytes))

    async def run(self) -> Outcome:
        driver, delivery = self._driver, self._delivery
        control_name, data_name = driver.names(delivery.job)
        control = driver.control_file(delivery.job, data_name)
        try:
            await self._say(lpd.receive_job(driver.queue))
            await self._acknowledgement("the queue")
            await delivery.may_send()
            if driver._is_control_first:
                await self._send_control(control_name, control)
                await self._send_data(data_name, is_last=True)
            else:
                await self._send_data(data_name, is_last=False)
                await self._send_control(control_name, control, is_last=True)
        except _Refusal as refusal:
            return self._refused(refusal)
        except trio.BrokenResourceError as error:
            return self._broken(str(error) or "the connection broke")
        finally:
            self._acknowledged = self._meter.acknowledged()
        try:
            await self._stream.finish()
        except trio.BrokenResourceError:
            pass  # it acknowledged, and went
        return Delivered({"method": "lpd-acknowledgement", "bytes": self._data_bytes})

    async def _send_control(self, name: bytes, control: bytes, *, is_last: bool = False) -> None:
        await self._say(lpd.control_file(name, len(control)))
        await self._acknowledgement("the control file")
        await self._say(control + lpd.END_OF_FILE)
        await self._acknowledgement("the control file's end", is_last=is_last)

    async def _send_data(self, name: bytes, *, is_last: bool) -> None:
        source, stream, meter = self._delivery.source, self._stream, self._meter
        await self._say(lpd.data_file(name, self._data_bytes))
        await self._acknowledgement("the data file")
        self._before_data = meter.sent
        if self._data_bytes <= sending.SMALL_BYTES and source.fileno() is None:
            for _ in range(self._copies):
                await sending.send_document(stream, source, meter)
            await self._say(lpd.END_OF_FILE)
        else:
            async with sending.watched(meter):
                for _ in range(self._copies):
                    await sending.send_document(stream, source, meter)
                await self._say(lpd.END_OF_FILE)
        await self._acknowledgement("the data file's end", is_last=is_last, has_data=True)
        self._has_data_ended = True

    async def _say(self, text: bytes) -> None:
        await self._stream.send_all(text)
        self._meter.took(len(text))

    async def _acknowledgement(
        self, step: str, *, is_last: bool = False, has_data: bool = False
    ) -> None:
        """The device said yes.

        A device may hold what follows the data for as long as it has no paper: that wait has no
        end, and is reported.

        Raises:
            _Refusal: it said no; or it said nothing in time, or ended.
            trio.BrokenResourceError: the connection broke.
        """
        self._is_last_awaited = is_last
        self._meter.awaited = f"the device has not acknowledged {step}"
        is_patient = is_last or has_data
        started_s = trio.current_time()
        while True:
            octet: bytes | None = None
            with trio.move_on_after(min(self._meter.tick_s, self._driver._timeout_s)):
                octet = await self._stream.receive_some(1)
            if octet is not None:
                break
            self._meter.tick()
            if not is_patient and trio.current_time() - started_s >= self._driver._timeout_s:
                raise _Refusal(0, step)
        if not octet:
            # Ended in order, without a word. Whether our bytes were taken takes a moment to
            # show: asking to end our half fails once they were thrown back.
            await self._wait_taken()
            raise trio.BrokenResourceError(f"it closed without acknowledging {step}")
        self._meter.moved()
        if octet[0]:
            raise _Refusal(octet[0], step)

    async def _wait_taken(self) -> None:
        await self._stream.send_eof()
        self._meter.ended()
        pause_s = 0.001
        while not self._meter.is_all_acknowledged:
            await self._stream.send_eof()
            await trio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)
            self._meter.tick()

    def _refused(self, refusal: _Refusal) -> Outcome:
        if refusal.code == 0:
            detail = f"No acknowledgement of {refusal.step} in {self._driver._timeout_s:g} s."
        else:
            detail = f"The device answered {refusal.code} to {refusal.step}."
        if self._has_data_ended:
            # It has the data, and a device that prints while the bytes come did so.
            return self._doubt("acknowledgement-negative", detail)
        if refusal.code == ACK_FAIL and refusal.step != "the queue":
            return Refused("device-refused", detail)
        return Deferred("device-busy", detail)

    def _broken(self, cause: str) -> Outcome:
        self._acknowledged = self._meter.acknowledged()
        if self._is_last_awaited and self._meter.is_all_acknowledged:
            detail = f"{cause}; the device had taken the whole job."
            return self._doubt("acknowledgement-lost", detail)
        taken = self.taken()
        if not taken:
            return Deferred("device-busy", f"The device took no data: {cause}.")
        detail = f"{cause}; the device had taken {taken} of {self._data_bytes} bytes."
        return self._doubt("connection-lost", detail)

    def _doubt(self, reason: str, detail: str) -> InDoubt:
        self._acknowledged = self._meter.acknowledged()
        taken = self.taken()
        found = {"acknowledged": taken, "bytes": self._data_bytes}
        return InDoubt(reason, detail, taken, found)


def queue_of(device: Device) -> bytes:
    """The queue that the device's URI names.

    Raises:
        OperationError: `bad-request`, it names none, or one that LPD cannot say.
    """
    queue = unquote(device.parts.path).strip("/")
    if not queue or any(c.isspace() or not c.isprintable() for c in queue) or len(queue) > 255:
        raise OperationError(
            "bad-request",
            f"{device.uri!r} names no queue.",
            "Write lpd://printer.example.org/queue; many printers call it `lp` or `raw`.",
        )
    return queue.encode()


def _choice(device: Device, name: str, values: tuple[str, ...]) -> str:
    """An option that is one of `values`, of which the first is the default.

    Raises:
        OperationError: `bad-request`, it is none of them.
    """
    value = device.option(name, values[0])
    if value not in values:
        known = ", ".join(dict.fromkeys(values))
        raise OperationError("bad-request", f"{name}={value} cannot be.", f"Known are {known}.")
    return value
