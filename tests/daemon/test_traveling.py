"""Jobs that wait at one site and are fetched elsewhere: whole daemons on loopback."""

from __future__ import annotations

import os

import pytest
import trio

from spoold.intake.upload import Upload
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.model.person import Owner
from spoold.model.release import NO_CHANGES
from spoold.net.address import Address
from spoold.site import wanting
from spoold.site.far_desk import FAR
from spoold.spool.store import NO_DOCUMENT, AttachDocument, NewDocument, OpenJob
from support.floors import CARD, LETTER, PATIENT, furnish, hand_in, listed, panel_of, submit
from support.houses import ANYWHERE, is_ours, jobs_of, joined, paper, wait_job
from support.money import PAGE
from support.waiting import wait_until

pytestmark = pytest.mark.slow

LARGE = b"%!PS\n" + os.urandom(3_000_000)


async def open_annex(start, hq, folder):
    """A site where jobs come in: its find-me printer `wander`, and `hall`, where an MFD stands."""
    annex = await start("annex", "site", **PATIENT, listen={"clear": ANYWHERE})
    await joined(hq, annex, "annex")
    (folder / "hall").mkdir()
    await hq.ask("printer.add", name="wander", release="find-me")
    await hq.ask("printer.add", name="hall", uri=(folder / "hall").as_uri())
    for name in ("wander", "hall"):
        await hq.ask("printer.set", name=name, owner="annex")
    await hq.ask("device.enrol", name="hall-panel", printers=["hall"])
    await wait_until(lambda: is_ours(annex, "wander") and is_ours(annex, "hall"))
    return annex


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """This machine has other work, too."""
    monkeypatch.setattr(wanting, "BRING_S", 20.0)


@pytest.fixture
async def trio_of(start, tmp_path):
    """hq, the library, where somebody stands at `desk`, and the annex, where the jobs are."""
    hq, library = await furnish(start, tmp_path, listen={"clear": ANYWHERE})
    return hq, library, await open_annex(start, hq, tmp_path)


@pytest.fixture
async def pair(start, tmp_path):
    """hq, where somebody stands at `front`, and the annex."""
    hq = await start("hq", **PATIENT)
    (tmp_path / "paper").mkdir()
    await hq.ask("printer.add", name="front", uri=(tmp_path / "paper").as_uri())
    await hq.ask("user.add", name="ada")
    await hq.ask("user.add-card", name="ada", card=CARD)
    await hq.ask("device.enrol", name="panel", printers=["front"])
    return hq, await open_annex(start, hq, tmp_path)


async def shown(panel, title, node="annex") -> dict:
    """The job as the panel shows it, once the record of its site has come."""
    with trio.fail_after(30):
        while True:
            for one in await listed(panel):
                if (one["title"], one["node"]) == (title, node):
                    return one


async def release(panel, *jobs, **more) -> list[str]:
    """What became of each: "", or the code of its refusal."""
    results = (await panel.at("release", jobs=list(jobs), **more))["results"]
    return [one["error"]["code"] if one["error"] else "" for one in results]


def hall(folder) -> list[bytes]:
    return [one.read_bytes() for one in (folder / "hall").iterdir()]


async def test_a_job_of_one_site_comes_out_at_another(trio_of, tmp_path):
    """It travels over the application server when it is released, once, and is over everywhere."""
    hq, library, annex = trio_of
    await wait_until(lambda: "roam" in annex.daemon._acceptance._printers)
    panel = await panel_of(library)
    for number, printer in enumerate(("wander", "roam")):  # the annex's own, and hq's
        title = f"by {printer}"
        job = await submit(annex, title, printer, copies=2)
        far = await shown(panel, title)
        assert (far["uuid"], far["node"], far["printer"]) == (job["uuid"], "annex", printer)
        assert (far["fits"], far["why"]) == (True, "")
        [result] = (await panel.at("release", jobs=[far["id"]]))["results"]
        assert (result["id"], result["state"], result["error"]) == (far["id"], "pending", None)
        assert (await wait_job(hq, title, "completed"))["uuid"] == job["uuid"]
        assert (await jobs_of(library, title))[0]["copies"] == 2
        assert (await wait_job(annex, title, "canceled"))["reasons"] == ["job-done-elsewhere"]
        assert paper(tmp_path) == [LETTER] * (number + 1)
    assert await listed(panel) == []


async def test_it_is_paid_once_and_goes_home_when_it_was_not(trio_of, tmp_path):
    """Nobody pays: it waits at hq then, where the annex finds it; it goes on there as it was."""
    hq, library, annex = trio_of
    await hq.ask("price.set", rates=[{"price": PAGE}], replace=True)
    for name in ("desk", "hall"):
        await hq.ask("printer.set", name=name, charging="on")
    job = await submit(annex, "dear", "wander", body=LETTER)
    panel = await panel_of(library)
    number = (await shown(panel, "dear"))["id"]
    assert await release(panel, number) == ["account-limit-reached"]
    [here] = await jobs_of(hq, "dear")
    assert (here["state"], here["uuid"]) == ("pending-held", job["uuid"])
    assert (await jobs_of(annex, "dear"))[0]["reasons"] == ["job-waits-elsewhere"]
    for words in ({"op": "job.release"}, {"op": "job.move", "to": "hall"}):
        with pytest.raises(OperationError, match="waits at the application server"):
            await annex.ask(**words, job=str(job["id"]))
    await wait_until(lambda: jobs_of(annex, "dear"), holds=lambda jobs: jobs[0]["message"])
    told = ["job-release-wait"]
    with trio.fail_after(30):
        while told == ["job-release-wait"]:
            [told] = [
                one["reasons"] for one in (await hq.ask("job.elsewhere", site="annex"))["jobs"]
            ]
    assert await release(panel, number) == ["account-limit-reached"]  # as who chooses who pays
    told = await annex.ask("job.explain", job=str(job["id"]))
    assert told["waits"].endswith("at a machine. It is job 1 at hq.")
    assert told["may_act"][:2] == ["operators: cancel", "the user ada, after a login: show"]
    stake = (await annex.ask("status"))["at_stake"]
    assert (stake["jobs"], stake["jobs_elsewhere"]) == (0, 1)
    adjusting = {"name": "user:ada", "amount": 10 * PAGE, "purse": "paid-in"}
    await hq.ask("account.adjust", **adjusting, reason="cash desk")
    panel = await panel_of(annex, "hall-panel")
    assert await release(panel, (await shown(panel, "dear", "hq"))["id"], copies=3) == [""]
    await wait_job(hq, "dear", "completed")
    assert (await wait_job(annex, "dear", "completed"))["copies"] == 3
    assert (hall(tmp_path), paper(tmp_path)) == ([LETTER], [])
    [charge] = (await hq.ask("account.charges", job=here["id"]))["charges"]
    assert (charge["state"], charge["total"]) == ("settled", 3 * PAGE)
    with pytest.raises(OperationError, match="nothing was charged"):
        await annex.ask("account.charges", job=job["id"])


async def test_nobody_gets_it_but_its_people(trio_of, tmp_path):
    """Not by the number of somebody else's job; and one site says nothing of another one's."""
    hq, library, annex = trio_of
    await hq.ask("user.add", name="bob")
    await hand_in(annex, "private", "wander", user="bob")
    job = await wait_job(annex, "private", "pending-held")
    bob, ada = [await hq.services.reader.user(name) for name in ("bob", "ada")]
    desk = (await hq.services.catalogue.look()).by_name["desk"]
    found = await wait_until(
        lambda: hq.services.far_desk.held(bob.guid, desk, FAR, 10), holds=lambda found: found.jobs
    )
    asked = {"person": str(ada.guid), "printer": str(desk.guid), "jobs": [found.jobs[0]["id"]]}
    [told] = (await library.line.call("site.release", asked, 10))["results"]
    assert told["error"]["code"] == "not-found"
    gave = {"job_uuid": job["uuid"]}
    assert (await library.line.call("site.gave", gave, 10))["job_id"] is None
    want = trio.Event()

    async def release_for_bob():
        results = await hq.services.far_desk.release(
            bob.guid, desk, asked["jobs"], "", NO_CHANGES, None
        )
        assert results[0]["error"] is None
        want.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(release_for_bob)
        told = {"error": "not-possible", "message": "no", "advice": ""}
        assert await library.line.call("site.wanted", {}, 10) == {"jobs": []}
        assert (await library.line.call("site.gave", gave | told, 10))["job_id"] is None
        await want.wait()
    await wait_job(annex, "private", "canceled")
    assert paper(tmp_path) == [LETTER]
    await hand_in(library, "done", "desk")  # which hq has not but by the library's records
    done = await wait_job(library, "done", "completed")
    answer = {"job_id": None, "state": None}
    with trio.fail_after(30):
        while answer["state"] is None:
            answer = await annex.line.call("site.gave", {"job_uuid": done["uuid"]}, 10)
    assert answer == {"job_id": None, "state": "completed"}


async def test_what_hq_had_handed_on_waits_there_again(pair, tmp_path):
    """It came by hq, which has its document still; what is deleted there is over at both."""
    hq, annex = pair
    for title in ("mine", "unwanted"):
        await hand_in(hq, title, "wander")
        await wait_job(annex, title, "pending-held")
    panel = await panel_of(hq)
    with_upload = annex.line.upload
    annex.line.upload = None  # nobody sends it
    mine, unwanted = [(await shown(panel, title))["id"] for title in ("mine", "unwanted")]
    while (told := await release(panel, mine)) == ["busy"]:
        pass  # hq was not told so far that the annex has it
    assert told == [""]
    annex.line.upload = with_upload
    await wait_job(hq, "mine", "completed")
    await wait_job(annex, "mine", "canceled")
    assert paper(tmp_path) == [LETTER]
    while (told := await release(panel, unwanted, sides="two-sided-long-edge")) == ["busy"]:
        pass
    assert told == ["not-possible"]  # that cannot be told to a folder
    [here] = await jobs_of(hq, "unwanted")
    assert here["reasons"] == ["job-release-wait"]
    await panel.at("delete", jobs=[here["id"]])
    assert (await wait_job(annex, "unwanted", "canceled"))["reasons"] == ["job-done-elsewhere"]


async def test_two_people_at_two_nodes_get_one_copy(pair, tmp_path):
    """One stands at hq, one at the annex, where the job is; whoever is second is told so."""
    hq, annex = pair
    here, there = await panel_of(hq), await panel_of(annex, "hall-panel")
    for number in range(4):
        job = await submit(annex, f"job {number}", "wander", LARGE)
        far = await shown(here, f"job {number}")
        told = {}

        async def fetch(panel, job_id, told=told):
            [told[panel]] = await release(panel, job_id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, here, far["id"])
            if number % 2:
                await trio.sleep(0.005 * number)
            nursery.start_soon(fetch, there, job["id"])
        assert sorted(told.values()) == ["", "not-possible"], told
        await wait_job(hq if told[here] == "" else annex, f"job {number}", "completed")
        if told[here] == "":
            await wait_job(annex, f"job {number}", "canceled")
    assert paper(tmp_path) + hall(tmp_path) == [LARGE] * 4


async def test_a_site_that_is_away_keeps_its_jobs(pair, tmp_path, monkeypatch):
    """One that does not answer is waited for shortly; one whose line is gone is not asked."""
    hq, annex = pair
    job = await submit(annex, "mine", "wander")
    panel = await panel_of(hq)
    far = await shown(panel, "mine")
    with monkeypatch.context() as patch:
        patch.setattr(hq.services.wanting, "_deadline_s", 0.05)
        patch.setattr(hq.services.sites, "tell", lambda *_: True)
        assert await release(panel, far["id"]) == ["busy"]
    assert (await jobs_of(annex, "mine"))[0]["reasons"] == ["job-release-wait"]
    await panel.at("change", job=far["id"], copies=2)
    assert (await jobs_of(annex, "mine"))[0]["copies"] == 2
    await submit(annex, "unwanted", "wander")
    unwanted = (await shown(panel, "unwanted"))["id"]
    [gone] = (await panel.at("delete", jobs=[unwanted]))["results"]
    assert (gone["id"], gone["state"]) == (unwanted, "canceled")
    assert (await jobs_of(annex, "unwanted"))[0]["reasons"] == ["job-canceled-by-user"]
    await annex.stop()
    far = await shown(panel, "mine")
    assert (far["fits"], far["why"]) == (False, "annex cannot be reached now: the job stays there.")
    [kept] = (await panel.at("delete", jobs=[far["id"]]))["results"]
    assert kept["error"]["code"] == "busy"
    assert await release(panel, far["id"]) == ["busy"]
    assert (await panel.at("release"))["results"] == []
    assert job["state"] == "pending-held"


@pytest.mark.parametrize("where", ["question", "document"])
async def test_a_line_that_is_cut_leaves_it_there(pair, tmp_path, monkeypatch, where):
    """The panel hears so at once; the job waits where it was, and is fetched by the next line."""
    hq, annex = pair
    await submit(annex, "mine", "wander", LARGE)
    panel = await panel_of(hq)
    far = await shown(panel, "mine")
    is_cut = trio.Event()

    async def cut(*args):
        is_cut.set()
        hq.services.sites.drop(annex.services.node_guid)
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        target = (hq.services.wanting, "gave") if where == "question" else (Upload, "write")
        patch.setattr(*target, cut)
        assert await release(panel, far["id"]) == ["busy"]
    assert is_cut.is_set()
    await wait_until(
        lambda: jobs_of(annex, "mine"),
        holds=lambda jobs: jobs[0]["reasons"] == ["job-release-wait"],
    )
    assert await jobs_of(hq, "mine") == []
    await wait_until(lambda: annex.line.state is LineState.UP)
    told = ["busy"]
    while told == ["busy"]:
        told = await release(panel, (await shown(panel, "mine"))["id"])
    assert told == [""]
    await wait_job(annex, "mine", "canceled")
    assert paper(tmp_path) == [LARGE]


@pytest.mark.parametrize("when", ["on its way", "there"])
async def test_what_is_canceled_at_the_site_comes_out_nowhere(pair, tmp_path, monkeypatch, when):
    """Its document stops on its way, and who waits for it hears why; or it is canceled at both."""
    hq, annex = pair
    job = await submit(annex, "mine", "wander", LARGE)
    panel = await panel_of(hq)
    far = await shown(panel, "mine")
    is_under_way = trio.Event()

    async def stand_still(*args):
        is_under_way.set()
        await trio.sleep_forever()

    async def cancel():
        with trio.fail_after(30):
            await is_under_way.wait()
        await annex.ask("job.cancel", job=job["id"])

    if when == "there":
        monkeypatch.setattr(wanting, "BRING_S", 0.0)
        await release(panel, far["id"])
        here = await wait_job(hq, "mine", "pending-held")
        await wait_until(lambda: jobs_of(annex, "mine"), holds=lambda jobs: jobs[0]["message"])
        await annex.ask("job.cancel", job=job["id"])
        await wait_job(hq, "mine", "canceled")
        assert await release(panel, here["id"]) == ["not-possible"]
    else:
        monkeypatch.setattr(Upload, "write", stand_still)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            assert await release(panel, far["id"]) == ["not-possible"]
        assert await jobs_of(hq, "mine") == []
    assert (await jobs_of(annex, "mine"))[0]["reasons"] == ["job-canceled-by-operator"]
    assert paper(tmp_path) == []


async def test_a_cancel_outlives_the_site_that_made_it(start, pair, tmp_path, monkeypatch):
    """Its line was down, and it was started anew: the application server hears by its record."""
    hq, annex = pair
    job = await submit(annex, "mine", "wander", LARGE)
    panel = await panel_of(hq)
    monkeypatch.setattr(wanting, "BRING_S", 0.0)
    await release(panel, (await shown(panel, "mine"))["id"])
    here = await wait_job(hq, "mine", "pending-held")
    await wait_until(lambda: jobs_of(annex, "mine"), holds=lambda jobs: jobs[0]["message"])
    port = hq.running.ports["mutual"]
    await hq.stop()
    await wait_until(lambda: annex.line.state is LineState.GONE)
    await annex.ask("job.cancel", job=job["id"])
    await annex.stop()
    hq = await start("hq", **PATIENT, listen={"mutual": (Address(*port),)})
    assert (await jobs_of(hq, "mine"))[0]["state"] == "pending-held"
    await start("annex", "site", **PATIENT)
    told = await wait_job(hq, "mine", "canceled")
    assert (told["id"], told["reasons"]) == (here["id"], ["job-canceled-by-operator"])
    assert paper(tmp_path) == []


async def submit_two(house, title, printer):
    """A job of two documents."""
    journal, now_us = house.services.journal, house.services.wall_clock()
    known = (await house.services.catalogue.look()).by_name[printer]
    sender = "address:127.0.0.1"
    opened = await journal.commit(
        OpenJob(known.id, Owner("ada"), sender, NO_DOCUMENT, now_us, title=title)
    )
    for number in (1, 2):
        document = NewDocument(len(LETTER), "blake3:00", "application/postscript", LETTER)
        attach = AttachDocument(opened.job_id, sender, document, now_us, last=number == 2)
        await journal.commit(attach)
    return await wait_job(house, title, "pending-held")


async def test_what_cannot_travel_stays_and_says_why(pair):
    """Nothing of it can be sent: nobody waits for it, and it is not given away for nothing."""
    hq, annex = pair
    await submit_two(annex, "both", "wander")
    panel = await panel_of(hq)
    far = await shown(panel, "both")
    [result] = (await panel.at("release", jobs=[far["id"]]))["results"]
    assert result["error"]["message"].startswith("annex: it has several documents")
    assert (await jobs_of(annex, "both"))[0]["reasons"] == ["job-release-wait"]


async def test_a_document_that_is_lost_ends_its_job_where_it_waited(pair, tmp_path):
    """As at a printer: the job is aborted, health tells of it, and who wanted it hears why."""
    hq, annex = pair
    await submit(annex, "mine", "wander", LARGE)
    for one in (tmp_path / "annex" / "documents").rglob("*"):
        if one.is_file():
            one.unlink()
    panel = await panel_of(hq)
    far = await shown(panel, "mine")
    [result] = (await panel.at("release", jobs=[far["id"]]))["results"]
    assert result["error"]["code"] == "not-possible"
    assert result["error"]["message"].startswith("annex: its document is missing or damaged")
    [kept] = await jobs_of(annex, "mine")
    assert kept["state"] == "aborted"
    assert kept["reasons"] == ["aborted-by-system", "document-damaged"]

    async def is_told():
        checks = (await annex.ask("status"))["checks"]
        return any(one["part"] == "jobs" and one["verdict"] == "warning" for one in checks)

    await wait_until(is_told, 30)
    await wait_until(lambda: listed(panel), holds=lambda jobs: not jobs)
