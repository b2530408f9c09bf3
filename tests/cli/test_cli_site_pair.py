"""`spoold site …` on both ends, as administrators type it: an application server, and its site."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spoold import cli
from spoold.cli.grammar import DONE, REFUSED, UNREACHABLE, USAGE
from spoold.daemon.config import Advertise
from support.commands import Said, Server
from support.peers import wait_until

pytestmark = pytest.mark.slow


@dataclass
class Pair:
    hq: Server
    site: Server
    folder: Path


At = Callable[..., Said]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes that know nothing of each other yet."""
    folder = tmp_path_factory.mktemp("pair")
    advertise = Advertise(endpoints=("localhost:9",))
    with (
        Server(folder / "hq", "hq") as hq,
        Server(folder / "library", "library", "site", advertise=advertise) as site,
    ):
        yield Pair(hq, site, folder)


@pytest.fixture
def at(pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> At:
    """`at("hq", "site list")`: what a command says there."""

    def run(where: str, command: str, *more: str) -> Said:
        server: Server = getattr(pair, where)
        assert server.running is not None
        monkeypatch.setenv("SPOOLD_CONTROL", str(server.running.control))
        capsys.readouterr()
        try:
            code = cli.main([*shlex.split(command), *more])
        except SystemExit as error:
            code = int(str(error.code))
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def joined(pair: Pair, at: At) -> At:
    """The site is a member, its line is up and its copy whole."""
    if at("site", "site show --json").json["state"] != "joined":
        token = at("hq", "site invite library --approved").out.strip()
        said = at("site", f"site join {pair.hq.address('mutual')} --token {token}")
        assert said.code == DONE, said.err
        wait_until(lambda: at("site", "site show --json").json["line"] == "up")
    wait_until(lambda: at("site", "site copy --json").json["is_whole"])
    return at


# -- joining -----------------------------------------------------------------------------------


def test_a_node_that_is_alone_says_so(at: At) -> None:
    """Before it has joined; its name, and no line."""
    said = at("site", "site show")
    assert said.code == DONE
    assert "alone" in said.out
    assert "since" not in said.out
    said = at("site", "site copy")
    assert (said.code, said.out) == (
        DONE, "There is no copy so far: the site has not joined.\n"
    )  # fmt: skip
    said = at("site", "site sync")
    assert (said.code, said.out.startswith("There is no line: ")) == (DONE, True)
    assert "application server invites one" in at("site", "site list").out
    assert at("site", "site history").out == "There was no round yet.\n"
    for command in ("site begin-anew", "site repair default --pause", "site rights"):
        said = at("site", command)
        assert (said.code, said.out) == (REFUSED, ""), command
        assert said.err.startswith("spoold: "), command


@pytest.mark.parametrize(
    ("server", "token", "told"),
    [
        ("localhost", "spj-x", "no whole token"),
        ("localhost", None, "Write HOST:9195"),
        ("localhost:1", None, "Check the address"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_advice(
    at: At, server: str, token: str | None, told: str
) -> None:
    """A token that is none, an address without a port, nobody there; a token works once."""
    if token is None:
        token = at("hq", "site invite mistake").out.strip()
    said = at("site", f"site join {server} --token {token}")
    assert (said.code, said.out, told in said.err) == (REFUSED, "", True), said.err
    at("hq", "site revoke mistake")


def test_a_site_joins_and_is_approved(pair: Pair, at: At) -> None:
    """In two steps, with what each side is told, in words and as JSON."""
    address = pair.hq.address("mutual")
    token = at("hq", "site invite library").out.strip()
    said = at("site", f"site join {address} --token {token}")
    assert said.code == DONE
    assert said.out.strip() == (
        "This is site library once it is approved there: spoold site approve library"
    )
    assert at("site", "site show --json").json["state"] == "pending"
    [row] = [one for one in at("hq", "site list --json").json if one["name"] == "library"]
    assert row["state"] == "pending"
    said = at("hq", "site approve library")
    assert said.code == DONE
    assert said.out.startswith("Site library is approved (")
    wait_until(lambda: at("site", "site show --json").json["line"] == "up")
    said = at("site", "site show")
    assert "joined" in said.out
    assert "hq" in said.out
    said = at("hq", "site show library")
    assert (said.code, "approved" in said.out) == (DONE, True)
    guid = at("hq", "site show library --json").json["guid"]
    assert at("hq", f"site show {guid}").code == DONE
    listed = at("hq", "site list").out.splitlines()
    assert listed[0].split() == [
        "NAME", "STATE", "LINE", "SINCE", "PEER", "CLOCK", "SOFTWARE", "GUID"
    ]  # fmt: skip
    assert [one.split()[:3] for one in listed[1:]] == [["library", "approved", "up"]]
    said = at("site", f"site join {address} --token {token}")
    assert (said.code, said.out) == (REFUSED, "")


def test_the_automatic_printer_of_a_new_site_gives_way(joined: At) -> None:
    """Both nodes made one called `default`; nobody is told of a conflict that is none."""
    assert [one["name"] for one in joined("site", "printer list --json").json] == ["default"]
    assert joined("site", "site copy --json").json["conflicts"] == []
    [row] = joined("site", "printer list").out.splitlines()[1:]
    assert row.endswith("belongs to hq")
    said = joined("site", "site copy")
    assert said.code == DONE
    assert said.out.startswith("The copy is ")
    assert " old, of hq." in said.out
    assert "printer" in said.out
    assert joined("site", "site copy --anew").code == DONE


def test_what_is_the_application_servers_is_changed_there(joined: At) -> None:
    """A site says whose it is."""
    said = joined("site", "printer set default --info x")
    assert (said.code, "it belongs to hq. Change it there" in said.err) == (REFUSED, True)


@pytest.mark.parametrize(
    ("where", "command", "told"),
    [
        ("site", "site invite annex", "application server"),
        ("site", "site approve library", "there is no site library"),
        ("site", "site revoke library", "there is no site library"),
        ("site", "site sync library", "there is no site library"),
        ("hq", "site approve library --printer nowhere", "there is no printer"),
        ("hq", "site sync nowhere", "there is no site nowhere"),
        ("hq", "site sync", "with the site's name"),
        ("hq", "site copy", "Ask at a site"),
        ("hq", "site begin-anew", "or the site itself"),
        ("hq", "site repair default --pause", "Use `spoold printer`"),
        ("site", "site overrides accept default", "no site has changed default"),
        ("hq", "site overrides accept default", "no site has changed default"),
        ("hq", "site overrides revert", "Name one"),
        ("hq", "site policy nowhere --share 50", "there is no site nowhere"),
        ("hq", "site policy --share 50", "--all"),
        ("hq", "site policy nowhere", "there is no site nowhere"),
        ("hq", "site policy library --share 500", "It can be"),
        ("hq", "site rights nowhere", "there is no site nowhere"),
        ("hq", "site rights", "no site is named"),
        ("site", "site policy --all --share 50", "decided at its application server"),
        ("site", "site emergency on", "--until"),
        ("site", "site emergency off", "there is no emergency"),
        ("site", "site repair default --pause", "not cut off"),
        ("hq", "printer rehome --from-site nowhere", "there is no node 'nowhere'"),
        ("hq", "printer rehome --from-site hq", "Name two different nodes"),
        ("hq", "printer rehome --from-site library", "library owns no printers"),
        ("hq", "journal quarantine show 9/9", "`spoold journal quarantine list`"),
        ("hq", "journal quarantine retry 9/9", "`spoold journal quarantine list`"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(
    joined: At, where: str, command: str, told: str
) -> None:
    """On the wrong machine, without a name, or of something that is not there."""
    said = joined(where, command)
    assert (said.code, said.out, told in said.err) == (REFUSED, "", True), said.err


@pytest.mark.parametrize(
    "command",
    [
        "site",
        "site join localhost:1",
        "site repair default",
        "site overrides undo x",
        "site emergency on --until soon",
        "site policy --strangers maybe",
        "printer rehome",
        "journal quarantine",
    ],
)
def test_wrong_usage_says_what_is_missing(at: At, command: str) -> None:
    """With the code of wrong usage, and no daemon asked."""
    said = at("hq", command)
    assert (said.code, said.out) == (USAGE, "")
    assert said.err


# -- the journal -------------------------------------------------------------------------------


def test_the_journals_way_up_is_shown_on_both_ends(joined: At) -> None:
    """How far it has come, the rounds, and that nothing is in quarantine."""
    assert joined("site", "site sync").code == DONE
    said = joined("hq", "site sync library")
    assert (said.code, said.out.startswith("A round begins")) == (DONE, True)

    def is_sent() -> bool:
        return bool(joined("site", "journal status --json").json["upstream"]["lag"] == 0)

    wait_until(is_sent)
    said = joined("site", "journal status")
    assert "to hq: " in said.out
    said = joined("hq", "journal status")
    assert said.code == DONE
    assert "SITE" in said.out
    assert "library" in said.out
    [row] = joined("hq", "journal status --json").json["sites"]
    assert (row["name"], row["quarantined"]) == ("library", 0)
    for where in ("hq", "site"):
        said = joined(where, "site history")
        assert said.out.splitlines()[0].split() == [
            "ROUND", "STARTED", "TOOK", "WITH", "TRIGGER", "RECORDS", "TO", "RESULT"
        ]  # fmt: skip
        assert joined(where, "site history --all --json").json
    said = joined("hq", "journal quarantine list")
    assert (said.code, said.out) == (DONE, "Nothing is in quarantine.\n")
    assert joined("hq", "journal quarantine list --json").json == []
    said = joined("hq", "journal quarantine retry")
    assert said.out == "0 could be applied; 0 stay in quarantine.\n"


# -- alone -------------------------------------------------------------------------------------


def test_policies_are_set_in_advance_and_shown(joined: At) -> None:
    """For all sites, for one, and back again."""
    said = joined("hq", "site policy --all --rights-out overdraft --overdraft 2.00")
    assert said.code == DONE
    said = joined("hq", "site policy library --passwords on --share 40 --most 5.00")
    assert said.code == DONE
    assert "passwords without a directory  on" in said.out
    named = {one["site"]: one for one in joined("hq", "site policy --json").json["policies"]}
    assert named[""]["overdraft"] == 20_000
    assert (named["library"]["share"], named["library"]["most"]) == (40, 50_000)
    shown = joined("hq", "site policy library").out
    assert shown.splitlines()[0] == "library"
    assert "all sites" not in shown
    for command in ("site policy library --reset", "site policy library"):
        said = joined("hq", command)
        assert said.out.startswith("all sites without one of their own\n"), command
        assert "overdraft in an outage         2.00" in said.out
    assert [one["site"] for one in joined("hq", "site policy --json").json["policies"]] == [""]
    assert joined("site", "site policy library").out.startswith("library\n")


def test_rights_are_listed_on_both_ends(joined: At) -> None:
    """Nothing was granted yet."""
    for command in (("hq", "site rights library"), ("site", "site rights")):
        said = joined(*command)
        assert said.code == DONE
        assert joined(command[0], f"{command[1]} --json").json == []
    names = ["zoe", "ada", "kim", "bob"]
    for name in names:
        assert joined("hq", f"user add {name} --no-password").code == DONE
        assert joined("hq", f"account adjust user:{name} 4 --reason cash").code == DONE

    def listed(where: str, command: str) -> list[str]:
        return [row.split()[0] for row in joined(where, command).out.splitlines()[1:]]

    for command in (("hq", "site rights library"), ("site", "site rights")):
        wait_until(lambda command=command: len(listed(*command)) == 4)
        assert listed(*command) == [f"user:{name}" for name in sorted(names)]
    for name in names:
        assert joined("hq", f"user remove {name}").code == DONE


def test_an_emergency_begins_is_seen_and_ends(joined: At) -> None:
    """On the site, with who said so and until when."""
    none = "No emergency: held jobs wait for their owners.\n"
    assert joined("site", "site emergency").out == none
    said = joined("site", "site emergency on --until 2h --reason 'dead readers'")
    assert said.code == DONE
    assert said.out.startswith("Held printers print at once until ")
    assert said.out.strip().endswith(": dead readers.")
    assert joined("site", "site emergency --json").json["emergency"]["reason"] == "dead readers"
    assert joined("site", "site emergency on --until 23:59").code == DONE
    assert joined("site", "site emergency off").out == none


def test_no_site_has_repaired_anything(joined: At) -> None:
    """Overrides are listed where there are none, too."""
    said = joined("hq", "site overrides list")
    assert (said.code, said.out) == (DONE, "No site has changed anything.\n")
    assert joined("hq", "site overrides list --json").json == {"overrides": []}


# -- rehoming and revoking, at last --------------------------------------------------------------


def test_printers_of_a_site_are_rehomed(joined: At, pair: Pair) -> None:
    """What would move, then what moved."""
    paper = (pair.folder / "paper").as_uri()
    assert joined("hq", f"printer add desk {paper} --owner library").code == DONE
    said = joined("hq", "printer rehome --from-site library --dry-run")
    assert said.out.splitlines() == ["1 printer would go to this node:", "  desk"]
    found = joined("hq", "printer rehome --from-site library --json").json
    assert (found["printers"], found["in_doubt"]) == (["desk"], 0)
    [shown] = joined("hq", "printer show desk --json").json
    assert shown["owner"] == ""
    assert joined("hq", "printer remove desk").code == DONE


def test_a_site_is_revoked_for_good(joined: At) -> None:
    """Its line ends, and its own commands say why."""
    assert joined("hq", "printer add side socket://192.0.2.7 --owner library").code == DONE
    wait_until(lambda: "side" in joined("site", "printer list").out)
    said = joined("hq", "site revoke library")
    ended, rest = said.out.splitlines()
    assert (said.code, ended) == (DONE, "Site library is revoked, and its line has ended.")
    assert "owns 1 printer still" in rest
    assert joined("hq", "site show library --json").json["state"] == "revoked"
    wait_until(lambda: joined_line(joined) == "gone")
    assert joined("hq", "site approve library").code == REFUSED
    said = joined("site", "site sync")
    assert said.out.startswith("There is no line: ")


def test_a_site_that_is_cut_off_repairs_a_printer(pair: Pair, at: At) -> None:
    """What it says then, and what stands in the list."""
    assert at("site", "site show --json").json["line"] == "gone"
    for command in (
        "site repair side --pause --reason jam",
        "site repair side --device socket://192.0.2.8",
    ):
        said = at("site", command)
        assert (said.code, said.out) == (
            DONE,
            "side is so here until its application server has accepted or undone it.\n",
        ), said.err
    shown = at("site", "printer show side")
    assert "paused" in shown.out
    assert "socket://192.0.2.8" in shown.out
    said = at("site", "site overrides list")
    assert said.out.splitlines()[0].split() == [
        "SITE", "PRINTER", "NOW", "WAS", "SINCE", "BY", "STATE"
    ]  # fmt: skip
    assert "paused jam" in said.out
    assert at("site", "site overrides list nowhere").out == "No site has changed anything.\n"
    assert at("site", "site repair nowhere --resume").code == REFUSED
    at("site", "site repair side --resume")
    said = at("site", "site repair side --device socket://192.0.2.7")
    assert said.out == "side is as its application server has it.\n"


def joined_line(at: At) -> str:
    return str(at("site", "site show --json").json["line"])


def test_without_a_daemon_a_command_says_so(at: At, tmp_path: Path) -> None:
    """With the code for it."""
    said = at("hq", f"site list --control {tmp_path / 'nowhere'}")
    assert (said.code, "not running here" in said.err) == (UNREACHABLE, True)
