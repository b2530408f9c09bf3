"""A site and its application server as processes: killed anywhere, each job is printed once."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

from spoold.provider.blocking import BlockingProvider
from support.nodes import config_of, job_of, wait_job
from support.peers import wait_until
from support.ports import own_port
from support.process import running

pytestmark = pytest.mark.slow

LARGE = b"%!PS\n" + b"0123456789abcdef" * 100_000
SITE = config_of("library").replace('name = "library"', 'name = "library"\nrole = "site"')


def has_copy(site) -> bool:
    found = site.call("printer.list", limit=100)["printers"]
    return any(one["name"] == "desk" and not one["owner"] for one in found)


# Who is killed, and where, while a job is on its way to the printer of the site.
POINTS = [
    ("hq", "offered", 1),
    ("library", "fetched-before-took", 1),
    ("library", "document-before-rename", 1),
    ("library", "document-after-rename", 1),
    ("library", "attempt-after-mark", 1),
]


@pytest.fixture
def stack():
    with ExitStack() as found:
        yield found


@pytest.mark.parametrize(("who", "point", "count"), POINTS)
def test_killed_while_a_site_fetches_a_job_it_is_printed_once(tmp_path, stack, who, point, count):
    """Whichever node dies, wherever: one job at the site, one on paper, completed at both."""
    folders = {name: tmp_path / name for name in ("hq", "library", "paper")}
    for folder in folders.values():
        folder.mkdir()
    port = stack.enter_context(own_port())
    configs = {"hq": config_of("hq", port), "library": SITE}
    with ExitStack() as first:
        hq = first.enter_context(running(folders["hq"], config=configs["hq"]))
        site = first.enter_context(running(folders["library"], config=SITE))
        token = hq.call("site.invite", name="library", is_approved=True)["token"]
        site.call("site.enter", server=f"127.0.0.1:{port}", token=token)
        hq.call("printer.add", name="desk", uri=folders["paper"].as_uri())
        hq.call("printer.set", name="desk", owner="library")
        wait_until(lambda: has_copy(site))
        site.end()
        with BlockingProvider([f"127.0.0.1:{hq.port}"]) as provider:
            provider.submit(LARGE, printer="desk", title="once", user="ada")
        hq.end()
    nodes = {
        name: stack.enter_context(
            running(
                folders[name],
                f"{point}:{count}" if name == who else "",
                config=configs[name],
            )
        )
        for name in ("hq", "library")
    }
    wait_until(lambda: nodes[who].process.poll() is not None)
    assert nodes[who].process.returncode == -signal.SIGKILL
    nodes[who] = stack.enter_context(running(folders[who], config=configs[who]))
    job = wait_job(nodes["hq"], "once", "completed")
    assert job_of(nodes["library"], "once")["uuid"] == job["uuid"]
    assert [one.read_bytes() for one in folders["paper"].iterdir()] == [LARGE]
