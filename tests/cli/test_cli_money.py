"""`spoold account`, `price` and `usage`: money as an accountant handles it."""

from __future__ import annotations

import csv
import io
from uuid import UUID

import pytest
import trio

from spoold.cli import grammar
from spoold.model.purse import Payer, PayerKind
from spoold.model.usage import Line, Usage, Work
from spoold.spool.store import PutUser
from support.commands import Run, Server

A4 = "iso_a4_210x297mm"


def do(server: Server, function, *values):
    """Run an async function in the daemon's loop."""
    return trio.from_thread.run(function, *values, trio_token=server._token)


@pytest.fixture(scope="module")
def ada(server: Server) -> UUID:
    services = server.running.services
    change = PutUser("ada", services.wall_clock(), is_new=True, fields={"groups": ("students",)})
    return do(server, services.journal.commit, change).guid


def words(text: str) -> str:
    """A text without the spaces that make its columns."""
    return " ".join(text.split())


def print_pages(server: Server, key: bytes, person: UUID, count: int) -> None:
    """Work for somebody: reserved, and done."""
    charging = server.running.services.charging
    usage = Usage(Work.COPY, (Line(count, count, "color", "one-sided", A4),))

    async def work() -> None:
        await charging.reserve(key, Payer(PayerKind.PERSON, person), usage, None)
        await charging.settle(key, None)

    do(server, work)


def test_prices_are_set_shown_tested_and_kept_in_versions(run: Run) -> None:
    """As people write them; what is not named stays, and a test shows the sum line by line."""
    assert run("price list").out.startswith("Nothing has a price yet")
    said = run(
        "price set print=0.05 print/color=0.20 copy=0.04 any/a3=0.10/sheet scan=0 "
        "--duplex-discount 12.5 --unknown 0.50 --round-to 0.01"
    )
    assert said.out.startswith("Version 1 of the prices is in force from ")
    said = run("price test print --pages 5 --color --two-sided --media a3")
    assert said.out.splitlines()[1:] == [
        "print, color, two-sided, iso_a3_297x420mm      5  impression   0.20    1.00",
        "print, color, two-sided, iso_a3_297x420mm      3  sheet        0.10    0.30",
        "two-sided, 12.5 % off                          1  line         0.00  -0.125",
        "rounded to 0.01                                1  job          0.00   0.005",
        "Total: 1.18, by version 1 of the prices.",
    ]
    run("account set everybody --currency EUR")
    assert "Total: 0.50 EUR, by" in run("price test --unknown").out
    run("account set everybody --currency ''")
    run("price set print/color=none fax=1.5/job")
    shown = run("price show --json").json
    assert (shown["version"], shown["duplex_discount"]) == (2, 1250)
    words = [(one["work"], one["color"], one["price"]) for one in shown["rates"]]
    assert words == [
        ("print", "", 500),
        ("copy", "", 400),
        ("", "", 1000),
        ("scan", "", 0),
        ("fax", "", 15000),
    ]
    rows = [line.split() for line in run("price list").out.splitlines()[1:]]
    assert [(row[0], row[-1]) for row in rows] == [("2", "force"), ("1", "5")]
    assert "two-sided:      12.5 % off" in run("price show").out
    assert (
        "Total: 1.18"
        in run("price test print --pages 5 --color --two-sided --media a3 --version 1").out
    )
    late = run("price set print=1 --from 2020-01-01")
    assert (late.code, "never be in force" in late.err) == (grammar.REFUSED, True)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("price set print", "is not WHAT=PRICE"),
        ("price set print/pink=1", "none of print"),
        ("price set print/copy=1", "two kinds of work"),
        ("price set print=1/km", "no unit"),
        ("price set print=-1", "below zero"),
        ("price set", "name what to change"),
        ("site policy --all --overdraft -1", "below zero"),
        ("price set --from 2h", "name what to change"),
        ("price set print=1 --from soon", "how long"),
        ("price test print --media papyrus", "no medium"),
        ("price list 3", "usage: spoold price list"),
        ("price set --duplex-discount 101", "no discount"),
        ("account set everybody --allowance 5", "names no period"),
        ("account adjust user:ada lots --reason x", "no amount"),
        ("account set user:ada --code 7", "no shared account"),
        ("account set faculty --zone UTC", "those of everybody"),
        ("account set faculty", "nothing is to be changed"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_is_asked(run: Run, command, told) -> None:
    """With exit code 2, and what can be written."""
    said = run(command)
    assert said.code == grammar.USAGE
    assert told in said.err


def test_shared_accounts_are_added_listed_changed_and_removed(run: Run, ada) -> None:
    """By name, in a tree; what holds money is not removed."""
    assert run("account add faculty --group students").out == "Account faculty is added.\n"
    said = run("account add faculty/physics --code 4711 --member ada --restricted --overdraft 5")
    assert said.out == "Account faculty/physics (code 4711) is added.\n"
    rows = run("account list").out.splitlines()
    assert rows[0].split() == ["NAME", "CODE", "BALANCE", "AVAILABLE", "WHO"]
    assert rows[1].split() == ["faculty", "0.00", "unlimited", "students"]
    assert rows[2].split() == ["faculty/physics", "4711", "0.00", "5.00", "ada"]
    run("account adjust faculty/physics 20 --reason budget")
    run("account adjust faculty 2 --until 2099-01-01T12:00 --reason gift")
    assert "credit until 2099-01-01 12:00 2.00" in run("account statement faculty").out
    said = run("account remove faculty/physics")
    assert (said.code, "Bring its balance to 0.00" in said.err) == (1, True)
    assert "lies in it" in run("account remove faculty").err
    shown = words(run("account show faculty/physics").out)
    assert "balance: 20.00 available: 25.00 credit: 20.00" in shown
    run("account adjust faculty/physics -20 --reason 'budget is back'")
    run("account set faculty/physics --rename faculty/astronomy --closed")
    assert run("account show faculty/astronomy --json").json[0]["open"] is False
    assert run("account remove faculty/astronomy").code == 0
    assert "there is no account" in run("account show faculty/astronomy").err


def test_somebody_s_money_is_told_and_what_was_booked(run: Run, server: Server, ada) -> None:
    """Allowances, purses, charges with their sums, refunds with a reason; and usage as CSV."""
    run("price set --replace copy=0.10")
    terms = run("account set everybody --currency EUR --zone Europe/Berlin --overdraft 1 --json")
    assert terms.json["zone"] == "Europe/Berlin"
    run("account set group:students --allowance 0.50/month --carry-over 2")
    said = run("account adjust user:ada 3 --purse paid-in --reason =cash")
    assert said.out == "user:ada: +3.00, the balance is 3.50.\n"
    print_pages(server, b"copy-1", ada, 12)
    shown = words(run("account show user:ada").out)
    assert "balance: 2.30 EUR available: 3.30 EUR" in shown
    assert "paid-in: 2.30 EUR" in shown
    shown = words(run("account show group:students").out)
    assert "each month: 0.50 EUR, up to 2.00 EUR carried over" in shown
    entries = run("account statement user:ada --json").json
    assert [one["cause"] for one in entries] == ["settle", "reserve", "pay-in", "grant"]
    assert entries[1]["amount"] == -12000
    rows = run("account statement user:ada").out.splitlines()[1:]
    assert [row.split()[2] for row in rows] == ["paid", "pay-in", "grant"]
    assert [line["before"] for line in entries[1]["purses"]] == [5000, 30000]
    said = run(f"account refund --charge {entries[0]['charge']} --pages 2 --reason 'blank pages'")
    assert said.out == "user:ada has 0.20 of it back, and has paid 1.00.\n"
    said = run(f"account refund --charge {entries[0]['charge']} --amount 2 --reason more")
    assert "1.00 can be given back" in said.err
    rows = list(csv.reader(io.StringIO(run("account statement user:ada --csv").out)))
    assert rows[0][1:4] == ["cause", "for", "amount"]
    assert (rows[1][1:4], rows[1][6]) == (["refund", "copy", "0.20"], "blank pages")
    assert rows[4][6] == "'=cash"  # no formula of a spreadsheet
    rows = list(csv.reader(io.StringIO(run("usage --since 1h --csv").out)))
    assert rows[0][:3] == ["user", "charges", "impressions"]
    assert rows[1] == ["ada", "1", "12", "12", "12", "1.00", "0.00", "0"]
    assert "AMOUNT EUR" in run("usage").out.splitlines()[0]
    assert run("usage --by account").out == "Nothing was charged in this time.\n"
    (row,) = run("usage --by printer --json").json
    assert (row["name"], row["amount"]) == ("", 10000)
    assert run("account set group:students --allowance 0/month").code == 0
    assert "nobody here is called bob" in run("account show user:bob").err
