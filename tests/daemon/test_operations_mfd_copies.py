"""Operations of MFDs: copies are asked for, made and paid."""

from __future__ import annotations

import trio

from spoold.spool.store import PutAccount
from support.desks import CENT, PASSWORD, add_user, balance


async def test_copies_are_asked_for_made_and_paid(here):
    """What was authorized is taken at once, and what was not made comes back."""
    allowed = await here.at("authorize", work="copy", key="k1", pages=4)
    assert allowed == {"pages": 4, "price": 4 * CENT, "why": ""}
    assert await balance(here) == 6 * CENT
    line = {"impressions": 3, "sides": "two-sided", "color": "monochrome"}
    answer = await here.at("report", work="copy", key="k1", lines=[line])
    assert answer == {"impressions": 3, "total": 3 * CENT, "flags": [], "duplicate": False}
    assert await balance(here) == 7 * CENT


async def test_the_machine_stops_at_zero(here):
    """As many pages as can be paid may be made, and then none."""
    assert (await here.at("authorize", work="copy", key="k1", pages=50))["pages"] == 10
    none = await here.at("authorize", work="scan", key="k2")
    assert (none["pages"], none["price"]) == (0, None)
    assert none["why"]
    answer = await here.at("report", work="copy", key="k1", lines=[])
    assert (answer["impressions"], answer["total"]) == (0, 0)
    assert (await here.at("authorize", work="scan", key="k2"))["pages"] == 5


async def test_an_authorization_is_answered_twice_alike(here):
    """The same key is the same one; for other work, or when it is over, it is none."""
    first = await here.at("authorize", work="copy", key="k1", pages=4)
    assert await here.at("authorize", work="copy", key="k1", pages=4) == first
    assert await balance(here) == 6 * CENT
    args = {"session": here.session, "key": "k1"}
    assert (await here.refusal("authorize", work="scan", **args)).code == "conflict"
    await here.at("report", work="copy", key="k1", lines=[{"impressions": 1}])
    assert (await here.refusal("authorize", work="copy", **args)).code == "conflict"


async def test_a_report_that_comes_twice_is_charged_once(here):
    """Also in two connections at the same time, and whatever the second one says."""
    await here.at("authorize", work="copy", key="k1", pages=4)
    answers = []

    async def report(count):
        lines = [{"impressions": count}]
        answers.append(await here.at("report", work="copy", key="k1", lines=lines))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(report, 4)
    await report(9)
    assert {one["total"] for one in answers} == {4 * CENT}
    assert answers[-1]["duplicate"]
    assert await balance(here) == 6 * CENT


async def test_a_report_that_nobody_was_asked_for_is_charged_and_flagged(here):
    """The paper is out, whoever can pay for it."""
    line = {"impressions": 30}
    answer = await here.at("report", work="copy", key="k9", lines=[line])
    assert answer["total"] == 30 * CENT
    assert "not-reserved" in answer["flags"]
    assert await balance(here) == -20 * CENT
    again = await here.at("report", work="copy", key="k9", lines=[line])
    assert (again["total"], again["duplicate"]) == (30 * CENT, True)
    assert (await here.at("authorize", work="copy", key="k10"))["pages"] == 0


async def test_what_is_reported_late_is_paid_by_who_made_it(desk, enrol, here):
    """After the logout, when somebody else is there, and from a session long over."""
    await here.at("authorize", work="copy", key="k1", pages=2)
    mine = here.session
    await here.at("logout")
    bob = await add_user(desk, "bob", 5 * CENT)
    await here.login(name="bob", password=PASSWORD)
    lines = [{"impressions": 2}]
    assert (await here.ask("report", work="copy", key="k1", lines=lines))["total"] == 2 * CENT
    late = await here.ask("report", session=mine, work="copy", key="k2", lines=lines, ago_s=60)
    assert late["flags"] == ["not-reserved"]
    assert await balance(here) == 5 * CENT
    ada = await desk.spool.reader.user("ada")
    assert bob.guid != ada.guid
    await here.login(name="ada", password=PASSWORD)
    assert await balance(here) == 6 * CENT
    unknown = await here.refusal("report", work="copy", key="k3", lines=lines)
    assert unknown.code == "not-found"
    foreign = await enrol("other")
    error = await foreign.refusal("report", session=mine, work="copy", key="k4", lines=lines)
    assert error.code == "session-ended"


async def test_the_same_key_of_another_mfd_is_another_charge(desk, enrol, here):
    """A vendor whose keys begin anew on each machine mixes nothing up."""
    other = await enrol("other")
    await other.login(name="ada", password=PASSWORD)
    assert (await here.copy(2, key="1"))["total"] == 2 * CENT
    assert (await other.copy(3, key="1"))["total"] == 3 * CENT
    assert await balance(here) == 5 * CENT


async def test_what_was_never_reported_comes_back(desk, here, monkeypatch):
    """After a while; a report that comes even later is charged all the same, and flagged."""
    await here.at("authorize", work="copy", key="k1", pages=4)
    assert await desk.services.work.give_back() == 0
    monkeypatch.setattr("spoold.release.work.UNREPORTED_S", -1)
    assert await desk.services.work.give_back() == 1
    assert await balance(here) == 10 * CENT
    answer = await here.at("report", work="copy", key="k1", lines=[{"impressions": 4}])
    assert (answer["total"], answer["flags"]) == (4 * CENT, ["after-cancel"])


async def test_a_shared_account_pays_when_it_is_chosen(desk, here):
    """Whoever may charge to it; another one is none."""
    now_us = desk.spool.wall_clock()
    ada = await desk.spool.reader.user("ada")
    for name, members in (("faculty", (ada.guid,)), ("others", ())):
        await desk.spool.journal.commit(
            PutAccount(name, now_us, is_new=True, code=name[:3], members=members)
        )
    found = (await here.at("accounts"))["accounts"]
    assert [(one["name"], one["code"], one["balance"]) for one in found] == [
        ("", "", 10 * CENT),
        ("faculty", "fac", None),
    ]
    assert (await here.copy(50, account="fac"))["total"] == 50 * CENT
    assert await balance(here) == 10 * CENT
    args = {"session": here.session, "work": "copy", "key": "k"}
    error = await here.refusal("authorize", account="others", **args)
    assert error.code == "account-info-needed"


async def test_a_printer_that_does_not_charge_takes_nothing(desk, enrol, here):
    """As many pages as are wanted; they are counted, and nobody pays."""
    await desk.spool.add_printer("free", uri="file:///free")
    await desk.ask("device.set", name="panel", printers=["free"])
    allowed = await here.at("authorize", work="copy", key="k1", pages=500)
    assert (allowed["pages"], allowed["price"]) == (500, None)
    answer = await here.at("report", work="copy", key="k1", lines=[{"impressions": 500}])
    assert (answer["impressions"], answer["total"]) == (500, None)
    assert await balance(here) == 10 * CENT
