"""Roles that count for some printers and for people of some groups only."""

from __future__ import annotations

import pytest

from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal, Role, Scope

RIGHT = "correct horse"


class Office:
    """Two printers, with a job of ada (staff) and of bob (guests) on each."""

    def __init__(self, desk) -> None:
        self.desk = desk

    async def open(self):
        ask, spool = self.desk.ask, self.desk.spool
        await ask("user.add", name="ada", groups=["staff"])
        await ask("user.add", name="bob", groups=["guests"])
        self.jobs = {}
        for name in ("front", "back"):
            printer = await spool.add_printer(name, paused=True)
            for owner in ("ada", "bob"):
                accepted = await spool.add_job(printer, owner=owner, title=f"{owner}'s")
                self.jobs[name, owner] = accepted.job_id
        return self

    async def helper(self, role="operator", **limits) -> Principal:
        """Somebody who logs in with this role and scope."""
        scope = {"role": role, **limits}
        await self.desk.ask("user.add", name="carl", roles=[role], scopes=[scope], password=RIGHT)
        return await self.desk.services.logins.login("carl", RIGHT, "192.0.2.7")

    async def may(self, principal, op, **args) -> bool:
        try:
            await self.desk.ask(op, principal, **args)
        except OperationError as error:
            if error.code not in ("forbidden", "not-found"):
                raise
            return False
        return True


@pytest.fixture
async def office(desk) -> Office:
    return await Office(desk).open()


async def test_an_operator_of_a_printer_steers_that_printer(office):
    """And its jobs; nothing of the other one, and nothing of the whole node."""
    carl = await office.helper(printers=["front"])
    assert carl.roles == {Role.USER, Role.ANYBODY}
    jobs = office.jobs
    assert await office.may(carl, "printer.pause", name="front")
    assert not await office.may(carl, "printer.pause", name="back")
    assert not await office.may(carl, "printer.redirect", **{"from": "front", "to": "back"})
    assert await office.may(carl, "job.hold", job=jobs["front", "ada"])
    assert not await office.may(carl, "job.hold", job=jobs["back", "ada"])
    assert not await office.may(carl, "job.move", job=jobs["front", "ada"], to="back")
    assert not await office.may(carl, "journal.read")
    assert not await office.may(carl, "printer.set", name="front", info="x")
    assert not await office.may(carl, "job.explain", job=999)
    shown = await office.desk.ask("job.show", carl, job=jobs["front", "bob"])
    assert shown["title"] == "bob's"
    assert "title" not in await office.desk.ask("job.show", carl, job=jobs["back", "bob"])


async def test_many_jobs_are_changed_where_the_filter_stays_within(office):
    """Without the printer it takes the caller's own."""
    carl = await office.helper(printers=["front"])
    done = await office.desk.ask("job.cancel", carl, filter={"printer": "front"})
    assert [one["id"] for one in done["results"]] == [
        office.jobs["front", "ada"],
        office.jobs["front", "bob"],
    ]
    for chosen in ({"printer": "back"}, {}, {"owner": "carl"}):
        assert (await office.desk.ask("job.cancel", carl, filter=chosen))["results"] == []
    assert not await office.may(carl, "job.cancel", filter={"owner": "ada"})


async def test_help_desk_of_a_group_sees_what_is_its_people_s(office):
    """In listings and one by one, at every printer."""
    carl = await office.helper("help-desk", groups=["Staff"])
    listed = (await office.desk.ask("job.list", carl))["jobs"]
    assert [one["id"] for one in listed] == [
        office.jobs["front", "ada"],
        office.jobs["back", "ada"],
    ]
    assert await office.may(carl, "job.explain", job=office.jobs["front", "ada"])
    assert not await office.may(carl, "job.explain", job=office.jobs["front", "bob"])
    assert not await office.may(carl, "printer.show", name="front")
    assert not await office.may(carl, "job.hold", job=office.jobs["front", "ada"])
    assert (await office.desk.ask("printer.list", carl))["printers"] == []


async def test_a_scope_of_printers_and_groups_wants_both(office):
    """Several scopes of a role add up."""
    carl = await office.helper(printers=["front"], groups=["guests"])
    may = {key for key in office.jobs if await office.may(carl, "job.hold", job=office.jobs[key])}
    assert may == {("front", "bob")}
    both = [
        {"role": "operator", "printers": ["front"], "groups": ["guests"]},
        {"role": "operator", "printers": ["back"]},
    ]
    await office.desk.ask("user.set", name="carl", scopes=both)
    carl = await office.desk.services.logins.login("carl", RIGHT, "192.0.2.7")
    may = {key for key in office.jobs if await office.may(carl, "job.hold", job=office.jobs[key])}
    assert may == {("front", "bob"), ("back", "ada"), ("back", "bob")}
    listed = (await office.desk.ask("printer.list", carl))["printers"]
    assert [one["name"] for one in listed] == ["back"]


async def test_a_scope_of_a_site_is_all_of_that_site(office):
    """And nothing of another."""
    carl = await office.helper(sites=["library"])
    assert await office.may(carl, "printer.pause", name="back")
    assert await office.may(carl, "journal.read")
    other = "00000000-0000-4000-8000-0000000000ff"
    scope = {"role": "operator", "sites": [other]}
    await office.desk.ask("user.set", name="carl", scopes=[scope])
    carl = await office.desk.services.logins.login("carl", RIGHT, "192.0.2.7")
    assert not await office.may(carl, "printer.pause", name="back")
    assert not await office.may(carl, "journal.read")


async def test_a_renamed_printer_stays_within(office):
    """A scope is kept by GUID, and shown by name."""
    await office.helper(printers=["front"])
    await office.desk.ask("printer.set", name="front", rename="lobby")
    (scope,) = (await office.desk.ask("user.show", name="carl"))["scopes"]
    assert scope == {"role": "operator", "sites": [], "printers": ["lobby"], "groups": []}


async def test_scopes_go_with_their_role(office):
    """Given again, the role is not limited by what was forgotten; connections end."""
    heard = []
    office.desk.spool.journal.listen(lambda events: heard.extend(events))
    await office.helper(printers=["front"])
    await office.desk.ask("user.set", name="carl", scopes=[])
    assert heard[-1].ends_connections
    await office.desk.ask(
        "user.set", name="carl", scopes=[{"role": "operator", "printers": ["front"]}]
    )
    await office.desk.ask("user.set", name="carl", roles=["user"])
    again = await office.desk.ask("user.set", name="carl", roles=["operator"])
    assert again["scopes"] == []


@pytest.mark.parametrize(
    "scope",
    [
        {"role": "user", "printers": ["front"]},
        {"role": "admin", "printers": ["front"]},
        {"role": "operator", "printers": ["nowhere"]},
        {"role": "operator", "sites": ["nowhere"]},
        {"role": "operator", "groups": ["\u202e"]},
        {"role": "operator", "groups": ["g"] * 51},
        {"printers": ["front"]},
    ],
)
async def test_what_is_no_scope_is_refused(office, scope):
    """Of a role that the user has not, or of what is not there."""
    with pytest.raises(OperationError) as caught:
        await office.desk.ask("user.add", name="carl", roles=["operator"], scopes=[scope])
    assert caught.value.code in ("bad-request", "not-found")


async def test_who_does_not_look_at_scopes_does_not_see_the_role(office):
    """A table without scopes, as any other that asks for roles."""
    limited = Principal(
        "user:1",
        Port.TLS,
        frozenset({Role.USER}),
        "carl",
        scopes=(Scope(Role.ADMIN, printers=("x",)),),
    )
    operation = office.desk.table.operations["printer.describe"]
    assert operation.granted(limited) == frozenset()
    assert not await office.may(limited, "printer.describe", name="front", info="mine")
