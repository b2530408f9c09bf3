"""`/livez`, `/readyz`, `/healthz` and `/metrics`: who may see what, and answers that are ready.

Whether the node is well is for everybody, and no more than that: a word for each of its parts.
Numbers, names and advice are for staff after a login. Metrics are for those who are named: staff,
and the networks of the configuration; everybody else is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

from spoold import __version__
from spoold.intake.exchange import Exchange, NeedsLogin
from spoold.model.principal import Port, Principal, Role
from spoold.web import health
from spoold.web.health import Check, Part, Verdict

STAFF = frozenset({Role.ADMIN, Role.OPERATOR, Role.HELP_DESK})
STALE_S = 60.0  # a node that has not looked at itself for so long is not well
PLAIN = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
HEALTH: dict[str, Iterable[Part]] = {
    "/livez": health.LIVE,
    "/readyz": health.READY,
    "/healthz": tuple(Part),
}
METRICS = "/metrics"

Networks = Iterable[IPv4Network | IPv6Network]


class Watched(Protocol):
    """What the node saw of itself."""

    @property
    def checks(self) -> Sequence[Check]: ...
    @property
    def age_s(self) -> float: ...


class Scraped(Protocol):
    """The metrics, as a scraper that accepts these types takes them: type and bytes."""

    async def render(self, accept: str) -> tuple[str, bytes]: ...


class Pages:
    """An `Api` of the HTTP server."""

    def __init__(
        self, watched: Watched, metrics: Scraped, may_scrape: Callable[[], Networks]
    ) -> None:
        self._watched = watched
        self._metrics = metrics
        self._may_scrape = may_scrape
        self._ready: dict[tuple[str, bool], tuple[Sequence[Check], int, bytes]] = {}

    def speaks(self, path: str) -> bool:
        return path in HEALTH or path == METRICS

    async def serve(self, exchange: Exchange) -> None:
        """Answer.

        Raises:
            NeedsLogin: after one it may be answered.
        """
        request = exchange.request
        if request.method not in ("GET", "HEAD"):
            body = _json({"error": "only GET and HEAD are answered here"})
            await exchange.respond(405, [*PLAIN, ("Allow", "GET, HEAD")], body)
        elif request.path == METRICS:
            await self._scrape(exchange)
        else:
            status, body = self._health(request.path, is_staff(exchange.principal))
            await exchange.respond(status, PLAIN, body)

    def _health(self, path: str, is_detailed: bool) -> tuple[int, bytes]:
        """Status and body; made once for each look of the node at itself."""
        checks = self._watched.checks
        if self._watched.age_s > STALE_S:
            told = {"status": Verdict.FAILED, "error": "spoold has not looked at itself lately"}
            return 503, _json(told)
        ready = self._ready.get((path, is_detailed))
        if ready is None or ready[0] is not checks:
            ready = (checks, *_render(checks, HEALTH[path], is_detailed))
            self._ready[path, is_detailed] = ready
        return ready[1], ready[2]

    async def _scrape(self, exchange: Exchange) -> None:
        principal = exchange.principal
        if not is_staff(principal) and not _is_in(principal.address, self._may_scrape()):
            if principal.port is Port.TLS:
                raise NeedsLogin
            advice = "Log in over TLS, or ask for your network in [metrics] allow."
            body = _json({"error": "metrics are not for you here", "advice": advice})
            await exchange.respond(403, PLAIN, body)
            return
        media_type, body = await self._metrics.render(exchange.request.header("accept") or "")
        headers = [("Content-Type", media_type), ("Cache-Control", "no-store")]
        await exchange.respond(200, headers, body)


def is_staff(principal: Principal) -> bool:
    """Whether somebody has shown to be staff, at a door where that can be shown."""
    is_shown = principal.port in (Port.TLS, Port.MUTUAL) and bool(principal.name)
    return is_shown and not STAFF.isdisjoint(principal.roles)


def _render(checks: Sequence[Check], parts: Iterable[Part], is_detailed: bool) -> tuple[int, bytes]:
    wanted = frozenset(parts)
    verdict = health.worst(checks, wanted)
    told: dict[str, object] = {"status": verdict, "version": __version__}
    shown = [check for check in checks if check.part in wanted]
    if is_detailed:
        told["checks"] = health.as_maps(shown)
    else:
        told["checks"] = {check.part: check.verdict for check in shown}
    return (503 if verdict is Verdict.FAILED else 200), _json(told)


def _is_in(host: str, networks: Networks) -> bool:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
