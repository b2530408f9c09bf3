"""Where held jobs come out: at printers of this node, and of those that it hands jobs to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.release import ReleaseMode
from spoold.release.releasing import Releaser
from spoold.spool.store import PutPrinter
from support.sites import SITE


async def test_what_waits_for_a_printer_that_went_to_another_node_is_not_released_there(node):
    """Nobody would fetch it: at the machine it says so, and operators are told the same."""
    spool = node.spool
    await node.purses.person("ada")
    ada = await spool.reader.user("ada")
    printer = await spool.add_printer(release=ReleaseMode.HOLD)
    job_id = (await spool.add_job(printer, owner="ada")).job_id
    printer = replace(printer, owner=SITE)
    await spool.journal.commit(PutPrinter(printer, spool.wall_clock()))
    [shown] = await node.desk.held(ada, printer)
    assert (shown.fits, "belongs to another node" in shown.why) == (False, True)
    job = await spool.reader.job(job_id)
    with pytest.raises(OperationError, match="job move"):
        await node.releases.release(job, printer, Releaser("uid:0"))

    node.releases.hands_on = lambda owner: owner == SITE
    assert (await node.desk.held(ada, printer))[0].fits
    done = await node.releases.release(job, printer, Releaser("uid:0"))
    assert done.released.state is JobState.PENDING
