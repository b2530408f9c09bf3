"""The servers that a provider may use: one connection to each, made when it is first needed.

In: endpoints in order of preference. Out: open connections, shared by all who ask. After a fail-
over the preferred ones are looked at again in the background.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from spoold.model.errors import OperationError
from spoold.net.context import is_about_certificate, reason_of
from spoold.provider.connection import Connection
from spoold.provider.course import HEAD_START_S, RECONNECT_S, SERVERS_MAX, Lost
from spoold.provider.endpoint import Endpoint, Network, Roster

# After a failed connect everybody who wants this server gets the same answer for so long.
DOWN_S = 0.5


@dataclass(slots=True, eq=False)
class Server:
    """An endpoint, and the connection to it while there is one. `cause`: why there is none.

    `is_distrusted`: the cause is a certificate that one side refused.
    """

    endpoint: Endpoint
    connection: Connection | None = None
    opening: trio.Event | None = None
    down_until: float = 0.0
    cause: str = ""
    is_distrusted: bool = False
    was_open: bool = False

    @property
    def name(self) -> str:
        return self.endpoint.text

    @property
    def is_open(self) -> bool:
        return self.connection is not None and self.connection.is_open


class Servers:
    """`current` is the one that the next job goes to first."""

    def __init__(
        self,
        endpoints: Iterable[str],
        hello: dict[str, Any],
        network: Network,
        context: ssl.SSLContext | None,
        *,
        connect_timeout_s: float,
        answer_timeout_s: float,
        probe_interval_s: float,
        learns_endpoints: bool,
    ) -> None:
        """Raises:
        ConfigError: an endpoint is none. ValueError: there is none at all.
        """
        given = [Endpoint.parse(text) for text in dict.fromkeys(endpoints)]
        self._servers = [Server(endpoint) for endpoint in given]
        if not self._servers:
            raise ValueError("a provider needs an endpoint")
        self._roster = Roster(given, SERVERS_MAX)
        self._hello = hello
        self._network = network
        self._context = context
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._probe_interval_s = probe_interval_s
        self._learns_endpoints = learns_endpoints
        self._wanted: list[Server] = []
        self._work = trio.lowlevel.ParkingLot()
        self._is_running = False
        self.current = self._servers[0]

    def in_order(self) -> list[Server]:
        """The one in use, then the others in the order of preference."""
        return [self.current, *(server for server in self._servers if server is not self.current)]

    def kin_of(self, server: Server) -> frozenset[str]:
        """The endpoints of its deployment, as far as it is known to have others."""
        return self._roster.kin_of(server.name)

    def use(self, server: Server) -> None:
        """`server` took a job: the next ones go there first."""
        if server is not self.current:
            self.current = server
            self._arrange()
            self._work.unpark_all()

    async def first_of(
        self, servers: Sequence[Server], failed: Callable[[str, Lost], None]
    ) -> Server | None:
        """The first of `servers` to have a connection; `failed` hears of each that has none.

        They are tried in order, each beside those before it once these had their head start. Who
        comes later is connected for the jobs that follow.
        """
        if not self._is_running:
            raise RuntimeError("use the provider as an `async with` block")
        if servers[0].is_open:
            return servers[0]
        found: Server | None = None

        async def attempt(server: Server, is_over: trio.Event) -> None:
            nonlocal found
            try:
                await self.connected(server)
            except Lost as error:
                failed(server.name, error)
                is_over.set()
            else:
                found = found or server
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for server in servers:
                is_over = trio.Event()
                nursery.start_soon(attempt, server, is_over)
                with trio.move_on_after(HEAD_START_S):
                    await is_over.wait()
        return found

    async def connected(self, server: Server) -> Connection:
        """The connection to `server`.

        Raises:
            Lost: there is none.
        """
        connection = server.connection
        if connection is not None and connection.is_open:
            return connection
        if server.opening is None:
            if trio.current_time() < server.down_until:
                raise Lost(server.cause, server.is_distrusted)
            server.opening = trio.Event()
            self._wanted.append(server)
            self._work.unpark_all()
        await server.opening.wait()
        connection = server.connection
        if connection is None or not connection.is_open:
            raise Lost(server.cause, server.is_distrusted)
        return connection

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connections until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._probe)
            self._is_running = True
            task_status.started()
            try:
                while True:
                    while self._wanted:
                        nursery.start_soon(self._open, self._wanted.pop(), nursery)
                    await self._work.park()
            finally:
                self._is_running = False

    async def _open(self, server: Server, nursery: trio.Nursery) -> None:
        """Connect and say hello; whoever waits for it is told."""
        server.connection = None
        server.is_distrusted = False
        timeout_s = self._connect_timeout_s
        if server.was_open and len(self._servers) > 1:
            timeout_s = min(timeout_s, RECONNECT_S)
        server.was_open = False
        try:
            stream = await server.endpoint.connect(self._network, self._context, timeout_s)
            connection = Connection(stream, answer_timeout_s=self._answer_timeout_s)
            with trio.fail_after(timeout_s):
                await nursery.start(connection.run, self._hello)
        except trio.TooSlowError:
            server.cause = f"no welcome within {timeout_s:g} s"
        except OSError as error:
            server.cause = reason_of(error)
            server.is_distrusted = is_about_certificate(error)
        except Lost as error:
            server.cause = str(error)
            server.is_distrusted = error.is_distrusted
        else:
            server.cause = "the connection ended"
            server.connection = connection
            server.was_open = True
            self._learn(server, connection, connection.welcome)
            # Without credentials nobody is told; and one of its slots must be left for jobs.
            may_follow = self._context is not None and connection.welcome["inflight_max"] > 1
            if self._learns_endpoints and may_follow:
                nursery.start_soon(self._follow, server, connection)
        finally:
            if server.connection is None:
                server.down_until = trio.current_time() + DOWN_S
            opening, server.opening = server.opening, None
            if opening is not None:
                opening.set()

    def _learn(self, server: Server, connection: Connection, told: dict[str, Any]) -> None:
        """A server names others, in its welcome or later."""
        if self._learns_endpoints:
            role = connection.welcome.get("role")
            self._roster.hear(server.name, role, told.get("endpoints"))
            self._arrange()

    def _arrange(self) -> None:
        """Have those that are listed, and the one in use as long as it is.

        What goes on at another one ends there; nothing more is sent to it.
        """
        known = {server.name: server for server in self._servers}
        listed = self._roster.listed()
        self._servers = [known.get(one.text) or Server(one) for one in listed]
        if self.current not in self._servers:
            self._servers.append(self.current)

    async def _follow(self, server: Server, connection: Connection) -> None:
        """Hear of other servers while the connection lasts, where that is told."""

        def hear(event: str, args: dict[str, Any]) -> None:
            if connection.is_open:
                self._learn(server, connection, args)

        with suppress(Lost, OperationError):
            await connection.call("node.follow", {}, hear)

    async def _probe(self) -> None:
        """After a fail-over, look whether a preferred server is well again."""
        while True:
            while self.current is self._servers[0]:
                await self._work.park()
            await trio.sleep(self._probe_interval_s)
            for server in self._servers[: self._servers.index(self.current)]:
                try:
                    await self.connected(server)
                except Lost:
                    continue
                self.current = server
                break
