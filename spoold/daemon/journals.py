"""How the sending of journals goes, as the monitor sees it."""

from __future__ import annotations

from spoold.daemon.operations.context import Services
from spoold.spool import nodes, received
from spoold.spool.changes.receiving import FORKED
from spoold.web.health import Journals


async def look(services: Services) -> Journals:
    """What this site has not sent yet, and what comes here from others."""
    uplink, reader = services.uplink, services.reader
    standings = await reader.look(received.standings)
    names = await reader.look(nodes.names)
    latest = received.latest(standings)
    told = {guid: names.get(guid, str(guid)) for guid in latest}
    forked = [told[guid] for guid, one in latest.items() if one.state == FORKED]
    return Journals(
        uplink_lag=None if uplink is None else uplink.lag,
        is_forked=uplink is not None and uplink.standing.state == FORKED,
        sites=tuple((told[guid], one.lag) for guid, one in latest.items()),
        forked=tuple(sorted(forked)),
        quarantined=sum(one.quarantined for one in standings),
    )
