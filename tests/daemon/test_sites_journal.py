"""The journal of a site at its application server, with whole daemons on loopback."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.model.person import Owner
from spoold.net.address import Address
from spoold.spool.store import AcceptJob, BranchJournal, NewDocument
from support.houses import joined
from support.sites import stored
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def caught_up(hq, site, deadline_s=30.0):
    """Return when every record of the site is there."""
    with trio.fail_after(deadline_s):
        while True:
            there = (await hq.ask("journal.status"))["sites"]
            here = site.services.journal.head
            if there and there[0]["position"] >= here and site.services.uplink.lag == 0:
                return there[0]
            await trio.sleep(0.02)


async def accept(house, **fields):
    """A job at a printer of a site's own; the automatic one goes as soon as its copy comes."""
    services = house.services
    known = {one.name: one for one in await services.reader.printers()}
    if "annex" not in known:
        await house.ask("printer.add", name="annex", uri="file:///nowhere")
        known = {one.name: one for one in await services.reader.printers()}
    printer = known["annex"]
    return await services.journal.commit(
        AcceptJob(
            printer.id,
            Owner("ada"),
            "address:127.0.0.1",
            NewDocument(5, "blake3:00", "text/plain", b"page\f"),
            services.wall_clock(),
            **fields,
        )
    )


async def test_who_did_what_at_a_site_is_known_upstream(start):
    """An emergency, say: with who began it, as that machine knows them, and why."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    until_us = site.services.wall_clock() + 60_000_000
    await site.ask("site.set-emergency", until_us=until_us, reason="the readers are dead")
    await caught_up(hq, site)
    found = (await hq.ask("journal.audit", site="library"))["records"]
    [act] = [one for one in found if one["kind"] == "emergency-changed"]
    assert act["payload"] == {"until_us": until_us}
    assert (act["personal"], act["who"]) == (
        {"reason": "the readers are dead"},
        f"uid:{os.getuid()} (library)",
    )
    with pytest.raises(OperationError, match="no site annex"):
        await hq.ask("journal.audit", site="annex")
    # Another incarnation goes on behind it, and tells what was before as well.
    await site.services.journal.commit(BranchJournal(site.services.journal.head, until_us))
    await site.ask("site.set-emergency", until_us=until_us + 1, reason="new readers")
    await caught_up(hq, site)
    seen, before = [], {}
    while before != {"before": None}:
        answer = await hq.ask("journal.audit", site="library", limit=1, **before)
        seen += [one for one in answer["records"] if one["kind"] == "emergency-changed"]
        before = {"before": answer["next_before"]}
    assert [one["personal"]["reason"] for one in seen] == ["new readers", "the readers are dead"]
    assert len({one["incarnation"] for one in seen}) == 2


async def test_what_happens_at_a_site_is_known_upstream(start):
    """Records arrive as they are written; both ends say how far they are, and how it went."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    accepted = await accept(site)
    shown = await caught_up(hq, site)
    assert (shown["name"], shown["state"], shown["lag"]) == ("library", "open", 0)
    journal = site.services.node_guid
    theirs, mine = await stored(hq.services, journal), await stored(site.services, journal)
    assert theirs == mine[: len(theirs)]
    rows = await hq.services.reader._all("SELECT uuid FROM remote_job")
    assert (accepted.uuid.bytes,) in rows
    (listed,) = (await hq.ask("job.elsewhere", site="library"))["jobs"]
    assert (listed["id"], listed["owner"]) == (f"library/{accepted.job_id}", "ada")
    for name in (listed["id"], str(accepted.uuid)):
        assert (await hq.ask("job.show", job=name))["uuid"] == str(accepted.uuid)
    own = (await site.ask("journal.status"))["upstream"]
    assert (own["name"], own["lag"]) == ("hq", 0)
    await site.ask("site.sync")

    async def is_last(trigger):
        first = (await site.ask("site.history"))["rounds"][0]
        return (first["peer"], first["trigger"], first["result"]) == ("hq", trigger, "done")

    await wait_until(lambda: is_last("asked"))
    there, *_ = (await hq.ask("site.history"))["rounds"]
    assert (there["peer"], there["trigger"], there["result"]) == ("library", "connected", "done")
    assert (await hq.ask("site.sync", name="library"))["lag"] == 0
    await wait_until(lambda: is_last("asked from above"))


async def test_a_site_goes_on_alone_and_catches_up(start):
    """The application server is away: work goes on, the lag grows, and is gone when it is back."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await caught_up(hq, site)
    at = hq.running.ports["mutual"]
    await hq.stop()
    for _ in range(20):
        await accept(site)
    assert site.services.uplink.lag >= 20
    again = await start("hq", listen={"mutual": (Address(*at),)})
    await caught_up(again, site)
    rows = await again.services.reader._all("SELECT count(*) FROM remote_job")
    assert rows == [(20,)]


async def test_an_application_server_of_yesterday_is_brought_up_to_date(start, tmp_path):
    """Its data directory is put back; the site sends again what it had sent since."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await caught_up(hq, site)
    data_dir, at = hq.services.config.node.data_dir, hq.running.ports["mutual"]
    same = {"mutual": (Address(*at),)}
    await hq.stop()
    yesterday = tmp_path / "yesterday"
    shutil.copytree(data_dir, yesterday, ignore=shutil.ignore_patterns("control*"))
    again = await start("hq", listen=same)
    for _ in range(10):
        await accept(site)
    await caught_up(again, site)
    witness = (data_dir / "witness").read_bytes()
    await again.stop()
    shutil.rmtree(data_dir)
    shutil.copytree(yesterday, data_dir)
    (data_dir / "witness").write_bytes(witness)  # it lies outside of what was put back
    restored = await start("hq", listen=same)
    await caught_up(restored, site)
    assert await restored.services.reader._all("SELECT count(*) FROM remote_job") == [(10,)]


async def test_the_commands_show_it(start):
    """`spoold journal status`, `journal`, `journal quarantine list` and `site history`."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await caught_up(hq, site)

    async def say(house, *words):
        control = str(house.services.config.node.data_dir / "control")
        command = [sys.executable, "-m", "spoold", *words, "--control", control]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
        return done.stdout.decode()

    told = await say(hq, "journal", "status")
    assert "library" in told
    assert "open" in told
    assert "# site library: open" in await say(hq, "journal")
    assert "to hq: " in await say(site, "journal", "status")
    assert "Nothing is in quarantine." in await say(hq, "journal", "quarantine", "list")
    assert "connected" in await say(site, "site", "history")
    assert "A round begins" in await say(site, "site", "sync")
    accepted = await accept(site)
    await caught_up(hq, site)
    assert f"library/{accepted.job_id} " in await say(hq, "job", "list", "--site", "library")
    assert str(accepted.uuid) in await say(hq, "job", "show", f"library/{accepted.job_id}")
