"""Somebody releases a job at a site that waits at its application server; one of them is killed."""

from __future__ import annotations

import pytest
import trio

from spoold.provider.blocking import BlockingProvider
from spoold.provider.endpoint import Tls
from spoold.simulate.mfd import Mfd
from support.nodes import HqAndSite, job_of, wait_job
from support.peers import wait_until

pytestmark = pytest.mark.slow(2)

LETTER = b"%!PS\nshowpage\n"
CARD = "04A1B2C3"
# Who is killed, and where, after the release was asked for; what the panel is told.
POINTS = [
    ("hq", "job-released", "in-doubt"),
    ("hq", "offered", None),
    ("library", "fetched-before-took", None),
]


async def release(site, ca, token) -> str | None:
    """At the site's MFD; the code of its refusal."""
    async with Mfd([site.ports["tls"]], Tls(ca), token=token).opened() as mfd:
        await mfd.login(card=CARD)
        [job] = await mfd.jobs()
        assert (job["node"], job["fits"]) == ("hq", True)
        [result] = await mfd.release([job["id"]])
        return result["error"] and result["error"]["code"]


def has_copy(site) -> bool:
    names = {one["name"] for one in site.call("device.enrolled", limit=100)["mfds"]}
    return "panel" in names


@pytest.mark.parametrize(("who", "point", "told"), POINTS)
def test_killed_while_a_job_comes_from_afar_it_comes_out_once(tmp_path, who, point, told):
    """Whoever dies, wherever: one sheet of paper, and the panel hears what is known."""
    patient = "[upstream]\nquestion_deadline_s = 10\n"
    with HqAndSite(tmp_path, "library", tls="library", library=patient) as both:
        hq, site = both.start_both()
        both.join()
        hq.call("printer.add", name="desk", uri=both.paper.as_uri())
        hq.call("printer.set", name="desk", owner="library")
        hq.call("printer.add", name="roam", release="find-me")
        ca, token = both.enrol_panel("desk", CARD)
        wait_until(lambda: has_copy(site))
        with BlockingProvider([f"127.0.0.1:{hq.port}"]) as provider:
            provider.submit(LETTER, printer="roam", title="once", user="ada")
        wait_job(hq, "once", "pending-held")
        both.end()
        _, site = both.start_both(who, point)
        wait_until(lambda: site.call("site.line")["line"] == "up")
        assert trio.run(release, site, ca, token) == told
        both.wait_killed(who)
        job = wait_job(both["hq"], "once", "completed")
        assert job_of(both["library"], "once")["uuid"] == job["uuid"]
        assert both.sheets() == [LETTER]
