"""`Counter`: documents in, `Contents` out, by a warm worker that is replaced when it fails.

A worker starts when the first document comes, and is replaced after `documents_max`. One that takes
longer than the deadline is killed; one that dies costs its document the answer (`counter-died`) and
nobody else anything. No more than `waiting_max` wait; beyond that a document is refused as busy.
"""

from __future__ import annotations

import array
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

import structlog
import trio

from spoold.codec.pages.contents import Contents, Reason, contents_from_map, unknown
from spoold.codec.pages.text import LINES_A_PAGE
from spoold.counting import wire
from spoold.model.errors import OperationError

log = structlog.get_logger("spoold.counting")

DEADLINE_S = 30.0
COLOUR_S = 2.0
START_S = 20.0
END_S = 5.0
DOCUMENTS_MAX = 500
WAITING_MAX = 64

Document = bytes | Path | int  # its bytes, where it lies, or a descriptor that can be read


class CountsPages(Protocol):
    """What other rooms need of a counter."""

    async def count(
        self, source: Document, *, media_type: str = "", colour: bool = False
    ) -> Contents: ...


class Counter:
    """`workers` documents at once. Use as an async context manager, or call `aclose`."""

    def __init__(
        self,
        *,
        workers: int = 1,
        waiting_max: int = WAITING_MAX,
        documents_max: int = DOCUMENTS_MAX,
        deadline_s: float = DEADLINE_S,
        colour_s: float = COLOUR_S,
        lines_a_page: int = LINES_A_PAGE,
    ) -> None:
        self._turns = trio.Semaphore(workers)
        self._waiting_max = waiting_max
        self._documents_max = documents_max
        self._deadline_s = deadline_s
        self._colour_s = colour_s
        self._lines_a_page = lines_a_page
        self._idle: list[_Worker] = []

    async def __aenter__(self) -> Counter:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the idle workers; those that count end with their documents."""
        self._waiting_max = -1
        while self._idle:
            await self._idle.pop().end()

    async def count(
        self, source: Document, *, media_type: str = "", colour: bool = False
    ) -> Contents:
        """What `source` contains; what cannot be known is unknown with its reason.

        `colour` asks for a second look of at most `colour_s`, where the first did not tell.

        Raises:
            OperationError: `busy`, when too many wait.
            OSError: the document cannot be opened.
        """
        async with self._turn():
            fd, size = await _opened(source)
            try:
                if size == 0:
                    return unknown(media_type, Reason.DAMAGED, "it is empty")
                question = {
                    "size": size,
                    "format": media_type,
                    "colour": colour,
                    "lines_a_page": self._lines_a_page,
                    "deadline_s": self._deadline_s + self._colour_s,
                }
                return await self._answer(question, fd)
            finally:
                os.close(fd)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._turns.statistics().tasks_waiting >= self._waiting_max:
            raise OperationError("busy", "too many documents wait to be counted.", "Try again.")
        async with self._turns:
            yield

    async def _answer(self, question: dict[str, object], fd: int) -> Contents:
        media_type = str(question["format"])
        for _ in range(2):  # an idle worker may have ended before it took the document
            try:
                worker = self._idle.pop() if self._idle else await _Worker.start()
            except (OSError, trio.TooSlowError) as error:
                log.error("counter_not_started", reason=str(error))
                return unknown(media_type, Reason.COUNTER_DIED, "no worker could be started")
            answer = await self._ask(worker, question, fd)
            if answer is not None:
                return answer
        return unknown(media_type, Reason.COUNTER_DIED, "the worker took no document")

    async def _ask(self, worker: _Worker, question: dict[str, object], fd: int) -> Contents | None:
        """The worker's answer; None when it never took the question."""
        is_well = False
        try:
            answer: Contents | None = None
            with trio.move_on_after(self._deadline_s) as scope:
                if not await worker.hand_over(question, fd):
                    return None
                answer = await worker.answer()
            if answer is None:
                reason = Reason.TOO_SLOW if scope.cancelled_caught else Reason.COUNTER_DIED
                log.warning("document_not_counted", reason=str(reason))
                return unknown(str(question["format"]), reason)
            if question["colour"] and answer.pages is not None:
                answer, is_well = await self._look_at_colour(worker, answer)
            else:
                is_well = True
            return answer
        finally:
            if is_well and worker.documents < self._documents_max and self._waiting_max >= 0:
                self._idle.append(worker)
            else:
                await worker.end()

    async def _look_at_colour(self, worker: _Worker, first: Contents) -> tuple[Contents, bool]:
        """The second answer, or the first without colour; and whether the worker is well."""
        second: Contents | None = None
        with trio.move_on_after(self._colour_s) as scope:
            second = await worker.answer()
        if second is not None:
            return second, True
        if first.colour_pages is not None:
            return first, False
        reason = Reason.TOO_SLOW if scope.cancelled_caught else Reason.COUNTER_DIED
        return replace(first, colour_reason=reason), False


class _Worker:
    """One process, and the socket to it."""

    def __init__(self, process: trio.Process, link: trio.socket.SocketType) -> None:
        self._process = process
        self._link = link
        self.documents = 0

    @classmethod
    async def start(cls) -> _Worker:
        """Start one and wait until it is ready.

        Raises:
            OSError, trio.TooSlowError: it did not start.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link = trio.socket.from_stdlib_socket(ours)
        try:
            # Fixed words only: nothing of a document or of a client reaches this line.
            process = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-m", "spoold.counting.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        except BaseException:
            link.close()
            raise
        finally:
            theirs.close()
        worker = cls(process, link)
        try:
            with trio.fail_after(START_S):
                ready = wire.decode(await link.recv(wire.MESSAGE_BYTES_MAX) or b"null")
        except BaseException as error:
            await worker.end()
            if isinstance(error, ValueError):
                raise ConnectionResetError("the worker ended while it started") from error
            raise
        log.info("counter_started", pid=process.pid, is_filtered=ready.get("is_filtered") is True)
        return worker

    async def hand_over(self, question: dict[str, object], fd: int) -> bool:
        """Give it a document; false when it has gone."""
        self.documents += 1
        rights = array.array("i", [fd])
        try:
            await self._link.sendmsg(
                [wire.encode(question)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            )
            return await self._link.recv(wire.MESSAGE_BYTES_MAX) == wire.TAKEN
        except OSError:
            return False

    async def answer(self) -> Contents | None:
        """Its next answer; None when it died, or says what no worker says."""
        try:
            data = await self._link.recv(wire.MESSAGE_BYTES_MAX)
            return contents_from_map(wire.decode(data)) if data else None
        except (OSError, ValueError):
            return None

    async def end(self) -> None:
        """Kill it and wait for its end."""
        self._link.close()
        self._process.kill()
        with trio.move_on_after(END_S, shield=True):
            await self._process.wait()


async def _opened(source: Document) -> tuple[int, int]:
    """A descriptor of the document that can be read and nothing else, and its size."""
    if isinstance(source, bytes):
        written = os.memfd_create("document", os.MFD_CLOEXEC)
        try:
            view = memoryview(source)
            while view:
                view = view[os.write(written, view) :]
            return _read_only(written)
        finally:
            os.close(written)
    if isinstance(source, int):
        return _read_only(source)
    return await trio.to_thread.run_sync(_open, str(source))


def _read_only(fd: int) -> tuple[int, int]:
    return _open(f"/proc/self/fd/{fd}")


def _open(path: str) -> tuple[int, int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, "not a regular file", path)
        return fd, status.st_size
    except BaseException:
        os.close(fd)
        raise
