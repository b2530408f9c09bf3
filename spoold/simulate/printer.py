"""A printer that takes jobs over raw 9100 and LPD, answers PJL, counts pages, and misbehaves.

In: ports and faults. Out: `papers`. Ports may be 0; `raw_port` and `lpd_port` say what was bound.
Faults can be changed while it runs, and concern the connections that come after.
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from spoold.codec import lpd, pjl
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.net.address import Address
from spoold.net.listen import BACKLOG, accept_loop, prepare
from spoold.net.tcp import SocketStream

READ_BYTES: Final = 65536
PAPERS_MAX: Final = 100_000
SMALL_BUFFER_BYTES: Final = 4096

FAULTS: Final = {
    "slow": "takes so many bytes a second (slow=1000)",
    "busy": "accepts and closes at once",
    "single": "resets a second connection while it has one",
    "refuse": "nobody listens",
    "reset-at-once": "resets every connection at once",
    "reset-after": "resets after so many bytes (reset-after=4096)",
    "reset-at-end": "prints, and resets instead of ending (raw)",
    "never-read": "accepts and never reads",
    "no-fin": "prints, and never ends its half of the connection",
    "forget": "takes everything, ends in order and prints nothing",
    "cancel": "a person cancels each job at the panel (PJL says so)",
    "no-job-end": "never reports the end of a job (PJL)",
    "lose-acknowledgement": "closes instead of acknowledging the last file (LPD)",
    "silent": "never acknowledges anything (LPD)",
    "nack-queue": "refuses the command to receive a job (LPD)",
    "nack-control": "refuses the control file (LPD)",
    "nack-data": "refuses the data file before it comes (LPD)",
    "nack-file": "refuses the data file after it came (LPD)",
}
_WITH_NUMBER = ("slow", "reset-after")


def parse_fault(text: str) -> tuple[str, int]:
    """`slow=1000` as ("slow", 1000).

    Raises:
        OperationError: `bad-request`, no such fault, or its number is missing.
    """
    kind, equals, value = text.partition("=")
    is_right = (equals == "=" and value.isdigit()) if kind in _WITH_NUMBER else not equals
    if kind not in FAULTS or not is_right or (kind == "slow" and int(value) == 0):
        known = "; ".join(f"{name}: {meaning}" for name, meaning in FAULTS.items())
        raise OperationError("bad-request", f"no such fault: {text!r}.", f"Known are {known}.")
    return kind, int(value) if value else 0


@dataclass(slots=True)
class Paper:
    """One job as it came out. `data` is what came over the wire, `document` that without PJL."""

    via: str  # "raw" or "lpd"
    data: bytes
    document: bytes
    pages: int  # of one copy
    copies: int = 1
    title: str = ""
    user: str = ""
    queue: str = ""
    format: str = ""  # the letter of the control file


def count_pages(document: bytes) -> int:
    """Pages as a printer might count them: of PDF and PostScript by their marks, else form feeds.

    A document without any of these is one page; no bytes are none.
    """
    if document.startswith(b"%PDF-"):
        return max(1, len(re.findall(rb"/Type\s*/Page\b", document)))
    if document.startswith(b"%!"):
        return max(1, len(re.findall(rb"^%%Page:", document, re.MULTILINE)))
    feeds = document.count(b"\f")
    return feeds + bool(document.rpartition(b"\f")[2].strip())


class SimulatedPrinter:
    """`raw_port` or `lpd_port` None leaves that protocol out; 0 takes any free port."""

    def __init__(
        self,
        *faults: str,
        host: str = "127.0.0.1",
        raw_port: int | None = 0,
        lpd_port: int | None = 0,
        speaks_pjl: bool = True,
        page_count: int = 1000,
        keeps_bytes: bool = True,
        on_paper: Callable[[Paper], None] | None = None,
    ) -> None:
        """Raises `OperationError` for a fault that there is not."""
        self.set_faults(*faults)
        self.host = host
        self.raw_port = raw_port
        self.lpd_port = lpd_port
        self.page_count = page_count
        self.connections = 0  # since it was switched on
        self.papers: deque[Paper] = deque(maxlen=PAPERS_MAX)
        self._speaks_pjl = speaks_pjl
        self._keeps_bytes = keeps_bytes
        self._on_paper = on_paper
        self._changed = trio.Event()
        self._open = 0

    def set_faults(self, *faults: str) -> None:
        """From the next connection on; none heals the printer.

        Whether it listens at all, and with which buffers, is decided when it is switched on.
        """
        self.faults = dict(parse_fault(fault) for fault in faults)

    async def wait_papers(self, count: int) -> list[Paper]:
        """Return the papers when there are at least `count`."""
        while len(self.papers) < count:
            await self._changed.wait()
        return list(self.papers)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Prints until it is cancelled.

        Raises:
            OSError: a port cannot be bound.
        """
        listeners: list[socket.socket] = []
        try:
            async with trio.open_nursery() as nursery:
                for kind in ("raw", "lpd"):
                    port = self.raw_port if kind == "raw" else self.lpd_port
                    if port is None:
                        continue
                    listener = self._listen(port)
                    listeners.append(listener)
                    if kind == "raw":
                        self.raw_port = listener.getsockname()[1]
                    else:
                        self.lpd_port = listener.getsockname()[1]
                    if "refuse" in self.faults:
                        continue
                    serve = self._serve_raw if kind == "raw" else self._serve_lpd

                    def handle(sock: socket.socket, _address: Any, serve: Any = serve) -> None:
                        nursery.start_soon(self._connection, sock, serve)

                    nursery.start_soon(accept_loop, listener, handle)
                task_status.started()
                await trio.sleep_forever()
        finally:
            for listener in listeners:
                listener.close()

    def _listen(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.faults.keys() & {"never-read", "slow", "reset-after"}:
                # What a real printer's small buffer does: the sender soon sees that it is full.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            prepare(listener)
            listener.bind((self.host, port))
            if "refuse" not in self.faults:
                listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener

    async def _connection(self, sock: socket.socket, serve: Callable[[_Line], Any]) -> None:
        line = _Line(SocketStream(sock), dict(self.faults))
        is_second = self._open > 0
        self._open += 1
        self.connections += 1
        try:
            if "busy" in line.faults:
                line.hang_up()
            elif "reset-at-once" in line.faults or (is_second and "single" in line.faults):
                pass
            elif "never-read" in line.faults:
                await trio.sleep_forever()
            else:
                await serve(line)
        except (trio.BrokenResourceError, RemoteProtocolError):
            pass  # the sender broke it, or talks nonsense: a printer shrugs
        finally:
            self._open -= 1
            line.stream.abort()

    # --- raw 9100 ---------------------------------------------------------------------------------

    async def _serve_raw(self, line: _Line) -> None:
        job = _RawJob(self, line)
        while data := await line.read():
            await job.receive(data)
        job.finish()
        if "reset-at-end" in line.faults:
            return
        if "no-fin" in line.faults:
            await trio.sleep_forever()
        await line.stream.finish()

    # --- LPD --------------------------------------------------------------------------------------

    async def _serve_lpd(self, line: _Line) -> None:
        server = lpd.LpdServer()
        files: dict[bytes, bytearray] = {}
        controls: list[lpd.ControlFile] = []
        queue, name = "", b""
        while True:
            event = server.next_event()
            match event:
                case None:
                    server.receive_data(await line.read())
                case lpd.ReceiveJob():
                    queue = event.queue
                    await line.answer("nack-queue")
                case lpd.ControlFileBegins():
                    await line.answer("nack-control")
                case lpd.DataFileBegins():
                    name = event.name
                    files[name] = bytearray()
                    await line.answer("nack-data")
                case lpd.Data():
                    files[name] += event.data
                case lpd.ControlFileEnds() | lpd.DataFileEnds():
                    if isinstance(event, lpd.ControlFileEnds):
                        controls.append(event.control)
                    is_file = isinstance(event, lpd.DataFileEnds)
                    if event.is_job_complete and not line.refuses("nack-file"):
                        self._print_lpd(line, queue, controls, files)
                        controls, files = [], {}
                        if "lose-acknowledgement" in line.faults:
                            return await line.stream.finish()
                    await line.answer("nack-file" if is_file else "")
                case lpd.Abort():
                    controls, files = [], {}
                case lpd.PrintWaiting():
                    await line.answer("")
                case lpd.QueueState():
                    await line.stream.send_all(f"{event.queue} is ready\nno entries\n".encode())
                    return await line.stream.finish()
                case lpd.RemoveJobs():
                    await line.answer("")
                case lpd.Closed():
                    return await line.stream.finish()

    def _print_lpd(
        self,
        line: _Line,
        queue: str,
        controls: Sequence[lpd.ControlFile],
        files: dict[bytes, bytearray],
    ) -> None:
        for control in controls:
            for file in control.files:
                data = bytes(files.get(file.name, b""))
                paper = Paper("lpd", data, data, count_pages(data), file.copies, control.title)
                paper.user, paper.queue, paper.format = control.user, queue, file.format
                self.put_out(line, paper)

    # --- the tray ---------------------------------------------------------------------------------

    def put_out(self, line: _Line, paper: Paper) -> None:
        """The paper lies in the tray, and is counted; a forgetful printer does neither."""
        if "forget" in line.faults:
            return
        self.page_count += paper.pages * paper.copies
        self.papers.append(paper)
        if self._on_paper is not None:
            self._on_paper(paper)
        if not self._keeps_bytes:
            paper.data = paper.document = b""
        self._changed.set()
        self._changed = trio.Event()

    @property
    def speaks_pjl(self) -> bool:
        return self._speaks_pjl


@dataclass(slots=True)
class _Line:
    """One connection and the faults that it has."""

    stream: SocketStream
    faults: dict[str, int]
    taken: int = 0

    async def read(self) -> bytes:
        """The next bytes, at the pace and up to the end that the faults allow."""
        bytes_max = READ_BYTES
        if (limit := self.faults.get("reset-after")) is not None:
            bytes_max = min(bytes_max, limit - self.taken)
            if bytes_max <= 0:
                raise trio.BrokenResourceError("reset-after")
        rate = self.faults.get("slow")
        if rate is not None:
            bytes_max = min(bytes_max, max(1, rate // 10))
        data = await self.stream.receive_some(bytes_max)
        self.taken += len(data)
        if rate is not None:
            await trio.sleep(len(data) / rate)
        return data

    def refuses(self, fault: str) -> bool:
        return fault in self.faults

    async def answer(self, fault: str) -> None:
        """The acknowledgement; the refusal when the line has `fault`."""
        if "silent" not in self.faults:
            await self.stream.send_all(lpd.acknowledgement(1 if self.refuses(fault) else 0))

    def hang_up(self) -> None:
        """A close as a program does it that has read nothing: a FIN, then resets."""
        with self.stream.detach() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\0" * 8)


@dataclass(slots=True)
class _RawJob:
    """A raw stream on its way through the printer: PJL is obeyed, the rest becomes a paper."""

    printer: SimulatedPrinter
    line: _Line
    data: list[bytes] = field(default_factory=list)
    document: list[bytes] = field(default_factory=list)
    title: str = ""
    copies: int = 1
    reports_jobs: bool = False
    job_names: list[str] = field(default_factory=list)  # JOB may be nested
    reader: pjl.CommandReader = field(default_factory=pjl.CommandReader)

    async def receive(self, data: bytes) -> None:
        self.data.append(data)
        if not self.printer.speaks_pjl:
            self.document.append(data)
            return
        for event in self.reader.receive(data):
            if isinstance(event, bytes):
                self.document.append(event)
            else:
                await self._obey(event)

    def finish(self) -> None:
        """The sender has ended."""
        self.document.append(self.reader.end())
        self._eject()

    async def _obey(self, command: pjl.Command) -> None:
        match command.word:
            case "ECHO":
                await self._say(f"@PJL ECHO {command.rest}\r\n")
            case "INFO":
                await self._inform(command.rest.upper())
            case "USTATUS":
                if command.value("JOB"):
                    self.reports_jobs = command.value("JOB").upper() == "ON"
            case "USTATUSOFF":
                self.reports_jobs = False
            case "SET":
                for key in ("COPIES", "QTY"):
                    if command.value(key).isdigit():
                        self.copies = max(1, int(command.value(key)))
            case "JOB":
                self.title = command.value("DISPLAY") or command.value("NAME")
                self.job_names.append(command.value("NAME"))
                if self.reports_jobs:
                    await self._say(f'@PJL USTATUS JOB\r\nSTART\r\nNAME="{self.job_names[-1]}"\r\n')
            case "EOJ":
                await self._end_job()

    async def _end_job(self) -> None:
        name = self.job_names.pop() if self.job_names else ""
        pages = 0 if "cancel" in self.line.faults else self._pages() * self.copies
        result = "USER_CANCELED" if "cancel" in self.line.faults else "OK"
        self._eject()
        if self.reports_jobs and "no-job-end" not in self.line.faults:
            await self._say(
                f'@PJL USTATUS JOB\r\nEND\r\nNAME="{name}"\r\nPAGES={pages}\r\nRESULT={result}\r\n'
            )

    async def _inform(self, subject: str) -> None:
        if subject == "PAGECOUNT":
            await self._say(f"@PJL INFO PAGECOUNT\r\n{self.printer.page_count}\r\n")
        elif subject == "STATUS":
            text = 'CODE=10001\r\nDISPLAY="READY"\r\nONLINE=TRUE\r\n'
            await self._say(f"@PJL INFO STATUS\r\n{text}")
        else:
            await self._say(f"@PJL INFO {subject}\r\n?\r\n")

    async def _say(self, text: str) -> None:
        await self.line.stream.send_all(text.encode("latin-1") + b"\f")

    def _pages(self) -> int:
        return count_pages(b"".join(self.document))

    def _eject(self) -> None:
        """What has come of a document becomes a paper; a question alone is none."""
        document = b"".join(self.document)
        if document and "cancel" not in self.line.faults:
            paper = Paper("raw", b"".join(self.data), document, self._pages(), self.copies)
            paper.title = self.title
            self.printer.put_out(self.line, paper)
        self.data, self.document, self.copies = [], [], 1


@dataclass(frozen=True, slots=True)
class Options:
    """What `spoold simulate printer` was asked for."""

    host: str = "127.0.0.1"
    raw_port: int | None = 9100
    lpd_port: int | None = None
    faults: tuple[str, ...] = ()
    speaks_pjl: bool = True


async def run_printer(options: Options, say: Callable[[str], None] = print) -> None:
    """Runs a printer for people until it is cancelled; `say` hears of its ports and its papers.

    Raises:
        OperationError: there is no such fault.
        OSError: a port cannot be bound.
    """

    def tell(paper: Paper) -> None:
        title = f" {paper.title!r}" if paper.title else ""
        pages, copies = paper.pages, paper.copies
        say(f"{paper.via}: {len(paper.data)} bytes, {pages} pages, {copies} copies{title}")
        printer.papers.clear()

    printer = SimulatedPrinter(
        *options.faults,
        host=options.host,
        raw_port=options.raw_port,
        lpd_port=options.lpd_port,
        speaks_pjl=options.speaks_pjl,
        on_paper=tell,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(printer.run)
        if printer.raw_port is not None:
            say(f"prints at socket://{Address(options.host, printer.raw_port)}")
        if printer.lpd_port is not None:
            say(f"prints at lpd://{Address(options.host, printer.lpd_port)}/any-queue")
        for fault in printer.faults:
            say(f"fault {fault}: {FAULTS[fault]}")
