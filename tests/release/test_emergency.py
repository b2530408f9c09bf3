"""An emergency: what is released by it, and what is told of the rest."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs

from spoold.daemon.operations.watch import Catalogue
from spoold.model.release import Charging, ReleaseMode
from spoold.release.emergency import Emergencies
from spoold.spool.emergencies import find
from spoold.spool.store import SetEmergency
from support.waiting import wait_until

HOUR_US = 3_600_000_000


async def test_what_nobody_pays_for_is_told_of_once_however_often_it_is_tried(node):
    """It is tried with each job that comes, and every few seconds, as long as that lasts."""
    spool, now_us = node.spool, node.spool.wall_clock()
    printer = await spool.add_printer(release=ReleaseMode.HOLD, charging=Charging.ON)
    catalogue = Catalogue(spool.journal, spool.reader)
    emergencies = Emergencies(
        spool.journal, spool.reader, catalogue, node.releases, spool.wall_clock
    )
    uuids = [str((await spool.add_job(printer, owner="stranger")).uuid)]

    def told(event: str) -> list[str]:
        return [one.get("job_uuid", "") for one in logs if one["event"] == event]

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(emergencies.run)
            await spool.journal.commit(SetEmergency(now_us + HOUR_US, now_us, "no readers", "ada"))
            for _ in range(2):
                await wait_until(lambda: told("job_not_released") == uuids)
                uuids.append(str((await spool.add_job(printer, owner="stranger")).uuid))
            await wait_until(lambda: told("job_not_released") == uuids)
            await spool.journal.commit(SetEmergency(None, now_us, "", "ada"))
            await wait_until(lambda: told("emergency_ended"))
            nursery.cancel_scope.cancel()
    assert told("emergency_began") == told("emergency_ended") == [""]
    [reason] = {one["reason"] for one in logs if one["event"] == "job_not_released"}
    assert "nobody here is called stranger" in reason


async def test_what_was_set_by_a_clock_that_was_ahead_ends_when_that_is_set_right(node):
    """Also where it only went on: else it would last as much longer as the clock was wrong."""
    spool, begun_us = node.spool, node.spool.wall_clock()
    catalogue = Catalogue(spool.journal, spool.reader)
    one = Emergencies(
        spool.journal, spool.reader, catalogue, node.releases, lambda: begun_us + HOUR_US // 2
    )
    async with trio.open_nursery() as nursery:
        for ahead_us in (0, 240 * HOUR_US):
            now_us = begun_us + ahead_us
            await spool.journal.commit(SetEmergency(now_us + HOUR_US, now_us, "no readers", "ada"))
        nursery.start_soon(one.run)
        await wait_until(lambda: spool.reader.look(find), holds=lambda found: found is None)
        nursery.cancel_scope.cancel()
