"""People at MFDs through the table: logins, held jobs, copies and what they cost."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
import trio

from spoold.daemon.operations.held_jobs import JOB_ID_MAX
from spoold.model import card as cards
from spoold.model.errors import OperationError
from spoold.model.mfd import SessionEnd
from spoold.model.pricing import PriceList, Rate
from spoold.model.purse import PayerKind
from spoold.model.release import Charging, ReleaseMode
from spoold.model.usage import Work
from spoold.release.news import Mode
from spoold.site.far_desk import FAR
from spoold.spool import release as held
from spoold.spool.store import Adjust, PutAccount, PutCard, PutPin, PutPrices, PutUser
from support.directory import DIGESTS
from support.panels import Panel

CENT = 100  # 1/10,000
PASSWORD = "correct horse"
HOSTILE = (
    "\0",
    "a\r\nSet-Cookie: x=y",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe\u2066",
    "'; DROP TABLE job; --\"`$(id)",
    "../../../../etc/passwd",
    "C:\\..\\" + "%s%n{0}{self}",
    "\N{ZERO WIDTH JOINER}\N{COMBINING LONG STROKE OVERLAY}" * 100,
    "A" * 65536,
    "\N{PILE OF POO}" * 16384,
)


@pytest.fixture
async def safe(desk):
    """A printer whose jobs wait for their owners, and that charges."""
    return await desk.spool.add_printer("safe", release=ReleaseMode.HOLD, charging=Charging.ON)


@pytest.fixture
async def enrol(desk, safe):
    """Enrols an MFD for `safe`."""

    async def enrolled(name="panel", printers=("safe",), **settings) -> Panel:
        answer = await desk.ask("device.enrol", name=name, printers=list(printers), **settings)
        return Panel(desk, answer["guid"], name)

    return enrolled


@pytest.fixture
async def panel(enrol):
    return await enrol()


async def add_user(desk, name="ada", credit=0, **fields):
    now_us = desk.spool.wall_clock()
    hashed = await desk.services.passwords.hash(PASSWORD)
    change = PutUser(name, now_us, password=hashed, is_new=True, fields=fields)
    user = await desk.spool.journal.commit(change)
    if credit:
        kind = PayerKind.PERSON
        change = Adjust(uuid4().bytes, kind, user.guid, credit, "start", now_us, "uid:0")
        await desk.spool.journal.commit(change)
    return user


@pytest.fixture
async def ada(desk):
    return await add_user(desk, "ada", 10 * CENT)


@pytest.fixture
async def prices(desk):
    """A copy is one cent, anything else two."""
    rates = (Rate(2 * CENT), Rate(CENT, work=Work.COPY))
    await desk.spool.journal.commit(PutPrices(PriceList(0, rates=rates), 0))


@pytest.fixture
async def here(panel, ada, prices):
    """Ada is logged in, with ten cents."""
    await panel.login(name="ada", password=PASSWORD)
    return panel


async def give_card(desk, name, number, converter=cards.PLAIN):
    number = cards.convert(converter, number)
    change = PutCard(
        name, tuple(DIGESTS.cards(number)), "", cards.ending(number), desk.spool.wall_clock()
    )
    return await desk.spool.journal.commit(change)


async def balance(panel):
    return (await panel.at("resume"))["balance"]


# -- logins ------------------------------------------------------------------------------------


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


# -- held jobs ---------------------------------------------------------------------------------


async def add_job(desk, printer, owner="ada", **fields):
    return (await desk.spool.add_job(printer, owner=owner, **fields)).job_id


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


# -- copies ------------------------------------------------------------------------------------


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


# -- what is told ------------------------------------------------------------------------------


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


# -- hostile texts -----------------------------------------------------------------------------


def texts_in(arguments, path=()):
    """The paths of all arguments that may be texts."""
    for argument in arguments:
        here = (*path, argument.name)
        if str in argument.types:
            yield here
        if dict in argument.types:
            yield from texts_in(argument.keys, here)
        if list in argument.types and argument.each is not None and argument.each.keys:
            yield from texts_in(argument.each.keys, (*here, 0))


def with_text(args, path, text):
    """The arguments, with `text` at a path."""
    copied = json.loads(json.dumps(args))
    target = copied
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = text
    return copied


async def said(asked):
    """What an operation answers: its result as JSON, or its refusal in words."""
    try:
        return json.dumps(await asked)
    except OperationError as error:
        return f"{error.code} {error}"


@pytest.mark.slow
async def test_hostile_texts_do_no_harm_in_any_operation(desk, safe, here, tmp_path):
    """Each text of each operation: taken or refused, in plain words, and the node goes on."""
    job_id = await add_job(desk, safe)
    whole = {
        "login": {"name": "ada", "password": PASSWORD, "card": "1", "pin": "1"},
        "associate": {"name": "ada", "password": PASSWORD, "card": "1", "pin": "1"},
        "jobs": {"printer": "safe"},
        "release": {"jobs": [JOB_ID_MAX], "printer": "safe", "account": "", "sides": "one-sided"},
        "change": {"job": job_id, "printer": "safe", "sides": "one-sided", "color": "auto"},
        "delete": {"jobs": [JOB_ID_MAX]},
        "authorize": {"work": "copy", "key": "k", "account": "", "printer": "safe"},
        "report": {
            "work": "copy",
            "key": "k",
            "printer": "safe",
            "lines": [{"impressions": 1, "media": "", "color": "color", "sides": "one-sided"}],
        },
    }
    before = sorted(path for path in tmp_path.rglob("*") if "spool.db" not in path.name)
    tried = 0
    for operation in desk.table.operations.values():
        name = operation.name.removeprefix("mfd.")
        if name == operation.name:
            continue
        args = dict(whole.get(name, {}))
        if any(one.name == "session" for one in operation.arguments):
            args["session"] = here.session
        for path in texts_in(operation.arguments):
            for text in HOSTILE:
                answer = await said(here.ask(name, **with_text(args, path, text)))
                assert answer.isprintable(), (name, path)
                assert "internal-error" not in answer
                tried += 1
        if name == "logout":
            await here.login(name="ada", password=PASSWORD)
    assert tried > 100
    after = sorted(path for path in tmp_path.rglob("*") if "spool.db" not in path.name)
    assert after == before
    assert (await here.at("resume"))["user"] == "ada"
    assert await desk.spool.reader.verify_chain() == desk.spool.journal.head


async def test_hostile_titles_and_names_are_only_shown(desk, safe, here):
    """A job's title is what its sender says; it stays a text."""
    for text in HOSTILE:
        await add_job(desk, safe, title=text[:255])
    shown = (await here.at("jobs"))["jobs"]
    assert [one["title"] for one in shown] == [text[:255] for text in HOSTILE]
    results = (await here.at("delete", jobs=[one["id"] for one in shown]))["results"]
    assert all(one["state"] == "canceled" for one in results)


async def test_the_guid_of_an_mfd_alone_opens_nothing(desk, here):
    """An MFD that nobody has enrolled is refused whatever session it names."""
    stranger = Panel(desk, UUID(int=1), "panel")
    for op in ("login", "resume", "jobs"):
        args = {} if op == "login" else {"session": here.session}
        assert (await stranger.refusal(op, **args)).code == "forbidden"
