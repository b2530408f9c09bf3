"""`spoold user card|pin|delegate|disable|enable|erase …`: what people show, and who may.

A PIN is asked for on the terminal, read from a file, or made by the daemon; never taken from the
command line. The number of a card may stand there: whoever types it has read it off the card.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from spoold.cli import grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, USAGE, Nouns, Parser
from spoold.model.errors import OperationError
from spoold.model.money import format_amount
from spoold.model.text import plain


def add(verbs: Nouns[Parser]) -> None:
    _add_cards(verbs)
    pin = grammar.command(
        verbs,
        "pin",
        set_pin,
        "set a user's PIN: make one so long that it stands alone, or ask for it",
        """spoold user pin ada --generate          # shown once
        spoold user pin ada                     # asks
        cat pin | spoold user pin ada --pin-file -
        spoold user pin ada --remove""",
    )
    pin.add_argument("name", metavar="NAME")
    how = pin.add_mutually_exclusive_group()
    how.add_argument("--generate", action="store_true", help="make one that nobody guesses")
    how.add_argument("--pin-file", metavar="FILE|-", help="read it there")
    how.add_argument("--remove", action="store_true", help="nobody logs in by it any more")
    grammar.add_json(pin)
    delegates = grammar.command(
        verbs,
        "delegate",
        delegate,
        "say who may release a user's jobs, too",
        """spoold user delegate ada bob carl       # bob and carl may, beside those who may already
        spoold user delegate ada bob --remove""",
    )
    delegates.add_argument("name", metavar="NAME", help="whose jobs")
    delegates.add_argument("delegates", nargs="+", metavar="DELEGATE", help="who may")
    delegates.add_argument("--remove", action="store_true", help="they may not any more")
    for verb, what in (
        ("disable", "refuse users, however well proven, and end what they have open"),
        ("enable", "let users come in again"),
    ):
        switching = grammar.command(verbs, verb, switch, what, f"spoold user {verb} ada bob")
        switching.add_argument("names", nargs="+", metavar="NAME")
        switching.set_defaults(disabled=verb == "disable")
    erasing = grammar.command(
        verbs,
        "erase",
        erase,
        "forget somebody: jobs, documents, and the name in the journal; this is not undone",
        """spoold user erase ada                   # asks for the name once more
        spoold user erase ada --yes""",
    )
    erasing.add_argument("name", metavar="NAME", help="of a user, or of an owner of jobs")
    erasing.add_argument("--yes", action="store_true", help="do not ask")
    grammar.add_json(erasing)


def _add_cards(verbs: Nouns[Parser]) -> None:
    cards = grammar.noun(verbs, "card", "say which cards are whose")
    adding = grammar.command(
        cards,
        "add",
        add_card,
        "give a user a card, or a card that the user has another label",
        """spoold user card add ada 04A1B2C3
        spoold user card add ada 0AEF4D3 --converter wiegand-26 --label "blue badge"
        cat number | spoold user card add ada -""",
    )
    adding.add_argument("name", metavar="NAME")
    adding.add_argument("card", metavar="NUMBER|-", help="as a reader tells it")
    adding.add_argument("--label", default="", metavar="TEXT")
    removing = grammar.command(
        cards,
        "remove",
        remove_card,
        "refuse a card from now on",
        """spoold user card remove ada --number 2   # as `spoold user show ada` counts them
        spoold user card remove ada 04A1B2C3""",
    )
    removing.add_argument("name", metavar="NAME")
    which = removing.add_mutually_exclusive_group(required=True)
    which.add_argument("card", nargs="?", metavar="NUMBER|-", help="as a reader tells it")
    which.add_argument("--number", type=grammar.count, metavar="N", help="which of the user's")
    finding = grammar.command(
        cards,
        "find",
        find_card,
        "say whose card this is",
        """spoold user card find 04A1B2C3
        spoold user card find 0AEF4D3 --converter wiegand-26""",
    )
    finding.add_argument("card", metavar="NUMBER|-", help="as a reader tells it")
    for parser in (adding, finding, removing):
        parser.add_argument(
            "--converter", metavar="NAME|STEPS", help="see `spoold card converters`"
        )
        grammar.add_json(parser)


def _card(args: Namespace) -> dict[str, Any]:
    from spoold.cli.users import read_secret

    found: dict[str, Any] = {"name": args.name} if "name" in args else {}
    if args.card is not None:
        found["card"] = read_secret("-", "number") if args.card == "-" else args.card
    if args.converter is not None:
        found["converter"] = args.converter
    return found


def add_card(args: Namespace) -> int:
    return _ask(args, "user.add-card", {**_card(args), "label": args.label})


def remove_card(args: Namespace) -> int:
    number = {} if args.number is None else {"number": args.number}
    return _ask(args, "user.remove-card", {**_card(args), **number})


def find_card(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("user.find-card", _card(args))
    if args.json:
        render.print_json(answer)
    else:
        full_name = f" ({answer['full_name']})" if answer["full_name"] else ""
        state = ", who is disabled" if answer["disabled"] else ""
        print(plain(f"This card is one of {answer['name']}{full_name}{state}."))
    return DONE


def _ask(args: Namespace, op: str, asked: dict[str, Any]) -> int:
    with connect(args) as client:
        answer = client.call(op, asked)
    if args.json:
        render.print_json(answer)
        return DONE
    cards = [f"{one['number']}: {one['label']} …{one['ending']}" for one in answer["cards"]]
    told = "; ".join(" ".join(one.split()) for one in cards) or "none"
    print(plain(f"Cards of {answer['name']}: {told}."))
    return DONE


def set_pin(args: Namespace) -> int:
    from spoold.cli.users import NoSecret, ask_twice, read_secret

    asked: dict[str, Any] = {"name": args.name}
    with connect(args):
        pass  # a daemon that does not run is told before a PIN is typed
    try:
        if args.generate:
            asked["generate"] = True
        elif args.remove:
            asked["pin"] = ""
        elif args.pin_file is not None:
            asked["pin"] = read_secret(args.pin_file, "PIN")
            if not asked["pin"]:
                raise NoSecret(f"{args.pin_file} is empty. Use --remove to take the PIN away.")
        else:
            asked["pin"] = ask_twice(f"PIN of {args.name}: ", "--pin-file", "--generate")
    except NoSecret as error:
        print(plain(f"spoold: {error}"), file=sys.stderr)
        return USAGE
    with connect(args) as client:
        answer = client.call("user.pin", asked)
    if args.json:
        render.print_json(answer)
    elif "pin" in answer:
        print(answer["pin"])
        print(
            plain(f"This is the PIN of {answer['name']}; nobody tells it again."), file=sys.stderr
        )
    else:
        print(plain(f"User {answer['name']} has {_told_pin(answer)}."))
    return DONE


def _told_pin(answer: dict[str, Any]) -> str:
    if not answer["has_pin"]:
        return "no PIN"
    if answer["pin_stands"]:
        return "a PIN"
    digits = answer["pin_digits_alone"]
    return f"a PIN that counts beside a card; to stand alone it takes {digits} digits here"


def delegate(args: Namespace) -> int:
    with connect(args) as client:
        known = client.call("user.show", {"name": args.name})["delegates"]
        named = [client.call("user.show", {"name": name})["name"] for name in args.delegates]
        kept = [name for name in known if name not in named]
        wanted = kept if args.remove else [*kept, *named]
        answer = client.call("user.set", {"name": args.name, "delegates": wanted})
    told = ", ".join(answer["delegates"]) or "nobody"
    print(plain(f"Beside {answer['name']}, {told} may release the jobs of {answer['name']}."))
    return DONE


def switch(args: Namespace) -> int:
    with connect(args) as client:
        for name in args.names:
            answer = client.call("user.set", {"name": name, "disabled": args.disabled})
            is_now = "disabled" if answer["disabled"] else "enabled"
            print(plain(f"User {answer['name']} is {is_now}."))
    return DONE


def erase(args: Namespace) -> int:
    _tell_money(args)
    if not args.yes and not _is_meant(args.name):
        print("spoold: nothing was erased. Type the name, or use --yes.", file=sys.stderr)
        return USAGE
    with connect(args) as client:
        answer = client.call("user.erase", {"name": args.name})
    if args.json:
        render.print_json(answer)
        return DONE
    print(
        f"Erased: {answer['jobs']} jobs with their documents, the names in {answer['records']} "
        f"records. What is left is the key {answer['guid']}."
    )
    if not answer["is_rewritten"]:
        print("Copies in unused parts of the file go at the next start of spoold.")
    _tell_mentions(answer)
    return DONE


def _tell_mentions(answer: dict[str, Any]) -> None:
    """What others wrote about somebody is theirs, and stays."""
    count = answer["mentions"]
    if count:
        places = ", ".join(map(str, answer["mentioned_at"]))
        more = ", …" * (count > len(answer["mentioned_at"]))
        print(
            f"This name stands in texts of {count} records of others, as titles and messages. They "
            f"stay; see `spoold journal --from`, at {places}{more}."
        )
    if answer["reasons"]:
        print(
            f"Entries of the ledger of others whose reason says it: {answer['reasons']}. They stay."
        )


def _tell_money(args: Namespace) -> None:
    """Say what somebody has of their own, or owes: nobody can pay it out, or in, afterwards."""
    with connect(args) as client:
        try:
            found = client.call("account.show", {"name": f"user:{args.name}"})
        except OperationError:
            return  # nobody of this name, which the erasing tells
    own = sum(one["balance"] for one in found["purses"] if one["purse"] != "allowance")
    if own:
        balance = f"{format_amount(own)} {found['currency']}".rstrip()
        print(
            plain(
                f"The balance of {args.name} is {balance} beside allowances. It stays under a key "
                "that is nobody's; settle it before: `spoold account adjust`."
            ),
            file=sys.stderr,
        )


def _is_meant(name: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(plain(f"All jobs of {name} go, and nobody finds out again who that was."))
    return input("Type the name once more: ") == name
