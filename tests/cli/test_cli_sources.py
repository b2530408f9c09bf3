"""`spoold source …` and `spoold user sync` with a real daemon and a real slapd."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoold.cli import grammar
from support import slapd
from support.commands import Run
from support.slapd import Slapd, dn

pytestmark = pytest.mark.slow  # a slapd is started

PEOPLE = "".join(slapd.person(name, name.title()) for name in ("ada", "bob", "cy"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    staff = slapd.group("staff", [dn("ada")])
    with slapd.running(tmp_path_factory.mktemp("slapd"), PEOPLE + staff) as server:
        yield server


@pytest.fixture
def source(run: Run, directory: Slapd) -> Iterator[str]:
    """A source that is added by the command line."""
    said = run(
        f"source add hq --server {directory.clear} --base {slapd.SUFFIX} --every 0 "
        f"--ca-file {directory.ca_file} --bind-dn '{slapd.READER}' "
        f"--password-file {directory.password_file}"
    )
    assert said.out == (
        "Source hq is added; see what its first round will do: `spoold user sync hq --dry-run`.\n"
    )
    yield "hq"
    run("source remove hq")
    for one in run("user list --json").json:
        assert run("user remove", one["name"]).code == 0


def test_people_come_from_a_source(run: Run, source: str) -> None:
    """A dry run shows each of them, the round takes them over, and the status tells of it."""
    said = run("user sync hq --dry-run")
    assert said.out.splitlines() == [
        "+ ada: groups staff, full_name Ada",
        "+ bob: full_name Bob",
        "+ cy: full_name Cy",
        "hq: 3 seen, 3 added (a dry run).",
    ]
    assert run("user list --json").json == []
    assert run("user sync hq").out == "hq: 3 seen, 3 added.\n"
    assert run("user sync hq").out == "hq: 3 seen, nothing to change.\n"
    head, row = run("user sync --status").out.splitlines()
    assert head.split()[:3] == ["NAME", "SERVERS", "EVERY"]
    assert row.endswith("3 seen, nothing to change")
    assert "last round:" in run("source show hq").out
    assert run("user sync hq --json").json["outcome"] == "done"
    assert run("user show ada --json").json[0]["groups"] == ["staff"]
    assert "none" in run("user list").out.splitlines()[1]
    assert run("source set hq --logins on").code == 0
    assert "directory" in run("user list").out.splitlines()[1]
    assert run("user set ada --role operator").out == "User ada is changed (operator, user).\n"
    advice = "  What the source hq knows comes back with its next round.\n"
    assert (
        run("user set ada --full-name Eve").out
        == f"User ada is changed (operator, user).\n{advice}"
    )
    assert "the source hq adds" in run("user remove bob").out
    assert run("user sync hq").out == "hq: 3 seen, 1 added, 1 changed.\n"


def test_a_round_that_fails_is_an_error_with_advice(run: Run, source: str) -> None:
    """Also in the status; and setting it right is enough."""
    assert run("source set hq --base dc=nowhere").out == "Source hq is changed.\n"
    said = run("user sync hq")
    assert said.code == grammar.REFUSED
    assert "failed: the search for people below dc=nowhere failed" in said.out
    assert "failed" in run("source list").out
    assert run(f"source set hq --base {slapd.SUFFIX}").code == 0
    assert run("user sync hq").code == 0
    assert run("user sync").code == grammar.USAGE
    assert "there is no source other" in run("user sync other").err
    assert "is no server of a directory" in run("source set hq --server http://x").err
    assert run("source set hq").code == grammar.USAGE


def test_a_source_is_an_object_and_its_people_are_not(
    run: Run, source: str, tmp_path: Path
) -> None:
    """Export and apply: the source with its settings; whoever came from it is left to it."""
    assert run("user sync hq").code == 0
    assert run("user add eve --no-password").code == 0
    text = run("export objects --kind source --kind user").out
    found = tomllib.loads(text)
    assert list(found["user"]) == ["eve"]
    assert found["source"]["hq"]["bind_dn"] == slapd.READER
    assert slapd.PASSWORD not in text
    file = tmp_path / "objects.toml"
    file.write_text("[user.ada]\nemail = 'a@example.org'\nroles = ['operator']\n")
    assert "user.ada: a directory says what email of this user are." in run("apply", str(file)).err
    file.write_text("[user.ada]\nroles = ['operator']\n")
    assert run("apply", str(file), "--yes").code == 0
    file.write_text(text)
    assert run("apply", str(file), "--yes", "--prune").out.startswith("Nothing to change")
    assert run("source remove hq").out == "Source hq is removed; its 3 users stay.\n"
    said = run("apply", str(file), "--yes")
    assert said.out.splitlines()[-1] == "source hq: added"
    # They are as if made by hand: another source, also of this name, leaves them alone.
    assert run("user sync hq").out.splitlines()[0] == "hq: 3 seen, 3 with trouble."
    assert run("user sync hq --adopt").out == "hq: 3 seen, 3 adopted.\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[source.a]\nservers=['ldaps://x']", "source.a: bases is missing."),
        ("[source.a]\nservers=['http://x']", "no server of a directory"),
        ("[source.a]\nservers=['ldaps://x']\nbases=['dc=x']\nbind_dn='cn=r'", "go together"),
        (
            "[source.a]\nservers=['ldap://x']\nbases=['dc=x']\nbind_dn='cn=r'\n"
            "password_file='/p'\nstart_tls=false",
            "passwords would go to ldap://x in clear",
        ),
        ("[source.a]\nattributes={phone='x'}", "there is no attribute 'phone'"),
        ("[source.a]\nflavour='ad'", "source.a: flavour is 'ad'."),
        ("[source.a]\npassword='x'", "source.a.password: there is no such key."),
    ],
)
def test_what_a_source_cannot_be_is_told_before_anything_changes(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    """In a file of objects."""
    file = tmp_path / "objects.toml"
    file.write_text(text)
    found = run("apply", str(file), "--yes")
    assert (found.code, found.out) == (grammar.REFUSED, "")
    assert said in found.err
    assert run("source list --json").json == []
