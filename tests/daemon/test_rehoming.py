"""A site that is dead for good does not take its printers along; whole daemons on loopback."""

from __future__ import annotations

import pytest
from daemon.test_handing import give_away, jobs_of, paper, submit, wait_job

from spoold.daemon import monitor
from spoold.intake.submission import Submission
from spoold.model.errors import OperationError
from spoold.model.job import JobReason
from spoold.model.outcome import InDoubt
from spoold.model.person import Owner
from spoold.model.transitions import JobEvent
from spoold.spool.store import EndAttempt, StartAttempt
from support.houses import ANYWHERE, joined
from support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
async def pair(start, tmp_path):
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await give_away(hq, site, tmp_path)
    return hq, site


async def hand_in(site, title, printer="desk"):
    """A job that comes to the site itself."""
    upload = await site.daemon._acceptance.begin(
        Submission(printer, Owner("ada"), "address:127.0.0.1", "raw", "127.0.0.1", title=title)
    )
    await upload.write(f"%!PS {title}\n".encode())
    await upload.commit()


async def test_the_printers_of_a_dead_site_print_at_another_node(
    start, pair, tmp_path, monkeypatch
):
    """What waited prints at once; what the site had is in doubt; when it returns it prints none."""
    hq, site = pair
    await hq.ask("printer.add", name="roam", release="find-me")
    await wait_until(lambda: "roam" in site.daemon._acceptance._printers)
    await hand_in(site, "held", "roam")
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1")  # out of order
    await submit(hq, "had", b"%!PS had\n")
    await wait_job(site, "had", "pending")
    await wait_until(
        lambda: hq.ask("job.elsewhere", site="library"), holds=lambda told: len(told["jobs"]) == 2
    )
    await wait_job(hq, "had", "processing")
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    await submit(hq, "waits", b"%!PS waits\n")
    await hq.ask("printer.set", name="desk", uri=(tmp_path / "paper").as_uri())
    planned = await hq.ask("printer.rehome", from_site="library", dry_run=True)
    assert (planned["printers"], planned["in_doubt"]) == (["desk"], 1)
    assert (planned["only_there"], planned["held_there"]) == (1, 1)
    assert "--site library" in planned["advice"][1]
    assert (await jobs_of(hq, "waits"))[0]["state"] == "pending"
    done = await hq.ask("printer.rehome", from_site="library")
    assert (done["count"], done["in_doubt"]) == (1, 1)
    await wait_job(hq, "waits", "completed")
    had = await wait_job(hq, "had", "pending-held")
    assert had["reasons"] == ["job-in-doubt"]
    assert paper(tmp_path) == [b"%!PS waits\n"]

    monkeypatch.setattr(monitor, "LOOK_S", 0.2)
    again = await start("library", "site")
    await again.line.wait_up()
    kept = await wait_job(again, "had", "pending-held")
    assert kept["reasons"] == ["job-rehomed"]
    assert "another node" in kept["message"]
    told = (await again.ask("job.explain", job=str(kept["id"])))["waits"]
    assert ("until somebody settles it" in told, "job release" in told) == (True, False)
    await wait_until(
        again.services.checks,
        holds=lambda found: "1 job waits here for desk, which" in " ".join(c.text for c in found),
    )
    await again.ask("job.release", job=str(kept["id"]))
    await wait_job(again, "had", "pending-held")
    await hq.ask("job.settle", job=str(had["id"]), printed=False)
    await wait_job(hq, "had", "completed")
    assert sorted(paper(tmp_path)) == [b"%!PS had\n", b"%!PS waits\n"]


async def test_a_printer_that_went_and_came_back_while_its_site_was_off_prints_nothing_twice(
    start, pair, tmp_path
):
    """The site never sees that it was not the owner, but for the epoch: what it had of hq waits
    until hq offers it once more, and what only the site has prints.
    """
    hq, site = pair
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1")  # out of order
    for title in ("printed", "open"):
        await submit(hq, title, f"%!PS {title}\n".encode())
        await wait_job(site, title, "pending")
        await wait_job(hq, title, "processing")
    await hand_in(site, "local")
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    await hq.ask("printer.set", name="desk", uri=(tmp_path / "paper").as_uri())
    assert (await hq.ask("printer.rehome", from_site="library"))["in_doubt"] == 2
    doubtful = {}
    for title in ("printed", "open"):
        doubtful[title] = str((await wait_job(hq, title, "pending-held"))["id"])
    await hq.ask("job.settle", job=doubtful["printed"], printed=False)
    await wait_job(hq, "printed", "completed")
    assert paper(tmp_path) == [b"%!PS printed\n"]
    await hq.ask("printer.set", name="desk", owner="library")

    again = await start("library", "site")
    await wait_job(again, "local", "completed")
    await wait_job(again, "printed", "canceled")  # it came out elsewhere
    held = await wait_job(again, "open", "pending-held")
    assert held["reasons"] == ["job-rehomed"]
    await hq.ask("job.settle", job=doubtful["open"], printed=False)
    await wait_job(hq, "open", "completed")
    await wait_job(again, "open", "completed")
    wanted = [b"%!PS local\n", b"%!PS open\n", b"%!PS printed\n"]
    assert sorted(paper(tmp_path)) == wanted
    await wait_job(hq, "printed", "completed")


async def test_what_is_settled_at_a_site_as_not_printed_may_be_printed_by_another_node(
    start, pair, tmp_path
):
    """Its printer went and came back meanwhile: nobody at the site knows what was done there."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1")  # out of order
    await submit(hq, "doubted", b"%!PS doubted\n")
    await wait_job(site, "doubted", "pending")
    await hq.ask("printer.pause", name="desk", reason="no paper")
    await wait_until(site.services.catalogue.look, holds=lambda found: found.by_name["desk"].paused)
    job = await wait_job(site, "doubted", "pending")
    commit, printer = site.services.journal.commit, site.daemon._acceptance.printer("desk")
    number = await commit(StartAttempt(job["id"], 1, printer.id, 1))
    doubt = (JobReason.JOB_IN_DOUBT,)
    await commit(EndAttempt(job["id"], number, InDoubt("reset"), JobEvent.DOUBT, doubt, 1))
    await wait_job(hq, "doubted", "processing")
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    assert (await hq.ask("printer.rehome", from_site="library"))["in_doubt"] == 1
    above = str((await wait_job(hq, "doubted", "pending-held"))["id"])
    await hq.ask("printer.set", name="desk", release="hold")
    await hq.ask("job.settle", job=above, printed=False)
    paper_of_desk = (tmp_path / "paper").as_uri()
    await hq.ask("printer.set", name="desk", uri=paper_of_desk, owner="library")
    await hq.ask("printer.resume", name="desk")

    again = await start("library", "site")
    await wait_until(
        lambda: jobs_of(again, "doubted"),
        holds=lambda found: found[0]["reasons"] == ["job-in-doubt", "job-rehomed"],
    )
    settled = await again.ask("job.settle", job=str(job["id"]), printed=False)
    assert "another node may have printed it" in settled["results"][0]["advice"]
    kept = await wait_job(again, "doubted", "pending-held")
    assert "job-rehomed" in kept["reasons"]
    told = (await again.ask("job.explain", job=str(job["id"])))["waits"]
    assert "may have printed it" in told
    await hq.ask("printer.add", name="other", uri=paper_of_desk)
    await hq.ask("job.release", job=above, to="other")
    await wait_job(hq, "doubted", "completed")
    await wait_job(again, "doubted", "canceled")
    assert paper(tmp_path) == [b"%!PS doubted\n"]


async def test_what_is_released_above_is_not_paid_at_the_site_again(start, pair, tmp_path):
    """Its printer went to hq and came back: it had waited for its owner there, or was under way."""
    hq, site = pair
    await hq.ask("user.add", name="ada")
    await hq.ask("account.adjust", name="user:ada", amount=10_0000, reason="cash desk")
    await hq.ask("price.set", rates=[{"price": 500}], unknown="fixed", unknown_price=500)
    gate = {"release": "hold", "charging": "on"}
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1", **gate)  # out of order
    for title in ("waits", "paid"):
        await submit(hq, title, f"%!PS {title}\n".encode())
        held = await wait_job(site, title, "pending-held")
    await site.ask("job.release", job=str(held["id"]))
    await wait_job(site, "paid", "pending")
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    assert (await hq.ask("printer.rehome", from_site="library"))["in_doubt"] == 2
    for title in ("waits", "paid"):
        doubtful = await wait_job(hq, title, "pending-held")
        await hq.ask("job.settle", job=str(doubtful["id"]), printed=False)
    await hq.ask("printer.set", name="desk", uri=(tmp_path / "paper").as_uri(), owner="library")

    again = await start("library", "site")
    await again.line.wait_up()
    for title in ("waits", "paid"):
        job = await wait_job(hq, title, "pending-held")
        await hq.ask("job.release", job=str(job["id"]))
        await wait_job(hq, title, "completed")
        await wait_job(again, title, "completed")
    assert sorted(paper(tmp_path)) == [b"%!PS paid\n", b"%!PS waits\n"]
    for node in (hq, again):
        expected = [2] if node is hq else []
        assert [one["charges"] for one in (await node.ask("usage.sums"))["sums"]] == expected


async def test_printers_go_to_another_site(start, pair, tmp_path):
    """Another site beside the same machines takes them over, with what waits."""
    hq, site = pair
    annex = await start("annex", "site")
    await joined(hq, annex, "annex")
    await wait_until(lambda: "desk" in annex.daemon._acceptance._printers)
    shown = {one["name"]: one["owner"] for one in (await annex.ask("printer.list"))["printers"]}
    assert shown["desk"] == "another site"
    await site.stop()
    await wait_until(lambda: len(hq.services.sites.here()) == 1)
    await submit(hq, "letter")
    await hq.ask("printer.rehome", from_site="library", to="annex")
    await wait_job(hq, "letter", "completed")
    assert len(await jobs_of(annex, "letter")) == 1
    assert len(paper(tmp_path)) == 1
    with pytest.raises(OperationError, match="owns no printers"):
        await hq.ask("printer.rehome", from_site="library", to="annex")
    with pytest.raises(OperationError, match="no node"):
        await hq.ask("printer.rehome", from_site="atlantis")


async def test_a_site_prints_after_a_restart_while_its_application_server_is_away(pair, start):
    """It waits a moment for word of who owns its printers, and no longer."""
    hq, site = pair
    await hq.stop()
    await site.stop()
    again = await start("library", "site", listen={"clear": ANYWHERE})
    await submit(again, "alone")
    await wait_job(again, "alone", "completed")
