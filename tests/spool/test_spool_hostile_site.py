"""What a site says whose disk and certificate somebody else has: money is not made by it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from spoold.model.errors import OperationError
from spoold.model.node import Scope
from spoold.model.offline import OfflinePolicy, Want
from spoold.model.purse import Payer, PayerKind, PurseKind
from spoold.model.record import Kind
from spoold.site.presence import Presence
from spoold.site.reclaiming import Reclaiming
from spoold.spool import received
from spoold.spool.store import (
    AddRecord,
    GrantRights,
    InviteNode,
    JoinNode,
    PutAccount,
    PutPolicy,
    PutUser,
    Refund,
    Reserve,
    Settle,
)
from support.money import PAGE, pages
from support.rights import GUIDS, deployment


@pytest.fixture
async def hall(tmp_path, spool_at):
    async with deployment(tmp_path, spool_at) as made:
        yield made


async def says(hall, **told):
    """Site `a` writes an entry as it likes."""
    told = {"entry": uuid4().bytes, "payer": hall.ada.bytes, **told}
    record = AddRecord(Kind.LEDGER_POSTED, told, hall.now_us)
    await hall.at["a"].spool.journal.commit(record)


async def refused(hall):
    """Why entries of it were not booked."""
    await hall.ship("a")
    found = await hall.hq.spool.reader.look(received.quarantined, (0, 0), 99)
    return [one.reason for one in found]


async def last_told(hall, cause):
    records = await hall.at["a"].spool.reader.records(1, 1000)
    return [one.payload for one in records if one.payload.get("cause") == cause][-1]


# -- money by hand -----------------------------------------------------------------------------


async def test_nobody_gets_money_by_hand_at_a_site(hall):
    """Nor loses it: balances are the application server's from the first rights on."""
    await hall.pay(40)
    await hall.sync("a")
    for cause in ("pay-in", "pay-out", "adjust"):
        await says(hall, cause=cause, amount=90 * PAGE)
        await says(hall, cause=cause, amount=-2 * PAGE)
    assert await refused(hall) == ["balances are not the site's: nobody books them there."] * 6
    assert await hall.left("hq") == 30 * PAGE
    await hall.check()


async def test_what_was_booked_by_hand_before_a_server_became_a_site_counts(hall):
    """Also what comes after the rights: it was there when they were granted."""
    site = hall.at["a"]
    await site.pay_in(hall.ada, 20 * PAGE, now_us=hall.now_us)
    await hall.ship("a")
    await site.pay_in(hall.ada, 3 * PAGE, PurseKind.CREDIT, now_us=hall.now_us)
    lost = await hall.ask("a")
    assert await hall.left("hq") == 15 * PAGE
    await hall.keep("a", lost)
    assert await refused(hall) == []
    assert await hall.left("hq") == 18 * PAGE
    await hall.sync("a", least=10)  # how far it was the first time counts, and no other
    await says(hall, cause="pay-in", amount=PAGE)
    assert len(await refused(hall)) == 1


async def test_what_a_site_had_in_its_own_books_is_not_spent_twice(hall):
    """It is at the application server now, and the site has its share of it, like others."""
    site = hall.at["a"]
    await site.pay_in(hall.ada, 40 * PAGE, now_us=hall.now_us)
    await hall.reserve("a", b"open", 4)
    await hall.ship("a")
    await hall.sync("a")
    assert await hall.left("a") + await hall.left("hq") == (40 - 4) * PAGE
    await hall.settle("a", b"open", 3)
    await hall.sync("a")
    await hall.ship("a")
    assert await hall.left("a") == await hall.rights("a")
    assert await hall.left("a") + await hall.left("hq") == 37 * PAGE
    await hall.check()


async def test_an_incarnation_that_came_later_has_no_books(hall):
    """Whatever it says that it goes on from, the place where it parted with its books is known."""
    await hall.pay(40)
    image = await hall.image("a")
    await hall.sync("a")
    await hall.restore("a", image)
    await says(hall, cause="pay-in", amount=PAGE)
    assert len(await refused(hall)) == 1


async def test_incarnations_from_before_a_server_became_a_site_count(hall):
    """It was restored once: what it booked before that, and since, comes after its rights."""
    site = hall.at["a"]
    await site.pay_in(hall.ada, 20 * PAGE, now_us=hall.now_us)
    await hall.crash("a")
    image = await hall.image("a")
    await hall.restore("a", image)
    await hall.at["a"].pay_in(hall.ada, 4 * PAGE, now_us=hall.now_us)
    await hall.sync("a")
    assert await refused(hall) == []
    assert await hall.left("hq") == 24 * PAGE
    await hall.check()


async def test_a_site_books_nothing_by_hand(hall):
    """It says why, as for everything that its application server owns."""
    await hall.pay(40)
    await hall.sync("a")
    site = hall.at["a"]
    await hall.reserve("a", b"k", 2)
    await hall.settle("a", b"k", 2)
    with pytest.raises(OperationError, match="balances belong to its application server"):
        await site.pay_in(hall.ada, PAGE, now_us=hall.now_us)
    with pytest.raises(OperationError, match="balances belong to its application server"):
        await site.journal.commit(Refund(b"r", b"k", PAGE, "smeared", hall.now_us, "uid:0"))


# -- charges -----------------------------------------------------------------------------------


async def charges(hall, **fields):
    """The flags of a charge of 2 pages that the site has made, and says other things of."""
    key = uuid4().bytes
    await hall.reserve("a", key, 2)
    await hall.settle("a", key, 2)
    told = await last_told(hall, "settle") | {"charge": uuid4().bytes} | fields
    await says(hall, **{name: value for name, value in told.items() if name != "entry"})
    assert await refused(hall) == []
    (row,) = await hall.hq.spool.reader._all(
        "SELECT flags FROM charge WHERE key = ?", told["charge"]
    )
    return set(row[0].split())


async def test_a_charge_by_no_rights_is_flagged(hall):
    """It is posted: paper may be out. An epoch of none is no way around."""
    await hall.pay(40)
    await hall.sync("a")
    assert await charges(hall) == set()
    assert await charges(hall, epoch=0) == {"beyond-rights"}
    assert await hall.left("hq") == 28 * PAGE
    await hall.check()


async def test_what_a_server_had_charged_before_it_became_a_site_is_not(hall):
    """It knew of no rights then."""
    await hall.at["a"].pay_in(hall.ada, 20 * PAGE, now_us=hall.now_us)
    assert await charges(hall) == set()
    await hall.sync("a")
    assert await refused(hall) == []


async def approve(hall, **scope):
    await hall.hq.journal.commit(InviteNode("a", b"s", True, 9, 1, Scope(**scope)))
    await hall.hq.journal.commit(JoinNode(GUIDS["a"], b"k", 2, b"s"))


@pytest.mark.parametrize(("groups", "flags"), [(["law"], set()), ([], {"beyond-scope"})])
async def test_a_charge_of_somebody_who_is_not_copied_to_the_site_is_flagged(hall, groups, flags):
    """By its groups; whoever it is told of may have been there."""
    await approve(hall, groups=("law",))
    await hall.hq.journal.commit(PutUser("ada", 2, fields={"groups": groups}))
    await hall.pay(40)
    await hall.sync("a")
    assert await charges(hall) == flags


@pytest.mark.parametrize(
    ("by", "flags"),
    [
        ("choice", {"beyond-scope"}),
        ("limit", {"beyond-scope"}),
        ("offline", {"beyond-scope"}),
        ("printer-default", set()),
    ],
)
async def test_a_shared_account_that_the_payer_may_not_charge_is_flagged(hall, by, flags):
    """Unless a printer or a rule named it: that takes everybody."""
    await approve(hall)
    account = await hall.hq.journal.commit(PutAccount("physics", 1, is_new=True))
    await hall.pay(40)
    await hall.sync("a")
    paid_by = Payer(PayerKind.ACCOUNT, account.guid, by, hall.ada).as_map()
    assert await charges(hall, paid_by=paid_by) == flags
    member = PutAccount("physics", 2, is_new=False, members=(hall.ada,))
    await hall.hq.journal.commit(member)
    assert await charges(hall, paid_by=paid_by | {"by": "choice"}) == set()
    await hall.check()


# -- keys that more than one node may charge under -----------------------------------------------

MFD = b"mfd/" + bytes(32)
REPORT = b"report/" + bytes(16)


async def reports(hall, name, key, count, **fields):
    """Work that nobody asked for before is reported at a node."""
    purses, usage = hall.at[name], pages(count)
    payer = Payer(PayerKind.PERSON, hall.ada)
    asked = Reserve(key, payer, purses.quote(usage), usage, None, hall.now_us)
    change = Settle(key, usage, hall.now_us, "node", None, replace(asked, **fields))
    return await purses.journal.commit(change)


async def paid(hall):
    return 40 * PAGE - await hall.left("hq") - await hall.rights("a") - await hall.rights("b")


@pytest.mark.parametrize("key", [MFD, REPORT])
async def test_the_key_of_anothers_work_is_not_taken(hall, key):
    """What a site says under it is charged, and so is what was made where the key is from."""
    await hall.pay(40)
    for name in "ab":
        await hall.sync(name)
    await reports(hall, "a", key, 1)
    await hall.ship("a")
    await reports(hall, "hq", key, 3)
    await reports(hall, "b", key, 5)
    await hall.ship("b")
    assert await paid(hall) == 9 * PAGE
    rows = await hall.hq.spool.reader._all("SELECT flags FROM charge ORDER BY amount")
    flags = [row[0] for row in rows]
    assert flags == ["not-reserved", "not-reserved", "not-reserved key-taken"]
    await hall.check()


@pytest.mark.parametrize(("key", "order"), [(MFD, "a hq b"), (REPORT, "hq a b"), (MFD, "b a hq")])
async def test_what_is_reported_at_two_nodes_is_charged_once(hall, key, order):
    """An answer was lost, and somebody else was asked."""
    await hall.pay(40)
    for name in "ab":
        await hall.sync(name)
    for name in order.split():
        await reports(hall, name, key, 3)
        if name != "hq":
            await hall.ship(name)
    assert await paid(hall) == 3 * PAGE
    await hall.check()


async def test_a_site_gives_back_what_was_reported_there(hall):
    """Its charge has another key at the application server."""
    await hall.at["a"].pay_in(hall.ada, 40 * PAGE, now_us=hall.now_us)
    await reports(hall, "a", MFD, 3)
    site = hall.at["a"].journal
    await site.commit(Refund(b"r", MFD, PAGE, "smeared", hall.now_us, "uid:0"))
    assert await refused(hall) == []
    assert await paid(hall) == 2 * PAGE
    await hall.check()


@pytest.mark.parametrize(("owner", "left"), [("a", 38), ("b", 32)])
async def test_a_site_settles_what_was_promised_for_its_own_printers_alone(hall, owner, left):
    """An MFD may ask here, and report there; nobody else's promise becomes less by that."""
    await hall.pay(40)
    printer = await hall.hq.spool.add_printer(owner=GUIDS[owner])
    usage, payer = pages(6), Payer(PayerKind.PERSON, hall.ada)
    quoted = hall.hq.quote(usage)
    await hall.hq.journal.commit(Reserve(MFD, payer, quoted, usage, printer.id, hall.now_us))
    await reports(hall, "a", b"else", 1)
    told = await last_told(hall, "settle") | {"charge": MFD, "printer": printer.guid.bytes}
    await says(hall, **{name: value for name, value in told.items() if name != "entry"})
    assert await refused(hall) == []
    assert await hall.left("hq") == left * PAGE
    await hall.check()


# -- rights ------------------------------------------------------------------------------------


async def asks(hall, **fields):
    """The site asks for ada's money as it likes; what it holds then, in pages."""
    site, spool = GUIDS["a"], hall.at["a"].spool
    want = Want(PayerKind.PERSON, hall.ada, 0, 0, 0)
    incarnation = UUID(spool.journal.identity[1])
    change = GrantRights(site, incarnation, 1, None, (replace(want, **fields),), (), hall.now_us)
    await hall.hq.journal.commit(change)
    return await hall.rights("a") // PAGE


@pytest.mark.parametrize(
    ("policy", "most"),
    [({"need_share": 50}, 20), ({"need_most": 15 * PAGE}, 15), ({}, 40), ({"most": 0}, 40)],
)
async def test_a_site_draws_no_more_of_somebody_than_its_policy_says(hall, policy, most):
    """Whatever it says that it needs, or has."""
    await hall.hq.journal.commit(PutPolicy(None, OfflinePolicy(**policy), hall.now_us))
    await hall.pay(40)
    for asked in ({"has": -(10**9)}, {"known": 10**9}, {"least": 10**9}):
        assert await asks(hall, **asked) <= most
    assert await hall.rights("a") == most * PAGE
    await hall.check()


async def test_a_site_that_draws_unusually_much_is_told_of(hall):
    """Once a day; what it holds ahead of need is not counted."""
    Reclaiming(hall.hq.journal, Presence(lambda: hall.now_us), lambda: hall.now_us)
    policy = OfflinePolicy(alarm=20 * PAGE)
    await hall.hq.journal.commit(PutPolicy(None, policy, hall.now_us))
    await hall.pay(80)
    with capture_logs() as logs:
        await asks(hall)  # 20 pages, its share
        await asks(hall, least=40 * PAGE)
        assert logs == []
        await asks(hall, least=41 * PAGE)
        await asks(hall, least=50 * PAGE)
    assert [(one["event"], one["drawn"]) for one in logs] == [("rights_unusual", "1.05")]


# -- the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_known", "field"), [(False, "paused"), (True, "name")])
async def test_a_site_repairs_printers_that_are_here_alone(hall, is_known, field):
    """Somebody is to settle what it tells: made-up ones would have no end."""
    printer = await hall.hq.spool.add_printer()
    guid = printer.guid if is_known else uuid4()
    told = {"printer": guid.bytes, "field": field, "value": "jam", "was": None}
    record = AddRecord(Kind.PRINTER_REPAIRED, told, hall.now_us)
    await hall.at["a"].spool.journal.commit(record)
    assert await refused(hall) == ["there is no such printer, or it has no such field."]
