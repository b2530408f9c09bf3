"""`spoold user …`: people who may log in, and what they may do. Cards, PINs and more: `people`.

A password is asked for on the terminal, or read from a file; never from the command line, where
every process of the machine could read it.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from spoold.cli import enrolment, grammar, people, render, sources, user_csv
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, USAGE, Nouns, Parser
from spoold.cli.render import Column
from spoold.cli.showing import show_each, show_list
from spoold.model.text import plain

ROLES = ("operator", "admin", "help-desk", "accountant", "user")
SECRET_FILE_BYTES_MAX = 4096
USUAL = "default"
OF_SOURCES = {"rename", "full_name", "email", "groups", "default_account"}  # what a directory tells


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "user", "say who may log in, and what they may do")
    adding = grammar.command(
        verbs,
        "add",
        add_user,
        "add a user, and ask for the password",
        """spoold user add ada
        spoold user add ada --full-name "Ada Lovelace" --email ada@example.org --group staff
        spoold user add ada --role operator --password-file ada.txt
        spoold user add bob --role operator --scope operator:printer=frontdesk,printer=labels
        generate-password | spoold user add robot --role help-desk --password-file -""",
    )
    _add_settings(adding)
    setting = grammar.command(
        verbs,
        "set",
        set_user,
        "change what is known of a user; without an option, ask for a new password",
        """spoold user set ada
        spoold user set ada --group staff --group chess --overdraft 5.00
        spoold user set ada --role operator --role help-desk
        spoold user set ada --role user                  # takes the other roles away
        spoold user set ada --rename lovelace            # jobs, cards and money stay hers
        spoold user set ada --no-password                # certificates, cards and PIN alone""",
    )
    setting.add_argument("--rename", metavar="NAME", help="what is the user's stays so")
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
    people.add(verbs)
    user_csv.add(verbs)
    sources.add_sync(verbs)


def _add_settings(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--role",
        action="append",
        choices=ROLES,
        help="several may be given; every user may see and steer their own jobs",
    )
    scopes = parser.add_mutually_exclusive_group()
    scopes.add_argument(
        "--scope",
        type=_scope,
        action="append",
        metavar="ROLE:printer=NAME,group=NAME,site=NAME",
        help="a role counts within this only: for these printers, for people of these groups",
    )
    scopes.add_argument("--no-scopes", action="store_true", help="every role counts everywhere")
    password = parser.add_mutually_exclusive_group()
    password.add_argument(
        "--password-file",
        metavar="FILE|-",
        help="read the password there (- is the standard input) instead of asking for it",
    )
    password.add_argument(
        "--no-password", action="store_true", help="the user comes in by certificate alone"
    )
    _add_details(parser)
    grammar.add_json(parser)


def _add_details(parser: Parser) -> None:
    group = parser.add_argument_group("what is known of the user")
    group.add_argument("--full-name", metavar="TEXT")
    group.add_argument("--email", metavar="ADDRESS")
    groups = group.add_mutually_exclusive_group()
    groups.add_argument("--group", action="append", metavar="NAME", help="several may be given")
    groups.add_argument("--no-groups", action="store_true")
    may = group.add_mutually_exclusive_group()
    may.add_argument(
        "--restricted",
        action="store_const",
        const=True,
        help="may not spend more than there is, and the overdraft; so is everybody at first",
    )
    may.add_argument(
        "--unrestricted", dest="restricted", action="store_const", const=False, help="may"
    )
    group.add_argument(
        "--overdraft", type=_overdraft, metavar=f"AMOUNT|{USUAL}", help="how far below zero"
    )
    group.add_argument("--default-account", metavar="NAME", help="pays when nothing else is said")


def _scope(text: str) -> dict[str, Any]:
    """`operator:printer=frontdesk,printer=labels`."""
    role, _, limits = text.partition(":")
    if role not in ROLES:
        raise ArgumentTypeError(f"{role!r} is no role; use {', '.join(ROLES)}")
    found: dict[str, Any] = {"role": role, "sites": [], "printers": [], "groups": []}
    for limit in limits.split(","):
        kind, name = grammar.pair(limit)
        if f"{kind}s" not in found:
            raise ArgumentTypeError(f"{kind!r} is no limit; use printer, group or site")
        found[f"{kind}s"].append(name)
    return found


def _overdraft(text: str) -> int | str:
    from spoold.model.errors import OperationError
    from spoold.model.money import parse_amount

    if text == USUAL:
        return text
    try:
        amount = parse_amount(text)
    except OperationError as error:
        raise ArgumentTypeError(str(error)) from None
    if amount < 0:
        raise ArgumentTypeError(f"{text!r} is below zero; write 5.00 for five below zero")
    return amount


def _details(args: Namespace) -> dict[str, Any]:
    found = {
        "full_name": args.full_name,
        "email": args.email,
        "groups": [] if args.no_groups else args.group,
        "restricted": args.restricted,
        "overdraft": args.overdraft,
        "default_account": args.default_account,
        "scopes": [] if args.no_scopes else args.scope,
    }
    return {name: value for name, value in found.items() if value is not None}


class NoSecret(Exception):
    """There is none; the message says why, and what to do."""


def add_user(args: Namespace) -> int:
    return _put(args, "user.add", "is added", asks=True)


def set_user(args: Namespace) -> int:
    is_more = args.role or args.rename or _details(args)
    return _put(args, "user.set", "is changed", asks=not is_more)


def _put(args: Namespace, op: str, what: str, *, asks: bool) -> int:
    asked: dict[str, Any] = {"name": args.name, **_details(args)}
    if args.role:
        asked["roles"] = list(dict.fromkeys(args.role))
    if getattr(args, "rename", None) is not None:
        asked["rename"] = args.rename
    with connect(args):
        pass  # a daemon that does not run is told before a password is typed
    try:
        if args.no_password:
            asked["password"] = ""
        elif args.password_file is not None:
            asked["password"] = read_secret(args.password_file, "password")
            if not asked["password"]:
                raise NoSecret(
                    f"{args.password_file} is empty. Use --no-password for a user without one."
                )
        elif asks:
            prompt = f"Password of {args.name}: "
            asked["password"] = ask_twice(prompt, "--password-file", "--no-password")
    except NoSecret as error:
        print(plain(f"spoold: {error}"), file=sys.stderr)
        return USAGE
    with connect(args) as client:
        answer = client.call(op, asked)
    if args.json:
        render.print_json(answer)
        return DONE
    roles = ", ".join(answer["roles"])
    how = ""
    if not answer["has_password"] and not answer["asks_directory"]:
        how = "; no password, `spoold user enrol` makes a certificate"
    print(plain(f"User {answer['name']} {what} ({roles}{how})."))
    _tell_advice(answer["advice"])
    if answer["source"] and asked.keys() & OF_SOURCES:
        print(plain(f"  What the source {answer['source']} knows comes back with its next round."))
    return DONE


def _tell_advice(advice: list[str]) -> None:
    for one in advice:
        print(plain(f"  {one}"))


def read_secret(file: str, what: str) -> str:
    """The secret in a file (- is the standard input): all of it, but for the end of its line.

    Raises:
        NoSecret: it cannot be read.
    """
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(SECRET_FILE_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(SECRET_FILE_BYTES_MAX + 1)
        if len(raw) > SECRET_FILE_BYTES_MAX:
            raise NoSecret(f"{file} is larger than {SECRET_FILE_BYTES_MAX} bytes.")
        secret = raw.decode("utf-8")
    except OSError as error:
        raise NoSecret(f"{file}: {error.strerror}. Name a file that you can read.") from None
    except UnicodeDecodeError:
        raise NoSecret(f"{file} is not UTF-8. Write the {what} as UTF-8 text.") from None
    return secret.removesuffix("\n").removesuffix("\r")


def ask_twice(prompt: str, instead: str, without: str) -> str:
    """A secret, typed twice. `instead` reads it from a file; `without` needs none.

    Raises:
        NoSecret: there is no terminal, or nothing was typed.
    """
    if not sys.stdin.isatty():
        what = prompt.partition(" ")[0].lower().replace("pin", "PIN")
        raise NoSecret(
            f"there is no terminal to ask for a {what}. Use {instead} FILE, or "
            f"{instead} - for the standard input."
        )
    import getpass

    secret = getpass.getpass(plain(prompt))
    if getpass.getpass("Once more: ") != secret:
        raise NoSecret("the two are not the same. Try again.")
    if not secret:
        raise NoSecret(f"nothing was typed. Use {without} instead.")
    return secret


def list_users(args: Namespace) -> int:
    columns = (
        Column("NAME", gives_way=True),
        Column("FULL NAME", gives_way=True),
        Column("GROUPS", gives_way=True),
        Column("ROLES"),
        Column("LOGIN"),
        Column("CHANGED"),
    )
    none = "No users yet: `spoold user add NAME`."
    return show_list(args, "user.list", "users", columns, _row, none)


def _ways(user: dict[str, Any]) -> list[str]:
    """How somebody can log in; the password may be that of a directory."""
    cards = len(user["cards"])
    ways = {
        "password": user["has_password"],
        "directory": user["asks_directory"],
        "PIN": user["has_pin"],
        f"{cards}-cards" if cards > 1 else "card": cards,
        "certificate": user["has_certificate"],
    }
    return [way for way, is_there in ways.items() if is_there]


def _row(user: dict[str, Any]) -> list[str]:
    return [
        user["name"],
        user["full_name"],
        ", ".join(user["groups"]),
        ", ".join(user["roles"]),
        "disabled" if user["disabled"] else "+".join(_ways(user)) or "none",
        render.local_time(user["changed_us"])[:19],
    ]


def show_user(args: Namespace) -> int:
    return show_each(args, "user.show", [{"name": name} for name in args.names], _tell)


def _tell(user: dict[str, Any]) -> None:
    from spoold.model.money import format_amount

    certificates, cards = user.pop("certificates"), user.pop("cards")
    scopes, advice = user.pop("scopes"), user.pop("advice")
    if isinstance(user["overdraft"], int):
        user["overdraft"] = format_amount(user["overdraft"])
    shown = [render.readable(key, value) for key, value in user.items()]
    for one in scopes:
        kinds = ("printer", "group", "site")
        limits = [f"{kind} {name}" for kind in kinds for name in one[f"{kind}s"]]
        shown.append(("scope", f"{one['role']} for {', '.join(limits) or 'everything'}"))
    for one in cards:
        label = f" {one['label']}" if one["label"] else ""
        since = render.local_time(one["added_us"])[:10]
        shown.append(("card", f"{one['number']}:{label} …{one['ending']} (since {since})"))
    for one in certificates:
        is_old = one["not_after_us"] < time.time() * 1e6
        state = "revoked" if one["revoked"] else "expired" if is_old else "valid"
        until = render.local_time(one["not_after_us"])[:10]
        shown.append(("certificate", f"{one['serial']} ({state}, until {until})"))
    render.print_fields(shown)
    _tell_advice(advice)


def remove(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("user.remove", {"name": args.name})
    print(plain(f"User {answer['name']} is removed."))
    if answer["source"]:
        print(plain(f"  The next round of the source {answer['source']} adds whom it finds there."))
        print("  To keep somebody out: `spoold user disable`.")
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
