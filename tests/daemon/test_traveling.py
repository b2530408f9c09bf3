"""Jobs that wait at one site and are fetched at another one: whole daemons on loopback."""

from __future__ import annotations

import pytest

from support.floors import LETTER, PATIENT, furnish, listed, panel_of, submit
from support.houses import ANYWHERE, is_ours, jobs_of, joined, paper, wait_job, wait_until

pytestmark = pytest.mark.slow


async def open_annex(start, hq):
    """A site with a find-me printer of its own, `wander`, where jobs come in."""
    annex = await start("annex", "site", **PATIENT, listen={"clear": ANYWHERE})
    await joined(hq, annex, "annex")
    await hq.ask("printer.add", name="wander", release="find-me")
    await hq.ask("printer.set", name="wander", owner="annex")
    await wait_until(lambda: is_ours(annex, "wander"))
    return annex


@pytest.fixture
async def trio_of(start, tmp_path):
    """hq, the library, where somebody stands at `desk`, and the annex, where the jobs are."""
    hq, library = await furnish(start, tmp_path)
    return hq, library, await open_annex(start, hq)


async def shown(panel, title) -> dict:
    """The job as the panel shows it, once the record of its site has come."""
    found: list[dict] = []

    while not found:
        found = [one for one in await listed(panel) if one["title"] == title]
    return found[0]


async def test_a_job_of_one_site_comes_out_at_another(trio_of, tmp_path):
    """It travels over the application server when it is released, once, and is over everywhere."""
    hq, library, annex = trio_of
    job = await submit(annex, "mine", "wander", copies=2)
    panel = await panel_of(library)
    far = await shown(panel, "mine")
    assert (far["uuid"], far["node"], far["printer"]) == (job["uuid"], "annex", "wander")
    assert (far["fits"], far["why"]) == (True, "")
    [result] = (await panel.at("release", jobs=[far["id"]]))["results"]
    assert (result["id"], result["state"], result["error"]) == (far["id"], "pending", None)
    assert (await wait_job(hq, "mine", "completed"))["uuid"] == job["uuid"]
    assert (await jobs_of(library, "mine"))[0]["copies"] == 2
    assert (await wait_job(annex, "mine", "canceled"))["reasons"] == ["job-done-elsewhere"]
    assert paper(tmp_path) == [LETTER]
    assert await listed(panel) == []
