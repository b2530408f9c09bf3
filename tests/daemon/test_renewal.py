"""A daemon that runs for years serves with certificates that count."""

from __future__ import annotations

import pytest

from spoold.daemon import authority, doors
from spoold.net.connect import TcpNetwork
from spoold.net.context import client_context
from support.houses import joined
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def shown(port):
    """What the server shows on a port."""
    stream = await TcpNetwork().connect_tls(
        "127.0.0.1", port, client_context(is_verified=False), timeout_s=5
    )
    try:
        return stream.peer_certificate_der()
    finally:
        stream.abort()


async def test_the_nodes_own_certificate_is_renewed_while_it_runs(start, monkeypatch):
    """On both ports, from the next handshake on; the line of a site goes on meanwhile."""
    monkeypatch.setattr(doors, "RENEW_INTERVAL_S", 1.0)
    monkeypatch.setattr(authority, "NODE_DAYS", 29)  # so that it is always due
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    connection = site.line._connection
    ports = [hq.running.ports[name][1] for name in ("tls", "mutual")]
    before = [await shown(port) for port in ports]
    assert before[0] == before[1]

    async def are_others():
        return all([await shown(port) not in before for port in ports])

    await wait_until(are_others, 30)
    assert site.line._connection is connection
    connection.abort()
    await wait_until(lambda: site.line._connection not in (None, connection))
