"""`spoold import cups DIR`: take over the queues of a CUPS server.

Its files are read and nothing in them is run. What is there already under the same name stays as it
is: where it differs that is told. Asked again, it finds everything in place.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spoold.cli import grammar, render
from spoold.cli.control import NotRunning, connect, pages
from spoold.cli.grammar import DONE, REFUSED, Nouns, Parser
from spoold.model.errors import ConfigError, OperationError
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.cli.cups_plan import Plan, Wish
    from spoold.provider.blocking import ControlClient

FILE_BYTES_MAX = 16 << 20
SAYS = {
    "add": "would be added",
    "added": "added",
    "unchanged": "as it is",
    "conflict": "there is another one",
    "refused": "not taken over",
}


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "import", "take over what another print system had")
    importing = grammar.command(
        verbs,
        "cups",
        import_cups,
        "take over the queues, classes and defaults of a CUPS server",
        """spoold import cups /etc/cups --dry-run     # what would be added, and what is lost
        spoold import cups /etc/cups
        spoold import cups ./etc-cups-of-the-old-server --json""",
    )
    importing.add_argument(
        "directory", type=Path, metavar="DIR", help="its ServerRoot, or a copy of it"
    )
    importing.add_argument("--dry-run", action="store_true", help="only say what would be done")
    grammar.add_json(importing)


def import_cups(args: Namespace) -> int:
    from spoold.cli.cups_plan import plan

    made = plan(_files(args.directory))
    with _daemon(args) as client:
        known = set() if client is None else _names(client)
        told = []
        for wish in made.wishes:
            told.append(_settle(client, wish, known, is_dry=args.dry_run))
            if not args.json:
                _print(told[-1])
    if args.json:
        default, left = made.default, [_left(*one) for one in made.left_out]
        render.print_json(
            {
                "queues": [one.as_map() for one in told],
                "default": default,
                "left_out": left,
                "dry_run": args.dry_run,
            }
        )
    else:
        _print_end(made, told, client is not None)
    is_whole = all(one.action in ("add", "added", "unchanged") for one in told)
    return DONE if is_whole else REFUSED


@contextmanager
def _daemon(args: Namespace) -> Iterator[ControlClient | None]:
    """The daemon; none when it does not run, which a dry run can do without.

    Raises:
        NotRunning: it is needed, and it does not run.
    """
    with ExitStack() as stack:
        client: ControlClient | None = None
        try:
            client = stack.enter_context(connect(args))
        except NotRunning:
            if not args.dry_run:
                raise
        yield client


# -- reading -----------------------------------------------------------------------------------


def _files(directory: Path) -> Any:
    """Raises:
    ConfigError: this is no server root, or a file cannot be read.
    """
    from spoold.cli.cups_plan import ServerFiles

    if not (directory / "printers.conf").exists() and not (directory / "classes.conf").exists():
        raise ConfigError(
            "import",
            str(directory),
            "there is neither printers.conf nor classes.conf",
            "Name the ServerRoot of CUPS, /etc/cups most often.",
        )

    def ppd(queue: str) -> bytes:
        return _content(directory / "ppd" / f"{queue}.ppd") if "/" not in queue else b""

    return ServerFiles(
        printers=_content(directory / "printers.conf"),
        classes=_content(directory / "classes.conf"),
        lpoptions=_content(directory / "lpoptions"),
        cupsd=_content(directory / "cupsd.conf"),
        ppd=ppd,
    )


def _content(path: Path) -> bytes:
    """What is in the file; nothing when there is none.

    Raises:
        ConfigError: it cannot be read, or is larger than any file of CUPS.
    """
    try:
        if not path.exists():
            return b""
        if not path.is_file():
            raise ConfigError("read", str(path), "it is not a file", "Copy what it leads to.")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        advice = "CUPS lets only root read it: use sudo."
        raise ConfigError("read", str(path), error.strerror, advice) from error
    if len(data) > FILE_BYTES_MAX:
        cause = f"it is over {FILE_BYTES_MAX >> 20} MiB long"
        raise ConfigError("read", str(path), cause, "That is no file of CUPS.")
    return data


# -- doing -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Told:
    """What became of a wish: a word of `SAYS`, and why where there is a reason."""

    wish: Wish
    action: str
    why: list[str] = field(default_factory=list)

    def as_map(self) -> dict[str, Any]:
        wish = self.wish
        return {
            "name": wish.name,
            "file": wish.file,
            "line": wish.line,
            "device": wish.device,
            "action": self.action,
            "why": self.why,
            "printer": {key: value for key, value in wish.args.items() if key != "uri"},
            "paused": wish.pause_reason is not None,
            "left_out": [_left(*one) for one in wish.left_out],
        }


def _left(what: str, why: str) -> dict[str, str]:
    return {"what": what, "why": why}


def _names(client: ControlClient) -> set[str]:
    return {one["name"] for one in pages(client, "printer.list", {}, "printers")}


def _settle(client: ControlClient | None, wish: Wish, known: set[str], *, is_dry: bool) -> Told:
    if wish.refused:
        return Told(wish, "refused", [wish.refused])
    try:
        if client is not None and wish.name in known:
            differing = _differing(wish, client.call("printer.show", {"name": wish.name}))
            return Told(wish, "conflict" if differing else "unchanged", differing)
        if is_dry or client is None:
            _check(wish)
            return Told(wish, "add")
        advice = client.call("printer.add", wish.args)["advice"]
        if wish.pause_reason is not None:
            client.call("printer.pause", {"name": wish.name, "reason": wish.pause_reason})
    except OperationError as error:
        return Told(wish, "refused", [str(error)])
    return Told(wish, "added", [one for one in advice if not one.startswith("It takes no new")])


def _check(wish: Wish) -> None:
    """What the daemon would look at first.

    Raises:
        OperationError: it would refuse.
    """
    from uuid import uuid4

    from spoold.daemon.operations.settings import ARGUMENTS, read_settings, read_uri
    from spoold.daemon.operations.table import read_arguments
    from spoold.driver.link import check_options, driver_for
    from spoold.model.printer import Device
    from spoold.net.connect import TcpNetwork

    given = {key: value for key, value in wish.args.items() if key != "name"}
    _, options, _ = read_settings(read_arguments(ARGUMENTS, given))
    if "uri" in wish.args:
        address, in_query = read_uri(wish.args["uri"])
        device = Device(0, uuid4(), address, {**in_query, **options})
        driver_for(device, TcpNetwork())
        check_options(device)


def _differing(wish: Wish, there: dict[str, Any]) -> list[str]:
    """In what the printer that is there is another one than the queue would make."""
    from spoold.daemon.operations.settings import read_uri

    wanted = dict(wish.args)
    uri = wanted.pop("uri", None)
    address, in_query = ("", {}) if uri is None else read_uri(uri)
    options = {**in_query, **wanted.pop("options", {})}
    offer = wanted.pop("offer", {})
    wanted = {
        "members": [],
        "formats": [],
        "accepting": True,
        "shared": False,
        **dict.fromkeys(("info", "location", "organization", "organizational_unit"), ""),
        **wanted,
    }
    differing = [name for name, value in wanted.items() if there.get(name) != value]
    differing += ["device"] if there["uri"] != address else []
    differing += [f"option {key}" for key in options if there["options"].get(key) != options[key]]
    differing += [f"offer {key}" for key in offer if there["offer"].get(key) != offer[key]]
    if there["paused"] != (wish.pause_reason is not None):
        differing.append("paused")
    return differing


# -- telling -----------------------------------------------------------------------------------


def _print(told: Told) -> None:
    wish = told.wish
    why = f": {'; '.join(told.why)}" if told.why else ""
    if told.action == "conflict":
        why = f" with that name (other {', '.join(told.why)}): it stays"
    print(plain(f"{wish.name} ({wish.device or 'no device'}): {SAYS[told.action]}{why}"))
    if told.action not in ("add", "added"):
        return
    if wish.pause_reason is not None:
        print(plain(f"  paused{f': {wish.pause_reason}' if wish.pause_reason else ''}"))
    for what, reason in wish.left_out:
        print(plain(f"  left out: {what}: {reason}"))


def _print_end(made: Plan, told: list[Told], is_running: bool) -> None:
    for what, why in made.left_out:
        print(plain(f"left out: {what}: {why}"))
    if made.default:
        stays = any(one.wish.name == made.default and one.action == "refused" for one in told)
        but, name = (", which is not taken over", "NAME") if stays else ("", made.default)
        print(
            plain(
                f"The default printer was {made.default}{but}: the configuration says which one it "
                f'is here, with raw_printer = "{name}" below [listen].'
            )
        )
    counts = {word: sum(one.action == word for one in told) for word in SAYS}
    print("; ".join(f"{count} {SAYS[word]}" for word, count in counts.items() if count) + ".")
    if not is_running:
        print("The daemon does not run here: what it has already was not looked at.")
