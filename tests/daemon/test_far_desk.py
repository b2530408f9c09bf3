"""People at a site whose jobs wait at its application server: whole daemons on loopback."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import pytest
import trio

from spoold.daemon.config import Upstream
from spoold.intake.submission import Submission
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.model.person import Owner
from spoold.model.principal import Port, Principal, Role
from spoold.net.address import Address
from spoold.provider.client import Provider
from spoold.site.far_desk import FAR
from support.floors import LETTER, PATIENT, furnish, listed, panel_of, submit
from support.houses import ANYWHERE, jobs_of, joined, paper, wait_job
from support.money import PAGE
from support.panels import Hall
from support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
async def pair(start, tmp_path):
    return await furnish(start, tmp_path)


async def never(*args, **more):
    await trio.sleep_forever()


async def nothing(*args):
    return []


async def test_a_job_that_waits_at_hq_is_released_at_the_site(pair, tmp_path):
    """It is listed with those that are here, and its document travels when it is fetched."""
    hq, site = pair
    job = await submit(hq, "mine", copies=2)
    panel = await panel_of(site)
    [shown] = await listed(panel)
    assert (shown["id"], shown["uuid"]) == (FAR + job["id"], job["uuid"])
    assert (shown["node"], shown["printer"], shown["fits"]) == ("hq", "roam", True)
    assert await jobs_of(site, "mine") == []
    [result] = (await panel.at("release", jobs=[shown["id"]]))["results"]
    assert (result["id"], result["state"], result["error"]) == (shown["id"], "pending", None)
    await wait_job(hq, "mine", "completed")
    assert (await jobs_of(site, "mine"))[0]["uuid"] == job["uuid"]
    assert paper(tmp_path) == [LETTER]
    assert await listed(panel) == []
    [again] = (await panel.at("release", jobs=[shown["id"]]))["results"]
    assert again["error"]["code"] == "not-possible"
    told = await hq.ask("job.explain", job=str(job["id"]))
    assert any("panel" in str(one) and "ada" in str(one) for one in told["story"])


async def test_it_is_paid_for_once_where_it_waited(pair, tmp_path):
    """Reserved at the release, settled when the site has printed it; the site charges nothing."""
    hq, site = pair
    await hq.ask("price.set", rates=[{"price": PAGE}], replace=True)
    await hq.ask("printer.set", name="desk", charging="on")
    job = await submit(hq, "dear", copies=3)
    panel = await panel_of(site)
    [shown] = await listed(panel)
    [result] = (await panel.at("release", jobs=[shown["id"]]))["results"]
    assert result["error"]["code"] == "account-limit-reached"
    adjusting = {"name": "user:ada", "amount": 10 * PAGE, "purse": "paid-in"}
    await hq.ask("account.adjust", **adjusting, reason="cash desk")
    [shown] = await listed(panel)
    assert shown["price"] == 3 * PAGE
    [result] = (await panel.at("release", jobs=[shown["id"]]))["results"]
    assert (result["price"], result["error"]) == (3 * PAGE, None)
    await wait_job(hq, "dear", "completed")
    assert len(paper(tmp_path)) == 1
    [charge] = (await hq.ask("account.charges", job=job["id"]))["charges"]
    assert (charge["state"], charge["total"]) == ("settled", 3 * PAGE)
    [there] = await jobs_of(site, "dear")
    with pytest.raises(OperationError, match="nothing was charged"):
        await site.ask("account.charges", job=there["id"])


async def test_jobs_of_both_nodes_are_one_list(pair, tmp_path):
    """Page by page, and released together; what is not the person's is not there."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", release="hold")
    far = [await submit(hq, f"far {number}") for number in range(3)]
    host, port = hq.running.ports["clear"]
    async with Provider([f"{host}:{port}"], learns_endpoints=False) as provider:
        await provider.submit(LETTER, printer="roam", title="private", user="bob")
        for number in range(2):
            await provider.submit(LETTER, printer="desk", title=f"near {number}", user="ada")
    near = [await wait_job(site, f"near {number}", "pending-held") for number in range(2)]
    panel = await panel_of(site)
    found, after_id = [], 0
    while after_id is not None:
        answer = await panel.at("jobs", after_id=after_id, limit=2)
        found += answer["jobs"]
        after_id = answer["next_after_id"]
    expected = [one["id"] for one in near] + [FAR + one["id"] for one in far]
    assert [one["id"] for one in found] == expected
    mixed = [expected[3], expected[0], FAR + 4000]
    results = (await panel.at("release", jobs=mixed))["results"]
    assert [one["id"] for one in results] == mixed
    assert [one["error"] and one["error"]["code"] for one in results] == [None, None, "not-found"]
    results = (await panel.at("release"))["results"]
    assert [one["id"] for one in results] == [expected[1], expected[2], expected[4]]
    for title in ("near 0", "near 1", "far 0", "far 1", "far 2"):
        await wait_job(hq, title, "completed")
    assert len(paper(tmp_path)) == 5


async def test_a_far_job_is_changed_and_deleted_there(pair):
    """By its owner, as if it were here; hq has the last word."""
    hq, site = pair
    first, second = await submit(hq, "first"), await submit(hq, "second")
    panel = await panel_of(site)
    changed = await panel.at("change", job=FAR + first["id"], copies=4)
    assert (changed["id"], changed["error"]) == (FAR + first["id"], None)
    assert (await jobs_of(hq, "first"))[0]["copies"] == 4
    error = await panel.refusal(
        "change", session=panel.session, job=FAR + first["id"], sides="two-sided-long-edge"
    )
    assert error.code == "not-possible"
    [result] = (await panel.at("delete", jobs=[FAR + second["id"]]))["results"]
    assert (result["id"], result["state"]) == (FAR + second["id"], "canceled")
    assert [one["title"] for one in await listed(panel)] == ["first"]


async def test_a_slow_or_lost_upstream_keeps_nobody_waiting(start, tmp_path, monkeypatch):
    """After the deadline what is here is shown, and that more may wait elsewhere."""
    hq, site = await furnish(start, tmp_path, upstream=Upstream(question_deadline_s=0.3))
    job = await submit(hq, "mine")
    panel = await panel_of(site)
    with monkeypatch.context() as patch:
        patch.setattr(hq.services.desk, "held", never)
        with trio.fail_after(30):
            answer = await panel.at("jobs")
    assert (answer["jobs"], answer["unheard"]) == ([], ["hq"])
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)
    answer = await panel.at("jobs")
    assert (answer["jobs"], answer["unheard"]) == ([], ["hq"])
    answer = await panel.at("release")
    assert (answer["results"], answer["unheard"]) == ([], ["hq"])
    asked = {"jobs": [FAR + job["id"]]}
    for op in ("release", "delete"):
        [result] = (await panel.at(op, **asked))["results"]
        assert (result["id"], result["error"]["code"]) == (FAR + job["id"], "busy")
        assert "the job stays there" in result["error"]["message"]


async def test_a_find_me_printer_of_hq_takes_jobs_at_a_site_that_is_cut_off(start, tmp_path):
    """They wait where they came in, after a restart too, and come out there; hq hears of it."""
    hq, site = await furnish(start, tmp_path, listen={"clear": ANYWHERE})
    await panel_of(site)
    mutual = Address(*hq.running.ports["mutual"])
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)
    await submit(site, "first")
    await site.stop()
    site = await start("library", "site", **PATIENT, listen={"clear": ANYWHERE})
    await submit(site, "second")
    panel = await panel_of(site)
    assert [one["title"] for one in (await panel.at("jobs"))["jobs"]] == ["first", "second"]
    await panel.at("release")
    for title in ("first", "second"):
        await wait_job(site, title, "completed")
    assert paper(tmp_path) == [LETTER, LETTER]
    hq = await start("hq", **PATIENT, listen={"mutual": (mutual,)})
    await wait_until(
        lambda: hq.ask("job.elsewhere", site="library"),
        60,
        holds=lambda told: len(told["jobs"]) == 2,
    )


async def test_a_release_whose_answer_is_lost_comes_out_once(pair, tmp_path, monkeypatch):
    """The panel is told that nobody knows; after the line and the site are back it is printed."""
    hq, site = pair
    job = await submit(hq, "mine")
    panel = await panel_of(site)
    desk, guid = hq.services.desk, site.services.node_guid
    release = desk.release

    async def release_and_cut(*args):
        await release(*args)
        hq.services.sites.drop(guid)
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(desk, "release", release_and_cut)
        [result] = (await panel.at("release", jobs=[FAR + job["id"]]))["results"]
    assert result["error"]["code"] == "in-doubt"
    await wait_job(hq, "mine", "completed")
    assert await listed(panel) == []
    assert paper(tmp_path) == [LETTER]


async def test_a_release_that_does_not_get_there_soon_waits_again(pair, tmp_path, monkeypatch):
    """It was not offered, and nobody stands there any more: it is unpaid, and released anew."""
    hq, site = pair
    await hq.ask("price.set", rates=[{"price": PAGE}], replace=True)
    await hq.ask("printer.set", name="desk", charging="on")
    adjusting = {"name": "user:ada", "amount": 10 * PAGE, "purse": "paid-in"}
    await hq.ask("account.adjust", **adjusting, reason="cash desk")
    job = await submit(hq, "mine")
    panel = await panel_of(site)
    late = hq.services.handing.late
    with monkeypatch.context() as patch:
        patch.setattr(late, "soon_s", 0.05)
        patch.setattr(hq.services.handing, "offers", nothing)
        [result] = (await panel.at("release", jobs=[FAR + job["id"]]))["results"]
        assert (result["error"], result["price"]) == (None, PAGE)
        again = await wait_job(hq, "mine", "pending-held")
    assert (again["printer"], again["reasons"]) == ("roam", ["job-release-wait"])
    [charge] = (await hq.ask("account.charges", job=job["id"]))["charges"]
    assert charge["state"] == "canceled"
    assert [one["id"] for one in await listed(panel)] == [FAR + job["id"]]
    [result] = (await panel.at("release", jobs=[FAR + job["id"]]))["results"]
    assert result["error"] is None
    await wait_job(hq, "mine", "completed")
    assert paper(tmp_path) == [LETTER]


async def test_a_document_that_the_line_cuts_off_does_not_come_late(pair, tmp_path, monkeypatch):
    """It was offered: so the site is asked whether it has it, and it has not."""
    hq, site = pair
    job = await submit(hq, "mine")
    panel = await panel_of(site)
    handing = hq.services.handing
    is_cut = trio.Event()

    async def cut(*args):
        is_cut.set()
        monkeypatch.setattr(handing.late, "soon_s", -1.0)
        hq.services.sites.drop(site.services.node_guid)
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(handing, "piece", cut)
        [result] = (await panel.at("release", jobs=[FAR + job["id"]]))["results"]
        assert result["error"] is None
        await is_cut.wait()
    again = await wait_job(hq, "mine", "pending-held")
    assert (again["printer"], again["reasons"]) == ("roam", ["job-release-wait"])
    assert await jobs_of(site, "mine") == []
    assert paper(tmp_path) == []


async def test_a_job_that_was_released_waits_for_a_site_that_restarts(start, pair, tmp_path):
    """It is the site's printer's from the release on, and nobody else gets it."""
    hq, site = pair
    job = await submit(hq, "mine")
    panel = await panel_of(site)
    await hq.ask("printer.pause", name="desk")
    [result] = (await panel.at("release", jobs=[FAR + job["id"]]))["results"]
    assert result["error"]["code"] == "not-possible"
    await hq.ask("printer.resume", name="desk")
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1")  # nobody is there
    [result] = (await panel.at("release", jobs=[FAR + job["id"]]))["results"]
    assert result["error"] is None
    await site.stop()
    await hq.ask("printer.set", name="desk", uri=(tmp_path / "paper").as_uri())
    await start("library", "site", **PATIENT)
    await wait_job(hq, "mine", "completed")
    assert paper(tmp_path) == [LETTER]


async def test_a_page_on_a_phone_shows_and_releases_it_too(pair, tmp_path):
    """Of somebody who has logged in at the site and says where; one list, as at the machine."""
    hq, site = pair
    first, second = await submit(hq, "first"), await submit(hq, "second")
    ada = await site.services.reader.user("ada")
    who = Principal(f"user:{ada.guid}", Port.TLS, frozenset({Role.USER}), "ada")
    phone = partial(Hall(site).ask, principal=who)
    assert (await phone("release.held"))["jobs"] == []  # nobody said where
    shown = await phone("release.held", printer="desk")
    assert [one["id"] for one in shown["jobs"]] == [FAR + first["id"], FAR + second["id"]]
    assert (shown["jobs"][0]["node"], shown["unheard"]) == ("hq", [])
    changed = await phone("release.change", job=FAR + first["id"], copies=2, printer="desk")
    assert changed["error"] is None
    [gone] = (await phone("release.delete", jobs=[FAR + second["id"]]))["results"]
    assert gone["state"] == "canceled"
    [done] = (await phone("release.release", printer="desk"))["results"]
    assert (done["id"], done["error"]) == (FAR + first["id"], None)
    assert (await wait_job(hq, "first", "completed"))["copies"] == 2
    assert paper(tmp_path) == [LETTER]


async def test_two_people_at_two_nodes_get_one_copy(pair, tmp_path):
    """One stands at hq, one at the site; whoever is second is told so."""
    hq, site = pair
    (tmp_path / "front").mkdir()
    await hq.ask("printer.add", name="front", uri=(tmp_path / "front").as_uri())
    await hq.ask("device.enrol", name="front-panel", printers=["front"])
    here, there = await panel_of(hq, "front-panel"), await panel_of(site)
    for number in range(5):
        job = await submit(hq, f"job {number}")
        results = []

        async def release(panel, job_id, results=results):
            results += (await panel.at("release", jobs=[job_id]))["results"]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(release, here, job["id"])
            nursery.start_soon(release, there, FAR + job["id"])
        assert sorted(one["error"]["code"] if one["error"] else "" for one in results) == [
            "",
            "not-possible",
        ]
        await wait_job(hq, f"job {number}", "completed")
    assert len(paper(tmp_path)) + len(list((tmp_path / "front").iterdir())) == 5


async def test_a_site_asks_for_its_own_people_and_printers_alone(start, pair):
    """Neither another site's printer nor hq's, nor people who are not copied there."""
    hq, site = pair
    annex = await start("annex", "site", **PATIENT)
    await joined(hq, annex, "annex", groups=["annex"])
    job = await submit(hq, "mine")
    known = (await hq.services.catalogue.look()).by_name
    ada = await hq.services.reader.user("ada")
    asked = {"person": str(ada.guid), "printer": str(known["desk"].guid)}
    for op, more in {
        "site.held": {},
        "site.release": {"jobs": [job["id"]]},
        "site.change": {"job": job["id"], "copies": 2},
        "site.delete": {"jobs": [job["id"]]},
    }.items():
        given = asked | more
        if op == "site.delete":
            del given["printer"]
        with pytest.raises(OperationError, match="no such"):
            await annex.line.call(op, given, 10)
        if "printer" in given:
            given["printer"] = str(known["roam"].guid)
            with pytest.raises(OperationError, match="no such printer"):
                await site.line.call(op, given, 10)
    assert (await jobs_of(hq, "mine"))[0]["state"] == "pending-held"


async def test_what_waits_at_another_site_is_shown_and_fetched_there(start, pair, tmp_path):
    """At a site and at hq, by the records of the other one; nobody gets it from there."""
    hq, site = pair
    annex = await start("annex", "site", **PATIENT)
    await joined(hq, annex, "annex")
    (tmp_path / "there").mkdir()
    await hq.ask("printer.add", name="ward", uri=(tmp_path / "there").as_uri(), release="hold")
    await hq.ask("printer.set", name="ward", owner="annex")
    await hq.ask("device.enrol", name="hq-panel", printers=["desk"])
    host, port = hq.running.ports["clear"]
    async with Provider([f"{host}:{port}"], learns_endpoints=False) as provider:
        await provider.submit(LETTER, printer="ward", title="there", user="ada")
    await wait_job(annex, "there", "pending-held")
    near = await submit(hq, "near")
    for panel, shift in ((await panel_of(site), FAR), (await panel_of(hq, "hq-panel"), 0)):
        # Its record is to come.
        found = await wait_until(partial(listed, panel), holds=lambda found: len(found) == 2)
        assert [one["id"] for one in found] == [shift + near["id"], found[1]["id"]]
        there = found[1]
        assert (there["title"], there["node"], there["fits"]) == ("there", "annex", False)
        assert there["why"] == "it waits at annex: fetch it there."
        [result] = (await panel.at("release", jobs=[there["id"]]))["results"]
        assert (result["id"], result["error"]["code"]) == (there["id"], "not-possible")
        told = await panel.at("change", job=there["id"], copies=2)
        assert (told["id"], told["state"]) == (there["id"], "pending-held")
        first = await panel.at("jobs", limit=1)
        assert first["next_after_id"] == found[0]["id"]
        rest = await panel.at("jobs", after_id=first["next_after_id"])
        assert [one["id"] for one in rest["jobs"]] == [there["id"]]
    assert [one["id"] for one in (await panel.at("release"))["results"]] == [near["id"]]
    [mine] = (await annex.ask("release.held", user="ada"))["jobs"]
    assert (mine["title"], mine["copies"]) == ("there", 2)
    panel = await panel_of(site)
    [there] = await listed(panel)
    [gone] = (await panel.at("delete", jobs=[there["id"]]))["results"]
    assert (gone["id"], gone["state"]) == (there["id"], "canceled")
    await wait_job(annex, "there", "canceled")


async def test_a_job_that_is_at_both_is_shown_once(pair, tmp_path):
    """A provider that went to both: the one that is here is released, and the other one goes."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", release="hold")
    job = await submit(hq, "twice")
    one = Submission("desk", Owner("ada"), "provider:1", "frames", "", UUID(job["uuid"]), "twice")
    upload = await site.daemon._acceptance.begin(one)
    await upload.write(LETTER)
    await upload.commit()
    here = await wait_job(site, "twice", "pending-held")
    panel = await panel_of(site)
    assert [one["id"] for one in await listed(panel)] == [here["id"]]
    assert [one["id"] for one in (await panel.at("release"))["results"]] == [here["id"]]
    await wait_job(site, "twice", "completed")
    await wait_job(hq, "twice", "canceled")
    assert len(paper(tmp_path)) == 1
