"""Operations of MFDs: logins, held jobs, what is told."""

from __future__ import annotations

import pytest
import trio

from spoold.model import card as cards
from spoold.model.errors import OperationError
from spoold.model.mfd import SessionEnd
from spoold.model.pricing import PriceList
from spoold.model.release import ReleaseMode
from spoold.release.news import Mode
from spoold.site.far_desk import FAR
from spoold.spool import release as held
from spoold.spool.store import PutCard, PutPin, PutPrices, PutUser
from support.desks import CENT, PASSWORD, add_job, add_user, balance
from support.directory import DIGESTS


async def give_card(desk, name, number, converter=cards.PLAIN):
    number = cards.convert(converter, number)
    change = PutCard(
        name, tuple(DIGESTS.cards(number)), "", cards.ending(number), desk.spool.wall_clock()
    )
    return await desk.spool.journal.commit(change)


async def test_people_log_in_by_card_pin_both_or_password(desk, panel, ada):
    """Whatever they show, the session is theirs; what proves nobody is refused."""
    await give_card(desk, "ada", "04-A1-B2-C3")
    await desk.spool.journal.commit(
        PutPin("ada", tuple(DIGESTS.pins("314159")), desk.spool.wall_clock())
    )
    for method, shown in {
        "card": {"card": "04a1b2c3"},
        "pin": {"pin": "314159"},
        "card+pin": {"card": "04a1b2c3", "pin": "314159"},
        "password": {"name": "LIBRARY\\Ada", "password": PASSWORD},
    }.items():
        answer = await panel.login(**shown)
        assert (answer["user"], answer["method"]) == ("ada", method)
        assert answer["printers"] == ["safe"]
        assert answer["mode"] == "online"
        assert (await panel.at("resume"))["method"] == method
    for shown in (
        {"card": "04a1b2c4"},
        {"pin": "314158"},
        {"card": "04a1b2c3", "pin": "1"},
        {"name": "ada", "password": "wrong"},
        {"name": "nobody", "password": PASSWORD},
    ):
        assert (await panel.refusal("login", **shown)).code in ("unauthorized", "busy")
    assert (await panel.refusal("login")).code == "bad-request"


async def test_an_mfd_has_a_converter_and_ways_to_log_in(desk, enrol, ada):
    """The same card reads differently there; what is not allowed is not looked at."""
    await give_card(desk, "ada", "04A1B2C3", "hex/1")
    panel = await enrol("turned", converter="hex-reversed/1", methods=["card"])
    assert (await panel.login(card="C3B2A104"))["user"] == "ada"
    error = await panel.refusal("login", name="ada", password=PASSWORD)
    assert (error.code, "password" in error.message) == ("forbidden", True)
    with pytest.raises(OperationError, match="Did you mean"):
        await desk.ask("device.set", name="turned", converter="hex-reversd/1")


async def test_a_new_card_becomes_somebodys_own(desk, panel, ada):
    """Whoever proves the rest has it from then on; nobody takes another's."""
    shown = {"name": "ada", "password": PASSWORD}
    assert (await panel.ask("associate", card="77 88", **shown))["user"] == "ada"
    assert (await panel.login(card="7788"))["method"] == "card"
    await add_user(desk, "bob")
    error = await panel.refusal("associate", card="7788", name="bob", password=PASSWORD)
    assert error.code == "conflict"
    assert (await panel.refusal("associate", **shown)).code == "bad-request"


async def test_only_the_mfd_of_a_session_acts_for_it(enrol, here):
    """Not even the one beside it, with the right id."""
    other = await enrol("other")
    for op in ("resume", "jobs", "logout", "accounts"):
        assert (await other.refusal(op, session=here.session)).code == "session-ended"
    assert (await here.at("resume"))["user"] == "ada"


async def test_who_is_disabled_is_logged_out(desk, here):
    """At once, at each MFD."""
    change = PutUser("ada", desk.spool.wall_clock(), fields={"disabled": True})
    await desk.spool.journal.commit(change)
    assert (await here.refusal("jobs", session=here.session)).code == "session-ended"
    assert (await here.refusal("login", name="ada", password=PASSWORD)).code == "unauthorized"


async def test_who_loses_a_card_is_logged_out(desk, panel, ada):
    """Whoever has found it is out at once, and does not come in again."""
    await give_card(desk, "ada", "04A1B2C3")
    await panel.login(card="04A1B2C3")
    await desk.ask("user.remove-card", name="ada", number=1)
    assert (await panel.refusal("jobs", session=panel.session)).code == "session-ended"
    assert (await panel.refusal("login", card="04A1B2C3")).code == "unauthorized"


async def test_a_logout_can_be_said_twice(here):
    """The answer to the first may have been lost."""
    assert await here.at("logout") == {}
    assert await here.at("logout") == {}
    assert (await here.refusal("resume", session=here.session)).code == "session-ended"


async def states(desk, *ids):
    return [(await desk.spool.reader.job(one)).state.value for one in ids]


async def test_held_jobs_are_listed_released_changed_and_deleted(desk, safe, here):
    """Their owner's alone, each by itself."""
    await desk.spool.journal.commit(PutPrices(PriceList(0), 1))
    first, second = await add_job(desk, safe, title="one"), await add_job(desk, safe)
    third, other = await add_job(desk, safe, copies=2), await add_job(desk, safe, "bob")
    for one in (first, second, third):
        await desk.counts.count(await desk.spool.reader.job(one))
    shown = (await here.at("jobs"))["jobs"]
    assert [one["id"] for one in shown] == [first, second, third]
    assert (shown[0]["title"], shown[0]["fits"], shown[2]["copies"]) == ("one", True, 2)
    changed = await here.at("change", job=second, copies=3)
    assert (changed["id"], changed["error"]) == (second, None)
    results = (await here.at("release", jobs=[first, other, FAR - 1]))["results"]
    assert [one["error"] and one["error"]["code"] for one in results] == [
        None,
        "not-found",
        "not-found",
    ]
    assert (await here.at("delete", jobs=[third, other]))["results"][0]["state"] == "canceled"
    assert [one["id"] for one in (await here.at("release"))["results"]] == [second]
    assert await states(desk, first, second, third, other) == [
        "pending",
        "pending",
        "canceled",
        "pending-held",
    ]


async def test_an_mfd_releases_on_its_printers_alone(desk, enrol, here):
    """Others are as if they were not there; without a name it is the first of its own."""
    await desk.spool.add_printer("vault", uri="file:///vault", release=ReleaseMode.HOLD)
    for op in ("jobs", "release"):
        error = await here.refusal(op, session=here.session, printer="vault")
        assert (error.code, error.advice) == ("forbidden", "It does on safe.")
    await desk.ask("device.set", name="panel", printers=["vault", "safe"])
    assert (await here.at("jobs", printer="vault"))["jobs"] == []
    assert (await here.at("resume"))["printers"] == ["vault", "safe"]


async def test_an_mfd_stands_for_printers_where_paper_comes_out(desk, enrol):
    """A find-me printer is none of them: its jobs come out at others."""
    await desk.ask("printer.add", name="roam", release="find-me")
    for op, name in (("device.enrol", "panel-9"), ("device.set", "panel")):
        await enrol("panel")
        with pytest.raises(OperationError, match="nothing comes out at roam"):
            await desk.ask(op, name=name, printers=["safe", "roam"])


async def test_jobs_of_a_find_me_printer_come_out_where_their_owner_stands(desk, safe, here):
    """They are listed at each machine, and gone once they are fetched."""
    await desk.ask("printer.add", name="roam", release="find-me")
    roam = (await desk.services.catalogue.look()).by_name["roam"]
    job_id = await add_job(desk, roam, title="anywhere")
    await desk.counts.count(await desk.spool.reader.job(job_id))
    (shown,) = (await here.at("jobs"))["jobs"]
    assert (shown["printer"], shown["fits"]) == ("roam", True)
    (result,) = (await here.at("release"))["results"]
    assert (result["state"], result["error"]) == ("pending", None)
    assert (await desk.spool.reader.job(job_id)).printer_id == safe.id
    assert (await here.at("jobs"))["jobs"] == []


async def test_long_lists_come_in_pages(desk, safe, here):
    """Whatever the limit, each job once."""
    ids = [await add_job(desk, safe) for _ in range(7)]
    found, after = [], 0
    while after is not None:
        answer = await here.at("jobs", after_id=after, limit=3)
        found += [one["id"] for one in answer["jobs"]]
        after = answer["next_after_id"]
    assert found == ids


async def test_two_people_at_two_mfds_race_for_a_job(desk, safe, enrol, prices):
    """One of them gets it, and it is paid for once."""
    bob = await add_user(desk, "bob", CENT * 100)
    await add_user(desk, "ada", CENT * 100, delegates=(bob.guid,))
    panels = [await enrol("left"), await enrol("right")]
    await panels[0].login(name="ada", password=PASSWORD)
    await panels[1].login(name="bob", password=PASSWORD)
    for _ in range(10):
        job_id = await add_job(desk, safe)
        await desk.counts.count(await desk.spool.reader.job(job_id))
        results = []

        async def release(panel, job_id=job_id, results=results):
            results.extend((await panel.at("release", jobs=[job_id]))["results"])

        async with trio.open_nursery() as nursery:
            for panel in panels:
                nursery.start_soon(release, panel)
        assert sorted(one["error"] is None for one in results) == [False, True]
        refused = next(one["error"] for one in results if one["error"])
        assert refused["code"] == "not-possible"
        assert len(await desk.spool.reader.look(held.releases, job_id)) == 1
    left, right = await balance(panels[0]), await balance(panels[1])
    assert (left, right) == (CENT * 100 - 10 * 2 * CENT, CENT * 100)


async def test_a_session_is_followed_to_its_end(desk, safe, here):
    """Mode and balance first, then what happens, and why it is over."""
    told = []
    heard = trio.Event()

    async def send(name, args):
        nonlocal heard
        told.append((name, args))
        heard.set()
        heard = trio.Event()

    async def until(name):
        with trio.fail_after(30):
            while name not in [one for one, _ in told]:
                await heard.wait()

    async def follow():
        result = await desk.table.call(
            here.principal, "mfd.follow", {"session": here.session}, send
        )
        assert result == {"reason": "logout"}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await until("balance")
        assert [name for name, _ in told] == ["node-mode", "balance"]
        assert told[1][1] == {"balance": 10 * CENT, "available": 10 * CENT, "currency": ""}
        told.clear()
        await here.copy(3)
        await until("balance")
        assert told[-1][1]["balance"] == 7 * CENT
        job_id = await add_job(desk, safe)
        await until("job-state")
        assert told[-1][1]["job_id"] == job_id
        desk.services.news.set_mode(Mode.OFFLINE)
        await until("node-mode")
        session = await desk.services.sessions.find_any(
            desk.services.mfds.of(here.principal), here.session
        )
        await desk.services.sessions.end(session, SessionEnd.LOGOUT, "node")


async def test_a_node_that_stops_says_so(desk, here):
    """The MFD goes to another endpoint then."""

    async def send(name, args):
        if args == {"mode": "online"}:
            desk.services.news.set_mode(Mode.STOPPING)

    result = await desk.table.call(here.principal, "mfd.follow", {"session": here.session}, send)
    assert result == {"reason": "stopping"}
