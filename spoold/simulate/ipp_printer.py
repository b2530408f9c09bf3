"""A printer that speaks IPP, prints on paper that can be counted, and misbehaves as it is told.

In: a port and faults (`ipp_engine.FAULTS`). Out: `engine.papers`. Get-Printer-Attributes,
Validate-Job, Print-Job, Create-Job, Send-Document, Get-Job-Attributes, Get-Jobs, Cancel-Job and
Close-Job of RFC 8011, as far as a client needs them; HTTP with its logins and TLS upgrade.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

import trio

from spoold.codec import ipp
from spoold.codec.http import BodyChunk, Closed, End, HttpServer, Request
from spoold.codec.ipp_names import JobState, Operation, PrinterState, Status
from spoold.codec.ipp_values import Attribute, Group, Message, Tag
from spoold.model.errors import RemoteProtocolError
from spoold.net.address import Address
from spoold.net.listen import BACKLOG, accept_loop, prepare
from spoold.net.tcp import SocketStream
from spoold.net.tls import TlsStream
from spoold.simulate.ipp_engine import FAULTS, MEDIA_EMPTY, Engine, SimulatedJob, parse_fault
from spoold.simulate.printer import READ_BYTES, SMALL_BUFFER_BYTES, Paper

PATH: Final = "/ipp/print"
FORMATS: Final = ("application/pdf", "image/pwg-raster", "image/jpeg", "text/plain")
MORE_FORMATS: Final = (
    "application/octet-stream", "application/postscript", "application/vnd.hp-pcl", "image/urf",
)  # fmt: skip
IPP: Final = "application/ipp"
_JOB_MAKERS: Final = (Operation.PRINT_JOB, Operation.CREATE_JOB, Operation.VALIDATE_JOB)
_OPERATIONS: Final = (
    Operation.PRINT_JOB, Operation.VALIDATE_JOB, Operation.CREATE_JOB, Operation.SEND_DOCUMENT,
    Operation.CANCEL_JOB, Operation.GET_JOB_ATTRIBUTES, Operation.GET_JOBS,
    Operation.GET_PRINTER_ATTRIBUTES, Operation.CLOSE_JOB,
)  # fmt: skip


class _HangUp(Exception):
    """The printer closes instead of answering."""


class SimulatedIppPrinter:
    """`port` is what was bound once it runs. `context` lets it speak TLS, by upgrade or at once."""

    def __init__(
        self,
        *faults: str,
        host: str = "127.0.0.1",
        port: int = 0,
        formats: Iterable[str] = FORMATS,
        copies_max: int = 99,
        page_count: int | None = 1000,
        login: tuple[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        is_tls: bool = False,
        keeps_bytes: bool = True,
        on_paper: Callable[[Paper], None] | None = None,
    ) -> None:
        """Raises `OperationError` for a fault that there is not."""
        self.host = host
        self.port = port
        self.formats = tuple(formats)
        self.copies_max = copies_max
        self.engine = Engine({}, page_count or 0, keeps_bytes, on_paper)
        self.set_faults(*faults)
        self.login = login
        self.context = context
        self.is_tls = is_tls
        self.connections = 0
        self.requests: list[str] = []  # names of the operations that were asked for
        self._has_counter = page_count is not None
        self._open: set[_Line] = set()

    def set_faults(self, *faults: str) -> None:
        """From now on; none heals the printer."""
        self.engine.faults = dict(parse_fault(fault) for fault in faults)
        self.engine.stir()

    @property
    def uri(self) -> str:
        where = Address(self.host, self.port)
        return f"{'ipps' if self.is_tls else 'ipp'}://{where}{PATH}"

    async def wait_papers(self, count: int) -> list[Paper]:
        """Return the papers when there are at least `count`."""
        while len(self.engine.papers) < count:
            await self.engine.changed.wait()
        return list(self.engine.papers)

    def drop_connections(self) -> None:
        """Every connection is reset."""
        for line in list(self._open):
            line.abort()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prints until it is cancelled.

        Raises:
            OSError: the port cannot be bound.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if "stall" in self.engine.faults:
                # What a real printer's small buffer does: the sender soon sees that it is full.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            prepare(listener)
            listener.bind((self.host, self.port))
            listener.listen(BACKLOG)
            self.port = listener.getsockname()[1]
            async with trio.open_nursery() as nursery:

                def handle(sock: socket.socket, _address: Any) -> None:
                    nursery.start_soon(self._connection, sock)

                nursery.start_soon(accept_loop, listener, handle)
                nursery.start_soon(self.engine.run)
                task_status.started()

    async def _connection(self, sock: socket.socket) -> None:
        self.connections += 1
        line = _Line(self, SocketStream(sock))
        try:
            if self.is_tls:
                await line.secure()
            self._open.add(line)
            await line.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            pass  # the client broke it, or talks nonsense: a printer shrugs
        except _HangUp:
            await line.stream.finish()
        finally:
            self._open.discard(line)
            line.abort()

    # --- what it says of itself -------------------------------------------------------------------

    def attributes(self) -> list[Attribute]:
        faults = self.engine.faults
        is_stopped = "stopped" in faults
        is_printing = any(job.state == JobState.PROCESSING for job in self.engine.jobs.values())
        state = PrinterState.PROCESSING if is_printing else PrinterState.IDLE
        operations = [
            one
            for one in _OPERATIONS
            if "print-job-only" not in faults
            or one not in (Operation.CREATE_JOB, Operation.SEND_DOCUMENT, Operation.CLOSE_JOB)
        ]
        waiting = sum(not job.is_final for job in self.engine.jobs.values())
        found = [
            ipp.uri("printer-uri-supported", self.uri),
            ipp.name_("printer-name", "simulated"),
            ipp.text("printer-info", "Simulated printer"),
            ipp.text("printer-location", "In a test"),
            ipp.text("printer-make-and-model", "spoold simulated printer"),
            ipp.text("printer-device-id", "MFG:spoold;MDL:simulated;SN:S1;CMD:PDF,PWGRaster;"),
            ipp.enum_("printer-state", PrinterState.STOPPED if is_stopped else state),
            ipp.keyword("printer-state-reasons", MEDIA_EMPTY if is_stopped else "none"),
            ipp.text("printer-state-message", "Tray 1 is empty." if is_stopped else ""),
            ipp.boolean("printer-is-accepting-jobs", "not-accepting" not in faults),
            ipp.integer("queued-job-count", waiting),
            ipp.keyword("ipp-versions-supported", "1.1", *(() if "old" in faults else ("2.0",))),
            ipp.enum_("operations-supported", *operations),
            ipp.mime("document-format-supported", *self.formats),
            ipp.mime("document-format-default", self.formats[0]),
            ipp.range_("copies-supported", ipp.Range(1, self.copies_max)),
            ipp.keyword("sides-supported", "one-sided", "two-sided-long-edge"),
            ipp.keyword("sides-default", "one-sided"),
            ipp.keyword("media-supported", "iso_a4_210x297mm", "na_letter_8.5x11in"),
            ipp.keyword("media-default", "iso_a4_210x297mm"),
            ipp.keyword("print-color-mode-supported", "auto", "monochrome", "color"),
            ipp.boolean("color-supported", True),
            ipp.boolean("page-ranges-supported", True),
            ipp.enum_("print-quality-supported", 3, 4, 5),
            ipp.enum_("finishings-supported", 3),
            ipp.resolution("printer-resolution-supported", ipp.Resolution(600, 600)),
            ipp.keyword("job-creation-attributes-supported", "copies", "sides", "media"),
            ipp.name_("marker-names", "Black", "Yellow"),
            ipp.keyword("marker-types", "toner", "toner"),
            ipp.name_("marker-colors", "#000000", "#FFFF00"),
            ipp.integer("marker-levels", 70, 4),
            ipp.integer("marker-low-levels", 10, 10),
        ]
        if self.copies_max == 1:
            found = [one for one in found if one.name != "copies-supported"]
        if self._has_counter:
            found.append(ipp.integer("printer-impressions-completed", self.engine.page_count))
        return found


class _Line:
    """One connection."""

    def __init__(self, printer: SimulatedIppPrinter, stream: SocketStream | TlsStream) -> None:
        self.printer = printer
        self.engine = printer.engine
        self.stream: SocketStream | TlsStream = stream
        self._http = HttpServer()
        self._is_secure = False

    def abort(self) -> None:
        self.stream.abort()

    async def secure(self) -> None:
        assert self.printer.context is not None
        assert isinstance(self.stream, SocketStream)
        tls = TlsStream(self.stream.detach(), self.printer.context, server_side=True)
        self.stream = tls
        await tls.handshake(10.0)
        self._is_secure = True

    async def run(self) -> None:
        while True:
            event = await self._event()
            if isinstance(event, Closed):
                return await self.stream.finish()
            assert isinstance(event, Request)
            await self._request(event)
            if not self._http.start_next_cycle():
                return await self.stream.finish()

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is None:
            self._http.receive_data(await self.stream.receive_some(READ_BYTES))
        return event

    # --- HTTP -------------------------------------------------------------------------------------

    async def _request(self, request: Request) -> None:
        faults = self.engine.faults
        if "hang" in faults:
            await trio.sleep_forever()
        if request.method == "OPTIONS" and request.header("upgrade"):
            return await self._upgrade()
        status, headers = self._refusal(request)
        if status:
            return await self.stream.send_all(self._http.response(status, headers, b"No."))
        if self._http.is_client_waiting and "no-continue" not in faults:
            await self.stream.send_all(self._http.continue_response())
        answer, headers = await self._body(), [("Content-Type", IPP)]
        if "garbage" in faults:
            answer = b"\xff" * 40
        return await self.stream.send_all(self._http.response(200, headers, answer))

    def _refusal(self, request: Request) -> tuple[int, list[tuple[str, str]]]:
        """Why HTTP says no to this request; 0 when it does not."""
        faults, printer = self.engine.faults, self.printer
        if "upgrade" in faults and not self._is_secure:
            return 426, [("Upgrade", "TLS/1.2"), ("Connection", "Upgrade")]
        if "login" in faults or printer.login is not None:
            pair = ":".join(printer.login or ("", "")).encode()
            wanted = "Basic " + base64.b64encode(pair).decode()
            if "login" in faults or request.header("authorization") != wanted:
                return 401, [("WWW-Authenticate", 'Basic realm="printer"')]
        if "no-chunks" in faults and request.header("transfer-encoding"):
            return 411, []
        if "no-expect" in faults and request.header("expect"):
            return 417, []
        if request.path != PATH:
            return 404, []
        if self.engine.use_up("unavailable"):
            return 503, [("Retry-After", "1")]
        return 0, []

    async def _upgrade(self) -> None:
        """TLS from here on (RFC 2817 3.2): the answer to the request comes over it."""
        while not isinstance(await self._event(), End):
            pass
        if self.printer.context is None:
            return await self.stream.send_all(self._http.response(405, []))
        await self.stream.send_all(
            self._http.switch_response(
                [("Upgrade", "TLS/1.2, HTTP/1.1"), ("Connection", "Upgrade")]
            )
        )
        await self.secure()
        return await self.stream.send_all(self._http.response(200, []))

    async def _body(self) -> bytes:
        """Read a request's message and document, do what it asks, and return the answer."""
        decoder, data, faults = ipp.Decoder(), bytearray(), self.engine.faults
        message: Message | None = None
        try:
            while not isinstance(event := await self._event(), End):
                assert isinstance(event, BodyChunk)
                if message is not None:
                    data += event.data
                elif (message := decoder.feed(event.data)) is not None:
                    data += decoder.rest
                await self._stall(len(data))
                if message is not None and len(data) > faults.get("refuse-late", len(data)):
                    return _answer(message, Status.CLIENT_ERROR_DOCUMENT_FORMAT_ERROR)
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            if message is not None:
                self._break_off(message, bytes(data))
            raise
        if message is None:
            raise RemoteProtocolError("a request without a message")
        return self._do(message, bytes(data))

    async def _stall(self, taken: int) -> None:
        while taken > self.engine.faults.get("stall", taken):
            await self.engine.changed.wait()

    # --- IPP --------------------------------------------------------------------------------------

    def _break_off(self, message: Message, data: bytes) -> None:
        """The connection broke inside a document."""
        if message.code == Operation.PRINT_JOB:
            self.engine.break_off(self._make(message), data)
        elif message.code == Operation.SEND_DOCUMENT and (job := self._job(message)) is not None:
            self.engine.break_off(job, data)

    def _do(self, message: Message, data: bytes) -> bytes:
        try:
            operation = Operation(message.code)
        except ValueError:
            return _answer(message, Status.SERVER_ERROR_OPERATION_NOT_SUPPORTED)
        self.printer.requests.append(operation.keyword)
        if "old" in self.engine.faults and message.version > (1, 1):
            return _answer(message, Status.SERVER_ERROR_VERSION_NOT_SUPPORTED)
        if operation == Operation.GET_PRINTER_ATTRIBUTES:
            found = _asked(message, self.printer.attributes())
            return _answer(message, Status.SUCCESSFUL_OK, ipp.group(Tag.PRINTER, found))
        if operation == Operation.GET_JOBS:
            return self._get_jobs(message)
        if operation in _JOB_MAKERS:
            return self._job_maker(operation, message, data)
        job = self._job(message)
        if job is None:
            return _answer(message, Status.CLIENT_ERROR_NOT_FOUND)
        return self._with_job(operation, job, message, data)

    def _job_maker(self, operation: Operation, message: Message, data: bytes) -> bytes:
        faults = self.engine.faults
        is_unknown = "print-job-only" in faults and operation == Operation.CREATE_JOB
        if is_unknown:
            return _answer(message, Status.SERVER_ERROR_OPERATION_NOT_SUPPORTED)
        if "not-accepting" in faults:
            return _answer(message, Status.SERVER_ERROR_NOT_ACCEPTING_JOBS)
        if self.engine.use_up("busy"):
            return _answer(message, Status.SERVER_ERROR_BUSY)
        if (format_ := self._bad_format(message)) is not None:
            return _answer(message, format_)
        wishes = message.group(Tag.JOB)
        names = list(wishes.attributes) if wishes is not None else []
        unsupported = ipp.group(Tag.UNSUPPORTED, map(ipp.unsupported, names))
        if "reject-wishes" in faults and names:
            status = Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED
            return _answer(message, status, unsupported)
        if operation == Operation.VALIDATE_JOB:
            return _answer(message, Status.SUCCESSFUL_OK)
        job = self._make(message)
        if operation == Operation.PRINT_JOB:
            self.engine.take(job, data, _format(message))
        if self.engine.use_up("lose-create" if operation == Operation.CREATE_JOB else "lose-print"):
            raise _HangUp
        if "ignore-wishes" in faults and names:
            job.wishes = {}
            status = Status.SUCCESSFUL_OK_IGNORED_OR_SUBSTITUTED_ATTRIBUTES
            return _answer(message, status, unsupported, self._told(job))
        return _answer(message, Status.SUCCESSFUL_OK, self._told(job))

    def _with_job(
        self, operation: Operation, job: SimulatedJob, message: Message, data: bytes
    ) -> bytes:
        if operation == Operation.SEND_DOCUMENT:
            if (status := self._bad_format(message)) is not None:
                return _answer(message, status)
            if job.is_final or job.documents:
                return _answer(message, Status.CLIENT_ERROR_NOT_POSSIBLE)
            self.engine.take(job, data, _format(message))
            if self.engine.use_up("lose-send"):
                raise _HangUp
        elif operation == Operation.CANCEL_JOB:
            if job.is_final:
                return _answer(message, Status.CLIENT_ERROR_NOT_POSSIBLE)
            self.engine.cancel(job)
            return _answer(message, Status.SUCCESSFUL_OK)
        return _answer(message, Status.SUCCESSFUL_OK, self._told(job))

    def _get_jobs(self, message: Message) -> bytes:
        operation = message.group(Tag.OPERATION)
        assert operation is not None
        wants_final = operation.first("which-jobs", "not-completed") == "completed"
        user = operation.first("requesting-user-name")
        is_mine = operation.first("my-jobs", False)
        found = [
            Group(Tag.JOB, {one.name: one for one in _asked(message, self._job_attributes(job))})
            for job in self.engine.jobs.values()
            if job.is_final is wants_final and (not is_mine or job.user == user)
        ]
        return _answer(message, Status.SUCCESSFUL_OK, *found[: operation.first("limit", 1000)])

    def _make(self, message: Message) -> SimulatedJob:
        operation, wishes = message.group(Tag.OPERATION), message.group(Tag.JOB)
        asked = wishes.attributes.values() if wishes is not None else ()
        assert operation is not None
        return self.engine.create(
            operation.first("job-name", ""),
            operation.first("requesting-user-name", ""),
            {one.name: one.first for one in asked},
        )

    def _job(self, message: Message) -> SimulatedJob | None:
        operation = message.group(Tag.OPERATION)
        job_id = operation.first("job-id") if operation is not None else None
        return self.engine.jobs.get(job_id) if isinstance(job_id, int) else None

    def _bad_format(self, message: Message) -> Status | None:
        format_ = _format(message)
        if not format_ or format_ in self.printer.formats:
            return None
        return Status.CLIENT_ERROR_DOCUMENT_FORMAT_NOT_SUPPORTED

    def _told(self, job: SimulatedJob) -> Group:
        return ipp.group(Tag.JOB, self._job_attributes(job))

    def _job_attributes(self, job: SimulatedJob) -> list[Attribute]:
        found = [
            ipp.uri("job-uri", f"{self.printer.uri}/{job.id}"),
            ipp.integer("job-id", job.id),
            ipp.name_("job-name", job.name),
            *(() if "dumb" in self.engine.faults else (ipp.enum_("job-state", job.state),)),
            ipp.keyword("job-state-reasons", *(job.reasons or ("none",))),
            ipp.integer("number-of-documents", job.documents),
            ipp.integer("job-k-octets", -(-len(job.data) // 1024)),
            ipp.integer("job-impressions-completed", job.impressions),
            ipp.integer("job-media-sheets-completed", job.impressions),
        ]
        if job.message:
            found.append(ipp.text("job-state-message", job.message))
        return found


def _format(message: Message) -> str:
    operation = message.group(Tag.OPERATION)
    return str(operation.first("document-format", "")) if operation is not None else ""


def _asked(message: Message, attributes: list[Attribute]) -> list[Attribute]:
    """Those that `requested-attributes` names; all without it."""
    operation = message.group(Tag.OPERATION)
    asked = operation.get("requested-attributes") if operation is not None else None
    if asked is None or "all" in asked.all:
        return attributes
    return [one for one in attributes if one.name in asked.all]


def _answer(message: Message, status: Status, *groups: Group) -> bytes:
    version = min(message.version, (2, 0))
    first = ipp.group(
        Tag.OPERATION,
        [
            ipp.charset("attributes-charset", "utf-8"),
            ipp.language("attributes-natural-language", "en"),
            ipp.text("status-message", status.keyword),
        ],
    )
    return ipp.encode(Message(version, status, message.request_id, [first, *groups]))


async def run_ipp_printer(
    host: str, port: int, faults: Iterable[str], say: Callable[[str], None] = print
) -> None:
    """Runs a printer for people until it is cancelled; `say` hears of its port and its papers.

    Raises:
        OperationError: there is no such fault.
        OSError: the port cannot be bound.
    """

    def tell(paper: Paper) -> None:
        pages, copies = paper.pages, paper.copies
        size = len(paper.data)
        say(f"ipp: {size} bytes, {pages} pages, {copies} copies {paper.title!r} of {paper.user}")
        printer.engine.papers.clear()

    printer = SimulatedIppPrinter(
        *faults, host=host, port=port, formats=(*FORMATS, *MORE_FORMATS), on_paper=tell
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(printer.run)
        say(f"prints at {printer.uri}")
        for fault in printer.engine.faults:
            say(f"fault {fault}: {FAULTS[fault]}")
