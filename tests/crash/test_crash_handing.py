"""A site and its application server as processes: killed anywhere, each job is printed once."""

from __future__ import annotations

import pytest

from spoold.provider.blocking import BlockingProvider
from support.nodes import HqAndSite, job_of, wait_job
from support.peers import wait_until

pytestmark = pytest.mark.slow(2)

LARGE = b"%!PS\n" + b"0123456789abcdef" * 100_000


def has_copy(site) -> bool:
    found = site.call("printer.list", limit=100)["printers"]
    return any(one["name"] == "desk" and not one["owner"] for one in found)


# Who is killed, and where, while a job is on its way to the printer of the site.
POINTS = [
    ("hq", "offered"),
    ("library", "fetched-before-took"),
    ("library", "document-before-rename"),
    ("library", "document-after-rename"),
    ("library", "attempt-after-mark"),
]


@pytest.mark.parametrize(("who", "point"), POINTS)
def test_killed_while_a_site_fetches_a_job_it_is_printed_once(tmp_path, who, point):
    """Whichever node dies, wherever: one job at the site, one on paper, completed at both."""
    with HqAndSite(tmp_path, "library", tls="") as both:
        hq, site = both.start_both()
        both.join()
        hq.call("printer.add", name="desk", uri=both.paper.as_uri())
        hq.call("printer.set", name="desk", owner="library")
        wait_until(lambda: has_copy(site))
        site.end()
        with BlockingProvider([f"127.0.0.1:{hq.port}"]) as provider:
            provider.submit(LARGE, printer="desk", title="once", user="ada")
        hq.end()
        both.start_both(who, point)
        both.wait_killed(who)
        job = wait_job(both["hq"], "once", "completed")
        assert job_of(both["library"], "once")["uuid"] == job["uuid"]
        assert both.sheets() == [LARGE]
