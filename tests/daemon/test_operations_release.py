"""Held jobs through the table: who may release what from where."""

from __future__ import annotations

import pytest

from spoold.model.errors import OperationError
from spoold.model.outcome import Delivered
from spoold.model.principal import Port, Principal, Role
from spoold.model.release import ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.spool import release as held
from spoold.spool.store import PutUser
from support.asking import end, start
from support.money import PAGE, Purses

OPERATOR = Principal("user:op", Port.TLS, frozenset({Role.OPERATOR}), "op")


@pytest.fixture
async def ada(desk):
    await desk.ask("user.add", name="ada", roles=["user"], password="correct horse")
    return await desk.services.logins.login("ada", "correct horse", "192.0.2.7")


@pytest.fixture
async def safe(desk):
    return await desk.spool.add_printer("safe", release=ReleaseMode.HOLD)


async def add(desk, printer, owner="ada", **fields):
    return (await desk.spool.add_job(printer, owner=owner, **fields)).job_id


async def put_user(desk, name, *, is_new=False, **fields):
    change = PutUser(name, desk.spool.wall_clock(), is_new=is_new, fields=fields)
    await desk.spool.journal.commit(change)


async def refusal(desk, op, _principal, **args):
    with pytest.raises(OperationError) as caught:
        await desk.ask(op, _principal, **args)
    return caught.value


async def test_neither_owner_nor_operator_releases_from_afar(desk, ada, safe):
    """Who is not at the machine, nor at this one, is told where to go."""
    job_id = await add(desk, safe)
    for who in (ada, OPERATOR):
        error = await refusal(desk, "job.release", who, job=job_id)
        assert error.code == "not-possible"
        assert "machine" in str(error)
        many = await desk.ask("job.release", who, filter={"printer": "safe"})
        assert [one["ok"] for one in many["results"]] == [False]
    assert (await refusal(desk, "job.release", ada, job=job_id, to="safe")).code == "forbidden"


async def test_an_operator_at_this_machine_releases(desk, safe):
    """And the journal says who it was."""
    job_id = await add(desk, safe)
    dry = await desk.ask("job.release", job=job_id, dry_run=True)
    assert dry["results"][0]["ok"]
    assert (await desk.spool.reader.job(job_id)).awaits_release
    answer = await desk.ask("job.release", job=job_id)
    assert answer["results"][0]["state"] == "pending"
    (entry,) = await desk.spool.reader.look(held.releases, job_id)
    assert entry.fields["by"] == "uid:0"


async def test_an_operator_says_where_a_find_me_job_comes_out(desk, safe):
    """Nothing comes out at a find-me printer itself."""
    await desk.ask("printer.add", name="roam", release="find-me")
    roam = (await desk.services.catalogue.look()).by_name["roam"]
    job_id = await add(desk, roam)
    with pytest.raises(OperationError, match="--to PRINTER"):
        await desk.ask("job.release", job=job_id)
    await desk.ask("job.release", job=job_id, to="safe")
    job = await desk.spool.reader.job(job_id)
    assert (job.state, job.printer_id) == ("pending", safe.id)


async def test_a_filter_releases_what_waits_and_what_is_held(desk, safe):
    """Each in its way; what may be cut off stays."""
    plain = await desk.spool.add_printer("plain", "file:///plain")
    reasons = ("job-hold-until-specified",)
    await add(desk, safe)
    await add(desk, plain, state="pending-held", reasons=reasons)
    await add(desk, safe, state="pending-held", reasons=("submission-interrupted",))
    answer = await desk.ask("job.release", filter={"owner": "ada"})
    assert [one["ok"] for one in answer["results"]] == [True, True, False]


async def test_people_see_and_release_their_own(desk, ada, safe):
    """After a login, saying where; and nobody else's."""
    mine, other = await add(desk, safe, title="mine"), await add(desk, safe, "bob")
    (shown,) = (await desk.ask("release.held", ada, printer="safe"))["jobs"]
    assert (shown["id"], shown["title"], shown["fits"]) == (mine, "mine", True)
    assert shown["expires_us"] > shown["created_us"]
    answer = await desk.ask("release.release", ada, jobs=[mine, other], printer="safe")
    assert [one["error"] and one["error"]["code"] for one in answer["results"]] == [
        None,
        "not-found",
    ]
    assert (await desk.ask("release.held", ada))["jobs"] == []
    assert (await refusal(desk, "release.held", ada, user="bob")).code == "forbidden"


async def test_all_that_fit_are_released_together(desk, ada, safe):
    """Those for another printer, or of a format that it does not take, stay."""
    picky = await desk.spool.add_printer(
        "picky", "file:///picky", release=ReleaseMode.HOLD, formats=("application/pdf",)
    )
    await desk.ask("printer.add", name="roam", release="find-me", releases_at=["safe", "picky"])
    roam = (await desk.services.catalogue.look()).by_name["roam"]
    here, there, anywhere = await add(desk, safe), await add(desk, picky), await add(desk, roam)
    shown = (await desk.ask("release.held", ada, printer="safe"))["jobs"]
    assert [one["fits"] for one in shown] == [True, False, True]
    answer = await desk.ask("release.release", ada, printer="safe")
    assert [one["id"] for one in answer["results"]] == [here, anywhere]
    (left,) = (await desk.ask("release.held", ada, printer="picky"))["jobs"]
    assert (left["id"], left["fits"]) == (there, False)
    assert "text/plain" in left["why"]


async def test_people_delete_and_change_their_own(desk, ada, safe):
    """Copies before the release; what cannot be told to the device is refused."""
    first, second = await add(desk, safe), await add(desk, safe)
    await desk.ask("release.delete", ada, jobs=[first])
    assert (await desk.spool.reader.job(first)).reasons == ("job-canceled-by-user",)
    await desk.ask("release.change", ada, job=second, copies=3)
    assert (await desk.spool.reader.job(second)).copies == 3
    error = await refusal(desk, "release.change", ada, job=second, sides="two-sided-long-edge")
    assert error.code == "not-possible"
    await desk.ask("release.release", ada, jobs=[second], printer="safe", copies=2)
    assert (await desk.spool.reader.job(second)).copies == 2


async def test_delegates_release_for_others(desk, ada, safe):
    """Whom bob has named sees bob's jobs, and releases them; but deletes none of them."""
    user = await desk.services.reader.user("ada")
    await put_user(desk, "bob", is_new=True, delegates=(user.guid,))
    job_id = await add(desk, safe, "bob")
    (shown,) = (await desk.ask("release.held", ada))["jobs"]
    assert shown["owner"] == "bob"
    gone = await desk.ask("release.delete", ada, jobs=[job_id])
    assert gone["results"][0]["error"]["code"] == "not-found"
    await desk.ask("release.release", ada, jobs=[job_id], printer="safe")
    (entry,) = await desk.spool.reader.look(held.releases, job_id)
    assert entry.fields["person"] == user.guid.bytes


async def test_rules_of_the_printer_hold_for_its_people(desk, ada, safe):
    """Who may not print there is told by which rule; an operator at this machine may release it."""
    await desk.ask("printer.set", name="safe", policies=["!@staff: deny"])
    job_id = await add(desk, safe)
    answer = await desk.ask("release.release", ada, jobs=[job_id], printer="safe")
    assert answer["results"][0]["error"]["code"] == "forbidden"
    assert "!@staff: deny" in answer["results"][0]["error"]["advice"]
    await put_user(desk, "ada", groups=("staff",))
    answer = await desk.ask("release.release", ada, jobs=[job_id], printer="safe")
    assert answer["results"][0]["error"] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"uri": "file:///x", "release": "find-me"}, "one of the three"),
        ({"release": "hold"}, "one of the three"),
        ({"release": "find-me", "releases_at": ["nowhere"]}, "no printer 'nowhere'"),
        ({"uri": "file:///x", "releases_at": ["safe"]}, "only a find-me printer"),
        ({"uri": "file:///x", "policies": ["@a: duplex"]}, "cannot be told"),
        ({"members": ["safe"], "policies": ["*: monochrome"]}, "cannot be told"),
        ({"uri": "file:///x", "policies": ["nonsense"]}, "the rule 'nonsense'"),
        ({"uri": "file:///x", "senders": ["10.0.0.0/8"]}, "the rule '10.0.0.0/8'"),
    ],
)
async def test_settings_that_do_not_go_together_are_refused(desk, safe, args, message):
    """With what would do."""
    with pytest.raises(OperationError, match=message):
        await desk.ask("printer.add", name="new", **args)


async def test_a_find_me_printer_follows_the_names_of_others(desk, safe):
    """A printer that it names cannot go, and may be renamed."""
    await desk.ask("printer.add", name="roam", release="find-me", releases_at=["safe"])
    with pytest.raises(OperationError, match="named by roam"):
        await desk.ask("printer.remove", name="safe")
    await desk.ask("printer.set", name="safe", rename="safer")
    shown = await desk.ask("printer.show", name="roam")
    assert (shown["releases_at"], shown["release"]) == (["safer"], "find-me")
    with pytest.raises(OperationError, match="neither a device nor members"):
        await desk.ask("printer.set", name="safer", release="find-me")


async def test_explain_tells_who_paid_and_how_the_price_came_about(desk, ada, safe):
    """Counting, payer, price line by line, purses before and after, and who released it where."""
    purses = await Purses(desk.spool).start()
    user = await desk.services.reader.user("ada")
    await purses.pay_in(user.guid, 10 * PAGE)
    await desk.ask("printer.set", name="safe", charging="on")
    job_id = await add(desk, safe, body=b"one\ftwo\f")
    waits = (await desk.ask("job.explain", job=job_id))["waits"]
    assert waits.startswith("It waits for its owner at the machine")
    (shown,) = (await desk.ask("release.held", ada, printer="safe"))["jobs"]
    assert (shown["pages"], shown["price"]) == (None, None)
    await desk.ask("release.release", ada, jobs=[job_id], printer="safe")
    story = (await desk.ask("job.explain", job=job_id))["story"]
    told = {entry["what"]: entry["detail"] for entry in story}
    assert "the job: 2 impressions a copy, 2 sheets in all" in told["counted: 2 pages"]
    assert told["released by ada at safe"] == "from user:ada"
    assert "paid by user:ada, as its owner" in told
    (price,) = [detail for what, detail in told.items() if what.startswith("price 0.10")]
    assert "2 impressions at 0.05 = 0.10" in price
    assert told["reserved 0.10"] == "paid-in 0.50 -> 0.40"
    shown = await desk.ask("job.show", job=job_id)
    assert (shown["pages"], shown["media_sheets"]) == (2, 2)
    number = await start(desk, job_id, safe)
    await end(desk, job_id, number, Delivered({"pages": 1}), JobEvent.DELIVER)
    story = (await desk.ask("job.explain", job=job_id))["story"]
    told = {entry["what"]: entry["detail"] for entry in story}
    back = told["charged for less than was reserved; given back 0.05"]
    assert back == "paid-in 0.40 -> 0.45"


async def test_who_may_act_names_the_machine(desk, ada, safe):
    """The owner does not release it after a login alone."""
    job_id = await add(desk, safe)
    may_act = (await desk.ask("job.explain", job=job_id))["may_act"]
    assert "the user ada and who may for them, at the machine: release" in may_act
    assert "the user ada, after a login: show, cancel" in may_act
