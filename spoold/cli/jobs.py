"""`spoold job …`: list, look at and steer jobs."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from spoold.cli import grammar, render
from spoold.cli.control import connect, pages
from spoold.cli.grammar import DONE, REFUSED, USAGE, Nouns, Parser
from spoold.cli.render import Column
from spoold.cli.showing import show_each, show_list
from spoold.model.errors import OperationError
from spoold.model.money import format_amount
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.provider.blocking import ControlClient

PAGE = 50
UNFINISHED = frozenset(grammar.states("unfinished"))

# What an action on many jobs is about when no --state is given.
ACTIONS = {
    "hold": ("keep waiting jobs from printing", "pending"),
    "release": ("let held jobs print", "pending-held"),
    "cancel": ("cancel jobs", "unfinished"),
    "retry": ("print finished jobs once more", "aborted"),
    "move": ("move waiting jobs to another printer", "waiting"),
}
EXAMPLES = {
    "hold": "spoold job hold 17 --hold-until 18:30\n"
    "spoold job hold --printer frontdesk --owner reception",
    "release": "spoold job release 17 18\nspoold job release 17 --to frontdesk\n"
    "spoold job release --owner desk --since 2h --dry-run",
    "cancel": "spoold job cancel 17\nspoold job cancel library/17\n"
    "spoold job cancel --printer labels --until 3d --dry-run",
    "retry": "spoold job retry 17\nspoold job retry --printer labels --since 1h",
    "move": "spoold job move 17 --to annex\nspoold job move --printer frontdesk --to annex",
}


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "job", "list, look at and steer jobs")
    listing = grammar.command(
        verbs,
        "list",
        list_jobs,
        "list jobs, the newest first, finished ones included",
        """spoold job list --state unfinished --printer frontdesk
        spoold job list --owner reception --since 2h
        spoold job list --state aborted,pending-held --limit 500 --json
        spoold job list --site library --state unfinished""",
    )
    grammar.add_filters(listing)
    listing.add_argument(
        "--site", metavar="NAME", help="those of a site, as far as it has told; only with --state"
    )
    listing.add_argument(
        "--limit", type=grammar.count, default=PAGE, metavar="N", help=f"at most so many ({PAGE})"
    )
    listing.add_argument("--all", action="store_true", help="however many there are")
    grammar.add_json(listing)
    for verb, handler, summary in (
        ("show", show, "show all that is known of jobs, with their attempts"),
        ("explain", explain, "tell the story of jobs: from where, whose, each attempt, what now"),
    ):
        parser = grammar.command(
            verbs, verb, handler, summary, f"spoold job {verb} 17\nspoold job {verb} library/17"
        )
        _add_jobs(parser, "+")
        grammar.add_json(parser)
    waiting = grammar.command(
        verbs,
        "held",
        held,
        "list what waits for somebody to release it, with pages and price",
        "spoold job held ada\nspoold job held ada --printer frontdesk",
    )
    waiting.add_argument("user", metavar="USER")
    waiting.add_argument("--printer", metavar="NAME", help="where the user stands")
    grammar.add_json(waiting)
    for verb, (summary, default_states) in ACTIONS.items():
        parser = grammar.command(verbs, verb, act, summary, EXAMPLES[verb])
        parser.set_defaults(verb=verb)
        _add_jobs(parser, "*")
        grammar.add_filters(parser, default_states)
        if verb == "move":
            parser.add_argument("--to", required=True, metavar="PRINTER")
        if verb == "release":
            parser.add_argument(
                "--to", metavar="PRINTER", help="where a job comes out that waits for its owner"
            )
        if verb == "hold":
            grammar.add_hold_until(parser)
        parser.add_argument("--all", action="store_true", help="every job that it can be done to")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        grammar.add_json(parser)
    setting = grammar.command(
        verbs,
        "set",
        set_jobs,
        "change waiting jobs; what is not named stays",
        "spoold job set 17 --priority 80\nspoold job set 17 --copies 2 --hold-until night",
    )
    _add_jobs(setting, "+")
    _add_attributes(setting)
    grammar.add_json(setting)
    promoting = grammar.command(
        verbs,
        "promote",
        promote,
        "let a waiting job come next, or right after another one",
        "spoold job promote 17\nspoold job promote 17 --after 12",
    )
    _add_jobs(promoting, 1)
    promoting.add_argument("--after", metavar="JOB", help="a job of the same printer")
    grammar.add_json(promoting)
    copying = grammar.command(
        verbs,
        "resubmit",
        resubmit,
        "make new jobs of documents that are kept; the old ones stay as they are",
        "spoold job resubmit 17\nspoold job resubmit 17 --to annex --copies 2",
    )
    _add_jobs(copying, "+")
    copying.add_argument("--to", metavar="PRINTER", help="else where the job was")
    _add_attributes(copying)
    grammar.add_json(copying)
    settle_parser = grammar.command(
        verbs,
        "settle",
        settle,
        "say what became of jobs in doubt, after a look at the paper",
        "spoold job settle 17 --printed\nspoold job settle 17 --not-printed",
    )
    _add_jobs(settle_parser, "+")
    answer = settle_parser.add_mutually_exclusive_group(required=True)
    answer.add_argument("--printed", action="store_true", help="it is on paper: it is completed")
    answer.add_argument("--not-printed", action="store_true", help="it is not: print it again")
    grammar.add_json(settle_parser)


def _add_attributes(parser: Parser) -> None:
    parser.add_argument("--title", metavar="TEXT")
    parser.add_argument(
        "--priority", type=grammar.count, metavar="N", help="1 to 100; the highest prints first"
    )
    parser.add_argument("--copies", type=grammar.count, metavar="N")
    grammar.add_hold_until(parser)


def _attributes(args: Namespace) -> dict[str, Any]:
    found = {"title": args.title, "priority": args.priority, "copies": args.copies}
    given = {name: value for name, value in found.items() if value is not None}
    return {**given, **args.hold_until}


def _add_jobs(parser: Parser, how_many: str | int) -> None:
    parser.add_argument(
        "jobs", nargs=how_many, metavar="JOB", help="ID, NODE/ID or the uuid of a job"
    )


def list_jobs(args: Namespace) -> int:
    asked = {**grammar.filters(args), "newest_first": True}
    asked["limit"] = PAGE if args.all else min(args.limit, PAGE)
    limit = None if args.all else args.limit
    none = "No such jobs."
    if args.site is not None:
        return _list_elsewhere(args, asked, limit, none)
    return show_list(args, "job.list", "jobs", COLUMNS, _row, none, asked=asked, limit=limit)


def _list_elsewhere(args: Namespace, asked: dict[str, Any], limit: int | None, none: str) -> int:
    """The jobs of a site; which ones, its application server can tell by their state alone."""
    states = set(asked.pop("states", ()))
    if set(asked) - {"newest_first", "limit"} or (states and states != UNFINISHED):
        print("spoold: --site goes with --state unfinished alone.", file=sys.stderr)
        return USAGE
    wanted = {"site": args.site, "unfinished": bool(states), "limit": asked["limit"]}
    return show_list(args, "job.elsewhere", "jobs", COLUMNS, _row, none, asked=wanted, limit=limit)


COLUMNS = (
    Column("ID", align_right=True),
    Column("PRINTER", gives_way=True),
    Column("STATE"),
    Column("OWNER", gives_way=True),
    Column("SIZE", align_right=True),
    Column("AGE", align_right=True),
    Column("TITLE", gives_way=True),
    Column("REASON", gives_way=True),
)


def _row(job: dict[str, Any]) -> list[str]:
    return [
        str(job["id"]),
        job["printer"],
        job["state"],
        job["owner"] or "-",
        render.bytes_text(job["size"]),
        render.age(job["created_us"]),
        job["title"] or "-",
        ", ".join(_telling(job["reasons"])),
    ]


def _telling(reasons: list[str]) -> list[str]:
    """The reasons that say more than the state does."""
    return [one for one in reasons if one not in ("none", "job-completed-successfully")]


HELD = (
    Column("ID", align_right=True),
    Column("PRINTER", gives_way=True),
    Column("OWNER", gives_way=True),
    Column("PAGES", align_right=True),
    Column("COPIES", align_right=True),
    Column("PRICE", align_right=True),
    Column("AGE", align_right=True),
    Column("DELETED IN"),
    Column("TITLE", gives_way=True),
    Column("IN THE WAY", gives_way=True),
)


def held(args: Namespace) -> int:
    asked = {"user": args.user, "limit": PAGE}
    if args.printer:
        asked["printer"] = args.printer
    none = f"Nothing waits for {args.user}."
    return show_list(args, "release.held", "jobs", HELD, _held_row, none, asked=asked)


def _held_row(job: dict[str, Any]) -> list[str]:
    import time

    left_us = None if job["expires_us"] is None else job["expires_us"] - time.time_ns() // 1000
    return [
        str(job["id"]),
        f"{job['node']}/{job['printer']}" if job["node"] else job["printer"],
        job["owner"],
        "-" if job["pages"] is None else str(job["pages"]),
        str(job["copies"]),
        "-" if job["price"] is None else format_amount(job["price"]),
        render.age(job["created_us"]),
        "-" if left_us is None else render.duration(left_us / 1e6),
        job["title"] or "-",
        job["why"],
    ]


def show(args: Namespace) -> int:
    return show_each(args, "job.show", _named(args), _print)


def _named(args: Namespace) -> list[dict[str, Any]]:
    """A question for each job that was named."""
    return [{"job": job} for job in args.jobs]


def _print(job: dict[str, Any]) -> None:
    render.print_fields(_fields(job))
    for attempt in job.get("attempts_list", ()):
        _print_attempt(attempt)


def _fields(job: dict[str, Any]) -> list[tuple[str, Any]]:
    known = job.get("owner_known", "")
    by = f" by {job['owner_by']}" if job.get("owner_by") else ""
    return [
        ("job", job["id"]),
        ("uuid", job["uuid"]),
        ("title", job["title"]),
        ("state", job["state"]),
        ("reasons", _telling(job["reasons"])),
        ("message", job.get("message")),
        ("printer", job["printer"]),
        ("owner", f"{job['owner']} ({known}{by})" if job["owner"] else "nobody known"),
        ("submitter", job.get("submitter")),
        ("came from", job.get("client_host")),
        ("came by", job.get("intake")),
        ("priority", job.get("priority")),
        ("held until", _held_until(job)),
        ("copies", job.get("copies")),
        ("asked for", job.get("attributes")),
        ("documents", _documents(job)),
        ("size", render.bytes_text(job["size"])),
        ("pages", _pages(job)),
        ("format", job.get("format")),
        ("digest", job.get("digest")),
        ("kept", job.get("stored")),
        ("submitted", render.local_time(job["created_us"])),
        ("changed", render.local_time(job.get("changed_us"))),
        ("finished", render.local_time(job.get("finished_us"))),
        ("position", job.get("position")),
        ("attempts", job.get("attempts")),
    ]


def _documents(job: dict[str, Any]) -> str | None:
    """Of a job of several: how many, and which one `format` and `digest` are about."""
    count = job.get("documents", 1)
    return f"{count}; this is number {job['document_number']}" if count > 1 else None


def _pages(job: dict[str, Any]) -> str | None:
    """What was counted: of one copy, and on how many sheets in all."""
    if job.get("pages") is None:
        return None
    sheets = job.get("media_sheets")
    return f"{job['pages']}" + (f", on {sheets} sheets in all" if sheets is not None else "")


def _held_until(job: dict[str, Any]) -> str | None:
    if job["state"] != "pending-held" or not job.get("hold_until"):
        return None
    word = "" if job["hold_until"] == "time" else job["hold_until"]
    return f"{word} {render.local_time(job['release_us']) if job['release_us'] else ''}".strip()


def _print_attempt(attempt: dict[str, Any]) -> None:
    evidence = attempt.get("evidence") or {}
    parts = [
        f"attempt {attempt['number']}",
        f"document {attempt['document']}" if attempt.get("document", 1) > 1 else "",
        render.local_time(attempt["started_us"]),
        attempt["outcome"] or "not ended",
        " ".join(part for part in (attempt.get("reason"), attempt.get("detail")) if part),
        f"{render.bytes_text(attempt.get('bytes_sent'))} sent",
        render.words(evidence),
    ]
    print(plain("  " + "; ".join(part for part in parts if part)))


def explain(args: Namespace) -> int:
    return show_each(args, "job.explain", _named(args), _print_story)


def _print_story(answer: dict[str, Any]) -> None:
    job = answer["job"]
    print(plain(f"Job {job['id']} on {job['printer']}: {job['title'] or 'no title'}"))
    for event in answer["story"]:
        detail = f": {event['detail']}" if event["detail"] else ""
        print(f"  {render.local_time(event['at_us'])}  {plain(event['what'] + detail)}")
    print(plain(f"Now {job['state']}. {answer['waits']}".rstrip()))
    if answer["may_act"]:
        print(plain(f"Who may act: {'; '.join(answer['may_act'])}"))


def act(args: Namespace) -> int:
    which = grammar.filters(args)
    if args.jobs and (which or args.all):
        return _misused(args, "name jobs or give filters, not both")
    if not args.jobs and not which and not args.all:
        return _misused(args, "name the jobs, give filters, or say --all")
    more = {"dry_run": args.dry_run, **getattr(args, "hold_until", {})}
    if getattr(args, "to", None) is not None:
        more["to"] = args.to
    op = f"job.{args.verb}"
    results: list[dict[str, Any]] = []
    with connect(args) as client:
        if args.jobs:
            for job in args.jobs:
                results += _one(client, op, {"job": job, **more})
        else:
            which.setdefault("states", list(grammar.states(ACTIONS[args.verb][1])))
            results += pages(client, op, {"filter": which, **more}, "results")
    return _report(args, results, args.verb + (" (dry run)" if args.dry_run else ""))


def set_jobs(args: Namespace) -> int:
    wanted = _attributes(args)
    if not wanted:
        args.verb = "set"
        return _misused(args, "name what to change")
    return _each(args, "job.set", wanted, "set")


def promote(args: Namespace) -> int:
    if args.after is None:
        return _each(args, "job.promote", {}, "promote")
    return _each(args, "job.schedule-after", {"after": args.after}, "promote")


def resubmit(args: Namespace) -> int:
    """A line for each new job."""
    wanted = _attributes(args) | ({"printer": args.to} if args.to else {})
    results: list[dict[str, Any]] = []
    with connect(args) as client:
        for job in args.jobs:
            asked = {"job": job, **wanted}
            try:
                answer = client.call("job.resubmit", asked)
                results.append({**answer, "ok": True, "of": job})
            except OperationError as error:
                results.append(_refused(asked, error))
    return _report(args, results, "resubmit")


def _each(args: Namespace, op: str, wanted: dict[str, Any], what: str) -> int:
    results: list[dict[str, Any]] = []
    with connect(args) as client:
        for job in args.jobs:
            results += _one(client, op, {"job": job, **wanted})
    return _report(args, results, what)


def settle(args: Namespace) -> int:
    return _each(args, "job.settle", {"printed": args.printed}, "settle")


def _one(client: ControlClient, op: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The line of one job; a refusal is a line too, so that the other jobs have their turn."""
    try:
        answer: list[dict[str, Any]] = client.call(op, asked)["results"]
    except OperationError as error:
        return [_refused(asked, error)]
    return answer


def _refused(asked: dict[str, Any], error: OperationError) -> dict[str, Any]:
    return {"id": asked["job"], "ok": False, "error": error.message, "advice": error.advice}


def _misused(args: Namespace, message: str) -> int:
    from sys import stderr

    print(f"spoold job {args.verb}: {message}; see --help.", file=stderr)
    return grammar.USAGE


def _report(args: Namespace, results: list[dict[str, Any]], what: str) -> int:
    """Print a line for each job; REFUSED when one of them was."""
    if args.json:
        render.print_json_list(results)
    else:
        for one in results:
            title = f" ({one['title']})" if one.get("title") else ""
            if one["ok"]:
                new = f"job {one['id']}, " if "of" in one else ""
                line = f"{one.get('of', one['id'])}{title}: {what}: {new}{one['state']}"
            else:
                line = f"{one['id']}{title}: not done: {one['error']} {one.get('advice') or ''}"
            print(plain(line.rstrip()))
        if not results:
            print("No such jobs.")
    return DONE if all(one["ok"] for one in results) else REFUSED
