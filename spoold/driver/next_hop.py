"""The `spoold` driver: a job goes on to another spoold, which from then on prints it.

In: `spoold://host:9195/printer`. Out: `HandedOn` once the other node has committed the job; what
becomes of it there is followed later (`dispatch/handed.py`). The job keeps its uuid, its submitter
and how its owner is known (FRAMES.md 12), so the other node drops one that it has had, whichever
way it came. Whoever got a job whole and did not answer is asked again under that uuid until it
does: no attempt is ever in doubt, and a connection that breaks costs only what was not stored yet.

This node shows its own certificate, or that of the option `credentials`: a file as for a provider
that may speak for anybody. Options: `connect_timeout_s` (5), `answer_timeout_s` (60).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Protocol, cast, runtime_checkable
from urllib.parse import unquote

import trio

from spoold import __version__
from spoold.driver import sending
from spoold.driver.handed_on import origin_of, uuid_there
from spoold.driver.link import Delivery, DeviceStatus, Network, Progress, Source
from spoold.driver.options import Options, files, seconds
from spoold.model.errors import OperationError, SpooldError
from spoold.model.job import Job, JobReason
from spoold.model.outcome import Deferred, HandedOn, Outcome, Refused
from spoold.model.printer import Device, check_printer_name
from spoold.net.nursery import background_nursery
from spoold.net.stream import Stream
from spoold.provider.connection import Connection
from spoold.provider.course import Lost, hello_arguments, submit_arguments
from spoold.provider.credentials import read_bundle
from spoold.provider.document import Document
from spoold.spool.crashpoint import crash_point

PORT: Final = 9195
PING_S: Final = 5.0
PAUSE_FIRST_S: Final = 0.25
PAUSE_MAX_S: Final = 15.0
TAKE_BACK_S: Final = 5.0  # for a job that is canceled here when it may be there already
_NEVER: Final = frozenset({"bad-request", "too-large", "conflict"})  # whatever comes later


@runtime_checkable
class NodeNetwork(Protocol):
    """What a next hop needs of the world. `node_context` shows this node's own certificate."""

    node_context: Callable[[], ssl.SSLContext] | None

    async def connect_tls(
        self, host: str, port: int, context: ssl.SSLContext, *, timeout_s: float
    ) -> Stream: ...


class NextHopDriver:
    options: ClassVar[Options] = {
        **seconds("connect_timeout_s", "answer_timeout_s"),
        **files("credentials"),
    }

    def __init__(self, device: Device, network: Network) -> None:
        """Raises `OperationError` when the URI names no printer of a node."""
        parts = device.parts
        self._printer = unquote(parts.path).strip("/")
        if not parts.hostname or not self._printer or parts.username is not None:
            raise OperationError(
                "bad-request",
                f"{device.uri!r} names no printer of a node.",
                "Write spoold://HOST:9195/PRINTER.",
            )
        check_printer_name(self._printer)
        self._host, self._port = parts.hostname, parts.port or PORT
        self._credentials = device.option("credentials", "")
        self._connect_timeout_s = device.seconds("connect_timeout_s", 5.0)
        self._answer_timeout_s = device.seconds("answer_timeout_s", 60.0)
        if not isinstance(network, NodeNetwork):
            raise OperationError("bad-request", "this network knows no TLS.")
        self._network = cast(NodeNetwork, network)
        if not self._credentials and network.node_context is None:
            raise OperationError(
                "bad-request",
                "this node has no certificate to show.",
                "Give --option credentials=FILE.",
            )
        self._hello = hello_arguments("node", "", f"spoold/{__version__}", PING_S)

    # -- the other node --------------------------------------------------------------------------

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """A connection to the other node, as long as the block lasts.

        Raises:
            OSError, Lost: there is none.
        """
        timeout_s = self._connect_timeout_s
        stream = await self._network.connect_tls(
            self._host, self._port, self._context(), timeout_s=timeout_s
        )
        connection = Connection(stream, answer_timeout_s=self._answer_timeout_s)
        async with background_nursery() as nursery:
            try:
                with trio.fail_after(timeout_s):
                    await nursery.start(connection.run, self._hello)
            except trio.TooSlowError:
                raise Lost(f"no welcome within {timeout_s:g} s") from None
            yield connection

    def _context(self) -> ssl.SSLContext:
        try:
            if self._credentials:
                return read_bundle(self._credentials).context()
            assert self._network.node_context is not None
            return self._network.node_context()
        except SpooldError as error:
            cause = str(error).rstrip(".")
            raise OSError(0, f"its credentials cannot be used: {cause}") from error

    async def probe(self) -> DeviceStatus:
        try:
            async with self.connected():
                return DeviceStatus(True)
        except (OSError, Lost, trio.BrokenResourceError) as error:
            return DeviceStatus(False, ("connecting-to-device",), _said(error))

    # -- handing on ------------------------------------------------------------------------------

    async def deliver(self, delivery: Delivery) -> Outcome:
        document = await trio.to_thread.run_sync(document_of, delivery.source)
        args = arguments_of(delivery.job, self._printer, document.size)
        handing = _Handing(delivery, document, args)
        try:
            return await self._hand_over(handing)
        except trio.Cancelled:
            if delivery.is_canceled and handing.is_whole:
                with trio.move_on_after(TAKE_BACK_S, shield=True):
                    await self._take_back(handing.uuid)
            raise
        finally:
            document.close()

    async def _hand_over(self, handing: _Handing) -> Outcome:
        """Until the other node has said what becomes of the job, or has nothing of it."""
        delivery, pause_s = handing.delivery, PAUSE_FIRST_S
        whole_at_s = 0.0
        while True:
            try:
                async with self.connected() as connection:
                    await handing.begin()
                    result = await connection.upload(
                        handing.args, handing.document, handing.note_end, handing.tell
                    )
                    crash_point("handed-on-before-end")
                    return handing.taken(connection, result)
            except OperationError as error:
                outcome = handing.refused(error)
                if outcome is not None:
                    return outcome
                cause = error.message
            except (OSError, Lost, trio.BrokenResourceError) as error:
                cause = _said(error)
                if not handing.is_whole:
                    return Deferred("connecting-to-device", cause)
            whole_at_s = whole_at_s or trio.current_time()
            waited_s = trio.current_time() - whole_at_s
            detail = f"It has the job whole and has not answered: {cause}"
            size = handing.document.size
            delivery.report(Progress(size, waited_s, ("connecting-to-device",), detail))
            await trio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, 2 * pause_s)

    async def _take_back(self, uuid: str) -> None:
        try:
            async with self.connected() as connection:
                await connection.call("handed.cancel", {"job": uuid})
        except (OSError, Lost, OperationError, trio.BrokenResourceError):
            pass  # the record says that bytes had left


class _Handing:
    """One document on its way. `is_whole`: the other node may have accepted it."""

    def __init__(self, delivery: Delivery, document: Document, args: dict[str, Any]) -> None:
        self.delivery = delivery
        self.document = document
        self.args = args
        self.uuid = str(args["job_uuid"])
        self.is_whole = False
        self._may_send = False
        self._has_differed = False

    async def begin(self) -> None:
        if not self._may_send:
            await self.delivery.may_send()
            self._may_send = True

    def note_end(self) -> None:
        self.is_whole = True
        crash_point("handed-on-end")

    def tell(self, sent: int, size: int) -> None:
        self.delivery.report(Progress(sent))

    def taken(self, connection: Connection, result: dict[str, Any]) -> HandedOn:
        return HandedOn(
            {
                "method": "handed-on",
                "node": connection.node_guid,
                "node-name": str(connection.welcome.get("node_name", ""))[:63],
                "job": result.get("job_id"),
                "uuid": self.uuid,
                "bytes": self.document.size,
            }
        )

    def refused(self, error: OperationError) -> Outcome | None:
        """What a refusal means; None: ask again."""
        said = f"{error.message} {error.advice}".strip()
        if error.code == "digest-mismatch":  # what it had stored was damaged, or we read it wrong
            if self._has_differed:
                return Refused(JobReason.DOCUMENT_DAMAGED, said)
            self._has_differed = True
            return None
        if error.code == "busy" and self.is_whole:
            return None  # another connection is just committing it
        if error.code in _NEVER:
            return Refused(error.code, said)
        return Deferred(error.code, said)


def arguments_of(job: Job, printer: str, size: int) -> dict[str, Any]:
    """The arguments of `submit` with which a job of so many bytes is handed on."""
    told = submit_arguments(
        uuid_there(job),
        size,
        "blake3",
        printer=printer,
        user=job.owner.name,
        title=job.title,
        copies=max(1, job.copies),
        priority=job.job_priority,
        format=job.document.format,
        attributes=job.attributes,
    )
    return told | {"handed_on": origin_of(job)}


def document_of(source: Source) -> Document:
    """What an upload sends; the source may be closed before it. Blocks on the disk."""
    descriptor = source.fileno()
    if descriptor is None:
        return Document(source.read_at(0, source.size))
    return _Duplicate(os.dup(descriptor))


class _Duplicate(Document):
    """A document in a file that somebody else has open."""

    def __init__(self, descriptor: int) -> None:
        self._own = os.fdopen(descriptor, "rb", buffering=0)
        super().__init__(cast(Any, self._own))

    def close(self) -> None:
        super().close()
        self._own.close()


def _said(error: BaseException) -> str:
    if isinstance(error, OSError):
        return sending.not_connected(error, "the node").detail
    return str(error) or "the connection broke"
