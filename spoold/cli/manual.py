"""The manual pages, made from the grammar of the commands and from the schema of the configuration.

    python -m spoold.cli.manual DIRECTORY

writes `spoold.1` and `spoold.toml.5` (man-pages(7), groff_man(7)). The date is that of
$SOURCE_DATE_EPOCH: the same source makes the same pages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from spoold import __version__
from spoold.cli import parser as command_line
from spoold.daemon import config, config_help, schema

EXIT_CODES = (
    ("0", "Done."),
    ("1", "Refused: the message says why, and what to do."),
    ("2", "Wrong usage."),
    (
        "74",
        "B<spoold serve>: the disk failed. Nothing that was not safe has been acknowledged. "
        "systemd does not start it again.",
    ),
    (
        "75",
        "Nobody could be asked: the daemon does not run, or no server answers. Try again later. "
        "B<spoold serve>: the disk has no room at all.",
    ),
    (
        "76",
        "Sent, but the answer never came: the job may exist. B<spoold submit> with the same "
        "B<--uuid> finds out.",
    ),
    (
        "78",
        "B<spoold serve>: the configuration or the data directory cannot be used, or a port is "
        "taken. systemd does not start it again.",
    ),
    ("130, 141", "A command was interrupted, or whoever read its output has gone."),
    ("143", "B<spoold serve>: a second signal cut the drain short."),
)
ENVIRONMENT = (
    ("SPOOLD_CONTROL", "The daemon's control socket, where B<--control> is not given."),
    (
        "STATE_DIRECTORY, RUNTIME_DIRECTORY",
        "Where data and the control socket are, as systemd sets them.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "What B<credential:NAME> stands for in the configuration and in options.",
    ),
)
FILES = (
    (
        "/etc/spoold/spoold.toml",
        "The configuration of the daemon that the package runs: B<spoold.toml>(5).",
    ),
    ("/var/lib/spoold", "Its data: the spool, documents, the deployment's CA. The daemon's alone."),
    ("/run/spoold/control", "Its control socket, for root and the group B<spoold>."),
)
SIGNALS = (
    ("SIGHUP", "B<spoold serve> reads the configuration again and logs what changed."),
    (
        "SIGTERM, SIGINT",
        "It takes no jobs any more, lets uploads and deliveries finish (B<drain.deadline_s>), and "
        "ends. A second one ends it at once; acknowledged jobs are safe in any case.",
    ),
)


SAYS_ALL = "\\ "  # of an option that needs no words


def main() -> None:
    where = Path(sys.argv[1])
    (where / "spoold.1").write_text(commands(), encoding="utf-8")
    (where / "spoold.toml.5").write_text(configuration(), encoding="utf-8")


# -- roff --------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """`text` as roff shows it: minus signs that can be copied, no line that is a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


def marked(text: str) -> str:
    """Escaped, with B<…> in bold."""
    parts = re.split(r"B<(.*?)>", text)
    return "".join(
        f"\\fB{escaped(part)}\\fR" if at % 2 else escaped(part) for at, part in enumerate(parts)
    )


def heading(title: str, section: int) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0"))))
    return f'.TH "{title}" "{section}" "{day}" "spoold {__version__}" "spoold"\n'


def listed(rows: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    return "".join(f".TP\n\\fB{escaped(term)}\\fR\n{marked(text)}\n" for term, text in rows)


# -- spoold(1) ---------------------------------------------------------------------------------


def commands() -> str:
    """spoold(1): every command with its options and examples."""
    top = command_line()
    return "".join(
        (
            heading("SPOOLD", 1),
            ".SH NAME\nspoold \\- print-job spooler and its commands\n",
            ".SH SYNOPSIS\n.B spoold\n[\\fB\\-\\-control\\fR \\fIPATH\\fR] \\fICOMMAND\\fR ...\n",
            ".SH DESCRIPTION\n",
            "spoold takes print jobs from programs, keeps them, and hands them to printers.\n"
            "\\fBspoold serve\\fR is the daemon; the other commands ask it through its control\n"
            "socket. Every listing takes \\fB\\-\\-json\\fR.\n",
            ".SH COMMANDS\n",
            *(_command(name, one) for name, one in _leaves(top, "spoold")),
            f".SH EXIT STATUS\n{listed(EXIT_CODES)}",
            f".SH SIGNALS\n{listed(SIGNALS)}",
            f".SH ENVIRONMENT\n{listed(ENVIRONMENT)}",
            f".SH FILES\n{listed(FILES)}",
            ".SH SEE ALSO\n.BR spoold.toml (5),\n.BR systemctl (1),\n.BR journalctl (1)\n",
        )
    )


def _leaves(
    parser: argparse.ArgumentParser, name: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its whole name, in the order of the grammar."""
    nested = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not nested:
        yield name, parser
    for action in nested:
        for word, inner in action.choices.items():
            yield from _leaves(inner, f"{name} {word}")


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    text = f".SS {escaped(name)}{_synopsis(parser)}\n{escaped(parser.description or '')}\n"
    for action in parser._actions:
        if action.dest in ("help", "control") or action.help == argparse.SUPPRESS:
            continue
        told = _help(parser, action)
        text += f".TP\n{_term(action)}\n{escaped(told) or SAYS_ALL}\n"
    examples = (parser.epilog or "").removeprefix("examples:\n")
    if examples.strip():
        text += f".PP\nExamples:\n.PP\n.nf\n{escaped(examples.rstrip())}\n.fi\n"
    return text


def _synopsis(parser: argparse.ArgumentParser) -> str:
    words = ["[options]"] if any(one.option_strings for one in parser._actions[2:]) else []
    words += [_placed(one) for one in parser._actions if not one.option_strings]
    return "".join(f" {escaped(word)}" for word in words)


def _placed(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest.upper())
    shapes = {"?": f"[{name}]", "*": f"[{name}]...", "+": f"{name}..."}
    return shapes.get(str(action.nargs), name)


def _term(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"\\fI{escaped(_placed(action))}\\fR"
    names = ", ".join(f"\\fB{escaped(one)}\\fR" for one in action.option_strings)
    if action.nargs == 0:
        return names
    if action.metavar is None and action.choices is not None:
        return f"{names} {escaped('|'.join(map(str, action.choices)))}"
    return f"{names} \\fI{escaped(str(action.metavar or action.dest.upper()))}\\fR"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    shown = parser._get_formatter()._expand_help(action) if action.help else ""
    if not shown and action.choices is not None and not action.option_strings:
        shown = f"one of {', '.join(map(str, action.choices))}"
    return shown[:1].upper() + shown[1:] + "." if shown else ""


# -- spoold.toml(5) ----------------------------------------------------------------------------


def configuration() -> str:
    """spoold.toml(5): every key with what it takes and its default."""
    sections = "".join(
        f".SS [{one.name}]\n{escaped(config_help.SECTIONS[one.name])}\n"
        + "".join(_keys(one.default_factory, one.name))
        for one in fields(config.Config)
        if one.default_factory is not MISSING
    )
    return "".join(
        (
            heading("SPOOLD.TOML", 5),
            ".SH NAME\nspoold.toml \\- configuration of the spoold print spooler\n",
            ".SH SYNOPSIS\n.I /etc/spoold/spoold.toml\n",
            ".SH DESCRIPTION\n",
            "TOML that holds what one node needs to start. Printers, people, prices and policies\n"
            "are not in it: commands make them, and the spool keeps them. Every key has a\n"
            "default; an empty file will do. Unknown keys and wrong values are refused with\n"
            "file, key and advice. \\fBsystemctl reload spoold\\fR reads the file again and tells\n"
            "what changed and what needs a restart.\n",
            f".SH SECTIONS\n{sections}",
            '.SH EXAMPLE\n.nf\n[node]\nname = "library"\n\n[limits]\nexempt = ["192.0.2.5"]\n\n'
            '[[listen.raw]]\naddress = "0.0.0.0:9101"\nprinter = "labels"\n.fi\n',
            ".SH SEE ALSO\n.BR spoold (1),\n.BR systemd.socket (5),\n.BR systemd.exec (5)\n",
        )
    )


def keys(shape: Any, prefix: str) -> Iterator[tuple[str, Any, schema.Reader]]:
    """Every key below `prefix`: its whole name, its field, its reader; tables in lists, too."""
    hints = get_type_hints(shape, include_extras=True)
    for one in fields(shape):
        name = f"{prefix}.{one.name}"
        reader = hints[one.name].__metadata__[0]
        yield name, one, reader
        if schema.taken_by(reader).endswith("a table"):
            yield from keys(get_args(get_args(hints[one.name])[0])[0], name)


def _keys(shape: Any, prefix: str) -> Iterator[str]:
    for name, one, reader in keys(shape, prefix):
        key = escaped(name.removeprefix(f"{prefix}."))
        text = config_help.KEYS[name] + " Takes " + schema.taken_by(reader) + "."
        found = config_help.DEFAULTS.get(name) or _default(one.default)
        default = "" if one.default is MISSING else f" Default: {found}."
        restart = " Needs a restart." if prefix in config.NEEDS_RESTART else ""
        yield f".TP\n\\fB{key}\\fR\n{escaped(text + default + restart)}\n"


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(json.dumps(str(one)) for one in value)}]"  # as TOML writes it
    if value is None or value == "":
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
