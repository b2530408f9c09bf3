"""The client side without async: for scripts, and for commands that must start fast.

`BlockingProvider` hands jobs over as `client.Provider` does, in the calling thread. `ControlClient`
asks the daemon of this machine over its control socket; it needs neither Trio nor TLS, and loads
neither.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spoold.codec import frame
from spoold.codec.frame import Answer, Event, FrameReader, Item, Refusal, Request
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.net.unix import connect_unix
from spoold.provider.closing import Closing
from spoold.provider.receipt import Receipt, SubmitError, Unreachable

if TYPE_CHECKING:
    from spoold.provider.document import Source

RECEIVE_BYTES = 64 * 1024
SILENCE_S = 60.0  # three pings of the daemon, and some


class BlockingProvider(Closing):
    """`options` are those of `client.Provider`. Not for two threads at once.

    After a fail-over the server that answered is asked first for `probe_interval_s`; nothing else
    is kept between two calls.
    """

    def __init__(self, endpoints: Iterable[str], **options: Any) -> None:
        self._preferred = list(endpoints)
        self._options = options
        self._current = ""
        self._current_until = 0.0

    def submit(self, source: Source, **job: Any) -> Receipt:
        """See `client.Provider.submit`, also for what is raised. It loads no Trio."""
        from spoold.provider.direct import DirectProvider

        options = {key: value for key, value in self._options.items() if key != "probe_interval_s"}
        with DirectProvider(self._endpoints(), **options) as provider:
            try:
                return provider.submit(source, **job)
            finally:
                self._use(provider.current)

    def submit_all(
        self, jobs: Iterable[tuple[Source, dict[str, Any]]]
    ) -> list[Receipt | SubmitError | OSError]:
        """The receipt of each job, or its error as a value; they share one connection.

        A job is its source and the arguments of `client.Provider.submit`.
        """
        import trio

        from spoold.provider.client import Provider

        listed = list(jobs)
        results: list[Any] = [None] * len(listed)

        async def submit_one(provider: Provider, number: int) -> None:
            source, job = listed[number]
            try:
                results[number] = await provider.submit(source, **job)
            except (SubmitError, OSError) as error:
                results[number] = error

        async def main() -> str:
            async with Provider(self._endpoints(), **self._options) as provider:
                async with trio.open_nursery() as nursery:
                    for number in range(len(listed)):
                        nursery.start_soon(submit_one, provider, number)
                return provider.current

        self._use(trio.run(main))
        return results

    def _use(self, current: str) -> None:
        """The server that answered is asked first for a while."""
        if current != self._preferred[0] and current != self._current:
            self._current_until = time.monotonic() + self._options.get("probe_interval_s", 30.0)
        self._current = current

    def _endpoints(self) -> list[str]:
        if self._current and time.monotonic() < self._current_until:
            return [self._current, *(name for name in self._preferred if name != self._current)]
        return self._preferred


class ControlClient(Closing):
    """One connection to the control socket at `path`; one request at a time.

    `welcome` is what the daemon says of itself.
    """

    def __init__(self, path: str | os.PathLike[str], *, connect_timeout_s: float = 5.0) -> None:
        """Connect and say hello.

        Raises:
            Unreachable: no daemon answers there, or it may not be asked.
        """
        self._path = os.fspath(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._reader = FrameReader()
        self._items: Iterator[Item] = iter(())
        self._last_id = 0
        self._socket.settimeout(connect_timeout_s)
        try:
            connect_unix(self._socket, Path(self._path))
            self._socket.sendall(frame.MAGIC)
            hello = {"versions": list(frame.VERSIONS), "kind": "cli"}
            self.welcome = self.call("hello", hello)
            self._socket.settimeout(SILENCE_S)
        except OSError as error:
            self.close()
            raise self._unreachable(error) from error
        except OperationError as error:
            self.close()
            raise Unreachable(error.message, error.advice) from error
        except BaseException:
            self.close()
            raise

    def _unreachable(self, error: OSError) -> Unreachable:
        advice = "Start it with `spoold serve`, or name its socket with --control."
        cause = error.strerror or str(error) or "no answer"
        if isinstance(error, PermissionError):
            advice = "Only root, the daemon's user and the group spoold may: use sudo, or join it."
        elif isinstance(error, TimeoutError):
            cause, advice = "it does not answer", "Look into its log: `journalctl -u spoold`."
        message = f"the daemon at {self._path} cannot be reached: {cause}."
        return Unreachable(message, advice, None, {self._path: cause})

    def close(self) -> None:
        self._socket.close()

    def call(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """The result of an operation; events on the way are dropped.

        Raises:
            OperationError: it was refused.
            Unreachable: the daemon went away before its answer.
        """
        id_ = self._ask(op, args)
        while True:
            item = self._next(id_)
            if isinstance(item, Answer):
                return item.result

    def stream(self, op: str, args: dict[str, Any]) -> Iterator[Event]:
        """The events of an operation as they come, until its result does.

        Leaving the iteration early ends the operation.

        Raises:
            OperationError: it was refused, or ended by an error.
            Unreachable: the daemon went away.
        """
        id_ = self._ask(op, args)
        is_over = False
        try:
            while True:
                item = self._next(id_)
                if isinstance(item, Answer):
                    is_over = True
                    return
                if isinstance(item, Event):
                    yield item
        except (OperationError, Unreachable):
            is_over = True
            raise
        finally:
            if not is_over:
                with contextlib.suppress(Unreachable):
                    self._send(frame.event(id_, "abort", {}))

    def _ask(self, op: str, args: dict[str, Any]) -> int:
        self._last_id += 1
        self._send(frame.request(self._last_id, op, args))
        return self._last_id

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._unreachable(error) from error

    def _next(self, id_: int) -> Answer | Event | None:
        """The next item about `id_`; None for one about something else.

        Raises:
            OperationError, Unreachable: see `call`.
        """
        item = next(self._items, None)
        if item is None:
            self._receive()
            return None
        if isinstance(item, Request):
            self._send(frame.answer(item.id, {}))  # a ping
        elif isinstance(item, Refusal) and item.id in (0, id_):
            raise OperationError(item.code, item.message, item.advice)
        elif isinstance(item, Answer | Event) and item.id == id_:
            return item
        return None

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except OSError as error:
            raise self._unreachable(error) from error
        if not data:
            raise self._unreachable(OSError(0, "it ended the connection"))
        try:
            self._items = iter(list(self._reader.feed(data)))
        except RemoteProtocolError as error:
            raise self._unreachable(OSError(0, str(error))) from error
