"""Somebody releases a job at a site that waits at its application server; one of them is killed."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest
import trio

from spoold.provider.blocking import BlockingProvider
from spoold.provider.endpoint import Tls
from spoold.simulate.mfd import Mfd
from support.nodes import config_of, job_of, wait_job
from support.peers import wait_until
from support.ports import own_port
from support.process import running

pytestmark = pytest.mark.slow

LETTER = b"%!PS\nshowpage\n"
CARD = "04A1B2C3"
SITE = (
    config_of("library")
    .replace('name = "library"', 'name = "library"\nrole = "site"')
    .replace("tls = []", 'tls = ["127.0.0.1:0"]')
) + "[upstream]\nquestion_deadline_s = 10\n"

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


@pytest.fixture
def stack():
    with ExitStack() as found:
        yield found


@pytest.mark.parametrize(("who", "point", "told"), POINTS)
def test_killed_while_a_job_comes_from_afar_it_comes_out_once(tmp_path, stack, who, point, told):
    """Whoever dies, wherever: one sheet of paper, and the panel hears what is known."""
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
        hq.call("printer.add", name="roam", release="find-me")
        hq.call("user.add", name="ada")
        hq.call("user.add-card", name="ada", card=CARD)
        panel = hq.call("device.enrol", name="panel", printers=["desk"], credential="token")
        ca = tmp_path / "ca.pem"
        ca.write_text(hq.call("node.ca")["pem"])
        wait_until(lambda: has_copy(site))
        with BlockingProvider([f"127.0.0.1:{hq.port}"]) as provider:
            provider.submit(LETTER, printer="roam", title="once", user="ada")
        wait_job(hq, "once", "pending-held")
        site.end()
        hq.end()
    nodes = {
        name: stack.enter_context(
            running(folders[name], f"{point}:1" if name == who else "", config=configs[name])
        )
        for name in ("hq", "library")
    }
    site = nodes["library"]
    wait_until(lambda: site.call("site.line")["line"] == "up")
    assert trio.run(release, site, ca, panel["token"]) == told
    wait_until(lambda: nodes[who].process.poll() is not None)
    assert nodes[who].process.returncode == -signal.SIGKILL
    nodes[who] = stack.enter_context(running(folders[who], config=configs[who]))
    job = wait_job(nodes["hq"], "once", "completed")
    assert job_of(nodes["library"], "once")["uuid"] == job["uuid"]
    assert [one.read_bytes() for one in folders["paper"].iterdir()] == [LETTER]
