"""Money over the table of operations: who sees and changes what, and how it is told."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from spoold.model.charge import Flag
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal, Role
from spoold.model.purse import Payer, PayerKind
from spoold.model.usage import Line, Usage, Work

A4 = "iso_a4_210x297mm"
CLERK = Principal(
    "user:00000000-0000-4000-8000-0000000000c1",
    Port.TLS,
    frozenset({Role.ACCOUNTANT, Role.USER}),
    "clerk",
    (),
    "192.0.2.9",
    "basic",
)
ADA = replace(CLERK, identity=f"user:{uuid4()}", name="ada", roles=frozenset({Role.USER}))


@pytest.fixture
async def ada(desk) -> UUID:
    await desk.ask("price.set", rates=[{"price": 500}, {"price": 2000, "color": "color"}])
    return UUID((await desk.ask("user.add", name="ada", groups=["staff"]))["guid"])


async def refused(desk, op, principal=CLERK, **args) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await desk.ask(op, principal, **args)
    return caught.value


async def make(desk, person, count, key=b"k", settle=None, **fields):
    usage = Usage(Work.COPY, (Line(count, count, "monochrome", "one-sided", A4),))
    charging = desk.services.charging
    await charging.reserve(key, Payer(PayerKind.PERSON, person), usage, None, **fields)
    return await charging.settle(key, None if settle is None else usage.limited_to(settle))


async def test_an_accountant_handles_money_and_nothing_else(desk, ada):
    """Over TLS, after a login; the journal has the author by key and the reason as personal."""
    added = await desk.ask("account.adjust", CLERK, name="user:ada", amount=10_000, reason="gift")
    assert added == {"name": "user:ada", "amount": 10_000, "balance": 10_000}
    (entry,) = (await desk.ask("account.statement", CLERK, name="user:ada"))["entries"]
    assert (entry["actor"], entry["reason"]) == (CLERK.identity, "gift")
    record = (await desk.spool.reader.records(desk.spool.journal.head, 1))[0]
    assert (record.actor, record.personal) == (CLERK.identity, {"reason": "gift"})
    for op in ("job.explain", "user.add", "printer.pause"):
        assert (await refused(desk, op, name="x")).code == "forbidden"
    for op in ("account.adjust", "price.set", "account.statement", "usage.sums"):
        assert (await refused(desk, op, ADA)).code == "forbidden"


async def test_a_question_that_is_asked_twice_books_once(desk, ada):
    """With the same key; an accountant's program lost the answer."""
    key = str(uuid4())
    asked = {"name": "user:ada", "amount": 5000, "reason": "gift", "key": key}
    await desk.ask("account.adjust", **asked)
    assert (await desk.ask("account.adjust", **asked))["balance"] == 5000
    await make(desk, ada, 10)
    refund = {"charge": b"k".hex(), "reason": "jam", "key": key}
    first = await desk.ask("account.refund", **refund)
    assert await desk.ask("account.refund", **refund) == first
    assert first == {"charge": "6b", "payer": "user:ada", "refunded": 5000, "paid": 0}
    error = await refused(desk, "account.refund", charge="6b", reason="more")
    assert error.code == "not-possible"
    assert (await refused(desk, "account.adjust", **{**asked, "key": "7"})).code == "bad-request"


async def test_a_charge_is_told_with_its_sum_and_its_purses(desk, ada):
    """What job explain shows; of a job that was not charged there is nothing."""
    await desk.ask("account.adjust", name="user:ada", amount=10_000, reason="gift")
    await make(desk, ada, 10, settle=4)
    (told,) = (await desk.ask("account.charges", charge="6b"))["charges"]
    assert (told["payer"], told["user"], told["state"]) == ("user:ada", "ada", "settled")
    assert (told["reserved"], told["total"], told["impressions"]) == (5000, 2000, 4)
    (line,) = told["derivation"]
    assert (line["count"], line["price"], line["amount"]) == ("4", "0.05", "0.20")
    steps = [(one["cause"], one["purses"][0]["before"]) for one in told["entries"]]
    assert steps == [("reserve", 10_000), ("settle", 5000)]
    assert (await refused(desk, "account.charges", job=77)).code == "not-found"
    assert (await refused(desk, "account.charges")).code == "bad-request"
    assert (await refused(desk, "account.charges", charge="no")).code == "bad-request"


async def test_people_see_their_own_money_and_choices(desk, ada):
    """And nobody else's."""
    await desk.ask("account.add", name="faculty", groups=["STAFF"])
    await desk.ask("account.add", name="faculty/physics", code="4711")
    await desk.ask("account.add", name="board")
    await desk.ask("account.allow", name="everybody", amount=3000, period="week")
    mine = await desk.ask("account.mine", ADA)
    assert (mine["name"], mine["balance"], mine["available"]) == ("ada", 3000, 3000)
    assert [one["name"] for one in mine["accounts"]] == ["faculty", "faculty/physics"]
    assert [one["purse"] for one in mine["purses"]] == ["allowance", "overdraft"]
    # Nothing was booked for looking.
    assert (await desk.ask("account.my-statement", ADA))["entries"] == []
    await make(desk, ada, 2)
    causes = [one["cause"] for one in (await desk.ask("account.my-statement", ADA))["entries"]]
    assert causes == ["settle", "reserve", "grant"]


async def test_statements_and_sums_come_in_pages(desk, ada):
    """Each entry and each sum once."""
    for number in range(7):
        await desk.ask("account.adjust", name="user:ada", amount=1, reason=f"gift {number}")
    asked = {"name": "user:ada", "limit": 3}
    rows, count = await desk.ask_all("account.statement", "entries", **asked)
    assert [one["reason"] for one in rows] == [f"gift {number}" for number in (6, 5, 4, 3, 2, 1, 0)]
    assert count == 3
    for number in range(5):
        user = await desk.ask("user.add", name=f"u{number}", restricted=False)
        await make(desk, UUID(user["guid"]), number + 1, key=bytes([number]))
    rows, count = await desk.ask_all("usage.sums", "sums", by="user", limit=2)
    assert sorted((one["name"], one["amount"]) for one in rows) == [
        (f"u{number}", 500 * (number + 1)) for number in range(5)
    ]
    assert count == 3


async def test_usage_is_summed_by_user_account_and_printer(desk, ada):
    """In a span of time; the shadow apart, and what is flagged counted."""
    account = await desk.ask("account.add", name="physics", groups=["*"])
    printer = await desk.spool.add_printer("frontdesk")
    charging = desk.services.charging
    payer = await charging.payer("physics", await desk.spool.reader.user("ada"), "choice")
    usage = Usage(Work.PRINT, (Line(3, 2, "color", "two-sided", A4),))
    await charging.reserve(b"1", payer, usage, printer)
    await charging.settle(b"1")
    await charging.reserve(b"2", payer, usage, printer, enforce=False)
    await charging.settle(b"2")
    charge = await charging.charge(b"3", Payer(PayerKind.PERSON, ada), usage, None)
    assert Flag.BEYOND_LIMIT in charge.flags
    expected = {
        "user": [("ada", 3, 9, 12_000, 6000, 1)],
        "account": [("physics", 2, 6, 6000, 6000, 0)],
        "printer": [("", 1, 3, 6000, 0, 1), ("frontdesk", 2, 6, 6000, 6000, 0)],
    }
    for by, rows in expected.items():
        found = (await desk.ask("usage.sums", CLERK, by=by))["sums"]
        fields = ("name", "charges", "impressions", "amount", "shadow", "flagged")
        assert sorted(tuple(one[key] for key in fields) for one in found) == rows
    assert (await desk.ask("usage.sums", by="user", until_us=1))["sums"] == []
    assert (await desk.ask("account.show", name="physics"))["guid"] == account["guid"]


async def test_prices_of_a_printer_and_versions_that_do_not_exist(desk, ada):
    """A printer's own price comes before all others."""
    await desk.spool.add_printer("plotter")
    await desk.ask("price.set", rates=[{"price": 70_000, "per": "m2", "printer": "plotter"}])
    shown = await desk.ask("price.show")
    assert [one["printer"] for one in shown["rates"]] == ["", "", "plotter"]
    test = {"impressions": 1, "media": "a0", "printer": "plotter"}
    found = await desk.ask("price.test", **test)
    assert found["total"] == 500 + 69_996  # 0.999949 m²
    assert (await refused(desk, "price.test", printer="nowhere")).code == "not-found"
    assert (await refused(desk, "price.show", version=9)).code == "not-found"
    rate = {"price": 1, "printer": "nowhere"}
    assert (await refused(desk, "price.set", rates=[rate])).code == "not-found"
    rate = {"color": "monochrome"}
    assert (await refused(desk, "price.set", rates=[rate])).code == "not-found"


async def test_names_of_accounts_cannot_do_harm(desk):
    """Control characters, empty parts, what stands for something else: refused with advice."""
    for name in ("", "a//b", "/a", "a/", " a", "user:ada", "everybody", "a\nb", "x" * 300):
        assert (await refused(desk, "account.add", name=name)).code == "bad-request"
    for name in ("../../etc/passwd", 'a"b', "naïve", "a'); DROP TABLE account; --"):
        if "/" not in name:
            assert (await desk.ask("account.add", name=name))["name"] == name
    assert (await refused(desk, "account.add", name="no/parent")).code == "not-found"
    await desk.ask("account.set", name="naïve", code="12")
    assert (await refused(desk, "account.set", name='a"b', code="12")).code == "conflict"
    assert (await refused(desk, "account.set", name='a"b', code="1 2")).code == "bad-request"
    await desk.ask("account.add", name="naïve/child")
    await desk.ask("account.add", name="naïve/child/grandchild")
    await desk.ask("account.set", name="naïve", rename="native")
    names = [one["name"] for one in (await desk.ask("account.list"))["accounts"]]
    assert {"native", "native/child", "native/child/grandchild"} <= set(names)
    error = await refused(desk, "account.set", name="native", rename="native/child/x")
    assert error.code == "not-possible"


async def test_terms_and_allowances_that_cannot_be_are_refused(desk):
    """A zone that does not exist would have no periods."""
    for zone in ("Mars/Base", "../../etc/passwd", ""):
        assert (await refused(desk, "account.terms", zone=zone)).code == "bad-request"
    assert (await desk.ask("account.terms", zone="Asia/Kathmandu"))["zone"] == "Asia/Kathmandu"
    asked = {"name": "group:Staff", "amount": 5, "period": "day"}
    await desk.ask("account.allow", **asked)
    assert (await desk.ask("account.show", name="group:staff"))["allowances"][0]["amount"] == 5
    await desk.ask("account.allow", **{**asked, "amount": 0})
    assert (await desk.ask("account.show", name="group:staff"))["allowances"] == []
    assert (await refused(desk, "account.allow", **{**asked, "amount": 0})).code == "not-found"


async def test_a_printer_that_names_no_account_says_so(desk):
    """A slip of the pen would have all jobs wait; adding the account ends the advice."""
    await desk.spool.add_printer("default")
    senders = ["* sap* -> erp charge works/stores", "* -> ="]
    shown = await desk.ask(
        "printer.set", name="default", default_account="nix", senders=senders, charging="on"
    )
    told = [one for one in shown["advice"] if "names the account" in one]
    assert [("nix" in told[0], "works/stores" in told[1]), len(told)] == [(True, True), 2]
    for name in ("nix", "works", "works/stores"):
        await desk.ask("account.add", name=name)
    shown = await desk.ask("printer.show", name="default")
    assert not [one for one in shown["advice"] if "names the account" in one]
