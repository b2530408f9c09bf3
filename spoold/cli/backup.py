"""`spoold backup DIR`, `backup list`, `backup verify`, and `spoold restore`.

A backup is taken by the daemon, while it runs; the others work on files alone, without it.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spoold.cli import grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, REFUSED, USAGE, Nouns, Parser
from spoold.cli.render import Column
from spoold.model.errors import SpoolError
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.daemon.manifest import Head
    from spoold.daemon.restore import Restored

PROGRESS_INTERVAL_S = 0.5


def add(nouns: Nouns[Parser]) -> None:
    taking = grammar.command(
        nouns,
        "backup",
        backup,
        "back this node up while it runs; list and verify backups",
        """spoold backup /srv/backup/library                 # takes one more, into a folder there
        spoold backup /srv/backup/library --keep 14
        spoold backup list /srv/backup/library
        spoold backup verify /srv/backup/library          # the last one, or name one""",
    )
    taking.add_argument(
        "words",
        nargs="+",
        metavar="[list|verify] DIR",
        help="where backups go: a directory that the daemon's user may write, outside of its data",
    )
    taking.add_argument(
        "--keep",
        type=grammar.count,
        metavar="N",
        help="then remove all but the last N backups of this node",
    )
    grammar.add_json(taking)

    restoring = grammar.command(
        nouns,
        "restore",
        restore,
        "put a backup back, while the daemon is stopped",
        """systemctl stop spoold
        spoold restore /srv/backup/library --config /etc/spoold/spoold.toml --replace
        spoold restore /srv/backup/library/20250301T020000Z --data-dir /var/lib/spoold""",
    )
    restoring.add_argument("backup", metavar="DIR", help="a backup, or where they are: the last")
    where = restoring.add_mutually_exclusive_group()
    where.add_argument("--config", metavar="FILE", help="whose [node] data_dir is restored")
    where.add_argument("--data-dir", metavar="DIR", help="the data directory itself")
    restoring.add_argument(
        "--replace",
        action="store_true",
        help="move what is there aside, into a folder of the data directory",
    )
    restoring.add_argument(
        "--waiting",
        choices=("hold", "print"),
        default="hold",
        help="jobs that waited when the backup was made may have been printed since: hold them as "
        "in doubt (the default), or print them",
    )
    grammar.add_json(restoring)


def backup(args: Namespace) -> int:
    *verb, directory = args.words
    place = Path(directory).absolute()
    if not verb and directory not in ("list", "verify"):  # ./list is a directory of that name
        return _take(args, place)
    if verb == ["list"]:
        return _list(args, place)
    if verb == ["verify"]:
        return _verify(args, place)
    print("spoold backup: give DIR, list DIR or verify DIR; see --help.", file=sys.stderr)
    return USAGE


def _take(args: Namespace, place: Path) -> int:
    asked: dict[str, Any] = {"directory": str(place)}
    if args.keep is not None:
        asked["keep"] = args.keep
    tell = _progress()
    answer: dict[str, Any] = {}
    with connect(args) as client:
        for event in client.stream("backup.make", asked):
            if event.name == "made":
                answer = event.args
            else:
                tell(event.args["what"], event.args["done"], event.args["total"])
    tell("", 0, 0)
    if args.json:
        render.print_json(answer)
        return DONE
    size, copied = (render.bytes_text(answer[key]) for key in ("total_bytes", "copied_bytes"))
    print(f"{answer['path']}: jobs: {answer['jobs']}, {size}, {copied} of it new.")
    if answer["damaged"]:
        print(
            f"warning: {answer['damaged']} documents were missing or changed in the spool; see "
            "its log.",
            file=sys.stderr,
        )
    for name in answer["removed"]:
        print(f"Removed {name}.")
    if answer["has_ca_key"]:
        print("It holds the key of the certificate authority: guard it as you guard the node.")
    if answer["credentials"]:
        print(plain(f"Not in it, for systemd hands them over: {', '.join(answer['credentials'])}."))
        print("Keep the files that LoadCredential= names, too; without them it is half a backup.")
    return DONE


def _list(args: Namespace, place: Path) -> int:
    from spoold.daemon import backup as backups
    from spoold.daemon import manifest

    try:
        found = backups.made(place)
    except PermissionError as error:
        advice = "Only root and the daemon's user may."
        raise SpoolError("list backups in", str(place), error.strerror, advice) from error
    if args.json:
        render.print_json_list({"name": name, **manifest.as_map(head)} for name, head in found)
        return DONE
    columns = (
        Column("NAME"),
        Column("NODE", gives_way=True),
        Column("AGE", align_right=True),
        Column("JOBS", align_right=True),
        Column("WAITING", align_right=True),
        Column("SIZE", align_right=True),
    )
    render.print_table(columns, [_row(*one) for one in found], f"There is no backup in {place}.")
    return DONE


def _row(name: str, head: Head) -> tuple[str, ...]:
    age, size = render.age(head.made_us), render.bytes_text(head.bytes)
    return name, head.node_name, age, str(head.jobs), str(head.waiting), size


def _verify(args: Namespace, place: Path) -> int:
    from spoold.daemon import manifest, restore

    tell = _progress()
    found = restore.verify(restore.find(place), tell)
    tell("", 0, 0)
    if args.json:
        told = {
            "path": str(found.path),
            "whole": found.is_whole,
            "problems": found.problems,
            "damaged": found.damaged,
            **manifest.as_map(found.head),
        }
        render.print_json(told)
        return DONE if found.is_whole else REFUSED
    if found.is_whole:
        size = render.bytes_text(found.head.bytes)
        print(f"{found.path}: whole, jobs: {found.head.jobs}, {size}")
        return DONE
    for problem in found.problems:
        print(plain(f"{found.path}: {problem}"), file=sys.stderr)
    for file in found.damaged:
        print(plain(f"{found.path}: {file}: missing or changed"), file=sys.stderr)
    way = "cannot be restored" if found.problems else "can be restored without these documents"
    print(f"spoold: the backup is damaged; it {way}.", file=sys.stderr)
    return REFUSED


def restore(args: Namespace) -> int:
    from spoold.daemon import config, logs
    from spoold.daemon import restore as restoring
    from spoold.net import credentials

    logs.configure("error", sys.stderr)
    if args.data_dir is not None:
        data_dir = Path(args.data_dir).absolute()
    else:
        data_dir = config.load(args.config, credentials.as_of_unit()).node.data_dir
    tell = _progress()
    done = restoring.restore(
        restoring.find(Path(args.backup).absolute()),
        data_dir,
        time.time_ns() // 1000,
        tell,
        replace=args.replace,
        prints=args.waiting == "print",
    )
    tell("", 0, 0)
    if args.json:
        render.print_json(_told(done, data_dir))
        return DONE
    made = render.local_time(done.head.made_us // 1_000_000 * 1_000_000)
    print(f"{data_dir} is as it was at {made}, jobs: {done.head.jobs}.")
    print(f"New jobs get numbers from {done.first_job_id} on.")
    if done.aside is not None:
        print(f"What was there lies in {done.aside}; remove it when you do not need it any more.")
    if done.damaged:
        print(f"warning: {len(done.damaged)} documents of the backup are damaged; the jobs that")
        print("         still wait for them are aborted at the start.")
    if done.held:
        jobs = "1 job waited" if done.held == 1 else f"{done.held} jobs waited"
        print(f"{jobs} then, and may have been printed since; held as in doubt:")
        print("  spoold job list --reason job-in-doubt")
        print("  spoold job settle ID... --printed, or --not-printed to print them now")
    if done.head.credentials:
        print(plain(f"Not in the backup were the credentials {', '.join(done.head.credentials)}:"))
        print("  see that the unit's LoadCredential= names their files before the daemon starts.")
    print("Start the daemon now.")
    return DONE


def _told(done: Restored, data_dir: Path) -> dict[str, Any]:
    from spoold.daemon import manifest

    return {
        "data_dir": str(data_dir),
        "incarnation": done.incarnation,
        "first_job_id": done.first_job_id,
        "held": done.held,
        "damaged": list(done.damaged),
        "aside": None if done.aside is None else str(done.aside),
        "backup": manifest.as_map(done.head),
    }


def _progress() -> Callable[[str, int, int], None]:
    """Tells on a terminal how far it is, in one line; without a terminal nothing."""
    is_terminal = sys.stderr.isatty()
    told_at = time.monotonic()
    is_told = False

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told_at, is_told
        if not is_terminal:
            return
        if not what:
            if is_told:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            return
        if total and time.monotonic() - told_at >= PROGRESS_INTERVAL_S:
            told_at, is_told = time.monotonic(), True
            share = f"{100 * done // total:3} %"
            print(f"\r\x1b[K{what} {share}", end="", file=sys.stderr, flush=True)

    return tell
