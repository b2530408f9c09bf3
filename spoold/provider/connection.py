"""One connection to a server: hello, any number of requests at once, liveness, and its end.

In: a connected stream. Out: answers to calls and uploads, or `Lost` for all that wait when the
connection ends. It never connects again: that is `client`'s business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from math import inf
from typing import Any

import trio

from spoold.codec import frame
from spoold.codec.frame import Answer, Event, FrameReader, Item, Refusal, Request
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.net.bell import Bell
from spoold.net.context import is_about_certificate
from spoold.net.outbox import Outbox
from spoold.net.stream import Stream
from spoold.provider.course import (
    ANSWER_PING_S,
    CHUNK_BYTES,
    EAGER_BYTES_MAX,
    FRESH_S,
    MISSED_PINGS_MAX,
    RECEIVE_BYTES,
    UPLOAD_PING_S,
    Lost,
    Progress,
    check_welcome,
)
from spoold.provider.document import Document


class _Pending:
    """A request without an answer so far."""

    __slots__ = ("answer", "changed", "is_watched", "lost", "offset", "on_event")

    def __init__(self) -> None:
        self.answer: Answer | Refusal | None = None
        self.lost = ""
        self.offset: int | None = None
        self.on_event: Callable[[str, dict[str, Any]], None] | None = None
        self.changed = Bell()
        self.is_watched = False  # the server is given up when it says nothing

    @property
    def is_over(self) -> bool:
        return self.answer is not None or bool(self.lost)


class Connection:
    """`welcome` is the server's answer to hello. Usable while `run` runs and `is_open`."""

    def __init__(self, stream: Stream, *, answer_timeout_s: float, is_steady: bool = False) -> None:
        """`is_steady`: a sign of life goes out every `ping_s`, whatever comes (FRAMES.md 11)."""
        self.welcome: dict[str, Any] = {}
        self.is_open = False
        self._stream = stream
        self._answer_timeout_s = answer_timeout_s
        self._outbox = Outbox(stream)
        self._pending: dict[int, _Pending] = {}
        self._ids = count(1)
        self._slots = trio.Semaphore(1)
        self._scope = trio.CancelScope()
        self._why = ""
        self._is_distrusted = False
        self._was_silent = False
        self._is_steady = is_steady
        self._heard_at = 0.0
        self.heard = 0  # how often something came

    @property
    def _is_fresh(self) -> bool:
        return trio.current_time() - self._heard_at < FRESH_S

    @property
    def node_guid(self) -> str:
        return str(self.welcome["node_guid"])

    async def run(
        self, hello: dict[str, Any], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Say hello, then serve requests until the connection ends or this is cancelled.

        It has started when the server has welcomed us. When it ends, nobody waits for an answer
        any more, and the stream is closed.

        Raises:
            Lost: the server did not welcome us.
        """
        id_, pending = self._ask()
        self._outbox.put_nowait(frame.MAGIC + frame.request(id_, "hello", hello))
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._receive)
                    try:
                        welcome = await self._answer(pending)
                        ping_s, inflight_max = check_welcome(welcome, hello["versions"])
                    except (Lost, OperationError) as error:
                        self._close(str(error))
                        await trio.sleep_forever()
                    self._slots = trio.Semaphore(inflight_max)
                    self.welcome = welcome
                    self.is_open = True
                    task_status.started()
                    await (self._beat if self._is_steady else self._watch)(ping_s)
        finally:
            followed = [one for one in self._pending.values() if one.on_event is not None]
            is_idle = self.is_open and len(followed) == len(self._pending)
            self._close("the connection was closed")
            if is_idle:
                # The server sees an end, not a cut.
                with trio.move_on_after(1, shield=True):
                    try:
                        await self._stream.finish()
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass  # it ended first
            self._stream.abort()
        if not self.welcome:
            raise Lost(self._why, self._is_distrusted)

    def abort(self) -> None:
        """End the connection at once; the server sees a cut."""
        self._stream.abort()
        self._close("the connection was cut")

    # -- requests --------------------------------------------------------------------------------

    async def call(
        self,
        op: str,
        args: dict[str, Any],
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """The result of an operation. With `on_event` it may take for ever, else a deadline holds.

        Raises:
            OperationError: it was refused.
            Lost: the connection ended before the answer.
        """
        async with self._slots:
            id_, pending = self._ask()
            pending.on_event = on_event
            try:
                self._outbox.put_nowait(frame.request(id_, op, args))
                await self._outbox.room()
                return await self._answer(pending, inf if on_event else None)
            except trio.Cancelled:
                if self.is_open:
                    self._outbox.put_nowait(frame.event(id_, "abort", {}))
                raise
            finally:
                self._pending.pop(id_, None)

    async def upload(
        self,
        args: dict[str, Any],
        document: Document,
        on_end: Callable[[], None],
        progress: Progress | None = None,
        *,
        is_watched: bool = False,
    ) -> dict[str, Any]:
        """The server's answer to a job: `document`, submitted with `args`.

        `on_end` is called just before `end` leaves: until an answer comes the server may have
        accepted the job from then on. `is_watched`: it is given up when it says nothing, before
        that and after it, as there are others who may take the job.

        Raises:
            OperationError: it was refused.
            Lost: the connection ended before the answer; sent bytes may be kept for a resume.
            OSError: the document cannot be read.
        """
        async with self._slots:
            id_, pending = self._ask()
            is_ended = False
            try:
                is_small = document.size <= EAGER_BYTES_MAX
                if is_small and (not is_watched or self._is_fresh):
                    self._outbox.put_nowait(frame.request(id_, "submit", args | {"eager": True}))
                    is_whole = await self._send_from(id_, pending, document, 0, progress)
                else:
                    pending.is_watched = is_watched
                    self._outbox.put_nowait(frame.request(id_, "submit", args))
                    offset = await self._go_ahead(pending)
                    is_whole = await self._send_from(id_, pending, document, offset, progress)
                    # Until its last byte has left there is no doubt that the job was not accepted.
                    await self._heard_while(self._outbox.sent, pending, UPLOAD_PING_S)
                if is_whole and not pending.is_over:
                    digest = await self._digest(document)
                    on_end()
                    is_ended = True
                    end = {"size": document.size, "digest": digest}
                    self._outbox.put_nowait(frame.event(id_, "end", end))
                pending.is_watched = is_watched
                return await self._answer(pending)
            except (trio.Cancelled, OSError):
                if self.is_open and not is_ended:
                    self._outbox.put_nowait(frame.event(id_, "abort", {}))
                raise
            finally:
                self._pending.pop(id_, None)

    async def _go_ahead(self, pending: _Pending) -> int:
        """Where to go on; meaningless when there is an answer, or none will come."""
        with trio.move_on_after(self._answer_timeout_s):
            while pending.offset is None and not pending.is_over:
                await self._heard_while(pending.changed.wait, pending, UPLOAD_PING_S)
        if pending.offset is None and not pending.is_over:
            self._close(f"no go-ahead within {self._answer_timeout_s:g} s")
        return pending.offset or 0

    async def _send_from(
        self,
        id_: int,
        pending: _Pending,
        document: Document,
        offset: int,
        progress: Progress | None,
    ) -> bool:
        """Send the bytes from `offset`; False when an answer came, or the connection ended."""
        size = document.size
        while offset < size and not pending.is_over:
            if document.is_in_memory:
                data = document.read(offset, CHUNK_BYTES)
            else:
                data = await trio.to_thread.run_sync(document.read, offset, CHUNK_BYTES)
            self._outbox.put_nowait(frame.chunk_head(id_, offset, len(data)))
            self._outbox.put_nowait(data)
            offset += len(data)
            await self._heard_while(self._outbox.room, pending, UPLOAD_PING_S)
            if progress is not None:
                progress(offset, size)
        return not pending.is_over

    async def _heard_while(
        self, wait: Callable[[], Awaitable[None]], pending: _Pending, ping_s: float
    ) -> None:
        """Return when `wait` has, or when the server was given up as it said nothing meanwhile: a
        watched one is pinged every `ping_s`.
        """
        if not pending.is_watched:
            await wait()
            return
        missed, heard = 0, self.heard
        while missed < MISSED_PINGS_MAX:
            with trio.move_on_after(ping_s):
                await wait()
                return
            if self.heard != heard:
                missed, heard = 0, self.heard
                continue
            missed += 1
            self._outbox.put_nowait(frame.request(next(self._ids), "ping", {}))
        self._was_silent = True
        self._close(f"the server was silent for {MISSED_PINGS_MAX * ping_s:g} s")

    async def _digest(self, document: Document) -> str:
        if document.is_in_memory or document.is_digested:
            return document.digest()
        return await trio.to_thread.run_sync(document.digest)

    def _ask(self) -> tuple[int, _Pending]:
        id_ = next(self._ids)
        pending = _Pending()
        if self._why:
            pending.lost = self._why
        else:
            self._pending[id_] = pending
        return id_, pending

    async def _answer(self, pending: _Pending, timeout_s: float | None = None) -> dict[str, Any]:
        timeout_s = self._answer_timeout_s if timeout_s is None else timeout_s
        with trio.move_on_after(timeout_s):
            while not pending.is_over:
                await self._heard_while(pending.changed.wait, pending, ANSWER_PING_S)
        if not pending.is_over:
            # Whether it comes later cannot be told apart from a server that hangs.
            self._close(f"no answer within {timeout_s:g} s")
        if isinstance(pending.answer, Refusal):
            refusal = pending.answer
            raise OperationError(refusal.code, refusal.message, refusal.advice)
        if pending.answer is None:
            raise Lost(pending.lost or self._why, self._is_distrusted, self._was_silent)
        return pending.answer.result

    # -- the tasks of the connection -------------------------------------------------------------

    async def _send(self) -> None:
        try:
            await self._outbox.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._broke(error)

    async def _receive(self) -> None:
        reader = FrameReader()
        try:
            while True:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    self._close("the server ended the connection")
                    return
                self.heard += 1
                self._heard_at = trio.current_time()
                for item in reader.feed(data):
                    self._take(item)
                await self._outbox.room()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._broke(error)
        except RemoteProtocolError as error:
            self._close(f"the server broke the protocol: {error}")
        except Lost as error:
            self._close(str(error))

    def _take(self, item: Item) -> None:
        if isinstance(item, Answer | Refusal):
            if item.id == 0:
                assert isinstance(item, Refusal)
                raise Lost(f"the server refused this: {item.message} {item.advice}".strip())
            pending = self._pending.pop(item.id, None)
            if pending is not None:
                pending.answer = item
                pending.changed.ring()
        elif isinstance(item, Event):
            pending = self._pending.get(item.id)
            if pending is None:
                return
            if item.name in ("go-ahead", "stored"):
                offset = item.args.get("offset")
                if type(offset) is not int or offset < 0:
                    raise RemoteProtocolError("an offset must be a number")
                pending.offset = offset
                pending.changed.ring()
            elif pending.on_event is not None:
                pending.on_event(item.name, item.args)
        elif isinstance(item, Request):
            if item.op == "ping":
                self._outbox.put_nowait(frame.answer(item.id, {}))
            else:
                code = "not-found"
                self._outbox.put_nowait(frame.refusal(item.id, code, "a client cannot do that."))
        else:
            raise RemoteProtocolError("a server sends no document")

    async def _watch(self, ping_s: float) -> None:
        """Ping a silent server; give up one that stays silent."""
        missed = heard = 0
        while True:
            await trio.sleep(ping_s)
            if self.heard != heard:
                heard = self.heard
                missed = 0
                continue
            missed += 1
            if missed >= MISSED_PINGS_MAX:
                self._close(f"the server was silent for {missed * ping_s:g} s")
                return
            self._outbox.put_nowait(frame.request(next(self._ids), "ping", {}))

    async def _beat(self, ping_s: float) -> None:
        """Ping at every beat, unless bytes wait to go out anyway; give a silent server up.

        It does the same, so that it is heard also while all that we send is one long upload.
        """
        silence_s = MISSED_PINGS_MAX * ping_s
        while True:
            gone_at = self._heard_at + silence_s
            now = trio.current_time()
            if now >= gone_at:
                self._close(f"the server was silent for {silence_s:g} s")
                return
            if self._outbox.is_empty:
                self._outbox.put_nowait(frame.request(next(self._ids), "ping", {}))
            wakes_at = now + min(ping_s, gone_at - now)
            await trio.sleep_until(wakes_at)
            # While this process stood still itself, it could hear nobody.
            now = trio.current_time()
            self._heard_at = min(now, self._heard_at + now - wakes_at)

    def _broke(self, error: Exception) -> None:
        if not self._why:
            # In TLS 1.3 a server judges our certificate after our handshake is done.
            self._is_distrusted = is_about_certificate(error.__cause__)
        self._close(f"the connection broke: {error}")

    def _close(self, why: str) -> None:
        """Nothing is asked or answered any more."""
        if not self._why:
            self._why = why
        self.is_open = False
        for pending in self._pending.values():
            pending.lost = self._why
            pending.changed.ring()
        self._pending.clear()
        self._outbox.close_nowait()
        self._scope.cancel()
