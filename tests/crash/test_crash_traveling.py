"""Somebody releases at the application server what waits at a site; one of them is killed."""

from __future__ import annotations

import pytest
import trio

from spoold.provider.blocking import BlockingProvider
from spoold.provider.course import Lost
from spoold.provider.endpoint import Tls
from spoold.simulate.mfd import Mfd
from support.nodes import HqAndSite, wait_job
from support.peers import wait_until

pytestmark = pytest.mark.slow(2)

LETTER = b"%!PS\nshowpage\n"
CARD = "04A1B2C3"
# Who is killed, and where, once the release was asked for; what the panel is told.
POINTS = [
    ("annex", "let-go", "busy"),
    ("annex", "given-before-word", "busy"),
    ("hq", "given-before-answer", "lost"),
]
PATIENT = "[upstream]\nquestion_deadline_s = 10\n"
EAGER = "[upstream]\nretry_max_s = 0.5\n"


async def fetch(hq, ca, token) -> str:
    """Release at the panel what waits; what became of it: "done", a refusal, or "lost"."""
    async with Mfd([hq.ports["tls"]], Tls(ca), token=token).opened() as mfd:
        await mfd.login(card=CARD)
        jobs: list[dict] = []
        with trio.fail_after(60):
            while not jobs or not jobs[0]["fits"]:
                jobs = await mfd.jobs()  # the annex has to tell of it
        try:
            [result] = await mfd.release([jobs[0]["id"]])
        except Lost:
            return "lost"
        return result["error"]["code"] if result["error"] else "done"


def owns_find_me(site) -> bool:
    printers = site.call("printer.list")["printers"]
    return any(one["name"] == "wander" and not one["owner"] for one in printers)


@pytest.mark.parametrize(("who", "point", "told"), POINTS)
def test_killed_while_a_job_travels_it_has_one_home(tmp_path, who, point, told):
    """Whoever dies, wherever: it waits at one of them then, and comes out once."""
    with HqAndSite(tmp_path, "annex", tls="hq", hq=PATIENT, annex=EAGER) as both:
        hq, annex = both.start_both(who, point)
        both.join()
        hq.call("printer.add", name="front", uri=both.paper.as_uri())
        hq.call("printer.add", name="wander", release="find-me")
        hq.call("printer.set", name="wander", owner="annex")
        ca, token = both.enrol_panel("front", CARD)
        wait_until(lambda: owns_find_me(annex))
        with BlockingProvider([f"127.0.0.1:{annex.port}"]) as provider:
            provider.submit(LETTER, printer="wander", title="once", user="ada")
        wait_job(annex, "once", "pending-held")
        assert trio.run(fetch, hq, ca, token) == told
        both.wait_killed(who)
        hq, annex = both["hq"], both["annex"]
        wait_job(hq, "once", "pending-held")  # whoever had let go of it brings it here
        assert trio.run(fetch, hq, ca, token) == "done"
        job = wait_job(hq, "once", "completed")
        assert wait_job(annex, "once", "canceled")["uuid"] == job["uuid"]
        assert both.sheets() == [LETTER]
