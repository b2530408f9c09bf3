"""Sites that are alone, as whole daemons on loopback: what they may spend, and emergencies."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from spoold.daemon.operations.standing import standing_of
from spoold.model.charge import ChargeState
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.node import LineState
from spoold.model.offline import Want
from spoold.model.person import Owner
from spoold.model.purse import Payer, PayerKind
from spoold.model.record import Kind
from spoold.site import rights_wire
from spoold.spool.held import Standing
from spoold.spool.store import AcceptJob, AddRecord, NewDocument
from support.floors import PATIENT
from support.houses import joined
from support.money import PAGE, pages
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def with_money(start, amount=100 * PAGE):
    """An application server where ada has paid something in, and a site with its copy."""
    hq, site = await start("hq", **PATIENT), await start("library", "site", **PATIENT)
    await hq.ask("price.set", rates=[{"price": PAGE}], replace=True)
    await hq.ask("user.add", name="ada")
    adjusting = {"name": "user:ada", "amount": amount, "purse": "paid-in"}
    await hq.ask("account.adjust", **adjusting, reason="cash desk")
    await joined(hq, site)
    await wait_until(lambda: site.services.replica.current_us)
    user = await site.services.reader.user("ada")
    return hq, site, Payer(PayerKind.PERSON, user.guid)


async def left(house, payer):
    return (await house.services.charging.wallet(payer)).available


async def until_left(house, payer, amount):
    await wait_until(lambda: left(house, payer), holds=lambda found: found == amount)


async def alone(hq, site):
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)


async def test_a_site_gets_rights_ahead_and_spends_them_when_it_is_alone(start):
    """A quarter of what there is, and no page more."""
    hq, site, ada = await with_money(start)
    await until_left(site, ada, 25 * PAGE)
    assert await left(hq, ada) == 75 * PAGE
    [held] = (await hq.ask("site.holdings", name="library"))["rights"]
    assert held == {"holder": "user:ada", "granted": 25 * PAGE, "left": 25 * PAGE}
    shown = await hq.ask("account.show", name="user:ada")
    assert shown["balance"] == 75 * PAGE
    assert shown["at_sites"] == [{"site": "library", "amount": 25 * PAGE}]
    await alone(hq, site)
    charging = site.services.charging
    begun = trio.current_time()
    with pytest.raises(OperationError, match="is left"):
        await charging.reserve(b"much", ada, pages(26), None)
    assert trio.current_time() - begun < 8  # nobody is asked, who would have ten seconds
    charge = await charging.reserve(b"some", ada, pages(25), None)
    assert charge.state is ChargeState.RESERVED
    with pytest.raises(OperationError, match="is left"):
        await charging.reserve(b"more", ada, pages(1), None)
    assert await charging.affordable(ada, charge.usage.work, None) == 0


async def test_money_that_comes_in_later_is_at_the_site_at_once(start):
    """Paid in, or as an allowance for everybody."""
    hq, site, ada = await with_money(start, 4 * PAGE)
    await until_left(site, ada, PAGE)
    adjusting = {"name": "user:ada", "amount": 36 * PAGE, "purse": "paid-in"}
    await hq.ask("account.adjust", **adjusting, reason="cash desk")
    await until_left(site, ada, 10 * PAGE)
    await hq.ask("account.allow", name="everybody", amount=160 * PAGE, period="month")
    await until_left(site, ada, 50 * PAGE)
    assert await left(hq, ada) == 150 * PAGE


async def test_money_at_a_site_that_is_here_can_be_spent_elsewhere(start):
    """It is called back while somebody waits; what is reserved there stays."""
    hq, site, ada = await with_money(start)
    await until_left(site, ada, 25 * PAGE)
    await site.services.charging.reserve(b"there", ada, pages(5), None)
    await hq.services.charging.reserve(b"here", ada, pages(95), None)
    with pytest.raises(OperationError, match="is left"):
        await hq.services.charging.reserve(b"more", ada, pages(1), None)
    await site.services.charging.settle(b"there", pages(5))
    await until_left(site, ada, 0)


async def test_money_at_one_site_can_be_spent_at_another(start):
    """Also then within the time of a question."""
    hq, site, ada = await with_money(start)
    annex = await start("annex", "site", **PATIENT)
    await joined(hq, annex, "annex")
    await wait_until(lambda: annex.services.replica.current_us)
    await until_left(site, ada, 25 * PAGE)
    await wait_until(lambda: left(annex, ada))
    await annex.services.charging.reserve(b"there", ada, pages(100), None)
    await until_left(site, ada, 0)


async def test_people_see_everywhere_what_they_have_in_all(start):
    """Wherever parts of it are; what a site that is away holds is theirs, and not at hand. A site
    that is cut off shows what may be spent there.
    """
    hq, site, ada = await with_money(start)
    annex = await start("annex", "site", **PATIENT)
    await joined(hq, annex, "annex")
    await until_left(site, ada, 25 * PAGE)
    await wait_until(lambda: left(annex, ada))
    kept = await left(annex, ada)

    async def seen(house):
        has = await standing_of(house.services, ada.guid)
        return has.balance, has.available

    for house in (hq, site, annex):
        assert await seen(house) == (100 * PAGE, 100 * PAGE)
    charging = site.services.charging
    await charging.reserve(b"some", ada, pages(10), None)
    await charging.settle(b"some", pages(10))
    for house in (site, hq):
        told = (90 * PAGE, 90 * PAGE)
        await wait_until(partial(seen, house), holds=lambda found, told=told: found == told)
    await annex.stop()
    await wait_until(lambda: not hq.services.sites.is_up(annex.services.node_guid))
    assert await seen(site) == await seen(hq) == (90 * PAGE, 90 * PAGE - kept)
    await alone(hq, site)
    there = await left(site, ada)
    assert await seen(site) == (there, there)


async def test_a_site_asks_for_more_while_its_line_is_up(start):
    """And what it charges comes out of its rights at the application server."""
    hq, site, ada = await with_money(start)
    await until_left(site, ada, 25 * PAGE)
    charging = site.services.charging
    await charging.reserve(b"much", ada, pages(60), None)
    await charging.settle(b"much", pages(50))
    with pytest.raises(OperationError, match="is left"):
        await charging.reserve(b"too much", ada, pages(51), None)
    await wait_until(lambda: held(hq), holds=lambda found: sum(found) == 50 * PAGE)
    assert await left(hq, ada) == 0
    assert await left(site, ada) == 50 * PAGE


async def held(hq):
    return [one["left"] for one in (await hq.ask("site.holdings", name="library"))["rights"]]


async def test_the_policy_of_a_site_holds_when_it_is_alone(start):
    """Set at the application server, it arrives at once; exposure ends with the cap."""
    hq, site, ada = await with_money(start)
    await hq.ask("site.set-policy", rights_out="overdraft", overdraft=5 * PAGE)
    policy = (await site.ask("site.policies"))["policies"]
    with trio.fail_after(30):
        while not policy or policy[0]["rights_out"] != "overdraft":
            policy = (await site.ask("site.policies"))["policies"]
            await trio.sleep(0.02)
    await until_left(site, ada, 25 * PAGE)
    await alone(hq, site)
    charging = site.services.charging
    assert await charging.affordable(ada, pages(1).work, None) == 30
    await charging.reserve(b"some", ada, pages(30), None)
    with pytest.raises(OperationError, match="is left"):
        await charging.reserve(b"more", ada, pages(1), None)


async def test_a_site_gets_no_money_of_people_whom_it_has_no_copy_of(start):
    """However much it asks for; of those whom it has it gets what it says that it needs."""
    hq, site = await start("hq", **PATIENT), await start("library", "site", **PATIENT)
    await joined(hq, site, groups=["staff"])
    least, wants = 50 * PAGE, []
    for name, groups in (("ada", ["staff"]), ("bob", [])):
        await hq.ask("user.add", name=name, groups=groups)
        adjusting = {"name": f"user:{name}", "amount": 100 * PAGE, "purse": "paid-in"}
        await hq.ask("account.adjust", **adjusting, reason="cash desk")
        guid = (await hq.services.reader.user(name)).guid
        wants.append(Want(PayerKind.PERSON, guid, least, 0, 0))
    ada, bob = (Payer(PayerKind.PERSON, one.holder) for one in wants)
    await until_left(hq, ada, 75 * PAGE)  # the site has asked for itself
    epoch = (await hq.ask("site.holdings", name="library"))["epoch"]
    incarnation = site.services.journal.identity[1]
    asked = rights_wire.asked(incarnation, Standing(epoch, None, ()), wants, ())
    granted = rights_wire.read_granted(await site.line.call("site.rights", asked, 30))
    assert {one.purse.holder for one in granted.rights} == {ada.guid}
    assert await left(hq, bob) == 100 * PAGE
    assert await left(hq, ada) < 75 * PAGE
    assert await site.services.alone.elsewhere(ada.guid) is not None
    assert await site.services.alone.elsewhere(bob.guid) is None


async def test_a_site_asks_whether_a_password_is_right(start):
    """And gets no more out of it than whether it is."""
    hq, site = await start("hq"), await start("library", "site")
    await hq.ask("user.add", name="ada", password="correct horse")
    await joined(hq, site)
    alone = site.services.alone
    assert await alone.password("ada", "correct horse") is True
    assert await alone.password("ada", "wrong") is False
    assert await alone.password("nobody", "wrong") is False
    await hq.stop()
    assert await alone.password("ada", "correct horse") is None


async def test_balances_are_not_changed_at_a_site(start):
    """They belong to its application server."""
    _, site, ada = await with_money(start)
    await until_left(site, ada, 25 * PAGE)
    with pytest.raises(OperationError, match="belong to its application server"):
        await site.ask("account.adjust", name="user:ada", amount=5, reason="gift")


async def test_held_jobs_print_at_once_in_an_emergency_until_it_ends(start):
    """Those that wait and those that come; then jobs wait for their owners again."""
    hq = await start("hq")
    await hq.ask("printer.set", name="default", release="hold")
    [printer] = await hq.services.reader.printers()

    async def submit():
        document = NewDocument(5, "blake3:00", "text/plain", b"page\f")
        now_us = hq.services.wall_clock()
        change = AcceptJob(printer.id, Owner("ada"), "address:127.0.0.1", document, now_us)
        return (await hq.services.journal.commit(change)).job_id

    async def state(job_id):
        return (await hq.services.reader.job(job_id)).state

    waiting = await submit()
    now_us = hq.services.wall_clock()
    with pytest.raises(OperationError, match="within 7 days"):
        await hq.ask("site.set-emergency", until_us=now_us - 1)
    answer = await hq.ask("site.set-emergency", until_us=now_us + 60_000_000, reason="no readers")
    assert answer["emergency"]["reason"] == "no readers"
    assert (await hq.ask("status"))["emergency"]["actor"].startswith("uid:")
    coming = await submit()
    for job_id in (waiting, coming):
        await wait_until(partial(state, job_id), holds=lambda found: found is JobState.COMPLETED)
    await hq.ask("site.set-emergency")
    assert (await hq.ask("site.emergency"))["emergency"] is None
    later = await submit()
    await trio.sleep(0.5)
    assert await state(later) is JobState.PENDING_HELD
    kinds = [one["kind"] for one in (await hq.ask("journal.audit"))["records"]]
    assert kinds.count("emergency-changed") == 2


async def test_what_a_server_had_booked_comes_along_when_it_becomes_a_site(start):
    """The person of that name upstream has it; by hand nothing more is booked, with an alarm."""
    hq, site = await start("hq", **PATIENT), await start("library", "site", **PATIENT)
    for house in (hq, site):
        await house.ask("user.add", name="ada")
        await house.ask("price.set", rates=[{"price": PAGE}], replace=True)
    adjusting = {"name": "user:ada", "amount": 40 * PAGE, "purse": "paid-in"}
    await site.ask("account.adjust", **adjusting, reason="cash desk")
    own = Payer(PayerKind.PERSON, (await site.services.reader.user("ada")).guid)
    await site.services.charging.reserve(b"begun", own, pages(4), None)
    await joined(hq, site)
    user = await hq.services.reader.user("ada")
    ada = Payer(PayerKind.PERSON, user.guid)
    await until_left(hq, ada, 30 * PAGE)  # a quarter is at the site
    await until_left(site, ada, 10 * PAGE)
    await site.services.charging.settle(b"begun", pages(4))
    await until_left(hq, ada, 26 * PAGE)
    told = {"cause": "pay-in", "entry": b"more", "payer": user.guid.bytes, "amount": PAGE}
    await site.services.journal.commit(AddRecord(Kind.LEDGER_POSTED, told, 1))
    await wait_until(lambda: hq.ask("journal.status"), holds=lambda told: told["quarantined"])
    [kept] = (await hq.ask("journal.quarantine"))["records"]
    assert kept["reason"] == "balances are not the site's: nobody books them there."
    assert await left(hq, ada) == 26 * PAGE
