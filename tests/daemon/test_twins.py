"""One uuid at a site and at its application server: what came out at one goes at the other."""

from __future__ import annotations

import shutil
from uuid import UUID, uuid4

import pytest
import trio

from spoold.intake.submission import Submission
from spoold.model.person import Owner
from spoold.model.record import Kind
from spoold.spool import leases, remote_jobs, remote_views
from spoold.spool.store import AddRecord
from support.houses import give_away, joined, paper, wait_job
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def put(house, printer: str, title: str, uuid: UUID) -> None:
    one = Submission(printer, Owner("ada"), "provider:1", "frames", "", uuid, title)
    upload = await house.daemon._acceptance.begin(one)
    await upload.write(b"%!PS\n")
    await upload.commit()


async def put_at_both(hq, site) -> None:
    """A job `twin` waits at both, for its owner at any machine."""
    await hq.ask("printer.add", name="roam", release="find-me")
    await wait_until(lambda: "roam" in site.daemon._acceptance._printers)
    uuid = uuid4()
    for house in (site, hq):
        await put(house, "roam", "twin", uuid)


async def until_heard(hq, title: str, state: str) -> None:
    """The application server knows from the site's records how the job is there."""
    with trio.fail_after(30):
        while True:
            page = await hq.ask("job.elsewhere", site="library")
            if [one["state"] for one in page["jobs"] if one["title"] == title] == [state]:
                return
            await trio.sleep(0.05)


@pytest.fixture
async def pair(start, tmp_path):
    """The site owns `desk` and keeps its jobs; hq prints at `front` at once."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await give_away(hq, site, tmp_path)
    await hq.ask("printer.set", name="desk", release="hold")
    await wait_until(
        site.services.catalogue.look, holds=lambda found: found.by_name["desk"].release == "hold"
    )
    (tmp_path / "front").mkdir()
    await hq.ask("printer.add", name="front", uri=(tmp_path / "front").as_uri())
    return hq, site


async def test_what_was_printed_at_hq_is_canceled_at_the_site(pair, tmp_path):
    """While the line is up: at once; nothing else that waits there goes."""
    hq, site = pair
    uuid = uuid4()
    await put(site, "desk", "twin", uuid)
    await put(site, "desk", "other", uuid4())
    await until_heard(hq, "twin", "pending-held")
    await put(hq, "front", "twin", uuid)
    await wait_job(hq, "twin", "completed")
    job = await wait_job(site, "twin", "canceled")
    assert job["reasons"] == ["job-done-elsewhere"]
    await until_heard(hq, "twin", "canceled")
    await wait_job(site, "other", "pending-held")
    assert paper(tmp_path) == []


async def test_a_site_that_was_away_hears_of_it_when_it_is_back(start, pair):
    """Its copy of the job waits through the restart, and no longer."""
    hq, site = pair
    uuid = uuid4()
    await put(site, "desk", "twin", uuid)
    await until_heard(hq, "twin", "pending-held")
    await site.stop()
    await put(hq, "front", "twin", uuid)
    await wait_job(hq, "twin", "completed")
    again = await start("library", "site")
    await wait_job(again, "twin", "canceled")


async def test_a_twin_that_comes_later_goes_as_well(pair):
    """It was printed at hq before the site told of it."""
    hq, site = pair
    uuid = uuid4()
    await put(hq, "front", "twin", uuid)
    await wait_job(hq, "twin", "completed")
    await put(site, "desk", "twin", uuid)
    await wait_job(site, "twin", "canceled")


async def test_a_job_that_was_handed_on_may_be_printed_again_there(pair, tmp_path):
    """It is the site's own: completed at hq means that it came out at the site."""
    hq, site = pair
    await put(hq, "desk", "again", uuid4())
    held = await wait_job(site, "again", "pending-held")
    await site.ask("job.release", job=str(held["id"]), to="desk")
    done = await wait_job(hq, "again", "completed")
    await site.ask("job.retry", job=str(held["id"]))
    await until_heard(hq, "again", "pending-held")
    [twin] = await hq.services.reader.look(remote_jobs.twins_of, [UUID(done["uuid"])])
    assert twin.is_its_own
    answer = await site.line.call("site.done", {}, 10)
    assert answer == {"jobs": [], "next_after_id": None}
    await wait_job(site, "again", "pending-held")
    assert len(paper(tmp_path)) == 1


async def test_what_waits_at_both_comes_out_where_hq_has_it_released(pair, tmp_path):
    """At the site's printer it is the site's own copy that goes on; once, and no other is left."""
    hq, site = pair
    await put_at_both(hq, site)
    job = await wait_job(hq, "twin", "pending-held")
    await hq.ask("job.release", job=str(job["id"]), to="desk")
    await wait_job(hq, "twin", "completed")
    done = await wait_job(site, "twin", "completed")
    assert done["printer"] == "desk"
    assert len(paper(tmp_path)) == 1


@pytest.mark.parametrize("is_printed", [False, True])
async def test_what_is_released_at_both_in_the_same_moment_is_paid_once(
    pair, tmp_path, monkeypatch, is_printed
):
    """Neither has heard of the other's release; it comes out once. That is paid at hq, or at the
    site, if it was printed there before hq could offer it.
    """
    hq, site = pair
    await hq.ask("user.add", name="ada")
    await hq.ask("account.adjust", name="user:ada", amount=10_0000, reason="cash desk")
    await hq.ask("price.set", rates=[{"price": 500}], unknown="fixed", unknown_price=500)
    nowhere = {"uri": "socket://127.0.0.1:1", "charging": "on"}
    await hq.ask("printer.set", name="desk", **nowhere)
    await put_at_both(hq, site)
    there = await wait_job(site, "twin", "pending-held")
    here = await wait_job(hq, "twin", "pending-held")

    takes, gate = hq.services.receiver.take, trio.Event()

    async def late(*args):
        await gate.wait()
        return await takes(*args)

    monkeypatch.setattr(hq.services.receiver, "take", late)
    printable = {"name": "desk", "uri": (tmp_path / "paper").as_uri()}
    await site.ask("job.release", job=str(there["id"]), to="desk")
    await wait_job(site, "twin", "pending")
    if is_printed:
        await hq.ask("printer.set", **printable)
        await wait_job(site, "twin", "completed")
    await hq.ask("job.release", job=str(here["id"]), to="desk")
    expected = ["settled"] if is_printed else ["canceled"]
    await wait_until(
        lambda: site.ask("account.charges", job=there["id"]),
        holds=lambda found: [one["state"] for one in found["charges"]] == expected,
    )
    if is_printed:
        done = await wait_job(hq, "twin", "canceled")
        assert done["reasons"] == ["job-done-elsewhere"]
    gate.set()
    await hq.ask("printer.set", **printable)
    await wait_job(hq, "twin", "canceled" if is_printed else "completed")
    await wait_job(site, "twin", "completed")
    assert len(paper(tmp_path)) == 1
    for house in (hq, site):
        sums = [1] if is_printed or house is hq else []

        def is_told(found, sums=sums):
            return [one["charges"] for one in found["sums"]] == sums

        await wait_until(lambda house=house: house.ask("usage.sums"), holds=is_told)


async def test_what_a_site_has_lost_with_its_disk_is_listed_no_more(pair, monkeypatch):
    """The records of it came before; what the site still has stays listed."""
    hq, site = pair
    await put(site, "desk", "kept", uuid4())
    await until_heard(hq, "kept", "pending-held")
    [accepted] = [
        one for one in await site.services.reader.records(1, 1000) if one.kind == Kind.JOB_ACCEPTED
    ]
    lost = accepted.payload | {"uuid": uuid4().bytes, "job": 1_000_000}
    await site.services.journal.commit(
        AddRecord(Kind.JOB_ACCEPTED, lost, accepted.event_us, personal={"title": "lost"})
    )
    await until_heard(hq, "lost", "pending-held")
    monkeypatch.setattr(leases, "was_put_back", lambda _: True)
    hq.services.sites.drop(site.services.node_guid)
    await wait_until(
        lambda: hq.ask("job.elsewhere", site="library"),
        holds=lambda found: [one["title"] for one in found["jobs"]] == ["kept"],
    )


async def test_what_a_site_has_lost_with_its_spool_is_listed_no_more(pair, start, tmp_path):
    """Nothing is left of it: what it was handed comes to it again, and what it kept is gone."""
    hq, site = pair
    await put(site, "desk", "lost", uuid4())
    await put(hq, "desk", "handed", uuid4())
    for title in ("lost", "handed"):
        await until_heard(hq, title, "pending-held")
    await site.stop()
    for file in (tmp_path / "library").glob("spool.db*"):
        file.unlink()
    site = await start("library", "site")
    await wait_until(
        lambda: hq.ask("job.elsewhere", site="library"),
        holds=lambda found: [one["title"] for one in found["jobs"]] == ["handed"],
    )
    await wait_job(site, "handed", "pending-held")


async def test_what_a_lost_disk_had_sent_and_comes_later_is_listed_no_more(
    pair, start, tmp_path, monkeypatch
):
    """It was on its way, or waited for its turn here, when the site had said what it lost."""
    hq, site = pair
    await put(site, "desk", "kept", uuid4())
    await until_heard(hq, "kept", "pending-held")
    await site.stop()
    image, spool = tmp_path / "image", tmp_path / "library" / "spool.db"
    shutil.copy(spool, image)
    takes, page, sent, asked = hq.services.receiver.take, remote_views.page, [], []
    gate = trio.Event()

    async def late(*args):
        sent.append(args)
        await gate.wait()
        return await takes(*args)

    def listed(*args):
        asked.append(args)
        return page(*args)

    monkeypatch.setattr(hq.services.receiver, "take", late)
    site = await start("library", "site")
    await put(site, "desk", "lost", uuid4())
    head = site.services.journal.head
    await wait_until(lambda: any(args["head"] >= head for _, args in sent))
    await site.stop()
    on_the_way = list(sent)
    shutil.copy(image, spool)
    monkeypatch.setattr(remote_views, "page", listed)
    site = await start("library", "site")
    await wait_until(lambda: asked)
    monkeypatch.setattr(remote_views, "page", page)
    for args in on_the_way:
        await takes(*args)
    await until_heard(hq, "lost", "pending-held")
    gate.set()
    await wait_until(
        lambda: hq.ask("job.elsewhere", site="library"),
        holds=lambda found: [one["title"] for one in found["jobs"]] == ["kept"],
    )


async def test_what_waits_at_a_site_that_is_revoked_is_shown_to_its_owner_no_more(pair):
    """Nobody can release it there any more; who looks after the site still sees what it had."""
    hq, site = pair
    await hq.ask("user.add", name="ada")
    await wait_until(
        lambda: site.ask("user.list"), holds=lambda found: [one["name"] for one in found["users"]]
    )
    await put(site, "desk", "letter", uuid4())

    ada = await hq.services.reader.user("ada")

    async def shown():
        found = await hq.services.reader.look(remote_views.waits_for, ada.guid, 0, 10)
        return [one.job.title for one in found]

    await wait_until(shown, holds=lambda found: found == ["letter"])
    await hq.ask("site.revoke", name="library")
    assert await shown() == []
    had = await hq.ask("job.elsewhere", site="library")
    assert [one["title"] for one in had["jobs"]] == ["letter"]
