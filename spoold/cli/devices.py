"""`spoold device …`: the machines behind printers, and MFDs that come in by themselves.

A machine is a device (a URI that jobs go to), an MFD (an identity that people log in at), or both:
an MFD is bound to the printers that it may release on, and is shown beside their device.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from spoold.cli import enrolment, grammar, render
from spoold.cli.control import connect, pages
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.cli.printer_showing import supply_text
from spoold.cli.render import Column
from spoold.model.errors import OperationError
from spoold.model.text import plain

METHODS = ("card", "pin", "card+pin", "password")
COLUMNS = (
    Column("URI", gives_way=True),
    Column("PRINTERS", gives_way=True),
    Column("SERIAL"),
    Column("GUID"),
)
MFD_COLUMNS = (
    Column("MFD"),
    Column("PRINTERS", gives_way=True),
    Column("LOGIN BY"),
    Column("STATE"),
    Column("GUID"),
)


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "device", "look at machines, and let MFDs come in")
    listing = grammar.command(
        verbs, "list", list_devices, "list devices and MFDs", "spoold device list --json"
    )
    grammar.add_json(listing)
    showing = grammar.command(
        verbs,
        "show",
        show_device,
        "show a device and what it says of itself now, or an MFD",
        "spoold device show socket://192.0.2.7:9100\nspoold device show panel-1",
    )
    showing.add_argument("device", metavar="URI|GUID|PRINTER|MFD")
    grammar.add_json(showing)
    enrolling = grammar.command(
        verbs,
        "enrol",
        enrol,
        "give an MFD a certificate for 9195, or a token for 9192",
        """spoold device enrol panel-1 --printer frontdesk --out ~/mfds
        spoold device enrol panel-1 --token                    # again, for 9192
        spoold device enrol panel-2 --printer annex --printer color --login card --login pin""",
    )
    enrolling.add_argument("name", metavar="NAME")
    _add_settings(enrolling)
    enrolling.add_argument(
        "--token", action="store_true", help="a token instead of a certificate; it is shown once"
    )
    enrolment.add_arguments(enrolling)
    setting = grammar.command(
        verbs,
        "set",
        change,
        "bind an MFD to other printers, or change how people log in there",
        "spoold device set panel-1 --printer annex\nspoold device set panel-1 --login any",
    )
    setting.add_argument("name", metavar="NAME")
    _add_settings(setting)
    grammar.add_json(setting)
    revoking = grammar.command(
        verbs,
        "revoke",
        revoke,
        "refuse an MFD for ever; its connections end, and whoever is logged in there is logged out",
        "spoold device revoke panel-1",
    )
    revoking.add_argument("name", metavar="NAME")


def _add_settings(parser: Parser) -> None:
    parser.add_argument(
        "--printer",
        action="append",
        metavar="NAME",
        help="a printer that it may release on; several may be given, the one it stands for first",
    )
    parser.add_argument(
        "--login",
        action="append",
        choices=(*METHODS, "any"),
        help="how people may log in there; several may be given (default: any)",
    )
    parser.add_argument(
        "--card-converter", metavar="NAME", help="what the numbers of its card reader pass first"
    )
    parser.add_argument(
        "--idle", type=grammar.count, metavar="SECONDS", help="a session ends after so long unused"
    )


def _settings(args: Namespace) -> dict[str, Any]:
    """What was named, as arguments of the operations."""
    methods = args.login
    if methods is not None and "any" in methods:
        methods = []
    asked = {
        "printers": args.printer,
        "methods": methods,
        "converter": args.card_converter,
        "idle_s": args.idle,
    }
    return {key: value for key, value in asked.items() if value is not None}


def list_devices(args: Namespace) -> int:
    with connect(args) as client:
        devices = list(pages(client, "device.list", {}, "devices"))
        mfds = list(pages(client, "device.enrolled", {}, "mfds"))
    if args.json:
        kinds = [("device", one) for one in devices] + [("mfd", one) for one in mfds]
        render.print_json_list({"kind": kind, **one} for kind, one in kinds)
        return DONE
    none = "No devices yet: `spoold printer add NAME DEVICE-URI`."
    used = [one for one in devices if one.get("printers")]
    render.print_table(COLUMNS, [_row(one) for one in used], none)
    if left := len(devices) - len(used):
        print(f"Besides, {render.counted(left, 'device')} of printers that are gone: see --json.")
    if mfds:
        print()
        render.print_table(MFD_COLUMNS, [_mfd_row(one) for one in mfds], "")
    return DONE


def _row(device: dict[str, Any]) -> list[str]:
    printers = ", ".join(device.get("printers", ())) or "-"
    return [device["uri"], printers, device.get("serial") or "-", device["guid"]]


def _mfd_row(mfd: dict[str, Any]) -> list[str]:
    return [
        mfd["name"],
        ", ".join(mfd["printers"]),
        ", ".join(mfd["methods"]) or "any",
        "revoked" if mfd["revoked"] else "enrolled",
        mfd["guid"],
    ]


def show_device(args: Namespace) -> int:
    with connect(args) as client:
        mfds = list(pages(client, "device.enrolled", {}, "mfds"))
        try:
            shown = client.call("device.show", {"device": args.device})
        except OperationError:
            named = [one for one in mfds if args.device in (one["name"], one["guid"])]
            if not named:
                raise
            shown = named[0]
        else:
            theirs = set(shown["printers"])
            shown["mfds"] = [one["name"] for one in mfds if not theirs.isdisjoint(one["printers"])]
    if args.json:
        render.print_json(shown)
    else:
        _print(shown)
    return DONE


def _print(shown: dict[str, Any]) -> None:
    if "methods" in shown:
        shown["log in by"] = shown.pop("methods") or "any"
    says = shown.pop("says", None) or {}
    shown["supplies"] = [supply_text(one) for one in shown.get("supplies") or ()]
    shown |= {key: value for key, value in says.items() if value not in ([], "", {})}
    render.print_fields(render.readable(key, value) for key, value in shown.items())


def enrol(args: Namespace) -> int:
    asked = _settings(args)
    if args.token:
        return _enrol_by_token(args, asked)
    answer = enrolment.enrol(args, "device.enrol", asked)
    if isinstance(answer, int):
        return answer
    key, certificate, authority = enrolment.files(args)
    files = f"{key} (keep it secret), {certificate}, {authority}"
    print(plain(f"MFD {answer['name']} is enrolled for {_printers(answer)}: {files}."))
    return DONE


def _enrol_by_token(args: Namespace, asked: dict[str, Any]) -> int:
    with connect(args) as client:
        answer = client.call("device.enrol", {"name": args.name, "credential": "token", **asked})
    said = f"MFD {answer['name']} is enrolled for {_printers(answer)}. Its token, shown this once:"
    print(plain(said), file=sys.stderr)
    print(answer["token"])
    return DONE


def _printers(mfd: dict[str, Any]) -> str:
    return ", ".join(mfd["printers"])


def change(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("device.set", {"name": args.name, **_settings(args)})
    if args.json:
        render.print_json(answer)
    else:
        print(plain(f"MFD {answer['name']} is changed ({_printers(answer)})."))
    return DONE


def revoke(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("device.revoke", {"name": args.name})
    print(plain(f"MFD {answer['name']} is revoked, and cannot come in any more."))
    return DONE
