"""`spoold apply` and `spoold export objects` against a real daemon."""

from __future__ import annotations

import io
import os
import pty
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spoold.cli import grammar
from spoold.cli.apply import _kinds, _look
from spoold.daemon.apply import Whole
from spoold.provider.blocking import ControlClient
from support.commands import Run, Said, Server

Apply = Callable[..., Said]


@pytest.fixture
def apply(run: Run, tmp_path: Path) -> Apply:
    """Applies a text as a file of objects."""
    file = tmp_path / "objects.toml"

    def apply_text(text: str, *options: str) -> Said:
        file.write_text(text)
        return run("apply", str(file), *options)

    return apply_text


@pytest.fixture(autouse=True)
def clean(run: Run, server: Server) -> Iterator[None]:
    """Each test finds the printer `default` alone, and no users."""
    yield
    for one in sorted(run("printer list --json").json, key=lambda one: not one["members"]):
        if one["name"] != "default":
            assert run("printer remove", one["name"]).code == 0
    for one in run("user list --json").json:
        assert run("user remove", one["name"]).code == 0


THREE = """
[printer.annex]
uri = "socket://192.0.2.8:9100"
options = { connect_timeout_s = 5, pjl = true }
formats = ["application/PDF", "image/urf"]
location = "Annex, 1st floor"
in_doubt = "reprint"
[printer.annex.offer]
sides-supported = ["one-sided", "two-sided-long-edge"]
copies-default = 1
[printer.color]
uri = "lpd://192.0.2.9/raw"
[printer.floor]
members = ["annex", "color"]
info = "either of them"

[user.ada]
roles = ["operator"]
[user."b.ob"]
"""


def test_objects_are_made_once_and_then_are_as_the_file_says(run: Run, apply: Apply) -> None:
    """The difference is shown, each change is told, and asked again there is none."""
    said = apply(THREE, "--dry-run")
    assert said.out.splitlines()[0].startswith('+ printer annex: uri "socket://192.0.2.8", ')
    assert said.out.splitlines()[-1] == "5 changes; nothing is changed in a dry run."
    assert len(run("printer list --json").json) == 1

    said = apply(THREE, "--yes")
    assert said.code == 0, said.err
    assert [line for line in said.out.splitlines() if line.endswith(": added")] == [
        "printer annex: added",
        "printer color: added",
        "printer floor: added",
        "user ada: added",
        "user b.ob: added",
    ]
    (annex,) = run("printer show annex --json").json
    assert annex["options"] == {"connect_timeout_s": "5", "pjl": "on"}
    assert annex["formats"] == ["application/pdf", "image/urf"]
    assert annex["offer"]["copies-default"] == 1
    assert run("user show ada --json").json[0]["roles"] == ["operator", "user"]
    assert apply(THREE).out == "Nothing to change: 5 objects as the file says.\n"


def test_an_export_can_be_applied_without_a_difference(run: Run, apply: Apply) -> None:
    """What was exported is what is there, also on a node that has lost everything."""
    assert apply(THREE, "--yes").code == 0
    text = run("export objects").out
    assert apply(text, "--yes", "--prune").out.startswith("Nothing to change: 6 objects")
    assert tomllib.loads(text)["user"] == {"ada": {"roles": ["operator", "user"]}, "b.ob": {}}
    for name in ("floor", "annex", "color"):
        assert run("printer remove", name).code == 0
    assert apply(text, "--yes").out.count(": added") == 3
    assert run("export objects").out == text
    only = tomllib.loads(run("export objects --kind printer").out)
    assert list(only) == ["printer"]
    assert "Known are" in run("export objects --kind fax").err


def test_what_is_not_named_stays_and_prune_takes_it_away(run: Run, apply: Apply) -> None:
    """Keys and objects that the file leaves out stay; pruning touches only kinds of the file."""
    assert apply(THREE, "--yes").code == 0
    said = apply('[printer.annex]\nlocation = ""\noptions = { pjl = "" }\n', "--yes")
    assert said.out.splitlines() == [
        '~ printer annex: options.pjl "on" -> none, location "Annex, 1st floor" -> none',
        "printer annex: changed",
    ]
    (annex,) = run("printer show annex --json").json
    assert (annex["location"], annex["options"]) == ("", {"connect_timeout_s": "5"})
    assert annex["in_doubt"] == "reprint"

    said = apply("[printer.annex]\n[printer.default]\n", "--yes", "--prune")
    assert said.out.splitlines()[:2] == ["- printer floor", "- printer color"]
    assert {one["name"] for one in run("printer list --json").json} == {"annex", "default"}
    assert len(run("user list --json").json) == 2


def test_a_pool_becomes_a_printer_and_the_other_way_round(run: Run, apply: Apply) -> None:
    """Steps are made in an order that works, whatever the file's is."""
    assert apply(THREE, "--yes").code == 0
    turned = """
    [printer.annex]
    members = ["floor", "color"]
    [printer.floor]
    uri = "socket://192.0.2.7:9100"
    [printer.color]
    """
    said = apply(turned, "--yes")
    assert said.code == 0, said.err + said.out
    assert apply(turned).out.startswith("Nothing to change")
    assert run("printer show annex --json").json[0]["members"] == ["floor", "color"]
    assert run("printer set annex --uri socket://192.0.2.8").code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[printer.annex", "this is not TOML"),
        ("[printers.annex]", "printers: there is no such kind of object. Did you mean printer?"),
        ("[printer]\nannex = 3", "printer: this is no table of objects. Write [printer.NAME]."),
        ("[printer.annex]\nurl = 'x'", "printer.annex.url: there is no such key. Did you mean uri"),
        ("[printer.annex]\nuri = 3", "printer.annex: uri is a whole number. Give a text."),
        ("[printer.annex]\ninfo = 2024-01-01", "info is something else. Give a text."),
        ("[printer.annex]", "printer.annex: it has neither device URI nor members."),
        ("[printer.annex]\nuri='x:y'\nmembers=['default']", "a device URI and members"),
        ("[printer.'a b']\nuri='socket://h'", "a character that is not allowed"),
        ("[printer.annex]\nuri='gopher://h'", "printer.annex: "),
        ("[printer.annex]\nuri='socket://h'\norder='fare'", "Did you mean fair?"),
        ("[printer.annex]\nuri='socket://h'\noffer={sides=1}", "that can be offered"),
        ("[printer.annex]\nmembers=['nobody']", "there is no printer 'nobody'."),
        ("[printer.annex]\nmembers=['annex']", "annex cannot be a member of itself"),
        (
            "[printer.a]\nuri='socket://h'\n[printer.b]\nmembers=['a']\n[printer.c]\nmembers=['b']",
            "printer.c: b is a pool itself. Name its members instead.",
        ),
        (
            "[printer.a]\nuri='socket://h'\noptions={pjl='on'}\n"
            "[printer.b]\nuri='socket://h:9100'\noptions={pjl='off'}",
            "the same device with other options",
        ),
        ("[user.ada]\nroles=['king']", "user.ada: roles[0] is 'king'."),
        ("[user.ada]\n[user.ADA]", "user.ADA: ada stands here twice."),
        ("[user.ada]\ninitial_password_file='nowhere'", "No such file or directory."),
        ("[user.ada]\nscopes=[{role='user'}]", "what every user may do has no scope."),
    ],
)
def test_a_fault_is_told_with_its_place_and_nothing_is_changed(
    run: Run, apply: Apply, text: str, said: str
) -> None:
    """File, key and advice; objects beside it that would do are not made either."""
    found = apply("[user.bystander]\n" + text, "--yes")
    assert (found.code, found.out) == (grammar.REFUSED, "")
    assert said in found.err
    assert "objects.toml: " in found.err
    assert run("user list --json").json == []
    assert len(run("printer list --json").json) == 1


def test_a_printer_with_jobs_is_not_pruned(
    run: Run, apply: Apply, paused: str, letter: Path
) -> None:
    """It is told before anything changes."""
    assert run(f"submit -P {paused}", str(letter)).code == 0
    said = apply("[printer.default]\ninfo = 'x'", "--yes", "--prune")
    assert "it would be removed, but jobs wait on it" in said.err
    assert run("printer show default --json").json[0]["info"] != "x"
    assert run(f"job cancel --printer {paused}").code == 0


def test_nobody_to_ask_is_told_what_to_do(
    run: Run, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal and without --yes the difference is shown and nothing is done."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    said = apply("[user.ada]\n")
    assert (said.code, said.out) == (grammar.USAGE, "+ user ada\n")
    assert "1 change, and nobody to ask: use --yes." in said.err
    assert run("user list --json").json == []


@pytest.mark.parametrize(("word", "count"), [("y", 1), ("n", 0), ("", 0)])
def test_a_terminal_is_asked(
    run: Run, apply: Apply, monkeypatch: pytest.MonkeyPatch, word: str, count: int
) -> None:
    """Only a yes is one."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        os.write(ours, f"{word}\n".encode())
        said = apply("[user.ada]\n")
    os.close(ours)
    assert "Make 1 change? [y/N] " in said.out
    assert len(run("user list --json").json) == count


def test_printers_that_hold_and_find_me_printers_stand_in_a_file(run: Run, apply: Apply) -> None:
    """Rules for release, and printers that name one another, in whatever order."""
    text = """
    [printer.anywhere]
    release = "find-me"
    releases_at = ["secure"]
    [printer.secure]
    uri = "socket://192.0.2.4"
    options = { pjl = "on" }
    release = "hold"
    keep_held_s = 3600
    policies = ["@students: no-color"]
    """
    said = apply(text, "--yes")
    assert said.code == 0, said.err + said.out
    assert apply(text).out.startswith("Nothing to change: 2 objects")
    (secure,) = run("printer show secure --json").json
    assert (secure["release"], secure["keep_held_s"], len(secure["policies"])) == ("hold", 3600, 1)
    exported = run("export objects --kind printer").out
    assert apply(exported, "--yes", "--prune").out.startswith("Nothing to change")
    said = apply("[printer.anywhere]\n", "--yes", "--prune")
    assert "printer.secure: it would be removed, but anywhere names it" in said.err
    assert (
        "nothing comes out at anywhere"
        in apply("[printer.anywhere]\nreleases_at=['anywhere']", "--yes").err
    )
    assert run("printer remove anywhere").code == 0


def test_the_first_password_comes_out_of_a_file(run: Run, apply: Apply, tmp_path: Path) -> None:
    """It is given to a user who has none, and stands in no output."""
    (tmp_path / "ada.password").write_text("correct horse battery\n")
    text = "[user.ada]\ninitial_password_file = 'ada.password'\n"
    (tmp_path / "ada.password").chmod(0o644)
    assert "others can read it" in apply(text, "--yes").err
    (tmp_path / "ada.password").chmod(0o600)
    said = apply(text, "--yes")
    assert (said.code, "battery" in said.out) == (0, False)
    assert run("user show ada --json").json[0]["has_password"] is True
    (tmp_path / "ada.password").write_text("another horse battery\n")
    assert apply(text).out.startswith("Nothing to change")
    assert "password" not in run("export objects").out


def test_what_is_known_of_users_can_stand_in_a_file(run: Run, apply: Apply) -> None:
    """Groups without case, amounts as people write them, delegates that the file brings along."""
    text = """
    [user.ada]
    full_name = "Ada Lovelace"
    email = "ada@example.org"
    groups = ["Staff", "chess"]
    delegates = ["bob", "cy"]
    restricted = false
    overdraft = "12.50"
    [user.bob]
    delegates = ["ada"]
    disabled = true
    [user.cy]
    roles = ["operator"]
    scopes = [{ role = "operator", printers = ["default"], groups = ["Staff"] }]
    """
    said = apply(text, "--yes")
    assert said.code == 0, said.err
    assert said.out.count(": added") == 3
    assert apply(text).out.startswith("Nothing to change: 3 objects")
    (ada,) = run("user show ada --json").json
    assert (ada["groups"], ada["overdraft"]) == (["chess", "staff"], 125_000)
    assert (ada["delegates"], ada["restricted"]) == (["bob", "cy"], False)
    exported = run("export objects --kind user").out
    assert tomllib.loads(exported)["user"]["ada"]["overdraft"] == "12.50"
    assert apply(exported, "--yes", "--prune").out.startswith("Nothing to change: 3 objects")
    assert apply("[user.ada]\noverdraft = ''\ndelegates = []\n", "--yes").code == 0
    assert run("user show ada --json").json[0]["overdraft"] == "default"
    text = "[user.bob]\nscopes = [{ role = 'operator', printers = ['nowhere'] }]"
    said = apply(text, "--yes")
    assert "user.bob.scopes: the user is no operator." in said.err
    assert "there is no printer nowhere." in said.err
    assert "there is no user eve" in apply("[user.ada]\ndelegates = ['eve']", "--yes").err


MONEY = """
[terms]
currency = "EUR"
zone = "Europe/Berlin"
[prices]
duplex_discount = 1000
step = "0.01"
unknown = "fixed"
unknown_price = "0.50"
[prices.rates]
"print" = "0.05"
"color/print/a3" = "0.40"
"print per sheet" = "0.01"
"copy @plotter" = "1.00"
"any/iso_a4_210x297mm" = "0.1"
[printer.plotter]
uri = "socket://192.0.2.3"
[account.faculty]
groups = ["*"]
[account."faculty/physics"]
code = "4711"
groups = ["Physics"]
members = ["ada"]
restricted = true
overdraft = "100"
[user.ada]
default_account = "faculty/physics"
[allowance."everybody/month"]
amount = "5.00"
[allowance."group:Students/week"]
amount = "1.00"
carry_over = "0.5"
[allowance."faculty/physics/year"]
amount = 1000000
[allowance."user:ada/day"]
amount = "0.10"
"""


def test_accounts_and_prices_stand_in_a_file(run: Run, apply: Apply) -> None:
    """Amounts as people write them; a price is changed alone; what lies in others comes later."""
    said = apply(MONEY, "--yes")
    assert said.code == 0, said.err + said.out
    assert apply(MONEY).out.startswith("Nothing to change: 10 objects")
    shown = run("price show --json").json
    assert {one["price"] for one in shown["rates"]} == {500, 4000, 100, 10000, 1000}
    assert (shown["step"], shown["unknown"], shown["unknown_price"]) == (100, "fixed", 5000)
    physics = run("account list --json").json[1]
    assert (physics["name"], physics["groups"], physics["members"], physics["overdraft"]) == (
        "faculty/physics",
        ["physics"],
        ["ada"],
        1_000_000,
    )
    text = run("export objects").out
    assert apply(text, "--yes", "--prune").out.startswith("Nothing to change")

    said = apply('[prices.rates]\nprint = "0.06"\n"copy @plotter" = ""\n', "--yes")
    assert said.out.splitlines() == [
        '~ prices: rates.print "0.05" -> "0.06", rates.copy @plotter "1.00" -> none',
        "prices: changed",
    ]
    assert len(run("price show --json").json["rates"]) == 4
    said = apply('[allowance."everybody/month"]\namount = "6"\n', "--yes", "--prune")
    assert said.out.splitlines()[:2] == [
        '~ allowance everybody/month: amount "5.00" -> "6.00"',
        "- allowance faculty/physics/year",
    ]
    assert said.out.count(": removed") == 3
    (shown,) = run("account show everybody --json").json
    assert shown["allowances"][0]["amount"] == 60_000
    assert run("account set everybody --allowance 0/month").code == 0
    said = apply("[account.faculty]", "--yes", "--prune")
    assert said.out.splitlines()[:2] == [
        "- account faculty/physics",
        "account faculty/physics: removed",
    ]
    assert "default account of 1 user (ada)" in said.out
    assert run("account remove faculty").code == 0


def test_settings_of_mfds_stand_in_a_file(run: Run, apply: Apply, tmp_path: Path) -> None:
    """Of those that are enrolled; a file makes no credentials, and takes none away."""
    printer = "[printer.panel]\nuri = 'socket://192.0.2.6'\n"
    text = (
        printer + "[device.mfd-1]\nprinters = ['panel']\nidle_s = 60\nmethods = ['pin', 'card']\n"
    )
    said = apply(text, "--yes")
    assert "device.mfd-1: there is no such MFD. Enrol it first" in said.err
    assert run(f"device enrol mfd-1 --printer default --out {tmp_path}").code == 0
    assert apply(text, "--yes").code == 0
    assert apply(text).out.startswith("Nothing to change: 2 objects")
    exported = run("export objects --kind device").out
    assert tomllib.loads(exported)["device"]["mfd-1"]["idle_s"] == 60
    assert apply(exported, "--yes", "--prune").out.startswith("Nothing to change")
    assert apply("[device]\n", "--yes", "--prune").out.startswith("Nothing to change")
    find_me = "[printer.anywhere]\nrelease='find-me'\nreleases_at=['panel']\n"
    said = apply(find_me + "[device.mfd-1]\nprinters = ['anywhere', 'gone']", "--yes")
    assert "nothing comes out at anywhere." in said.err
    assert "there is no printer gone." in said.err
    assert run("device revoke mfd-1").code == 0
    assert "mfd-1" not in run("export objects --kind device").out
    assert "there is no such MFD" in apply("[device.mfd-1]\nidle_s = 70", "--yes").err


def test_whatever_can_be_given_of_an_object_is_shown_of_it(
    run: Run, apply: Apply, server: Server
) -> None:
    """Else it would be a difference for ever; a new setting of an operation must be listed, too."""
    source = "[source.hq]\nservers = ['ldaps://192.0.2.1']\nbases = ['dc=x']\nevery_s = 0\n"
    assert apply(MONEY + source, "--yes").code == 0
    kinds, whole = _kinds(Path()), Whole()
    assert server.running is not None
    with ControlClient(server.running.control) as client:
        _look(client, kinds, whole)
    for kind in kinds:
        given = {one.name for one in kind.arguments} - {"initial_password_file"}
        for one in whole.there[kind.word].values():
            assert given <= one.keys(), kind.word
    assert apply("[account.x]", "--yes", "--prune").code == 0
    assert apply("[allowance.'everybody/day']\namount = '1'", "--yes", "--prune").code == 0
    assert run("account set everybody --allowance 0/day").code == 0
    assert run("account remove x").code == 0
    assert run("source remove hq").code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[prices.rates]\n"paint" = "1"', "prices: 'paint' is no condition."),
        ('[prices.rates]\n"print/copy" = "1"', "two kinds of work"),
        ('[prices.rates]\n"print per mile" = "1"', "'mile' is no unit"),
        ('[prices.rates]\n"print" = "1,5"', "is no amount of money"),
        ('[prices.rates]\n"print" = "-1"', "below zero"),
        ('[prices.rates]\n"print @nowhere" = "1"', "prices.rates: there is no printer nowhere."),
        ("[prices]\nunknown = 'x'", "prices: unknown is 'x'."),
        ("[account.'a/b']", "there is no account a."),
        ("[account.a]\nmembers = ['eve']", "there is no user eve."),
        ("[account.a]\novderdraft = '1'", "Did you mean overdraft?"),
        ("[terms]\noverdraft = 'much'", "is no amount of money"),
        ("[allowance.everybody]", "Write RECIPIENT/PERIOD, as everybody/month"),
        ("[allowance.'user:eve/day']\namount='1'", "there is no user:eve"),
        ("[allowance.'nobody/day']\namount='1'", "there is no account nobody"),
        ("[allowance.'everybody/day']\ncarry_over='1'", "it has no amount"),
    ],
)
def test_a_fault_in_matters_of_money_is_told(run: Run, apply: Apply, text: str, said: str) -> None:
    """Before anything changes."""
    found = apply("[user.bystander]\n" + text, "--yes")
    assert (found.code, found.out) == (grammar.REFUSED, "")
    assert said in found.err
    assert run("user list --json").json == []


def test_a_step_that_is_refused_ends_it_and_says_what_was_made(
    run: Run, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made, what was refused and what was not tried are told, for programs, too."""
    from spoold.daemon.apply_printers import Printers

    monkeypatch.setattr(Printers, "problems", lambda *_: ())  # as if it had come up in between
    text = "[printer.a]\nuri='socket://h'\n[printer.b]\nuri='gopher://h'\n[user.ada]\n[user.bo]"
    said = apply(text, "--yes")
    assert said.code == grammar.REFUSED
    assert said.out.splitlines()[-1] == "1 change made; 2 changes not tried after that."
    steps = apply(text, "--yes", "--json").json["steps"]
    outcomes = {one["name"]: one["outcome"] for one in steps}
    assert outcomes == {"b": "refused", "ada": "not tried", "bo": "not tried"}
    assert steps[0]["error"].startswith("no driver for gopher")
