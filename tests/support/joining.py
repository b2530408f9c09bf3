"""How nodes join: what their journals tell of it, and the table of who has no certificate yet."""

from __future__ import annotations


async def kinds(house):
    found = await house.ask("journal.read", **{"from": 1, "limit": 100})
    return [one["kind"] for one in found["records"]]


def joining_table(services):
    """`site.join` as somebody at the door asks it."""
    from spoold.daemon.operations import build_table
    from spoold.model.principal import Port, Principal, Role

    somebody = Principal("address:192.0.2.7", Port.JOIN, frozenset({Role.JOINER}))

    async def ask(request, token=""):
        table = build_table(services)
        return await table.call(somebody, "site.join", {"request": request, "token": token}, None)

    return ask
