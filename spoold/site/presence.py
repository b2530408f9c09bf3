"""Which sites are here, as an application server sees it, and what it tells them.

In: hello and `site.follow` of sites. Out: for each the state of its line, and its events. What is
told is a hint ("something changed: ask"), so of several equal ones that wait only one goes out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError
from spoold.model.node import LineState, Node

log = structlog.get_logger("spoold.site")

WAITING_MAX = 1024  # events for one site; one that takes none at all is let go

Greeting = Callable[[Node, dict[str, Any]], Awaitable[dict[str, Any]]]
Listener = Callable[[UUID, LineState], None]


@dataclass(slots=True)
class Site:
    """One site as of now. `about` is what its last hello said; `offset_us` how far its clock is
    ahead of ours.
    """

    node: Node
    state: LineState = LineState.JOINING
    since_us: int = 0
    peer: str = ""
    offset_us: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    _follower: Follower | None = None


class Follower:
    """What one line has not been told yet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._bell = trio.Event()
        self.is_over = False

    def put(self, event: str, args: dict[str, Any]) -> None:
        if (event, args) in self._waiting:
            return
        if len(self._waiting) >= WAITING_MAX:
            self.end()
            return
        self._waiting.append((event, args))
        self._bell.set()

    def end(self) -> None:
        self.is_over = True
        self._bell.set()

    async def take(self) -> list[tuple[str, dict[str, Any]]]:
        """What to tell next; nothing when it is over."""
        while not self._waiting and not self.is_over:
            await self._bell.wait()
            self._bell = trio.Event()
        taken, self._waiting = self._waiting, []
        return taken


class Presence:
    """`greetings` answer hello of a site: what they return goes into `more` of the answer."""

    def __init__(self, wall_clock: Callable[[], int]) -> None:
        self._wall_clock = wall_clock
        self._sites: dict[UUID, Site] = {}
        self._listeners: list[Listener] = []
        self.greetings: list[Greeting] = []

    def listen(self, listener: Listener) -> None:
        """`listener` hears of each site that is here from now on, or gone."""
        self._listeners.append(listener)

    def find(self, guid: UUID) -> Site | None:
        return self._sites.get(guid)

    def is_up(self, guid: UUID) -> bool:
        site = self._sites.get(guid)
        return site is not None and site.state is LineState.UP

    def here(self) -> list[Site]:
        """The sites whose line is up."""
        return [site for site in self._sites.values() if site.state is LineState.UP]

    async def greet(
        self, node: Node, peer: str, about: dict[str, Any], offset_us: int
    ) -> dict[str, Any]:
        """A site said hello; the answer's `more`."""
        site = self._sites.setdefault(node.guid, Site(node))
        site.node, site.peer, site.about, site.offset_us = node, peer, about, offset_us
        more: dict[str, Any] = {}
        for greeting in self.greetings:
            more |= await greeting(node, about)
        return more

    def tell(self, guid: UUID, event: str, args: dict[str, Any] | None = None) -> bool:
        """Tell a site; whether it is here. What it misses it must learn by hello."""
        site = self._sites.get(guid)
        if site is None or site._follower is None:
            return False
        site._follower.put(event, args or {})
        return True

    def tell_all(self, event: str, args: dict[str, Any] | None = None) -> None:
        for guid in list(self._sites):
            self.tell(guid, event, args)

    def drop(self, guid: UUID) -> None:
        """A site is not to be told any more: it was revoked."""
        site = self._sites.get(guid)
        if site is not None and site._follower is not None:
            site._follower.end()

    @asynccontextmanager
    async def follow(self, node: Node) -> AsyncIterator[Follower]:
        """The line of a site is up while this is open; a newer one takes its place.

        Raises:
            OperationError: it has not said hello.
        """
        site = self._sites.get(node.guid)
        if site is None:
            raise OperationError("not-possible", "say `site.hello` first.")
        if site._follower is not None:
            site._follower.end()
        follower = site._follower = Follower()
        self._note(site, LineState.UP)
        try:
            yield follower
        finally:
            if site._follower is follower:
                site._follower = None
                self._note(site, LineState.GONE)

    def _note(self, site: Site, state: LineState) -> None:
        if site.state is state:
            return
        site.state = state
        site.since_us = self._wall_clock()
        log.info("site_line_changed", site=site.node.name, state=state.value)
        for listener in self._listeners:
            listener(site.node.guid, state)
