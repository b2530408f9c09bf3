"""One connection to a server without async: hello, then one request at a time, and its end.

In: a connected stream. Out: answers to calls and uploads, or `Lost`. While it waits it answers
pings, and gives up a server that is silent. It never connects again: that is `direct`'s business.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any

from spoold.codec import frame
from spoold.codec.frame import Answer, Event, FrameReader, Item, Refusal, Request
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.net.blocking import BlockingStream
from spoold.net.context import is_about_certificate, reason_of
from spoold.provider.course import (
    ANSWER_PING_S,
    CHUNK_BYTES,
    EAGER_BYTES_MAX,
    FRESH_S,
    MISSED_PINGS_MAX,
    UPLOAD_PING_S,
    Lost,
    Progress,
    check_welcome,
)
from spoold.provider.document import Document

OUTSTANDING_BYTES_MAX = 2 * CHUNK_BYTES
ABORT_S = 1.0
PAUSE_S = 0.01
HELLO_PING_S = 15.0

OnEvent = Callable[[str, dict[str, Any]], None]


class Line:
    """`welcome` is the server's answer to hello."""

    def __init__(
        self,
        stream: BlockingStream,
        hello: dict[str, Any],
        *,
        timeout_s: float,
        answer_timeout_s: float,
    ) -> None:
        """Say hello.

        Raises:
            Lost: the server did not welcome us; the stream is closed.
        """
        self.is_open = True
        self._stream = stream
        self._answer_timeout_s = answer_timeout_s
        self._reader = FrameReader()
        self._out: deque[memoryview] = deque()
        self._outstanding = 0
        self._ids = count(1)
        self._id = 0  # of the request that is not answered yet
        self._answer: Answer | Refusal | None = None
        self._offset: int | None = None
        self._on_event: OnEvent | None = None
        self._ping_s = HELLO_PING_S
        self._watch_s: float | None = None  # after this silence while others would take the job
        self._heard_at = time.monotonic()
        self._missed = 0
        self._put(frame.MAGIC)
        try:
            self.welcome = self._ask("hello", hello, timeout_s, "welcome")
            self._ping_s, _ = check_welcome(self.welcome, hello["versions"])
        except OperationError as error:
            self.close()
            raise Lost(str(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._stream.close()

    # -- requests --------------------------------------------------------------------------------

    def call(
        self, op: str, args: dict[str, Any], on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """See `connection.Connection.call`, also for what is raised."""
        self._on_event = on_event
        try:
            return self._ask(op, args, inf if on_event else self._answer_timeout_s, "answer")
        except OperationError:
            raise
        except BaseException:
            self.close()  # it would go on there, and nobody listens
            raise
        finally:
            self._on_event = None

    def upload(
        self,
        args: dict[str, Any],
        document: Document,
        on_end: Callable[[], None],
        progress: Progress | None = None,
        *,
        is_watched: bool = False,
    ) -> dict[str, Any]:
        """See `connection.Connection.upload`, also for what is raised."""
        is_ended = False
        is_fresh = time.monotonic() - self._heard_at < FRESH_S
        try:
            if document.size <= EAGER_BYTES_MAX and (is_fresh or not is_watched):
                self._begin("submit", args | {"eager": True})
                self._send_from(document, 0, progress)
            else:
                self._watch(UPLOAD_PING_S if is_watched else None)
                self._begin("submit", args)
                self._until(self._may_go_on, self._answer_timeout_s, "go-ahead")
                self._send_from(document, self._offset or 0, progress)
                # Until its last byte has left there is no doubt that the job was not accepted.
                self._until(self._is_sent, inf, "")
            if self._answer is None:
                digest = document.digest()
                on_end()
                is_ended = True
                self._event("end", {"size": document.size, "digest": digest})
                self._watch(ANSWER_PING_S if is_watched else None)
            return self._result(self._answer_timeout_s, "answer")
        except (OperationError, Lost):
            raise
        except BaseException:
            self._give_up(has_ended=is_ended)
            raise
        finally:
            self._watch_s = None

    def _watch(self, ping_s: float | None) -> None:
        """From now on the server has to say something."""
        self._watch_s = ping_s
        if ping_s is not None:
            self._heard_at = time.monotonic()
            self._missed = 0

    @property
    def _patience_s(self) -> float:
        """After so long a silence it is pinged."""
        return self._ping_s if self._watch_s is None else self._watch_s

    def _ask(self, op: str, args: dict[str, Any], timeout_s: float, what: str) -> dict[str, Any]:
        self._begin(op, args)
        return self._result(timeout_s, what)

    def _begin(self, op: str, args: dict[str, Any]) -> None:
        self._id = next(self._ids)
        self._answer = None
        self._offset = None
        self._put(frame.request(self._id, op, args))

    def _result(self, timeout_s: float, what: str) -> dict[str, Any]:
        self._until(self._is_answered, timeout_s, what)
        answer = self._answer
        if isinstance(answer, Refusal):
            raise OperationError(answer.code, answer.message, answer.advice)
        assert answer is not None
        return answer.result

    def _send_from(self, document: Document, offset: int, progress: Progress | None) -> None:
        """Send the bytes from `offset`, but for an answer that comes before their end."""
        size = document.size
        while offset < size and self._answer is None:
            data = document.read(offset, CHUNK_BYTES)
            self._put(frame.chunk_head(self._id, offset, len(data)))
            self._put(data)
            offset += len(data)
            self._until(self._has_room, inf, "")
            if progress is not None:
                progress(offset, size)

    def _event(self, name: str, args: dict[str, Any]) -> None:
        self._put(frame.event(self._id, name, args))

    def _give_up(self, *, has_ended: bool) -> None:
        """Tell the server to forget the upload, if that takes little time, and close.

        Without that it would keep what came for a resume. What was handed out goes before it.
        """
        if self.is_open and not has_ended:
            self._event("abort", {})
            ends_at = time.monotonic() + ABORT_S
            try:
                while self._out and time.monotonic() < ends_at:
                    sent, _ = self._stream.exchange(self._out[0], 0.0)
                    self._out_of(sent)
                    if not sent:
                        time.sleep(PAUSE_S)
            except OSError:
                pass  # it broke: then nothing of it becomes a job either
        self.close()

    # -- waiting ---------------------------------------------------------------------------------

    def _is_answered(self) -> bool:
        return self._answer is not None

    def _may_go_on(self) -> bool:
        return self._offset is not None or self._answer is not None

    def _is_sent(self) -> bool:
        return not self._out or self._answer is not None

    def _has_room(self) -> bool:
        return self._outstanding <= OUTSTANDING_BYTES_MAX or self._answer is not None

    def _until(self, is_so: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Raises:
        Lost: it did not come about within `timeout_s`, or the connection ended.
        """
        ends_at = time.monotonic() + timeout_s
        try:
            while not is_so():
                left_s = ends_at - time.monotonic()
                if left_s <= 0:
                    raise Lost(f"no {what} within {timeout_s:g} s")
                self._turn(min(left_s, self._patience_s))
        except (Lost, RemoteProtocolError) as error:
            self.close()
            if isinstance(error, RemoteProtocolError):
                raise Lost(f"the server broke the protocol: {error}") from error
            raise

    def _turn(self, timeout_s: float) -> None:
        try:
            sent, received = self._stream.exchange(self._out[0] if self._out else b"", timeout_s)
        except OSError as error:
            why = f"the connection broke: {reason_of(error)}"
            raise Lost(why, is_about_certificate(error)) from error
        self._out_of(sent)
        if received:
            self._heard_at = time.monotonic()
            self._missed = 0
            for item in self._reader.feed(received):
                self._take(item)
        elif received is not None:
            raise Lost("the server ended the connection")
        elif time.monotonic() - self._heard_at >= self._patience_s * (self._missed + 1):
            self._missed += 1
            if self._missed >= MISSED_PINGS_MAX:
                why = f"the server was silent for {self._missed * self._patience_s:g} s"
                raise Lost(why, was_silent=self._watch_s is not None)
            self._put(frame.request(next(self._ids), "ping", {}))

    def _take(self, item: Item) -> None:
        """Raises:
        RemoteProtocolError: a server does not say that.
        """
        if isinstance(item, Answer | Refusal):
            if item.id == 0:
                assert isinstance(item, Refusal)
                raise RemoteProtocolError(f"{item.message} {item.advice}".strip())
            if item.id == self._id:
                self._answer = item
        elif isinstance(item, Event):
            self._take_event(item)
        elif isinstance(item, Request):
            if item.op == "ping":
                self._put(frame.answer(item.id, {}))
            else:
                said = "a client cannot do that."
                self._put(frame.refusal(item.id, "not-found", said))
        else:
            raise RemoteProtocolError("a server sends no document")

    def _take_event(self, item: Event) -> None:
        if item.id != self._id or self._answer is not None:
            return
        if item.name in ("go-ahead", "stored"):
            offset = item.args.get("offset")
            if type(offset) is not int or offset < 0:
                raise RemoteProtocolError("an offset must be a number")
            self._offset = offset
        elif self._on_event is not None:
            self._on_event(item.name, item.args)

    # -- what leaves -----------------------------------------------------------------------------

    def _put(self, data: bytes | memoryview) -> None:
        if len(data):
            self._out.append(memoryview(data))
            self._outstanding += len(data)

    def _out_of(self, sent: int) -> None:
        self._outstanding -= sent
        if sent:
            rest = self._out.popleft()[sent:]
            if rest:
                self._out.appendleft(rest)
