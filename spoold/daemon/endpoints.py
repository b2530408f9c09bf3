"""Where clients are told to go: the application servers first, then the sites near them.

In: [advertise] of this node, and of each site as its hello says it. Out: endpoints in order for a
client's address. A site that names networks is for the clients in them; one that names none is for
everybody. What a site has told is kept while it is away, and over restarts: it is wanted then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.daemon.config import Advertise, AdvertiseTo, Config, endpoint
from spoold.daemon.schema import Wrong
from spoold.model.node import Node, NodeState
from spoold.spool.store import Event, NodeChanged, NoteAdvertised

log = structlog.get_logger("spoold.daemon")

TOLD_MAX = 50
NETWORKS_MAX = 64
ENDPOINTS_MAX = 16  # of one site
UNUSABLE = (Wrong, ValueError, TypeError, KeyError)


class Endpoints:
    """`greet` and `hear` are to be called with each hello of a site, and with each commit; `keep`
    has what a site said kept, and `recall` is to be called with what was kept.
    """

    def __init__(
        self, config: Callable[[], Config], keep: Callable[[NoteAdvertised], object]
    ) -> None:
        self._config = config
        self._keep = keep
        self._sites: dict[UUID, tuple[str, Advertise]] = {}
        self._bell = trio.Event()

    def told_to(self, client: str) -> list[str]:
        """What a client at this address is told, in order."""
        near: list[str] = []
        anywhere: list[str] = []
        for _, found in sorted(self._sites.values(), key=lambda one: one[0]):
            endpoints = found.endpoints_for(client)
            (anywhere if endpoints is found.endpoints else near).extend(endpoints)
        own = self._config().advertise.endpoints_for(client)
        return list(dict.fromkeys((*own, *near, *anywhere)))[:TOLD_MAX]

    async def wait_other(self, client: str, known: list[str]) -> list[str]:
        """What the client is to be told, once it is something else than `known`."""
        while (found := self.told_to(client)) == known:
            await self._bell.wait()
        return found

    def _ring(self) -> None:
        self._bell.set()
        self._bell = trio.Event()

    def hear(self, events: list[Event]) -> None:
        for event in events:
            if (
                type(event) is NodeChanged
                and event.node.state is NodeState.REVOKED
                and self._sites.pop(event.node.guid, None) is not None
            ):
                self._ring()

    def recall(self, kept: Iterable[tuple[Node, dict[str, Any]]]) -> None:
        """What sites said before this process began."""
        for node, told in kept:
            with suppress(*UNUSABLE):
                self._sites[node.guid] = node.name, _read(told)

    async def greet(self, node: Node, about: dict[str, Any]) -> dict[str, Any]:
        """A site said hello."""
        more = about.get("more")
        told = more.get("advertise") if isinstance(more, dict) else None
        try:
            found = _read(told)
        except UNUSABLE as error:
            log.warning("site_endpoints_unusable", site=node.name, reason=str(error))
            return {}
        if self._sites.get(node.guid) != (node.name, found):
            self._sites[node.guid] = node.name, found
            self._keep(NoteAdvertised(node.guid, _told(found)))
            self._ring()
        return {}

    async def own(self) -> dict[str, Any]:
        """What this site says of itself in its hello."""
        return {"advertise": _told(self._config().advertise)}


def _told(found: Advertise) -> dict[str, Any]:
    return {
        "endpoints": list(found.endpoints[:ENDPOINTS_MAX]),
        "to": [
            {
                "networks": [str(network) for network in one.networks],
                "endpoints": list(one.endpoints),
            }
            for one in found.to[:NETWORKS_MAX]
        ],
    }


def _read(told: Any) -> Advertise:
    """What a site told; nothing when it told nothing.

    Raises:
        Wrong, ValueError, TypeError, KeyError: it makes no sense.
    """
    if told is None:
        return Advertise()
    to = tuple(
        AdvertiseTo(
            networks=tuple(ip_network(text) for text in one["networks"][:NETWORKS_MAX]),
            endpoints=_endpoints(one["endpoints"]),
        )
        for one in told["to"][:NETWORKS_MAX]
    )
    return Advertise(endpoints=_endpoints(told["endpoints"]), to=to)


def _endpoints(texts: list[Any]) -> tuple[str, ...]:
    return tuple(endpoint(text) for text in texts[:ENDPOINTS_MAX])
