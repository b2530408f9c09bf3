"""Version 1 of frames, the server's side: what each message does (`codec/FRAMES.md`).

In: messages and chunks of one connection, in order. Out: uploads through the one door, calls of the
router, and answers in any order. Small eager documents are gathered and committed in tasks of
their own, so that one group commit takes many.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from spoold.codec import frame, raw
from spoold.codec.frame import Chunk, Event, Item, Request
from spoold.intake import arguments
from spoold.intake.acceptance import Acceptance, Submission, Upload
from spoold.model.errors import (
    OperationError,
    RemoteProtocolError,
    SpooldError,
    SpoolFull,
    StoreFailed,
)
from spoold.model.principal import Port, Principal
from spoold.net.outbox import Outbox
from spoold.net.stream import Stream
from spoold.spool.store import Accepted

GATHERED_BYTES_MAX = 64 * 1024  # an eager document up to here is taken whole, then committed
GATHERED_IN_ALL_BYTES_MAX = 4 * 1024 * 1024  # by one connection
STORED_INTERVAL_S = 0.25

SendEvent = Callable[[str, dict[str, Any]], Awaitable[None]]


class Router(Protocol):
    async def call(
        self, principal: Principal, op: str, args: dict[str, Any], send_event: SendEvent
    ) -> dict[str, Any]:
        """The result of an operation.

        Raises:
            OperationError: it is refused; also when there is no such operation.
        """
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    ping_s: float = 15.0
    inflight_max: int = 256
    hello_deadline_s: float = 10.0
    upload_idle_deadline_s: float = 300.0
    send_timeout_s: float = 60.0
    drain_s: float = 10.0


@dataclass(slots=True, eq=False)
class Link:
    """What a version needs of its connection. Cancelling `receiving` ends it."""

    stream: Stream
    outbox: Outbox
    principal: Principal
    settings: Settings
    receiving: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_stopping: bool = False
    failure: StoreFailed | None = None

    def fail(self, error: StoreFailed) -> None:
        self.failure = error
        self.receiving.cancel()


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
        self._inflight_max = link.settings.inflight_max
        self._acceptance = acceptance
        self._router = router
        self._node_guid = node_guid
        self._nursery = nursery  # of this connection; it outlives this object
        self._client_host = link.principal.address
        self._ids: set[int] = set()  # unanswered
        self._arriving: dict[int, _Arriving] = {}
        self._calling: dict[int, trio.CancelScope] = {}
        self._following: dict[int, trio.CancelScope] = {}
        self._settling = 0  # what ends without the client: commits, and calls that follow nothing
        self._changed = trio.lowlevel.ParkingLot()
        self._gathered_bytes = 0
        self._is_ticking = False
        # Uploads that were answered before their end: what is still on its way is dropped. The
        # client knows of at most as many unanswered requests as it may have.
        self._late: dict[int, None] = {}

    # -- what comes ------------------------------------------------------------------------------

    async def take(self, item: Item) -> None:
        kind = type(item)
        if kind is Chunk:
            one = self._arriving.get(item.id)
            if one is not None:
                await self._take_chunk(one, item)  # type: ignore[arg-type]
            elif item.id not in self._late:
                raise RemoteProtocolError(
                    f"a chunk for {item.id}, which is no upload", "bad-request"
                )
        elif kind is Request:
            await self._take_request(item)  # type: ignore[arg-type]
        elif kind is Event:
            await self._take_event(item)  # type: ignore[arg-type]
        # The rest are answers to our pings: that they came is what they say.

    async def _take_request(self, request: Request) -> None:
        id_, op, args = request
        if id_ in self._ids:
            raise RemoteProtocolError(f"the id {id_} is in use", "bad-request")
        if op == "ping":
            self._outbox.put_nowait(frame.answer(id_, {}))
        elif op == "submit":
            await self._submit(id_, args)
        elif op == "hello":
            self._outbox.put_nowait(frame.refusal(id_, "bad-request", "hello was said before."))
        else:
            await self._start_call(id_, op, args)

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
                scope = self._following.get(id_) or self._calling.get(id_)
                if scope is not None:
                    scope.cancel()

    # -- uploads ---------------------------------------------------------------------------------

    async def _submit(self, id_: int, args: dict[str, Any]) -> None:
        self._late.pop(id_, None)
        try:
            self._check_room()
            principal = self._link.principal
            submission = arguments.submission(args, principal, self._client_host)
            is_eager = arguments.is_eager(args)
        except OperationError as error:
            self._late_nowait(id_)
            self._answer(id_, _refusal(id_, error))
            return
        one = _Arriving(id_, submission, is_eager, trio.current_time())
        self._arriving[id_] = one
        self._ids.add(id_)
        if not is_eager:
            self._nursery.start_soon(self._admit, one)
        elif submission.size is not None and submission.size > GATHERED_BYTES_MAX:
            await self._admit(one)
        if not self._is_ticking:
            self._is_ticking = True
            self._nursery.start_soon(self._tick)

    def _check_room(self) -> None:
        if self._link.is_stopping:
            raise OperationError("busy", "this server stops.", "Use another, or try again later.")
        if len(self._arriving) + len(self._following) >= self._inflight_max:
            raise OperationError(
                "busy",
                f"{self._inflight_max} requests of this connection wait for it.",
                "Finish some first; the welcome says how many there may be.",
            )

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
                self._answer(one.id, self._accepted(one.id, upload.accepted))
                return
            one.told = upload.offset
            if upload.offset or not one.is_eager:
                self._event(one.id, "go-ahead", {"offset": upload.offset})
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
        self._settling += 1
        self._nursery.start_soon(self._commit, one, size, digest)
        await self._keep_pace()

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
            self._answer(one.id, _refusal(one.id, error))
        else:
            self._answer(one.id, reply)
        finally:
            if upload is not None:
                await upload.suspend()  # nothing is left to suspend unless this was cancelled
            self._gathered_bytes -= one.size
            self._settled()

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
        self._answer(one.id, _refusal(one.id, error))
        if isinstance(error, StoreFailed):
            self._link.fail(error)

    def _leave(self, one: _Arriving) -> None:
        one.is_gone = True
        del self._arriving[one.id]
        self._gathered_bytes -= one.size
        one.parts = []
        self._changed.unpark_all()

    async def _tick(self) -> None:
        """Say how far uploads have come, and end those that stand still."""
        while self._arriving:
            await trio.sleep(STORED_INTERVAL_S)
            now = trio.current_time()
            for one in tuple(self._arriving.values()):
                upload = one.upload
                if upload is not None and upload.offset != one.told and not self._outbox.is_full:
                    one.told = upload.offset
                    self._event(one.id, "stored", {"offset": one.told})
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

    # -- calls -----------------------------------------------------------------------------------

    async def _start_call(self, id_: int, op: str, args: dict[str, Any]) -> None:
        is_follow = op.endswith(".follow")
        if is_follow:
            try:
                self._check_room()
            except OperationError as error:
                self._outbox.put_nowait(_refusal(id_, error))
                return
        scope = trio.CancelScope()
        self._ids.add(id_)
        if is_follow:
            self._following[id_] = scope
        else:
            self._calling[id_] = scope
            self._settling += 1
        self._nursery.start_soon(self._call, id_, op, args, scope)
        await self._keep_pace()

    async def _call(self, id_: int, op: str, args: dict[str, Any], scope: trio.CancelScope) -> None:
        async def send_event(name: str, event_args: dict[str, Any]) -> None:
            self._event(id_, name, event_args)
            await self._outbox.room()

        reply = b""
        try:
            with scope:
                result = await self._router.call(self._link.principal, op, args, send_event)
                reply = frame.answer(id_, result)
            if not reply:
                reply = frame.refusal(id_, "canceled", "the client aborted it.")
        except StoreFailed as error:
            self._link.fail(error)
        except (OperationError, SpooldError) as error:
            reply = _refusal(id_, error, tells_causes=self._link.principal.port is Port.CONTROL)
        except frame.MessageTooLarge:
            message = "the answer is larger than a message may be."
            reply = frame.refusal(id_, "too-large", message, "Ask for fewer at a time (limit).")
        finally:
            if self._following.pop(id_, None) is not None:
                self._changed.unpark_all()
            else:
                del self._calling[id_]
                self._settled()
        if reply:
            self._answer(id_, reply)

    # -- answers and the end ---------------------------------------------------------------------

    def _answer(self, id_: int, reply: bytes) -> None:
        self._ids.discard(id_)
        self._outbox.put_nowait(reply)

    def _late_nowait(self, id_: int) -> None:
        """The end of this upload has not come, and may still be on its way."""
        self._late[id_] = None
        if len(self._late) > self._inflight_max:
            del self._late[next(iter(self._late))]

    def _event(self, id_: int, name: str, args: dict[str, Any]) -> None:
        self._outbox.put_nowait(frame.event(id_, name, args))

    def _settled(self) -> None:
        self._settling -= 1
        if self._changed:
            self._changed.unpark_all()

    async def _keep_pace(self) -> None:
        """Read on when less than the most is under way."""
        while self._settling >= self._inflight_max:
            await self._changed.park()

    async def idle(self) -> None:
        """Nothing is under way that the client waits for, but what it follows."""
        while self._arriving or self._settling:
            await self._changed.park()

    async def settle(self) -> None:
        """Nothing more comes: what has all it needs is answered, for as long as draining may take.

        A client that follows something will not hear of it.
        """
        for scope in self._following.values():
            scope.cancel()
        with trio.move_on_after(self._link.settings.drain_s):
            while self._settling or self._following:
                await self._changed.park()

    async def suspend(self) -> None:
        """What came of open uploads is kept for a resume."""
        for one in tuple(self._arriving.values()):
            self._leave(one)
            if one.upload is not None:
                await one.upload.suspend()


def _refusal(id_: int, error: OperationError | SpooldError, tells_causes: bool = False) -> bytes:
    if isinstance(error, OperationError):
        return frame.refusal(id_, error.code, error.message, error.advice)
    code = "spool-area-full" if isinstance(error, SpoolFull) else "internal-error"
    if tells_causes:
        return frame.refusal(id_, code, str(error), error.advice)
    if isinstance(error, SpoolFull):
        message, advice = "the spool has no room for more jobs.", "Try again later."
    else:
        message, advice = "the server could not do it.", "Its log says why."
    return frame.refusal(id_, code, message, advice)
