"""Version 1 of frames, the server's side: what each message does (`codec/FRAMES.md`).

In: messages and chunks of one connection, in order. Out: uploads through the one door, calls of the
router, and answers in any order. Small eager documents are gathered and committed in tasks of
their own, so that one group commit takes many.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import trio

from spoold.codec import frame, raw
from spoold.codec.frame import Chunk, Event, Item, Request
from spoold.intake import arguments
from spoold.intake.acceptance import Acceptance
from spoold.intake.frames_calls import Calls
from spoold.intake.frames_link import Link, refusal
from spoold.intake.router import Router
from spoold.intake.submission import Submission
from spoold.intake.upload import Upload
from spoold.model.errors import (
    OperationError,
    RemoteProtocolError,
    SpooldError,
    SpoolFull,
    StoreFailed,
)
from spoold.spool.store import Accepted

GATHERED_BYTES_MAX = 64 * 1024  # an eager document up to here is taken whole, then committed
GATHERED_IN_ALL_BYTES_MAX = 4 * 1024 * 1024  # by one connection
STORED_INTERVAL_S = 0.25


@dataclass(slots=True, eq=False)
class _Arriving:
    """An upload whose end has not come. `upload` is None until it is admitted."""

    id: int
    submission: Submission
    is_eager: bool
    moved_at: float
    parts: list[bytes] = field(default_factory=list)
    size: int = 0  # of the parts
    upload: Upload | None = None
    told: int = 0
    has_moved: bool = False
    is_writing: bool = False
    is_gone: bool = False


class Version1:
    __slots__ = (
        "_acceptance",
        "_arriving",
        "_calls",
        "_client_host",
        "_gathered_bytes",
        "_is_ticking",
        "_late",
        "_link",
        "_node_guid",
        "_nursery",
        "_outbox",
    )

    def __init__(
        self,
        link: Link,
        acceptance: Acceptance,
        router: Router,
        node_guid: str,
        nursery: trio.Nursery,
    ) -> None:
        self._link = link
        self._outbox = link.outbox
        self._acceptance = acceptance
        self._node_guid = node_guid
        self._nursery = nursery  # of this connection; it outlives this object
        self._client_host = link.principal.address
        self._arriving: dict[int, _Arriving] = {}
        self._calls = Calls(link, router, nursery)
        self._gathered_bytes = 0
        self._is_ticking = False
        # Uploads that were answered before their end: what is still on its way is dropped. The
        # client knows of at most as many unanswered requests as it may have.
        self._late: dict[int, None] = {}

    # -- what comes ------------------------------------------------------------------------------

    async def take(self, item: Item) -> None:
        if type(item) is Chunk:
            one = self._arriving.get(item.id)
            if one is not None:
                await self._take_chunk(one, item)
            elif item.id not in self._late:
                raise RemoteProtocolError(
                    f"a chunk for {item.id}, which is no upload", "bad-request"
                )
        elif type(item) is Request:
            await self._take_request(item)
        elif type(item) is Event:
            await self._take_event(item)
        # The rest are answers to our pings: that they came is what they say.

    async def _take_request(self, request: Request) -> None:
        id_, op, args = request
        if id_ in self._link.ids:
            raise RemoteProtocolError(f"the id {id_} is in use", "bad-request")
        if op == "ping":
            self._outbox.put_nowait(frame.answer(id_, {}))
        elif op == "submit":
            await self._submit(id_, args)
        elif op == "hello":
            self._outbox.put_nowait(frame.refusal(id_, "bad-request", "hello was said before."))
        else:
            await self._calls.start(id_, op, args)

    async def _take_event(self, event: Event) -> None:
        id_, name, args = event
        if name == "end":
            one = self._arriving.get(id_)
            if one is not None:
                await self._end(one, args)
            elif id_ in self._late:
                del self._late[id_]
            else:
                raise RemoteProtocolError("an end of something that is no upload", "bad-request")
        elif name == "abort":
            one = self._arriving.get(id_)
            if one is not None:
                await self._drop(one, OperationError("canceled", "the client aborted it."))
                self._late.pop(id_, None)
            elif id_ in self._late:
                del self._late[id_]
            else:
                self._calls.abort(id_)

    # -- uploads ---------------------------------------------------------------------------------

    async def _submit(self, id_: int, args: dict[str, Any]) -> None:
        self._late.pop(id_, None)
        try:
            self._link.check_room()
            principal = self._link.principal
            submission = arguments.submission(args, principal, self._client_host)
            is_eager = arguments.is_eager(args)
        except OperationError as error:
            self._late_nowait(id_)
            self._link.answer(id_, refusal(id_, error))
            return
        one = _Arriving(id_, submission, is_eager, trio.current_time())
        self._arriving[id_] = one
        self._link.open += 1
        self._link.ids.add(id_)
        if not is_eager:
            self._nursery.start_soon(self._admit, one)
        elif submission.size is not None and submission.size > GATHERED_BYTES_MAX:
            await self._admit(one)
        if not self._is_ticking:
            self._is_ticking = True
            self._nursery.start_soon(self._tick)

    async def _admit(self, one: _Arriving) -> None:
        """Open the upload: from here on chunks go to the spool. Tells the client the offset."""
        if one.is_gone:
            return
        try:
            upload = await self._acceptance.begin(one.submission)
            if one.is_gone:
                await upload.suspend()
                return
            one.upload = upload
            if upload.accepted is not None:
                self._leave(one)
                self._late_nowait(one.id)
                self._link.answer(one.id, self._accepted(one.id, upload.accepted))
                return
            one.told = upload.offset
            if upload.offset or not one.is_eager:
                self._link.event(one.id, "go-ahead", {"offset": upload.offset})
            parts, one.parts = one.parts, []
            offset = 0
            for part in parts:
                await self._write(one, part, offset)
                offset += len(part)
        except (OperationError, SpooldError) as error:
            await self._drop(one, error)

    async def _take_chunk(self, one: _Arriving, chunk: Chunk) -> None:
        upload = one.upload
        _, offset, data = chunk
        one.has_moved = True
        if upload is None:
            if not one.is_eager:
                raise RemoteProtocolError("a chunk came before its go-ahead", "bad-request")
            if offset == one.size and self._gather(one, data):
                return
            if offset <= one.size:
                await self._admit(one)
                if one.is_gone:
                    return
        try:
            await self._write(one, data, offset)
        except (OperationError, SpooldError) as error:
            await self._drop(one, error)

    def _gather(self, one: _Arriving, data: memoryview) -> bool:
        size = len(data)
        if (
            one.size + size > GATHERED_BYTES_MAX
            or self._gathered_bytes + size > GATHERED_IN_ALL_BYTES_MAX
        ):
            return False
        one.parts.append(bytes(data))
        one.size += size
        self._gathered_bytes += size
        return True

    async def _write(self, one: _Arriving, data: bytes | memoryview, offset: int) -> None:
        """Give the upload what it has not of `data`, which stands at `offset`."""
        upload = one.upload
        have = one.size if upload is None else upload.offset
        if offset > have:
            raise OperationError(
                "bad-request", f"bytes from {have} to {offset} are missing.", "Send without gaps."
            )
        if upload is not None and offset + len(data) > have:
            one.is_writing = True
            try:
                await upload.write(data[have - offset :] if offset < have else data)
            finally:
                one.is_writing = False

    async def _end(self, one: _Arriving, args: dict[str, Any]) -> None:
        if one.upload is None and not one.is_eager:
            raise RemoteProtocolError("an end came before its go-ahead", "bad-request")
        try:
            size, digest = arguments.ending(args, one.submission.digest_algorithm)
        except OperationError as error:
            await self._drop(one, error)
            return
        del self._arriving[one.id]
        self._link.open -= 1
        self._link.settling += 1
        self._nursery.start_soon(self._commit, one, size, digest)
        await self._link.keep_pace()

    async def _commit(self, one: _Arriving, size: int, digest: str) -> None:
        upload = one.upload
        try:
            if upload is None:
                upload = one.upload = await self._open_whole(one)
                if upload.accepted is None:
                    offset = 0
                    for part in one.parts:
                        await self._write(one, part, offset)
                        offset += len(part)
            if upload.submission.format == raw.OCTET_STREAM and upload.accepted is None:
                await upload.tail()  # only then the head of a large document is there
                upload.submission.format = raw.guess_format(upload.head)
            reply = self._accepted(one.id, await upload.commit(size, digest))
        except StoreFailed as error:
            self._link.fail(error)
        except (OperationError, SpooldError) as error:
            if upload is not None:
                await upload.abandon()
            self._link.answer(one.id, refusal(one.id, error))
        else:
            self._link.answer(one.id, reply)
        finally:
            if upload is not None:
                await upload.suspend()  # nothing is left to suspend unless this was cancelled
            self._gathered_bytes -= one.size
            self._link.settled()

    async def _open_whole(self, one: _Arriving) -> Upload:
        """The upload of a document that is here already: there is nothing to resume.

        Nor does anybody look for an earlier answer: the commit finds that by itself. Only a job
        that would be refused may have been accepted before the printer closed or the spool filled.
        """
        acceptance = self._acceptance
        submission = one.submission
        try:
            printer = acceptance.printer(submission.printer)
            acceptance.check_room(one.size)
        except (OperationError, SpoolFull):
            return await acceptance.begin(submission)
        return Upload(acceptance, submission, printer, os.urandom(16).hex())

    async def _drop(self, one: _Arriving, error: OperationError | SpooldError) -> None:
        """Answer an upload that does not go on. What came is kept where that may help."""
        if one.is_gone:
            return
        self._leave(one)
        self._late_nowait(one.id)
        if one.upload is not None:
            # Before the answer: the client may submit it again as soon as it hears.
            if isinstance(error, OperationError) and error.code in ("timed-out", "bad-request"):
                await one.upload.suspend()
            else:
                await one.upload.abandon()
        self._link.answer(one.id, refusal(one.id, error))
        if isinstance(error, StoreFailed):
            self._link.fail(error)

    def _leave(self, one: _Arriving) -> None:
        one.is_gone = True
        del self._arriving[one.id]
        self._gathered_bytes -= one.size
        one.parts = []
        self._link.closed()

    async def _tick(self) -> None:
        """Say how far uploads have come, and end those that stand still."""
        while self._arriving:
            await trio.sleep(STORED_INTERVAL_S)
            now = trio.current_time()
            for one in tuple(self._arriving.values()):
                upload = one.upload
                if upload is not None and upload.offset != one.told and not self._outbox.is_full:
                    one.told = upload.offset
                    self._link.event(one.id, "stored", {"offset": one.told})
                if one.has_moved or one.is_writing:
                    one.has_moved = False
                    one.moved_at = now
                elif (upload is not None or one.is_eager) and (
                    now - one.moved_at > self._link.settings.upload_idle_deadline_s
                ):
                    advice = "Submit it again: what came is kept for a while."
                    await self._drop(
                        one, OperationError("timed-out", "the upload stands still.", advice)
                    )
        self._is_ticking = False

    def _accepted(self, id_: int, accepted: Accepted) -> bytes:
        result = {
            "job_id": accepted.job_id,
            "job_uuid": str(accepted.uuid),
            "position": accepted.position,
            "node_guid": self._node_guid,
            "state": accepted.state.value,
            "duplicate": accepted.is_duplicate,
        }
        return frame.answer(id_, result)

    def _late_nowait(self, id_: int) -> None:
        """The end of this upload has not come, and may still be on its way."""
        self._late[id_] = None
        if len(self._late) > self._link.settings.inflight_max:
            del self._late[next(iter(self._late))]

    # -- the end ---------------------------------------------------------------------------------

    async def idle(self) -> None:
        """Nothing is under way that the client waits for, but what it follows."""
        while self._arriving or self._link.settling:
            await self._link.changed.wait()

    async def settle(self) -> None:
        """Nothing more comes: what has all it needs is answered, for as long as draining may take.

        A client that follows something will not hear of it.
        """
        self._calls.stop_following()
        with trio.move_on_after(self._link.settings.drain_s):
            while self._link.settling or self._calls.following:
                await self._link.changed.wait()

    async def suspend(self) -> None:
        """What came of open uploads is kept for a resume."""
        for one in tuple(self._arriving.values()):
            self._leave(one)
            if one.upload is not None:
                await one.upload.suspend()
