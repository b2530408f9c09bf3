"""What the operations of IPP work with: the node's printers, its spool, and who may see what.

In: the journal's events, and small Protocols that `daemon/` fills in. Out: printers by name, their
attributes ready to send, jobs by number, and the URIs by which this client finds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from spoold.codec.ipp_model_job import Place
from spoold.codec.ipp_model_printer import (
    Alike,
    Live,
    NodeFacts,
    PrinterSheet,
    Reach,
    offered,
)
from spoold.codec.ipp_names import Status
from spoold.intake.acceptance import Acceptance
from spoold.intake.ipp_events import Events
from spoold.intake.ipp_request import Ask, Refusal
from spoold.intake.opening import OpenJobs
from spoold.intake.router import Router
from spoold.model.job import Job
from spoold.model.principal import Principal
from spoold.model.printer import Printer
from spoold.spool.documents import Documents
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import Event, JobMoved, PrinterChanged

SECOND_US = 1_000_000
SHEETS_KEPT = 4096
SPOOL_FULL = "spool-area-full"  # printer-state-reasons; CUPS's clients wait while it stands
ALIKE_KEPT = 256  # of printers whose options differ
_AUTHORITY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
).fullmatch


class PrinterState(Protocol):
    """How a printer does now: a keyword of RFC 8011 5.4.11, its reasons, and a text.

    `changed_us` is since when; `supplies` are as `ipp_model_printer.Live` has them.
    """

    @property
    def state(self) -> str: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    @property
    def message(self) -> str: ...
    @property
    def changed_us(self) -> int: ...
    @property
    def supplies(self) -> tuple[dict[str, Any], ...]: ...


class Node(Protocol):
    """What only the daemon knows."""

    def state(self, printer_id: int) -> PrinterState: ...
    def sight(self, principal: Principal) -> Callable[[Job], bool]:
        """Which jobs are shown whole to somebody."""
        ...

    def may_read(self, principal: Principal, job: Job) -> bool:
        """Whether the job's documents are handed to somebody: its owner, and operators."""
        ...

    def is_staff(self, principal: Principal) -> bool:
        """Whether everything is shown."""
        ...

    def is_full(self) -> bool:
        """There is no room for more jobs."""
        ...

    def reaches(self, printer: Printer) -> bool:
        """Whether jobs for the printer get there from here."""
        ...

    def default_printer(self) -> str: ...
    def advertised(self) -> str:
        """The name or address that clients are told when they did not say one."""
        ...

    def port(self, is_tls: bool) -> int | None:
        """The first port for clients in the clear, or over TLS."""
        ...

    def service_name(self, printer: Printer) -> str:
        """What the printer is called on the network (DNS-SD), or would be."""
        ...

    def wall_clock(self) -> int: ...


class Printers:
    """The printers of the node, kept current by the journal's events."""

    def __init__(
        self, journal: Journal, reader: SqliteReader, node: Node, facts: Callable[[], NodeFacts]
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._node = node
        self._facts = facts
        self._said = facts()
        self.by_name: dict[str, Printer] = {}
        self.by_id: dict[int, Printer] = {}
        self._queued: dict[int, int] = {}
        self._sheets: dict[int, PrinterSheet] = {}
        self._alike: dict[tuple[str, tuple[str, ...]], Alike] = {}
        self._started_us = node.wall_clock()

    async def start(self) -> None:
        self._journal.listen(self._hear)
        for printer in await self._reader.printers():
            self._learn(printer.id, printer)
        for printer_id, states in (await self._reader.counts()).items():
            self._queued[printer_id] = sum(states.values())

    def _hear(self, events: list[Event]) -> None:
        queued = self._queued
        for event in events:
            if type(event) is JobMoved:
                was_open = event.old is not None and not event.old.is_final
                is_open = not event.new.is_final
                if event.old_printer_id is not None and was_open:
                    queued[event.old_printer_id] = queued.get(event.old_printer_id, 0) - 1
                    was_open = False
                if is_open is not was_open:
                    step = 1 if is_open else -1
                    queued[event.printer_id] = queued.get(event.printer_id, 0) + step
            elif type(event) is PrinterChanged:
                self._learn(event.printer_id, event.printer)

    def _learn(self, printer_id: int, printer: Printer | None) -> None:
        old = self.by_id.pop(printer_id, None)
        if old is not None:
            self.by_name.pop(old.name, None)
        self._sheets.pop(printer_id, None)
        if printer is not None:
            self.by_id[printer_id] = printer
            self.by_name[printer.name] = printer

    def sheet(self, printer: Printer) -> PrinterSheet:
        """The attributes of a printer as it is since its last change."""
        facts = self._facts()
        if facts != self._said:  # the configuration was read again
            self._said = facts
            self._sheets.clear()
            self._alike.clear()
        found = self._sheets.get(printer.id)
        if found is None:
            if len(self._sheets) >= SHEETS_KEPT:
                del self._sheets[next(iter(self._sheets))]
            changed_us = printer.changed_us or self._started_us
            found = PrinterSheet(printer, self._alike_of(printer), changed_us)
            self._sheets[printer.id] = found
        return found

    def _alike_of(self, printer: Printer) -> Alike:
        options = offered(printer)
        key = (json.dumps(options, sort_keys=True), printer.accepted_formats)
        found = self._alike.get(key)
        if found is None:
            if len(self._alike) >= ALIKE_KEPT:
                self._alike.clear()
            found = Alike(options, printer.accepted_formats, self._said)
            self._alike[key] = found
        return found

    def live(self, printer: Printer) -> Live:
        """How the printer is now."""
        status = self._node.state(printer.id)
        reasons = status.reasons
        if self._node.is_full():
            reasons = (*reasons, SPOOL_FULL)
        return Live(
            status.state,
            reasons,
            status.message or printer.pause_reason,
            printer.accepting and self._node.reaches(printer),
            max(0, self._queued.get(printer.id, 0)),
            self._node.wall_clock(),
            status.changed_us or self._started_us,
            self._node.service_name(printer),
            status.supplies,
        )


class _Uris:
    """The names and URIs of printers by number, made as they are asked for."""

    __slots__ = ("_base", "_made", "_printers")

    def __init__(self, printers: Mapping[int, Printer], base: str) -> None:
        self._printers = printers
        self._base = base
        self._made: dict[int, tuple[str, str]] = {}

    def get(self, printer_id: int) -> tuple[str, str] | None:
        made = self._made.get(printer_id)
        if made is None:
            printer = self._printers.get(printer_id)
            if printer is None:
                return None
            made = printer.name, f"{self._base}{quote(printer.name, safe='')}"
            self._made[printer_id] = made
        return made


@dataclass(frozen=True, slots=True)
class Server:
    """The rooms that the operations of IPP work with."""

    acceptance: Acceptance
    open_jobs: OpenJobs
    router: Router
    journal: Journal
    reader: SqliteReader
    documents: Documents
    printers: Printers
    events: Events
    node: Node

    def printer(self, ask: Ask) -> Printer:
        """The printer that a request is about.

        Raises:
            Refusal: there is none of that name.
        """
        name = ask.target().printer or self.node.default_printer()
        printers = self.printers.by_name
        printer = printers.get(name)
        if printer is None and not ask.target().printer and len(printers) == 1:
            (printer,) = printers.values()
        if printer is None:
            raise Refusal(Status.CLIENT_ERROR_NOT_FOUND, f"there is no printer {name[:127]!r}.")
        return printer

    async def job(self, job_id: int) -> Job:
        """The job with this number.

        Raises:
            Refusal: there is none.
        """
        job = await self.reader.job(job_id)
        if job is None:
            raise Refusal(Status.CLIENT_ERROR_NOT_FOUND, f"there is no job {job_id}.")
        return job

    def sheet_of(self, job: Job) -> PrinterSheet:
        """The attributes of a job's printer.

        Raises:
            Refusal: it was removed.
        """
        printer = self.printers.by_id.get(job.printer_id)
        if printer is None:
            raise Refusal(Status.CLIENT_ERROR_NOT_POSSIBLE, "the job's printer was removed.")
        return self.printers.sheet(printer)

    def reach(self, ask: Ask) -> Reach:
        """The URIs by which this client finds printers: by the Host that it used, if it is one."""
        exchange, node = ask.exchange, self.node
        host = exchange.request.header("host") or ""
        if not _AUTHORITY(host):
            port = node.port(exchange.is_tls)
            host = node.advertised() if port is None else f"{node.advertised()}:{port}"
        # One URI, though there may be more: libcups takes several for one long name.
        uris = (_uri("ipps" if exchange.is_tls else "ipp", host),)
        web = "https" if exchange.is_tls else "http"
        return Reach(f"{web}://{host}", uris)

    def place(self, ask: Ask) -> Place:
        """Where this client finds jobs, now."""
        base = self.reach(ask).uris[0][0]
        uris = _Uris(self.printers.by_id, f"{base}/printers/")
        return Place(f"{base}/jobs/", uris, self.node.wall_clock() // SECOND_US)


def _uri(scheme: str, authority: str) -> tuple[str, str, str]:
    security = "tls" if scheme == "ipps" else "none"
    return f"{scheme}://{authority}", security, "requesting-user-name"
