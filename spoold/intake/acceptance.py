"""The one door into the spool: what every intake passes before a job is one.

In: a `Submission` and its bytes. Out: an `Accepted` after the commit, or a refusal before anything
was kept. Admission comes before the body: printer, size, room on the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from uuid import UUID

import trio

from spoold.intake.submission import Submission
from spoold.intake.upload import Limits, Upload, too_large
from spoold.model.errors import OperationError, SpoolError, SpoolFull, StoreFailed
from spoold.model.printer import Printer
from spoold.spool.documents import Documents
from spoold.spool.incoming import Incoming
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import Accepted, AcceptJob, AttachDocument, Event, PrinterChanged

# How often the file system is asked for its free space while jobs come in.
SPACE_INTERVAL_S = 0.25


class Acceptance:
    """Admits submissions. It keeps the printers' names, by the journal's events."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        documents: Documents,
        limits: Limits,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._documents = documents
        self.limits = limits
        self.wall_clock = wall_clock
        # Whether a job for a printer of that node gets there from here.
        self.hands_on: Callable[[UUID], bool] = lambda node: False
        self.is_at_site = False
        self._printers: dict[str, Printer] = {}
        self._names: dict[int, str] = {}
        self._uploads: dict[str, Upload] = {}
        self._room = 0
        self._room_until = -1.0
        self._promised = 0

    async def start(self) -> None:
        """Learn the printers, and follow their changes from now on."""
        self._journal.listen(self._follow)
        for printer in await self._reader.printers():
            self._learn(printer.id, printer)

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is PrinterChanged:
                self._learn(event.printer_id, event.printer)

    def _learn(self, printer_id: int, printer: Printer | None) -> None:
        old = self._names.pop(printer_id, None)
        if old is not None:
            self._printers.pop(old, None)
        if printer is not None:
            self._printers[printer.name] = printer
            self._names[printer_id] = printer.name

    def printer(self, name: str) -> Printer:
        """The printer that jobs for `name` go to.

        Raises:
            OperationError: `not-found` or `not-accepting`.
        """
        printer = self._printers.get(name)
        if printer is None:
            raise OperationError(
                "not-found", f"there is no printer {name[:127]!r}.", "See `spoold printer list`."
            )
        if not printer.accepting:
            raise OperationError(
                "not-accepting", f"the printer {name} takes no jobs now.", "Try again later."
            )
        if not self.reaches(printer):
            advice = "Submit the job at the application server."
            if not self.is_at_site:
                advice = "Its node was revoked: `spoold printer rehome` gives it to another one."
            raise OperationError(
                "not-accepting",
                f"the printer {name} belongs to another node, and this one hands it no jobs.",
                advice,
            )
        return printer

    def keeps(self, printer: Printer) -> bool:
        """Whether jobs for it stay here, and this node judges who may print there."""
        return printer.is_ours or printer.waits_anywhere(self.is_at_site)

    def reaches(self, printer: Printer) -> bool:
        """Whether jobs for it get there from here, or stay here."""
        is_handed_on = printer.owner is not None and self.hands_on(printer.owner)
        return is_handed_on or self.keeps(printer)

    def printer_of(self, printer_id: int) -> Printer | None:
        """The printer with this number, whether it takes jobs or not; None when it was removed."""
        name = self._names.get(printer_id)
        return None if name is None else self._printers.get(name)

    def check_room(self, size: int) -> None:
        """Refuse what would use up the space kept for control, release and journal.

        Raises:
            SpoolFull: no room for `size` more bytes.
        """
        now = trio.current_time()
        if now >= self._room_until:
            space = self._documents.space()
            share = int(space.total_bytes * (1 - self.limits.spool_share))
            kept = max(self.limits.reserve_bytes, share)
            self._room = space.free_bytes - kept if space.free_inodes else 0
            self._room_until = now + SPACE_INTERVAL_S
        if self._room - self._promised < size:
            raise SpoolFull(
                "accept",
                "a job",
                "the spool area is full",
                "Free space in the data directory, or raise limits.spool_share.",
            )

    async def begin(self, submission: Submission) -> Upload:
        """Admit a submission and make room for its document.

        Raises:
            OperationError, SpoolFull: it is refused; nothing was kept.
        """
        limit = self.limits.document_bytes_max
        if submission.size is not None and submission.size > limit:
            raise too_large(limit)
        uuid = submission.uuid
        if uuid is None:
            printer = self.printer(submission.printer)
            self.check_room(submission.size or 0)
            return Upload(self, submission, printer, "")
        named = self._printers.get(submission.printer)
        if named is None:
            self.printer(submission.printer)
        assert named is not None
        first = await self._reader.first_answer(uuid, submission.submitter, named.guid)
        if first is not None:
            upload = Upload(self, submission, named, "")
            upload.settle(*first)
            return upload
        printer = self.printer(submission.printer)
        self.check_room(0)
        # The name of the file is ours: a digest, whatever the sender's identity and uuid hold.
        name = sha256(f"{submission.submitter}\0{uuid}\0{named.guid}".encode()).hexdigest()[:40]
        earlier = self._uploads.get(name)
        upload = Upload(self, submission, printer, name)
        # Known before anything is awaited: of any number that come at once the last one goes on.
        self._uploads[name] = upload
        try:
            await upload.take_over(earlier)
            if earlier is not None:  # it may have been in the middle of its commit
                first = await self._reader.first_answer(uuid, submission.submitter, named.guid)
                if first is not None:
                    await upload.suspend()
                    upload.settle(*first)
                    return upload
            upload.check_promise()
        except BaseException:
            await upload.suspend()
            raise
        return upload

    def forget(self, name: str, upload: Upload) -> None:
        if self._uploads.get(name) is upload:
            del self._uploads[name]

    def promise(self, size: int) -> None:
        """Count bytes that an upload in flight was promised room for; negative gives back."""
        self._promised += size

    def begin_document(self, name: str, algorithm: str) -> Incoming:
        return self._documents.begin(name, algorithm)

    async def commit(self, change: AcceptJob | AttachDocument) -> Accepted:
        try:
            accepted: Accepted = await self._journal.commit(change)
        except StoreFailed:
            raise  # nobody knows whether the job is there: its document stays
        except (OperationError, SpoolError):
            await self.drop(change.document.file)
            raise
        if accepted.is_duplicate and change.document.file:
            await self.drop(change.document.file)
        return accepted

    async def drop(self, file: str) -> None:
        """Remove a document file that no job names."""
        if file:
            with trio.move_on_after(30, shield=True):
                await trio.to_thread.run_sync(self._documents.remove, file)
