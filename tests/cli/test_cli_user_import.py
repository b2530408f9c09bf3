"""`spoold user import`: what would change, what did, and what a file can be made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from spoold.cli import grammar
from spoold.provider.blocking import ControlClient
from support.commands import Run, Server

PEOPLE = """\
Name,Full Name,E-mail is not here,groups,cards,pin,overdraft,disabled
ada,Ada Lovelace,,Staff|Chess,04A1B2C3|blue=55667788,730194,5.00,
EXAMPLE\\bob,"Bob, the builder",,,,7301,default,yes
"""


@pytest.fixture
def people(tmp_path: Path, run: Run, server: Server):
    """Imports a text as a file; those who were added are removed again."""

    def import_text(text: str | bytes, *options: str):
        file = tmp_path / "people.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return run("user import", str(file), *options)

    yield import_text
    assert server.running is not None
    users = run("user list --json").json
    with ControlClient(server.running.control) as client:
        for user in users:
            client.call("user.remove", {"name": user["name"]})


def test_a_file_is_looked_at_taken_over_and_found_in_place(run: Run, people) -> None:
    """The dry run says what will be; asked again, nothing is left to do."""
    column = ("--column", "E-mail is not here=-")
    dry = people(PEOPLE, *column, "--dry-run")
    ada, bob, sums = dry.out.splitlines()
    assert ada == (
        "ada would be added: full_name 'Ada Lovelace'; groups +chess +staff; overdraft "
        "'default' → '5.00'; cards +…B2C3 +blue …7788; pin set"
    )
    assert bob.startswith("bob would be added: full_name 'Bob, the builder'")
    assert "disabled" in bob
    assert sums == "2 added, 0 changed, 0 unchanged, 0 refused"
    assert run("user list --json").json == []
    assert people(PEOPLE, *column).code == 0
    users = {one["name"]: one for one in run("user list --json").json}
    assert users["ada"]["groups"] == ["chess", "staff"]
    assert [one["label"] for one in users["ada"]["cards"]] == ["", "blue"]
    assert (users["bob"]["has_pin"], users["bob"]["disabled"]) == (True, True)
    assert people(PEOPLE, *column).out == "0 added, 0 changed, 2 unchanged, 0 refused\n"


def test_what_is_not_in_the_file_stays(run: Run, people) -> None:
    """Columns that are not there, and cards; an empty cell takes away."""
    assert people("name;email;groups;cards\nada;a@example.org;x|y;1234\n").code == 0
    said = people("name\tgroups\temail\tcards\nada\ty|z\t\t\n")
    first = "ada changed: email 'a@example.org' → ''; groups +z -x"
    assert said.out.splitlines()[0] == first
    (ada,) = run("user list --json").json
    assert (ada["groups"], ada["email"], len(ada["cards"])) == (["y", "z"], "", 1)


def test_one_row_that_cannot_be_keeps_all_from_being_changed(run: Run, people) -> None:
    """Each is told with its line; nothing of any is taken over."""
    rows = "name,email,cards,pin,overdraft,disabled\n" + "\n".join(
        [
            "ada,,1111,,,",
            "eve,nobody,,,,",
            "ada,,,,,",
            "fay,,11 11,,,",
            "a:b,,,,,",
            "gil,,,1234,,",
            "hal,,,,much,",
            "ida,,,,,perhaps",
            "joe,,,,,,,,",
            '"two\nlines",,,,,',
            "kim\u202e,k\u202e@example.org,,,,",
        ]
    )
    said = people(rows, "--json")
    assert said.code == grammar.REFUSED
    actions = [(one["line"], one["action"]) for one in said.json]
    assert actions == [(2, "added")] + [(n, "refused") for n in range(3, 11)] + [
        (12, "added"),
        (13, "refused"),
    ]
    errors = " ".join(one["error"] for one in said.json if "error" in one)
    for told in ("e-mail", "line 2 already", "colon", "everybody tries", "money", "yes nor no"):
        assert told in errors
    assert run("user list --json").json == []
    assert "line 3: eve:" in people(rows).out
    assert "line 10: there are 9 cells" in people(rows).out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no column is called name"),
        (b"full_name\nAda\n", "no column is called name"),
        (b"name,name\n", "twice"),
        (b"name,shoe size\nada,38\n", "--column 'shoe size=-'"),
        (b"name,password\nada,secret\n", "passwords do not come"),
        (b"name\n\xff\xfe\n", "cp1252"),
        (b'name\n"ada\n', "line 2"),
        (b"name\n" + b"x" * 70_000, "field larger"),
    ],
)
def test_what_is_no_list_of_people_is_refused_with_advice(people, content, told) -> None:
    """Before anything is asked of the daemon."""
    said = people(content)
    assert said.code == grammar.REFUSED
    assert told in said.err


def test_a_file_from_windows_with_cards_of_a_reader(run: Run, people) -> None:
    """Its encoding and its columns are named."""
    said = people(
        "Login;Name;Badge\r\nzoe;Zoë;04A1B2C3\r\n".encode("cp1252"),
        *("--encoding", "cp1252", "--column", "login=name", "--column", "Name=full_name"),
        *("--column", "badge=cards", "--converter", "hex-reversed-to-decimal"),
    )
    assert said.code == 0, said.err
    (zoe,) = run("user list --json").json
    assert (zoe["full_name"], zoe["cards"][0]["ending"]) == ("Zoë", "3748")


def test_hundreds_of_users_come_in_many_messages(run: Run, people) -> None:
    """All of them, in order."""
    rows = "".join(f"user{n:03},{'long name ' * 20},{'g' * 200}{n}\n" for n in range(250))
    said = people("name,full_name,groups\n" + rows, "--json")
    assert [one["name"] for one in said.json] == [f"user{n:03}" for n in range(250)]
    assert {one["action"] for one in said.json} == {"added"}
    assert len(run("user list --json").json) == 250
