"""`spoold printer …`: adds, changes and steers them; `printer_showing` lists and shows them."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentTypeError, Namespace
from typing import Any

from spoold.cli import discover, grammar, render
from spoold.cli.control import connect, pages
from spoold.cli.grammar import DONE, REFUSED, USAGE, Nouns, Parser
from spoold.cli.printer_showing import list_printers, show
from spoold.model.text import plain


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "printer", "add, change, look at and steer printers")
    adding = grammar.command(
        verbs,
        "add",
        add_printer,
        "add a printer, or a pool of printers",
        """spoold printer add frontdesk socket://192.0.2.7:9100
        spoold printer add annex lpd://192.0.2.8/raw --option connect_timeout_s=5
        spoold printer add archive file:///var/spool/archive --order fifo
        spoold printer add color ipps://192.0.2.9/ipp/print --option tls=pin --learn
        spoold printer add floor2 --member frontdesk --member annex --standby archive
        spoold printer add far spoold://hq.example.org/frontdesk --option credentials=/etc/far.pem
        spoold printer add roam --release find-me --releases-at frontdesk,annex""",
    )
    adding.add_argument("name", metavar="NAME")
    adding.add_argument("uri", nargs="?", metavar="DEVICE-URI", help="where its bytes go")
    _add_settings(adding)
    setting = grammar.command(
        verbs,
        "set",
        set_printer,
        "change a printer; what is not named stays",
        """spoold printer set frontdesk --uri socket://192.0.2.9:9100
        spoold printer set frontdesk --option pjl=on --in-doubt reprint
        spoold printer set frontdesk --option pjl=
        spoold printer set frontdesk --offer sides-supported=one-sided,two-sided-long-edge
        spoold printer set frontdesk --accepting off
        spoold printer set frontdesk --when-unreachable direct
        spoold printer set frontdesk --owner library
        spoold printer set frontdesk --release hold --keep-held 12h --policy '@guests: no-color'
        spoold printer set frontdesk --sender '10.1.0.0/16 sap* -> erp charge works/stores'
        spoold printer set frontdesk --convert 'application/pdf -> image/pwg-raster: gs ...'""",
    )
    setting.add_argument("name", metavar="NAME")
    setting.add_argument("--uri", metavar="DEVICE-URI", help="where its bytes go from now on")
    setting.add_argument("--rename", metavar="NAME", help="its history stays with it")
    setting.add_argument("--accepting", type=grammar.switch, metavar="on|off", help="new jobs")
    _add_settings(setting)
    listing = grammar.command(
        verbs, "list", list_printers, "list printers with their state", "spoold printer list"
    )
    grammar.add_json(listing)
    showing = grammar.command(
        verbs, "show", show, "show all that is known of printers", "spoold printer show frontdesk"
    )
    _add_names(showing)
    grammar.add_json(showing)
    removing = grammar.command(
        verbs, "remove", remove, "remove printers without jobs", "spoold printer remove annex"
    )
    _add_names(removing)
    pausing = grammar.command(
        verbs,
        "pause",
        pause,
        "stop printing; new jobs are still accepted",
        "spoold printer pause frontdesk --reason 'new toner at noon'",
    )
    _add_names(pausing)
    pausing.add_argument("--reason", default="", metavar="TEXT", help="what others are told")
    resuming = grammar.command(
        verbs, "resume", resume, "print again, and at once", "spoold printer resume frontdesk"
    )
    _add_names(resuming)
    redirecting = grammar.command(
        verbs,
        "redirect",
        redirect,
        "move the waiting jobs of a printer to another one that takes their formats",
        "spoold printer redirect frontdesk annex --dry-run",
    )
    redirecting.add_argument("source", metavar="FROM")
    redirecting.add_argument("to", metavar="TO")
    redirecting.add_argument("--dry-run", action="store_true", help="only say what would move")
    grammar.add_json(redirecting)
    rehoming = grammar.command(
        verbs,
        "rehome",
        rehome,
        "give the printers of a site that is dead for good to another node",
        """spoold printer rehome --from-site library --dry-run
        spoold printer rehome --from-site library --to annex""",
    )
    rehoming.add_argument("--from-site", required=True, metavar="NODE", help="whose they are")
    rehoming.add_argument("--to", default="", metavar="NODE", help="default: this node")
    rehoming.add_argument("--dry-run", action="store_true", help="only say what would happen")
    grammar.add_json(rehoming)
    discover.add(verbs)


def _add_names(parser: Parser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")


def _add_settings(parser: Parser) -> None:
    parser.add_argument(
        "--option",
        type=grammar.pair,
        action="append",
        default=[],
        metavar="K=V",
        help="an option of the driver; an empty value takes it away",
    )
    parser.add_argument(
        "--offer",
        type=grammar.pair,
        action="append",
        default=[],
        metavar="K=V",
        help="what clients may ask of it, by IPP attribute; an empty value takes it away",
    )
    parser.add_argument(
        "--learn", action="store_true", help="ask the device (ipp, ipps) what it can do"
    )
    parser.add_argument("--member", action="append", metavar="PRINTER", help="makes it a pool")
    parser.add_argument(
        "--standby", action="append", metavar="PRINTER", help="used when no member can print"
    )
    parser.add_argument(
        "--order", choices=("fair", "fifo"), help="fair over users, or as they came"
    )
    parser.add_argument(
        "--in-doubt",
        choices=("hold", "reprint", "assume-printed"),
        help="what becomes of a job that may have printed",
    )
    parser.add_argument(
        "--when-unreachable",
        choices=("hold", "direct"),
        help="what a provider does while it reaches no server: keep the job, or print it on the "
        "device (socket://) itself and report that later",
    )
    parser.add_argument(
        "--format", action="append", metavar="TYPE", help="a media type that it takes; else any"
    )
    parser.add_argument(
        "--convert",
        type=conversion,
        action="append",
        metavar="'FROM -> TO: PROGRAM ...'",
        help="a program that makes what it takes of another format; run with limits and without a "
        "shell; '' takes all away",
    )
    parser.add_argument(
        "--least-owner",
        choices=("claimed", "mapped", "asserted", "authenticated"),
        help="how well the owner of a job must be known",
    )
    parser.add_argument("--hold-new-jobs", type=grammar.switch, metavar="on|off")
    parser.add_argument("--info", metavar="TEXT")
    parser.add_argument("--location", metavar="TEXT")
    parser.add_argument("--geo-location", metavar="URI", help="as geo:48.2,16.4")
    parser.add_argument("--organization", metavar="TEXT")
    parser.add_argument("--organizational-unit", metavar="TEXT")
    parser.add_argument("--more-info", metavar="URI", help="a page about it")
    parser.add_argument(
        "--shared", type=grammar.switch, metavar="on|off", help="announced to the network"
    )
    parser.add_argument(
        "--owner", metavar="NODE", help="the node that prints its jobs; empty: this one"
    )
    _add_release(parser)


def _add_release(parser: Parser) -> None:
    group = parser.add_argument_group("release and charging")
    group.add_argument(
        "--release",
        choices=("immediate", "hold", "find-me"),
        help="print at once, when the owner is there, or wherever the owner is",
    )
    group.add_argument(
        "--releases-at",
        type=_names,
        metavar="PRINTER,…",
        help="where jobs of a find-me printer come out; '' is wherever they fit",
    )
    group.add_argument(
        "--keep-held",
        type=grammar.duration,
        metavar="TIME",
        help="after which a job that nobody fetched is deleted: 12h, 3d; 0 is never",
    )
    group.add_argument("--charging", choices=("off", "shadow", "on"), help="what jobs cost counts")
    group.add_argument(
        "--default-account", metavar="ACCOUNT", help="pays for jobs; '?' has one chosen; '' is none"
    )
    group.add_argument(
        "--policy",
        action="append",
        metavar="'WHO [DAYS] [TIMES]: EFFECT'",
        help="deny, no-color, monochrome, duplex, or pages N, for names, @groups, or *; "
        "! before one leaves it out; '' takes all away",
    )
    group.add_argument(
        "--sender",
        action="append",
        metavar="'ADDRESS [USER] -> OWNER [charge ACCOUNT]'",
        help="whose the jobs of a sender are that proves nothing; '' takes all away",
    )


def _names(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def conversion(text: str) -> dict[str, Any]:
    """`FROM -> TO: PROGRAM ARGUMENT ...`, its words parted as a shell parts them; "" is none."""
    if not text.strip():
        return {}
    formats, _, command = text.partition(":")
    source, _, target = formats.partition("->")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from None
    if not source.strip() or not target.strip() or not words:
        raise ArgumentTypeError(f"{text!r} is not as 'application/pdf -> image/pwg-raster: gs ...'")
    return {"from": source.strip(), "to": target.strip(), "command": words}


def _settings(args: Namespace) -> dict[str, Any]:
    """What was named, as the arguments of `printer.add` and `printer.set`."""
    found = {
        "uri": args.uri,
        "rename": getattr(args, "rename", None),
        "accepting": getattr(args, "accepting", None),
        "options": dict(args.option) or None,
        "offer": dict(args.offer) or None,
        "learn": args.learn or None,
        "members": args.member,
        "standby": args.standby,
        "order": args.order,
        "in_doubt": args.in_doubt,
        "when_unreachable": args.when_unreachable,
        "formats": args.format,
        "conversions": None if args.convert is None else [one for one in args.convert if one],
        "least_owner": args.least_owner,
        "hold_new_jobs": args.hold_new_jobs,
        "info": args.info,
        "location": args.location,
        "geo_location": args.geo_location,
        "organization": args.organization,
        "organizational_unit": args.organizational_unit,
        "more_info": args.more_info,
        "shared": args.shared,
        "release": args.release,
        "releases_at": args.releases_at,
        "keep_held_s": args.keep_held,
        "charging": args.charging,
        "default_account": args.default_account,
        "policies": _rules(args.policy),
        "senders": _rules(args.sender),
        "owner": args.owner,
    }
    return {key: value for key, value in found.items() if value is not None}


def _rules(given: list[str] | None) -> list[str] | None:
    return None if given is None else [one for one in given if one.strip()]


def add_printer(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("printer.add", {"name": args.name, **_settings(args)})
    return _tell(
        answer, f"Printer {args.name} is added; print with `spoold submit -P {args.name}`."
    )


def set_printer(args: Namespace) -> int:
    settings = _settings(args)
    if not settings:
        print("spoold printer set: name what to change; see --help.", file=sys.stderr)
        return USAGE
    with connect(args) as client:
        answer = client.call("printer.set", {"name": args.name, **settings})
    return _tell(answer, f"Printer {args.name} is changed.")


def _tell(answer: dict[str, Any], sentence: str) -> int:
    print(plain(sentence))
    for advice in answer.get("advice") or ():
        print(plain(f"  {advice}"))
    return DONE


def remove(args: Namespace) -> int:
    return _each(args, "printer.remove", "is removed")


def pause(args: Namespace) -> int:
    return _each(args, "printer.pause", "is paused", reason=args.reason)


def resume(args: Namespace) -> int:
    return _each(args, "printer.resume", "prints again")


def _each(args: Namespace, op: str, sentence: str, **more: Any) -> int:
    with connect(args) as client:
        for name in args.names:
            _tell(client.call(op, {"name": name, **more}), f"Printer {name} {sentence}.")
    return DONE


def rehome(args: Namespace) -> int:
    asked = {"from_site": args.from_site, "to": args.to, "dry_run": args.dry_run}
    with connect(args) as client:
        answer = client.call("printer.rehome", asked)
    if args.json:
        render.print_json(answer)
        return DONE
    verb = "would go" if args.dry_run else "went"
    count = render.counted(answer["count"], "printer")
    print(plain(f"{count} {verb} to {args.to or 'this node'}:"))
    for name in answer["printers"]:
        print(plain(f"  {name}"))
    if answer["in_doubt"]:
        jobs = render.counted(answer["in_doubt"], "job")
        held = "would be" if args.dry_run else "is" if answer["in_doubt"] == 1 else "are"
        print(plain(f"{jobs} that {args.from_site} had {held} held, in doubt."))
    if answer["only_there"]:
        jobs = render.counted(answer["only_there"], "unfinished job")
        print(
            plain(
                f"{args.from_site} has told of {jobs} that {args.to or 'this node'} cannot have "
                f"({answer['held_there']} held for people): lost, unless it returns."
            )
        )
    for advice in answer["advice"]:
        print(plain(f"  {advice}"))
    return DONE


def redirect(args: Namespace) -> int:
    asked = {"from": args.source, "to": args.to, "dry_run": args.dry_run}
    with connect(args) as client:
        results = list(pages(client, "printer.redirect", asked, "results"))
    if args.json:
        render.print_json_list(results)
    else:
        verb = "would move" if args.dry_run else "moved"
        for one in results:
            what = f"{verb} to {args.to}" if one["ok"] else f"stays: {one['error']}"
            if one["advice"]:
                what += f" {one['advice']}" if not one["ok"] else f". {one['advice']}"
            print(plain(f"{one['id']} ({one.get('title') or 'no title'}): {what}"))
        if not results:
            print(plain(f"No jobs wait on {args.source}."))
    return DONE if all(one["ok"] for one in results) else REFUSED
