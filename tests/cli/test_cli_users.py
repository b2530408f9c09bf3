"""`spoold user …`: passwords by file and terminal, certificates, and what is refused."""

from __future__ import annotations

import io
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from spoold.cli import grammar
from support.commands import Run, Said, Server

RIGHT = "correct horse battery"
Add = Callable[..., Said]


@pytest.fixture
def add(run: Run, tmp_path: Path) -> Add:
    """Adds a user with a password out of a file."""

    def add_user(name: str, *more: str, password: str = RIGHT + "\n") -> Said:
        file = tmp_path / "password"
        file.write_text(password)
        return run("user add", name, "--password-file", str(file), *more)

    return add_user


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """The standard input is this, and no terminal."""
    stdin = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)


def test_users_are_added_listed_shown_changed_and_removed(run: Run, add: Add) -> None:
    """A sentence for people, JSON for programs; the password is in neither."""
    said = add("ADA", "--role", "operator")
    assert said.out == "User ada is added (operator, user).\n"
    head, row = run("user list").out.splitlines()
    assert head.split() == ["NAME", "FULL", "NAME", "GROUPS", "ROLES", "LOGIN", "CHANGED"]
    assert row.split()[:4] == ["ada", "operator,", "user", "password"]
    (user,) = run("user list --json").json
    assert (user["name"], user["roles"], user["has_password"]) == (
        "ada",
        ["operator", "user"],
        True,
    )
    changed = run("user set ada --role help-desk --role admin --json").json
    assert (changed["roles"], changed["guid"]) == (["admin", "help-desk", "user"], user["guid"])
    assert "roles:" in run("user show ada").out
    said = run("user set ada --no-password --role user")
    assert said.out.startswith("User ada is changed (user; no password")
    assert run("user remove ada").out == "User ada is removed.\n"
    assert run("user list").out == "No users yet: `spoold user add NAME`.\n"
    journal = run("journal --from 1 --json").out
    assert RIGHT not in journal
    assert "argon2" not in journal


def test_a_password_comes_by_the_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the end of its line, or without; and not unless that is said."""
    typed(monkeypatch, RIGHT.encode() + b"\r\n")
    assert run("user add bea --password-file -").code == 0
    typed(monkeypatch, RIGHT.encode())
    assert run("user set bea --password-file -").code == 0
    said = run("user set bea")
    assert said.code == grammar.USAGE
    assert "--password-file" in said.err
    assert run("user remove bea").code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "--no-password"),
        (b"\n", "--no-password"),
        (b"\xff\xfe\xfd and more", "UTF-8"),
        (b"x" * 5000, "larger than"),
        (b"short\n", "8 to 256 characters"),
        (b"one line\nand another\n", "one line"),
    ],
)
def test_a_password_that_cannot_be_is_refused_with_advice(
    run: Run, tmp_path: Path, content: bytes, told: str
) -> None:
    """And no user is there afterwards."""
    file = tmp_path / "password"
    file.write_bytes(content)
    said = run("user add eve --password-file", str(file))
    assert said.code != 0
    assert told in said.err
    assert run("user show eve").code == grammar.REFUSED
    assert run("user add eve --password-file", str(tmp_path / "none")).code == grammar.USAGE


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("user show eve", "user list"),
        ("user remove eve", "user list"),
        ("user set eve --role user", "user list"),
        ("user enrol eve", "user list"),
        ("user revoke eve", "user list"),
        ("user add a:b --no-password", "colon"),
    ],
)
def test_a_refusal_says_what_to_do(run: Run, command: str, told: str, tmp_path: Path) -> None:
    """On stderr, with the code of a refusal."""
    more = ["--out", str(tmp_path)] if "enrol" in command else []
    said = run(command, *more)
    assert said.code == grammar.REFUSED
    assert told in said.err
    assert list(tmp_path.iterdir()) == []


def test_who_is_there_is_not_added_again(run: Run, add: Add) -> None:
    """The advice names the command that changes."""
    assert add("cleo").code == 0
    said = add("Cleo")
    assert (said.code, "user set" in said.err) == (grammar.REFUSED, True)
    assert run("user remove cleo").code == 0


def test_a_user_with_a_certificate_submits_as_nobody_else(
    run: Run, server: Server, paused: str, letter: Path, tmp_path: Path
) -> None:
    """The owner is authenticated, whatever the local account is called; removed, it is refused."""
    assert run("user add dora --no-password").code == 0
    out = shlex.quote(str(tmp_path))
    said = run(f"user enrol dora --out {out} --days 30")
    assert said.code == 0, said.err
    assert (tmp_path / "dora.key").stat().st_mode & 0o777 == 0o600
    credentials = f"--ca {out}/ca.crt --cert {out}/dora.crt --key {out}/dora.key"
    there = f"submit -P {paused} --wait 1 --server {server.address('mutual')} {credentials}"
    assert run(there, "--user", "root", str(letter)).code == 0
    (job,) = run(f"job list --printer {paused} --json").json
    assert (job["owner"], job["owner_known"], job["owner_by"]) == (
        "dora",
        "authenticated",
        "certificate",
    )
    assert "handed over by the user dora" in run(f"job explain {job['id']}").out
    assert "(valid, until " in run("user show dora").out
    assert run("user list").out.splitlines()[1].split()[2] == "certificate"
    assert run("user revoke dora").out == "The certificate of dora is revoked.\n"
    assert "(revoked, until " in run("user show dora").out
    assert run("user list").out.splitlines()[1].split()[2] == "none"
    assert run(there, str(letter)).code != 0
    assert run("user remove dora").code == 0


def test_what_people_show_at_machines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards and PINs are given and taken; neither number nor PIN is told again."""
    for name in ("gil", "hal"):
        assert run(f"user add {name} --no-password").code == 0
    said = run("user card add gil 04A1B2C3 --converter hex-reversed --label 'blue badge'")
    assert said.out == "Cards of gil: 1: blue badge …A104.\n"
    typed(monkeypatch, b"99887766\n")
    assert run("user card add gil -").out.endswith("; 2: …7766.\n")
    assert "gil's" in run("user card add hal 99887766").err
    assert run("user card find 9988-7766").out == "This card is one of gil.\n"
    assert run("user card find 04A1B2C3 --converter hex").code == grammar.REFUSED
    made = run("user pin gil --generate")
    assert made.out.strip().isdecimal()
    assert "nobody tells it again" in made.err
    typed(monkeypatch, made.out.encode())
    assert run("user pin gil --pin-file -").out == "User gil has a PIN.\n"
    shown = run("user show gil").out
    assert "card:" in shown
    assert made.out.strip() not in shown + run("user show gil --json").out
    assert "PIN+2-cards" in run("user list").out
    assert run("user card remove gil --number 2").out == "Cards of gil: 1: blue badge …A104.\n"
    assert run("user card remove gil C3B2A104").out == "Cards of gil: none.\n"
    assert run("user pin gil --remove").out == "User gil has no PIN.\n"
    assert run("user pin gil").code == grammar.USAGE
    for name in ("gil", "hal"):
        assert run(f"user remove {name}").code == 0


def test_what_is_known_of_a_user_is_told(run: Run) -> None:
    """Amounts as money; who is disabled, and who may release for whom."""
    assert run("user add ida --no-password --full-name 'Ida Rhodes' --group Staff").code == 0
    assert run("user add joe --no-password").code == 0
    assert run("user set ida --overdraft 12.50 --unrestricted --email ida@example.org").code == 0
    said = run("user delegate ida joe")
    assert said.out == "Beside ida, joe may release the jobs of ida.\n"
    assert run("user disable ida joe").out == "User ida is disabled.\nUser joe is disabled.\n"
    shown = run("user show ida").out
    for told in ("Ida Rhodes", "staff", "12.50", "ida@example.org", "joe"):
        assert told in shown
    (user,) = run("user show ida --json").json
    assert (user["overdraft"], user["disabled"], user["restricted"]) == (125_000, True, False)
    assert run("user enable ida").out == "User ida is enabled.\n"
    assert "nobody may release" in run("user delegate ida joe --remove").out
    for wrong in ("--overdraft much", "--overdraft=-1"):
        assert run(f"user set ida {wrong}").code == grammar.USAGE
    for name in ("ida", "joe"):
        assert run(f"user remove {name}").code == 0


def test_a_role_has_a_scope(run: Run, paused: str) -> None:
    """It is told with the user, and taken away again."""
    scope = f"operator:printer={paused},group=Staff"
    assert run(f"user add kim --no-password --role operator --scope {scope}").code == 0
    assert f"operator for printer {paused}, group staff" in run("user show kim").out
    assert run("user set kim --no-scopes").code == 0
    assert "operator for" not in run("user show kim").out
    for wrong in ("king:printer=x", "operator:floor=2", "operator"):
        assert run(f"user set kim --scope {wrong}").code == grammar.USAGE
    assert run("user set kim --scope admin:site=library").code == grammar.REFUSED
    assert run("user remove kim").code == 0


def test_converters_of_cards_are_tried_without_a_daemon(run: Run) -> None:
    """Under their names, or by steps that are written out."""
    assert run("card test wiegand-26 13E0D4B 13e0d4b").out == "159:1701\n159:1701\n"
    assert run("card test 'hex reverse-bytes decimal' 04A1B2C3").out == "3283263748\n"
    (one,) = run("card test decimal 0012 --json").json
    assert one == {"converter": "decimal/1", "read": "0012", "number": "12"}
    assert "wiegand-26/1" in run("card converters").out
    assert len(run("card converters --json").json) > 10
    refused = run("card test wiegand-26 13E0D4A")
    assert (refused.code, "parity" in refused.err) == (grammar.REFUSED, True)
    assert "Did you mean wiegand-26/1?" in run("card test wiegnd-26 1").err


@pytest.mark.slow
@pytest.mark.parametrize(("second", "code"), [(RIGHT, 0), ("another", grammar.USAGE)])
def test_a_password_is_asked_for_twice_and_not_shown(
    server: Server, run: Run, second: str, code: int
) -> None:
    """On a terminal; what is typed does not appear there."""
    assert server.running is not None
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "spoold", "user", "add", "flo"]
    environ = {**os.environ, "SPOOLD_CONTROL": str(server.running.control)}
    seen = b""

    def read_until(words: bytes) -> None:
        nonlocal seen
        while words not in seen:
            seen += os.read(ours, 1024)

    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    ) as process:
        os.close(theirs)
        read_until(b"Password of flo: ")
        os.write(ours, RIGHT.encode() + b"\n")
        read_until(b"Once more: ")
        os.write(ours, second.encode() + b"\n")
        read_until(b"is added" if code == 0 else b"not the same")
        assert process.wait(60) == code
    os.close(ours)
    assert RIGHT.encode() not in seen
    assert second.encode() not in seen
    assert run("user show flo").code == (0 if code == 0 else grammar.REFUSED)
    run("user remove flo")
