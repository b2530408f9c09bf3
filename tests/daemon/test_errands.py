"""Staff of the application server steer jobs that stand at a site: whole daemons on loopback."""

from __future__ import annotations

import pytest

from spoold.model.errors import OperationError
from support.floors import furnish, hand_in
from support.houses import ANYWHERE, jobs_of, wait_job
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def test_what_is_done_to_a_job_of_a_site_is_done_there(start, tmp_path):
    """By the words of the site, refusals too; one that cannot be reached does nothing."""
    hq, site = await furnish(start, tmp_path, listen={"clear": ANYWHERE})
    await wait_until(lambda: "roam" in site.daemon._acceptance._printers)
    await hand_in(site, "mine", "roam")
    mine = await wait_job(site, "mine", "pending-held")
    await wait_until(
        lambda: hq.ask("job.elsewhere", site="library"), holds=lambda told: told["jobs"]
    )
    name = f"library/{mine['id']}"
    [told] = (await hq.ask("job.set", job=name, copies=3, title="ours"))["results"]
    assert (told["id"], told["state"], told["ok"]) == (name, "pending-held", True)
    [job] = await jobs_of(site, "ours")
    assert job["copies"] == 3
    [told] = (await hq.ask("job.hold", job=mine["uuid"]))["results"]
    assert (told["id"], told["state"], told["ok"]) == (name, "pending-held", True)
    with pytest.raises(OperationError, match="not done for an application server"):
        await hq.services.errands.run(
            site.services.node_guid, "library", "job.settle", {"job": mine["uuid"]}, ""
        )
    [told] = (await hq.ask("job.cancel", job=name))["results"]
    assert told["state"] == "canceled"
    canceled = await wait_job(site, "ours", "canceled")
    assert canceled["reasons"] == ["job-canceled-by-operator"]
    with pytest.raises(OperationError, match=r"^library: "):
        await hq.ask("job.set", job=name, copies=2)
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    with pytest.raises(OperationError) as caught:
        await hq.ask("job.cancel", job=name)
    assert caught.value.code == "busy"
    assert f"`spoold job cancel {mine['id']}`" in caught.value.advice
