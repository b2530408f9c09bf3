"""`spoold user import FILE.csv`: lists of people from elsewhere, and what would change.

The first line names the columns. A column that is not there leaves what is known of a user as it
is; an empty cell takes it away, but for cards and PINs, which are only added. The whole file is
looked at before anything is changed: with one row that cannot be, nothing is.
"""

from __future__ import annotations

import csv
import io
import sys
from argparse import ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spoold.cli import grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, REFUSED, Nouns, Parser
from spoold.model.errors import ConfigError, OperationError
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.provider.blocking import ControlClient

FILE_BYTES_MAX = 256 << 20
CELL_CHARACTERS_MAX = 64 * 1024
BATCH_ROWS = 100
BATCH_BYTES = 32 * 1024
BETWEEN = "|"  # several groups, roles or cards in one cell
_SAYS = {
    (True, "added"): "would be added",
    (True, "changed"): "would change",
    (False, "added"): "added",
    (False, "changed"): "changed",
}
Row = dict[str, Any]


def add(verbs: Nouns[Parser]) -> None:
    importing = grammar.command(
        verbs,
        "import",
        import_users,
        "add and change the users in a file of comma-separated values",
        """spoold user import people.csv --dry-run      # what would change
        spoold user import people.csv
        spoold user import staff.csv --column Login=name --column Badge=cards --converter hex""",
    )
    importing.add_argument("file", metavar="FILE|-", help="its first line names the columns")
    importing.add_argument("--dry-run", action="store_true", help="only say what would change")
    importing.add_argument(
        "--column",
        type=_column,
        action="append",
        default=[],
        metavar="TITLE=NAME",
        help=f"what a column holds: {', '.join(_CELLS)}; `-` for nothing of interest. "
        f"Several groups, roles or cards in a cell have {BETWEEN} between them",
    )
    importing.add_argument(
        "--converter", metavar="NAME|STEPS", help="of cards; see `spoold card converters`"
    )
    importing.add_argument(
        "--encoding", default="utf-8-sig", metavar="NAME", help="of the file; UTF-8 without it"
    )
    grammar.add_json(importing)


def _column(text: str) -> tuple[str, str]:
    title, name = grammar.pair(text)
    if name != "-" and name not in _CELLS:
        raise ArgumentTypeError(f"{name!r} is none of {', '.join(_CELLS)}")
    return _key(title), name


def import_users(args: Namespace) -> int:
    rows = list(_rows(args))
    with connect(args) as client:
        told = _ask(client, rows, dry_run=True)
        if not args.dry_run and not any(one["action"] == "refused" for one in told):
            told = _ask(client, rows, dry_run=False)
        elif not args.dry_run and not args.json:
            print("Nothing was changed: rows of the file cannot be.", file=sys.stderr)
    is_whole = not any(one["action"] == "refused" for one in told)
    if args.json:
        render.print_json_list(told)
    else:
        _tell(told, is_dry=args.dry_run or not is_whole)
    return DONE if is_whole else REFUSED


# -- reading -----------------------------------------------------------------------------------


def _text(cell: str) -> str:
    return cell


def _list(cell: str) -> list[str]:
    return [one.strip() for one in cell.split(BETWEEN) if one.strip()]


def _switch(cell: str) -> bool:
    word = cell.strip().casefold()
    if word in ("yes", "y", "true", "1", "on"):
        return True
    if word in ("no", "n", "false", "0", "off", ""):
        return False
    raise OperationError("bad-request", f"{plain(cell[:40])!r} is neither yes nor no.")


def _overdraft(cell: str) -> int | str:
    from spoold.model.money import parse_amount

    return parse_amount(cell.strip()) if cell.strip() not in ("", "default") else "default"


def _cards(cell: str) -> list[dict[str, str]]:
    """`NUMBER|LABEL=NUMBER`."""
    found = []
    for one in _list(cell):
        label, _, number = one.rpartition("=")
        found.append({"label": label.strip(), "number": number.strip()})
    return found


_CELLS: dict[str, Callable[[str], Any]] = {
    "name": _text,
    "full_name": _text,
    "email": _text,
    "groups": _list,
    "roles": _list,
    "disabled": _switch,
    "restricted": _switch,
    "overdraft": _overdraft,
    "default_account": _text,
    "cards": _cards,
    "pin": lambda cell: cell.strip(),
}


def _key(title: str) -> str:
    """`Full Name`, `full-name` and `FULL_NAME` are one column."""
    return "_".join(title.replace("-", " ").replace("_", " ").split()).casefold()


def _fault(file: str, cause: object, advice: str) -> ConfigError:
    return ConfigError("import", file, cause, advice)


def _content(args: Namespace) -> str:
    """Raises:
    ConfigError: it cannot be read, or is no text.
    """
    try:
        if args.file == "-":
            raw = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(args.file).open("rb") as opened:
                raw = opened.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise _fault(args.file, f"it is larger than {FILE_BYTES_MAX} bytes", "Split it.")
        return raw.decode(args.encoding)
    except OSError as error:
        raise _fault(args.file, error.strerror, "Name a file that you can read.") from None
    except (UnicodeDecodeError, LookupError) as error:
        advice = "Name its encoding: --encoding cp1252, for a file from Windows."
        raise _fault(args.file, error, advice) from None


def _rows(args: Namespace) -> Iterator[Row]:
    """The rows of the file, as `user.import` takes them, each with its `line`.

    Raises:
        ConfigError: this is no such file.
    """
    text = _content(args)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    seen: dict[str, int] = {}
    try:
        columns = _columns(args, next(reader, []))
        for cells in reader:
            if any(cells):
                yield _row(args, columns, cells, reader.line_num, seen)
    except csv.Error as error:
        advice = "Write it as your spreadsheet does: comma-separated values, in quotes."
        raise _fault(args.file, f"line {reader.line_num}: {error}", advice) from None


def _columns(args: Namespace, titles: list[str]) -> list[str]:
    named = dict(args.column)
    columns = [named.get(_key(title), _key(title)) for title in titles]
    for title, column in zip(titles, columns, strict=True):
        if column == "password":
            advice = "Leave it out (--column password=-), and use `spoold user set NAME`."
            raise _fault(args.file, "passwords do not come in files of values", advice)
        if column not in _CELLS and column != "-":
            short = plain(title.strip()[:40])
            advice = f"Say what it holds: --column '{short}=NAME', NAME being one of "
            advice += f"{', '.join(_CELLS)}; or --column '{short}=-', which leaves it out."
            raise _fault(args.file, f"it is not known what the column '{short}' holds", advice)
    twice = [one for one, count in Counter(columns).items() if count > 1 and one != "-"]
    if "name" not in columns or twice:
        cause = f"{twice[0]} stands there twice" if twice else "no column is called name"
        raise _fault(args.file, cause, "Its first line names the columns; see --column.")
    return columns


def _row(
    args: Namespace, columns: list[str], cells: list[str], line: int, seen: dict[str, int]
) -> Row:
    row: Row = {"line": line}
    try:
        if len(cells) != len(columns):
            raise OperationError(
                "bad-request", f"there are {len(cells)} cells for {len(columns)} columns."
            )
        for column, cell in zip(columns, cells, strict=True):
            if column != "-":
                row[column] = _CELLS[column](cell)
        if args.converter is not None and row.get("cards"):
            row["converter"] = args.converter
        if len(repr(row).encode()) > BATCH_BYTES:
            raise OperationError("too-large", "this is too much for one user.", "Give less of it.")
        _once(args, row, seen)
    except OperationError as error:
        name = cells[columns.index("name")] if len(cells) == len(columns) else ""
        row = {"line": line, "name": name[:60], "fault": error}
    return row


def _once(args: Namespace, row: Row, seen: dict[str, int]) -> None:
    """Raises:
    OperationError: the name or a card stands in the file already.
    """
    from spoold.model.card import PLAIN, convert
    from spoold.model.user import check_user_name

    keys = {f"name {check_user_name(row['name'])}": "this user"}
    for one in row.get("cards", ()):
        keys[f"card {convert(args.converter or PLAIN, one['number'])}"] = "one of these cards"
    for key, what in keys.items():
        if key in seen:
            raise OperationError("conflict", f"{what} stands in line {seen[key]} already.")
    line: int = row["line"]
    seen.update(dict.fromkeys(keys, line))


# -- asking and telling ------------------------------------------------------------------------


def _ask(client: ControlClient, rows: list[Row], *, dry_run: bool) -> list[Row]:
    """What became of each row, in order."""
    told: list[Row] = []
    for batch in _batches(rows):
        asked = [
            {k: v for k, v in row.items() if k != "line"} for row in batch if "fault" not in row
        ]
        answer = client.call("user.import", {"users": asked, "dry_run": dry_run}) if asked else {}
        answers = iter(answer.get("users", ()))
        for row in batch:
            fault = row.get("fault")
            found = (
                next(answers)
                if fault is None
                else {
                    "name": row["name"],
                    "action": "refused",
                    "error": fault.message,
                    "advice": fault.advice,
                }
            )
            told.append({"line": row["line"], **found})
    return told


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        weight = len(repr(row).encode())
        if batch and (len(batch) >= BATCH_ROWS or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch


def _tell(told: list[Row], *, is_dry: bool) -> None:
    for one in told:
        if one["action"] == "refused":
            who = f"{one['name']}: " if one["name"] else ""
            print(plain(f"line {one['line']}: {who}{one['error']} {one['advice']}".strip()))
        elif one["action"] != "unchanged":
            said = _SAYS[is_dry, one["action"]]
            changes = "; ".join(_change(*item) for item in one.get("changes", {}).items())
            print(plain(f"{one['name']} {said}{': ' * bool(changes)}{changes}"))
            for note in one.get("notes", ()):
                print(plain(f"  {note}"))
    counts = Counter(one["action"] for one in told)
    print(", ".join(f"{counts[one]} {one}" for one in ("added", "changed", "unchanged", "refused")))


def _change(name: str, values: list[Any]) -> str:
    from spoold.model.money import format_amount

    before, after = values
    if isinstance(after, list):
        gone = [f"-{one}" for one in before or () if one not in after]
        return (
            f"{name} {' '.join([f'+{one}' for one in after if one not in (before or ())] + gone)}"
        )
    if name == "pin":
        return f"pin {after}"
    if name == "overdraft":
        before, after = (
            format_amount(one) if isinstance(one, int) else one for one in (before, after)
        )
    if before in (None, "", False) and after not in (False, ""):
        return name if after is True else f"{name} {after!r}"
    return f"{name} {before!r} → {after!r}"
