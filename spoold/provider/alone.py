"""What a provider does with a job when it reaches no server: wait, or print it, and tell later.

Which of the two, an administrator has set for each printer in advance; servers tell it
(`printer.direct`, FRAMES.md 7), and a `Notebook` keeps it. Without a word there a job waits.
Nothing is printed that a server may have: a job is noted before its last bytes go out, and stays
with the servers until one answers. What is printed is noted before the first byte leaves, and told
to a server (`job.report`) until one has said that it knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.provider.course import Progress
from spoold.provider.document import Document, Source
from spoold.provider.notebook import Busy, DirectPrinter, Note, Notebook, Stage
from spoold.provider.receipt import Receipt, SubmitRefused, Unreachable

OCTETS = "application/octet-stream"  # nobody knows the format
TOLD_S_MAX = 60.0  # after which servers are asked again where may be printed
REPORTS_MAX = 100  # at a time


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an attempt on the device. Neither printed nor in doubt: nothing came out."""

    is_printed: bool = False
    is_in_doubt: bool = False
    detail: str = ""


class Paper(Protocol):
    """Prints without a server. Whoever starts the program gives it: drivers stand above us."""

    def deliver(
        self,
        printer: DirectPrinter,
        job_uuid: UUID,
        document: Document,
        job: dict[str, Any],
        may_send: Callable[[], None],
        check: Callable[[], None],
    ) -> Made:
        """Send the document to the printer's device. `may_send` is called before the first byte
        that could print; what `check`, called a few times a second, raises ends it.
        """
        ...

    def count(
        self, job_uuid: UUID, document: Document, job: dict[str, Any]
    ) -> list[dict[str, Any]] | None:
        """What came out, as `job.report` has it (`lines`); None: it cannot be counted."""
        ...


class Server(Protocol):
    """The provider that knows the servers: `direct.DirectProvider`."""

    def submit(
        self, source: Source, *, job_uuid: UUID, progress: Progress | None, **job: Any
    ) -> Receipt: ...

    def call(self, op: str, args: dict[str, Any]) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Printed:
    """The provider printed the job itself, now or in an earlier run; a server will be told."""

    job_uuid: UUID
    printer: str
    uri: str
    is_in_doubt: bool


@dataclass(frozen=True, slots=True)
class Told:
    """How many jobs servers know of by now, and what they said against others, which stay."""

    reported: int = 0
    refused: tuple[tuple[Note, OperationError], ...] = ()


def _now_us() -> int:
    return time.time_ns() // 1000


class Alone:
    """`paper` is asked for when something is to be printed, for it may take long to load."""

    def __init__(self, notebook: Notebook, paper: Callable[[], Paper]) -> None:
        self._notebook = notebook
        self._paper = paper

    # -- one job ---------------------------------------------------------------------------------

    def submit(
        self,
        server: Server,
        source: Source,
        *,
        job_uuid: UUID,
        may_print: Callable[[], bool] = lambda: True,
        check: Callable[[], None] = lambda: None,
        progress: Progress | None = None,
        **job: Any,
    ) -> Receipt | Printed:
        """As `DirectProvider.submit`, for a source that can be read again; but where no server can
        be reached the job is printed, if its printer was set to that, and `may_print`.

        Raises:
            SubmitRefused, AnswerUnknown, OSError: as there.
            Unreachable: and it was not printed, or may not be.
            ConfigError: the notebook cannot be used.
        """
        note = self._notebook.find(job_uuid)
        if note is not None and note.stage is not Stage.SENT:
            return self._printed_before(note)
        device = self._device_for(job)
        if device is None:
            return server.submit(source, job_uuid=job_uuid, progress=progress, **job)
        try:
            receipt = self._send(server, source, job_uuid, progress, job)
        except SubmitRefused:
            if note is None:
                self._notebook.remove(job_uuid)
            raise
        except Unreachable as error:
            if note is not None:
                raise  # a server got it whole, earlier
            self._notebook.remove(job_uuid)
            if error.was_refused or not may_print():
                raise
            printed = self._print(device, source, job_uuid, job, check)
            if printed is None:
                raise
            return printed
        self._notebook.remove(job_uuid)
        return receipt

    def _device_for(self, job: dict[str, Any]) -> DirectPrinter | None:
        """Where the job may be printed without a server."""
        found = self._notebook.printer(job["printer"])
        if found is None or job.get("hold"):
            return None
        return found if found.takes(job.get("format", OCTETS), OCTETS) else None

    def _send(
        self,
        server: Server,
        source: Source,
        job_uuid: UUID,
        progress: Progress | None,
        job: dict[str, Any],
    ) -> Receipt:
        """Submit; with a note from the moment that a server could come to have the whole job."""
        is_noted = False

        def watch(sent: int, size: int) -> None:
            nonlocal is_noted
            if sent == size and not is_noted:
                self._notebook.put(Note(job_uuid, Stage.SENT, _now_us(), job["printer"]))
                is_noted = True
            if progress is not None:
                progress(sent, size)

        return server.submit(source, job_uuid=job_uuid, progress=watch, **job)

    def _printed_before(self, note: Note) -> Printed:
        """A job that an earlier run printed, or died over: it is never printed again from here."""
        if note.stage is Stage.PRINTING:
            note = replace(note, stage=Stage.IN_DOUBT)
            self._notebook.put(note)
        return _printed(note)

    def _print(
        self,
        device: DirectPrinter,
        source: Source,
        job_uuid: UUID,
        job: dict[str, Any],
        check: Callable[[], None],
    ) -> Printed | None:
        """None: nothing came out, for the device cannot be reached either."""
        document = Document(source)
        try:
            with self._notebook.locked(job_uuid):
                return self._print_locked(device, document, job_uuid, job, check)
        except Busy:
            return None
        finally:
            document.close()

    def _print_locked(
        self,
        device: DirectPrinter,
        document: Document,
        job_uuid: UUID,
        job: dict[str, Any],
        check: Callable[[], None],
    ) -> Printed | None:
        paper = self._paper()
        report = _report_of(device, job_uuid, document, job)
        note = Note(job_uuid, Stage.PRINTING, _now_us(), device.printer, device.uri, report)

        def keep(stage: Stage, **more: Any) -> Note:
            kept = replace(note, stage=stage, at_us=_now_us(), report={**report, **more})
            self._notebook.put(kept)
            return kept

        try:
            made = paper.deliver(
                device, job_uuid, document, job, lambda: self._notebook.put(note), check
            )
        except BaseException:
            if self._notebook.find(job_uuid) is not None:
                keep(Stage.IN_DOUBT)
            raise
        if not (made.is_printed or made.is_in_doubt):
            self._notebook.remove(job_uuid)
            return None
        stage = Stage.PRINTED if made.is_printed else Stage.IN_DOUBT
        keep(stage)
        return _printed(keep(stage, lines=paper.count(job_uuid, document, job)))

    # -- when a server is back -------------------------------------------------------------------

    def tell(self, server: Server, *, asks_again: bool = False) -> Told:
        """Report what was printed, and ask where may be printed, if that was long ago.

        With `asks_again` it is asked in any case.

        Raises:
            Unreachable: no server can be reached; what it has not acknowledged stays noted.
        """
        reported, refused = 0, []
        for note in self._made()[:REPORTS_MAX]:
            ago_s = max(0, _now_us() - note.at_us) // 1_000_000
            in_doubt = note.stage is not Stage.PRINTED
            try:
                server.call("job.report", {**note.report, "ago_s": ago_s, "in_doubt": in_doubt})
            except OperationError as error:
                refused.append((note, error))
                continue
            self._notebook.remove(note.job_uuid)
            reported += 1
        told_s = self._notebook.told_s_ago()
        if asks_again or told_s is None or told_s > TOLD_S_MAX:
            self.ask(server)
        return Told(reported, tuple(refused))

    @property
    def has_to_tell(self) -> bool:
        return bool(self._made())

    def _made(self) -> list[Note]:
        """The notes of paper; not those of a process that is at it."""
        return [note for note in self._notebook.notes() if self._is_over(note)]

    def _is_over(self, note: Note) -> bool:
        if note.stage is not Stage.PRINTING:
            return note.stage is not Stage.SENT
        try:
            with self._notebook.locked(note.job_uuid):
                return True
        except Busy:
            return False

    def ask(self, server: Server) -> None:
        """Learn where may be printed without a server.

        Raises:
            Unreachable: no server can be reached.
        """
        found: list[DirectPrinter] = []
        after: str | None = ""
        try:
            while after is not None:
                answer = server.call("printer.direct", {"after_id": after})
                found += [DirectPrinter.of(one) for one in answer["printers"]]
                after = answer["next_after_id"]
        except OperationError as error:
            if error.code != "forbidden":
                return  # a server of before, or one that cannot say now: what is known stays
            found = []
        except (KeyError, TypeError, ValueError):
            return
        self._notebook.keep_printers(found)


def _report_of(
    device: DirectPrinter, job_uuid: UUID, document: Document, job: dict[str, Any]
) -> dict[str, Any]:
    return {
        "job_uuid": str(job_uuid),
        "printer_guid": device.printer_guid,
        "user": job.get("user", ""),
        "title": job.get("title", ""),
        "copies": job.get("copies", 1),
        "format": job.get("format", OCTETS),
        "attributes": job.get("attributes") or {},
        "size": document.size,
        "digest": document.digest(),
    }


def _printed(note: Note) -> Printed:
    return Printed(note.job_uuid, note.printer, note.uri, note.stage is not Stage.PRINTED)
