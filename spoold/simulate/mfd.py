"""An MFD that comes in by itself, as its embedded application would: for tests and for trying out.

In: endpoints, a token or a certificate. Out: the operations of MFDs as methods. Whatever can be
asked twice without harm is asked again after a cut, at the next endpoint if need be; the session
goes on over any connection. A release is not: whoever loses its answer lists the jobs again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import trio

from spoold.model.errors import OperationError
from spoold.net.connect import TcpNetwork
from spoold.net.nursery import background_nursery
from spoold.provider.course import Lost, hello_arguments
from spoold.provider.endpoint import Credentials, Network
from spoold.provider.servers import Servers

# What is done once however often it is asked for; not a release, a change or a login.
REPEATABLE = frozenset({"resume", "jobs", "accounts", "authorize", "report", "logout", "follow"})
TRIES = 4
PAUSE_S = 0.3

OnEvent = Callable[[str, dict[str, Any]], None]


class Mfd:
    """Use it within `opened`. `session` is the id of who is logged in, "" for nobody; `unheard`
    are the servers that did not say what waits there when jobs were listed or released last.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        tls: Credentials,
        *,
        token: str = "",
        network: Network | None = None,
        connect_timeout_s: float = 5.0,
        answer_timeout_s: float = 30.0,
    ) -> None:
        """Raises:
        ConfigError: an endpoint is none. IdentityError, OSError: a file of `tls` is no use.
        """
        hello = hello_arguments("mfd", "", "spoold simulate mfd", 15.0)
        if token:
            hello["token"] = token
        self._servers = Servers(
            endpoints,
            hello,
            TcpNetwork() if network is None else network,
            tls.context(),
            connect_timeout_s=connect_timeout_s,
            answer_timeout_s=answer_timeout_s,
            probe_interval_s=30.0,
            learns_endpoints=True,
        )
        self.session = ""
        self.unheard: list[str] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Mfd]:
        """Connections are made when they are needed, and end with this block."""
        async with background_nursery() as nursery:
            await nursery.start(self._servers.run)
            yield self

    async def call(
        self, name: str, args: dict[str, Any] | None = None, on_event: OnEvent | None = None
    ) -> dict[str, Any]:
        """The result of the operation `mfd.NAME`; what is None is not sent.

        Raises:
            OperationError: it was refused.
            Lost: nobody answered, or the connection ended, and it cannot be asked again.
        """
        asked = {key: value for key, value in (args or {}).items() if value is not None}
        lost = Lost("there is no server")
        for attempt in range(TRIES):
            if attempt:
                await trio.sleep(PAUSE_S)
            for server in self._servers.in_order():
                try:
                    connection = await self._servers.connected(server)
                except Lost as error:
                    lost = error
                    continue
                self._servers.use(server)
                try:
                    return await connection.call(f"mfd.{name}", asked, on_event)
                except Lost as error:
                    if name not in REPEATABLE:
                        raise
                    lost = error
        raise lost

    async def reach(self) -> str:
        """Connect, and name the server that is used first.

        Raises:
            Lost: nobody answers, or lets this MFD in.
        """
        why = []
        for server in self._servers.in_order():
            try:
                await self._servers.connected(server)
            except Lost as error:
                why.append(f"{server.name}: {error}")
            else:
                return server.name
        raise Lost("no server can be reached: " + "; ".join(why))

    def cut(self) -> None:
        """End the connections, as a network does that fails."""
        for server in self._servers.in_order():
            if server.connection is not None:
                server.connection.abort()

    # -- sessions --------------------------------------------------------------------------------

    async def login(
        self, card: str = "", pin: str = "", name: str = "", password: str = ""
    ) -> dict[str, Any]:
        """Begin a session."""
        return await self._begin("login", card, pin, name, password)

    async def associate(
        self, card: str, pin: str = "", name: str = "", password: str = ""
    ) -> dict[str, Any]:
        """Make a new card the card of who proves the rest, and begin a session."""
        return await self._begin("associate", card, pin, name, password)

    async def _begin(
        self, how: str, card: str, pin: str, name: str, password: str
    ) -> dict[str, Any]:
        shown = {"card": card, "pin": pin, "name": name, "password": password}
        answer = await self.call(how, {key: value for key, value in shown.items() if value})
        self.session = answer["session"]
        return answer

    async def resume(self) -> dict[str, Any]:
        return await self.call("resume", {"session": self.session})

    async def logout(self) -> None:
        session, self.session = self.session, ""
        await self.call("logout", {"session": session})

    async def follow(self, on_event: OnEvent) -> str:
        """Tell what happens until the session is over; why it is."""
        answer = await self.call("follow", {"session": self.session}, on_event)
        return str(answer["reason"])

    # -- jobs ------------------------------------------------------------------------------------

    async def jobs(self, printer: str | None = None) -> list[dict[str, Any]]:
        """All held jobs, page by page."""
        found: list[dict[str, Any]] = []
        after: int | None = None
        while True:
            args = {"session": self.session, "printer": printer, "after_id": after}
            answer = await self.call("jobs", args)
            found += answer["jobs"]
            after = answer["next_after_id"]
            if after is None:
                self.unheard = answer["unheard"]
                return found

    async def release(self, jobs: Sequence[int] | None = None, **more: Any) -> list[dict[str, Any]]:
        """Print these jobs, or all; `more` are `printer`, `copies`, `sides`, `color`, `account`."""
        ids = None if jobs is None else list(jobs)
        answer = await self.call("release", {"session": self.session, "jobs": ids, **more})
        self.unheard = answer["unheard"]
        return list(answer["results"])

    async def change(self, job: int, **changes: Any) -> dict[str, Any]:
        return await self.call("change", {"session": self.session, "job": job, **changes})

    async def delete(self, jobs: Sequence[int]) -> list[dict[str, Any]]:
        answer = await self.call("delete", {"session": self.session, "jobs": list(jobs)})
        return list(answer["results"])

    async def accounts(self) -> list[dict[str, Any]]:
        answer = await self.call("accounts", {"session": self.session})
        return list(answer["accounts"])

    # -- copies, scans and faxes -----------------------------------------------------------------

    async def authorize(self, work: str, key: str, **more: Any) -> dict[str, Any]:
        """How many pages may be made; `more` are `pages`, `color`, `sides`, `media`, `account`."""
        args = {"session": self.session, "work": work, "key": key, **more}
        return await self.call("authorize", args)

    async def report(
        self, work: str, key: str, lines: Sequence[dict[str, Any]], **more: Any
    ) -> dict[str, Any]:
        """What was made under `key`; sent twice it is charged once."""
        args = {"work": work, "key": key, "lines": list(lines), **more}
        if self.session:
            args.setdefault("session", self.session)
        return await self.call("report", args)

    async def make(self, work: str, pages: int, **more: Any) -> dict[str, Any]:
        """Ask, make as many pages as may be made, and report them.

        Raises:
            OperationError: `account-limit-reached`: not one page may be made.
        """
        key = str(uuid4())
        allowed = await self.authorize(work, key, pages=pages, **more)
        if not allowed["pages"]:
            raise OperationError("account-limit-reached", allowed["why"])
        kinds: dict[str, Any] = {
            name: more[name] for name in ("color", "sides", "media") if name in more
        }
        line = {"impressions": allowed["pages"], **kinds}
        return await self.report(work, key, [line])
