"""`spoold user …`: people who may log in, and what they may do.

A password is asked for on the terminal, or read from a file; never from the command line, where
every process of the machine could read it.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from spoold.cli import enrolment, grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, USAGE, Nouns, Parser
from spoold.cli.render import Column
from spoold.cli.showing import show_each, show_list
from spoold.model.text import plain

ROLES = ("operator", "admin", "help-desk", "user")
PASSWORD_FILE_BYTES_MAX = 4096


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "user", "say who may log in, and what they may do")
    adding = grammar.command(
        verbs,
        "add",
        add_user,
        "add a user, and ask for the password",
        """spoold user add ada
        spoold user add ada --role operator --password-file ada.txt
        generate-password | spoold user add robot --role help-desk --password-file -""",
    )
    _add_settings(adding)
    setting = grammar.command(
        verbs,
        "set",
        set_user,
        "change a user's roles or password; without an option, ask for a new password",
        """spoold user set ada
        spoold user set ada --role operator --role help-desk
        spoold user set ada --role user                  # takes the other roles away
        spoold user set ada --no-password                # certificates alone""",
    )
    _add_settings(setting)
    grammar.add_json(
        grammar.command(verbs, "list", list_users, "list users with roles", "spoold user list")
    )
    showing = grammar.command(
        verbs, "show", show_user, "show what is known of users", "spoold user show ada bob"
    )
    showing.add_argument("names", nargs="+", metavar="NAME")
    grammar.add_json(showing)
    removing = grammar.command(
        verbs,
        "remove",
        remove,
        "refuse a user from now on, and end the user's connections; jobs stay",
        "spoold user remove ada",
    )
    removing.add_argument("name", metavar="NAME")
    enrolling = grammar.command(
        verbs,
        "enrol",
        enrol,
        "make key and certificate of a user, for 9195",
        "spoold user enrol ada --out ~/.spoold\nspoold user enrol ada --days 30",
    )
    enrolling.add_argument("name", metavar="NAME")
    enrolment.add_arguments(enrolling)
    revoking = grammar.command(
        verbs,
        "revoke",
        revoke,
        "refuse a user's certificates from now on; the password stays",
        "spoold user revoke ada",
    )
    revoking.add_argument("name", metavar="NAME")


def _add_settings(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--role",
        action="append",
        choices=ROLES,
        help="several may be given; every user may see and steer their own jobs",
    )
    password = parser.add_mutually_exclusive_group()
    password.add_argument(
        "--password-file",
        metavar="FILE|-",
        help="read the password there (- is the standard input) instead of asking for it",
    )
    password.add_argument(
        "--no-password", action="store_true", help="the user comes in by certificate alone"
    )
    grammar.add_json(parser)


class _NoPassword(Exception):
    """There is none; the message says why, and what to do."""


def add_user(args: Namespace) -> int:
    return _put(args, "user.add", "is added", asks=True)


def set_user(args: Namespace) -> int:
    return _put(args, "user.set", "is changed", asks=not args.role)


def _put(args: Namespace, op: str, what: str, *, asks: bool) -> int:
    asked: dict[str, Any] = {"name": args.name}
    if args.role:
        asked["roles"] = list(dict.fromkeys(args.role))
    with connect(args):
        pass  # a daemon that does not run is told before a password is typed
    try:
        if args.no_password:
            asked["password"] = ""
        elif args.password_file is not None:
            asked["password"] = _read(args.password_file)
        elif asks:
            asked["password"] = _ask(args.name)
    except _NoPassword as error:
        print(plain(f"spoold: {error}"), file=sys.stderr)
        return USAGE
    with connect(args) as client:
        answer = client.call(op, asked)
    if args.json:
        render.print_json(answer)
        return DONE
    roles = ", ".join(answer["roles"])
    how = "" if answer["has_password"] else "; no password, `spoold user enrol` makes a certificate"
    print(plain(f"User {answer['name']} {what} ({roles}{how})."))
    return DONE


def _read(file: str) -> str:
    """The password in a file: all of it, but for the end of its line."""
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(PASSWORD_FILE_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(PASSWORD_FILE_BYTES_MAX + 1)
        if len(raw) > PASSWORD_FILE_BYTES_MAX:
            raise _NoPassword(f"{file} is larger than {PASSWORD_FILE_BYTES_MAX} bytes.")
        password = raw.decode("utf-8")
    except OSError as error:
        raise _NoPassword(f"{file}: {error.strerror}. Name a file that you can read.") from None
    except UnicodeDecodeError:
        raise _NoPassword(f"{file} is not UTF-8. Write the password as UTF-8 text.") from None
    password = password.removesuffix("\n").removesuffix("\r")
    if not password:
        raise _NoPassword(f"{file} is empty. Use --no-password for a user without a password.")
    return password


def _ask(name: str) -> str:
    """The password, typed twice."""
    if not sys.stdin.isatty():
        raise _NoPassword(
            "there is no terminal to ask for a password. Use --password-file FILE, or "
            "--password-file - for the standard input."
        )
    import getpass

    password = getpass.getpass(plain(f"Password of {name}: "))
    if getpass.getpass("Once more: ") != password:
        raise _NoPassword("the two are not the same. Try again.")
    if not password:
        raise _NoPassword("no password was typed. Use --no-password for a user without one.")
    return password


def list_users(args: Namespace) -> int:
    columns = (
        Column("NAME", gives_way=True),
        Column("ROLES"),
        Column("PASSWORD"),
        Column("CHANGED"),
        Column("GUID"),
    )
    none = "No users yet: `spoold user add NAME`."
    return show_list(args, "user.list", "users", columns, _row, none)


def _row(user: dict[str, Any]) -> list[str]:
    return [
        user["name"],
        ", ".join(user["roles"]),
        "yes" if user["has_password"] else "no",
        render.local_time(user["changed_us"])[:19],
        user["guid"],
    ]


def show_user(args: Namespace) -> int:
    return show_each(args, "user.show", [{"name": name} for name in args.names], _tell)


def _tell(user: dict[str, Any]) -> None:
    certificates = user.pop("certificates")
    shown = [render.readable(key, value) for key, value in user.items()]
    for one in certificates:
        is_old = one["not_after_us"] < time.time() * 1e6
        state = "revoked" if one["revoked"] else "expired" if is_old else "valid"
        until = render.local_time(one["not_after_us"])[:10]
        shown.append(("certificate", f"{one['serial']} ({state}, until {until})"))
    render.print_fields(shown)


def remove(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("user.remove", {"name": args.name})
    print(plain(f"User {answer['name']} is removed."))
    return DONE


def enrol(args: Namespace) -> int:
    answer = enrolment.enrol(args, "user.enrol", {})
    if isinstance(answer, int):
        return answer
    enrolment.tell(args, f"User {answer['name']} is enrolled ({', '.join(answer['roles'])})")
    return DONE


def revoke(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("user.revoke", {"name": args.name})
    count = len(answer["serials"])
    what = "The certificate" if count == 1 else f"All {count} certificates"
    print(plain(f"{what} of {answer['name']} {'is' if count == 1 else 'are'} revoked."))
    return DONE
