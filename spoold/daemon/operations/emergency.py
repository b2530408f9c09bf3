"""`site.emergency`: held printers print at once for a while, and who has decided so."""

from __future__ import annotations

from typing import Any

from spoold.daemon.operations.access import ADMINS, KNOWN, LOCAL, STAFF
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.spool import emergencies
from spoold.spool.emergencies import Emergency
from spoold.spool.store import SetEmergency

LASTS_S_MAX = 7 * 86_400


async def emergency_map(services: Services) -> dict[str, Any] | None:
    """The emergency that goes on, if there is one."""
    return as_map(await services.reader.look(emergencies.find), services.wall_clock())


def as_map(found: Emergency | None, now_us: int) -> dict[str, Any] | None:
    """What is told of an emergency; None: it does not go on."""
    if found is None or not found.since_us <= now_us < found.until_us:
        return None
    return {
        "since_us": found.since_us,
        "until_us": found.until_us,
        "actor": found.actor,
        "reason": found.reason[:200],
    }


async def show(call: Call) -> dict[str, Any]:
    return {"emergency": await emergency_map(call.services)}


async def change(call: Call) -> dict[str, Any]:
    services, until_us = call.services, call.args["until_us"]
    now_us = services.wall_clock()
    if until_us is not None and not now_us < until_us <= now_us + LASTS_S_MAX * 1_000_000:
        raise OperationError(
            "bad-request",
            "an emergency ends at a time to come, within 7 days.",
            "Prolong it when it is not over by then.",
        )
    asked = SetEmergency(until_us, now_us, call.args["reason"], call.actor)
    await services.journal.commit(asked)
    return await show(call)


OPERATIONS = (
    Operation("site.emergency", (), STAFF, KNOWN, show, "Whether held printers print at once."),
    Operation(
        "site.set-emergency",
        (
            Argument("until_us", (int,), summary="UTC µs; without it there is none any more."),
            Argument("reason", default="", most=200),
        ),
        ADMINS,
        LOCAL,
        change,
        "Let held printers print at once for a while.",
    ),
)
