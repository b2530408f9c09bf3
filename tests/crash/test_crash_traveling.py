"""Somebody releases at the application server what waits at a site; one of them is killed."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest
import trio

from spoold.provider.blocking import BlockingProvider
from spoold.provider.course import Lost
from spoold.provider.endpoint import Tls
from spoold.simulate.mfd import Mfd
from support.nodes import config_of, wait_job
from support.peers import wait_until
from support.ports import own_port
from support.process import running

pytestmark = pytest.mark.slow

LETTER = b"%!PS\nshowpage\n"
CARD = "04A1B2C3"
# Who is killed, and where, once the release was asked for; what the panel is told.
POINTS = [
    ("annex", "let-go", "busy"),
    ("annex", "given-before-word", "busy"),
    ("hq", "given-before-answer", "lost"),
]
SITE = (
    config_of("annex").replace('name = "annex"', 'name = "annex"\nrole = "site"')
    + "[upstream]\nretry_max_s = 0.5\n"
)


def hq_of(port: int) -> str:
    config = config_of("hq", port).replace("tls = []", 'tls = ["127.0.0.1:0"]')
    return config + "[upstream]\nquestion_deadline_s = 10\n"


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


@pytest.fixture
def stack():
    with ExitStack() as found:
        yield found


@pytest.mark.parametrize(("who", "point", "told"), POINTS)
def test_killed_while_a_job_travels_it_has_one_home(tmp_path, stack, who, point, told):
    """Whoever dies, wherever: it waits at one of them then, and comes out once."""
    folders = {name: tmp_path / name for name in ("hq", "annex", "paper")}
    for folder in folders.values():
        folder.mkdir()
    port = stack.enter_context(own_port())
    configs = {"hq": hq_of(port), "annex": SITE}
    nodes = {
        name: stack.enter_context(
            running(folders[name], f"{point}:1" if name == who else "", config=configs[name])
        )
        for name in configs
    }
    hq, annex = nodes["hq"], nodes["annex"]
    token = hq.call("site.invite", name="annex", is_approved=True)["token"]
    annex.call("site.enter", server=f"127.0.0.1:{port}", token=token)
    hq.call("printer.add", name="front", uri=folders["paper"].as_uri())
    hq.call("printer.add", name="wander", release="find-me")
    hq.call("printer.set", name="wander", owner="annex")
    hq.call("user.add", name="ada")
    hq.call("user.add-card", name="ada", card=CARD)
    panel = hq.call("device.enrol", name="panel", printers=["front"], credential="token")
    ca = tmp_path / "ca.pem"
    ca.write_text(hq.call("node.ca")["pem"])
    wait_until(lambda: owns_find_me(annex))
    with BlockingProvider([f"127.0.0.1:{annex.port}"]) as provider:
        provider.submit(LETTER, printer="wander", title="once", user="ada")
    wait_job(annex, "once", "pending-held")
    assert trio.run(fetch, hq, ca, panel["token"]) == told
    wait_until(lambda: nodes[who].process.poll() is not None)
    assert nodes[who].process.returncode == -signal.SIGKILL
    nodes[who] = stack.enter_context(running(folders[who], config=configs[who]))
    hq, annex = nodes["hq"], nodes["annex"]
    wait_job(hq, "once", "pending-held")  # whoever had let go of it brings it here
    assert trio.run(fetch, hq, ca, panel["token"]) == "done"
    job = wait_job(hq, "once", "completed")
    assert wait_job(annex, "once", "canceled")["uuid"] == job["uuid"]
    assert [one.read_bytes() for one in folders["paper"].iterdir()] == [LETTER]
