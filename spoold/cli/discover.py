"""`spoold printer discover`: the printers that announce themselves on the network.

It needs no daemon. When one runs here, it says which printers it has already.
"""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spoold.cli import grammar, render
from spoold.cli.control import NotRunning, connect, pages
from spoold.cli.grammar import DONE, UNREACHABLE, Nouns, Parser
from spoold.cli.render import Column
from spoold.model.errors import OperationError
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.codec.dnssd import Found

TIMEOUT_S = 4.0
TIMEOUT_MAX_S = 120.0
RESOLVER = Path("/etc/nsswitch.conf")


def add(verbs: Nouns[Parser]) -> None:
    parser = grammar.command(
        verbs,
        "discover",
        discover,
        "find printers on the network (DNS-SD), and how to add them",
        """spoold printer discover
        spoold printer discover --timeout 10 --interface eth0 --json""",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help="how long answers are waited for (%(default)g)",
    )
    parser.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="NAME",
        help="look there alone; else everywhere but on loopback",
    )
    grammar.add_json(parser)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.1 <= seconds <= TIMEOUT_MAX_S:
        raise ArgumentTypeError(f"{text!r} is no time from 0.1 to {TIMEOUT_MAX_S:g} seconds")
    return seconds


def discover(args: Namespace) -> int:
    from spoold.net import dnssd

    try:
        found = dnssd.find(dnssd.interfaces(args.interface), args.timeout)
    except dnssd.Unusable as error:
        print(plain(f"spoold: the network cannot be searched: {error}."), file=sys.stderr)
        return UNREACHABLE
    show(found, args)
    return DONE


def show(found: list[Found], args: Namespace) -> None:
    """Print what was found, and which of it is a printer here already."""
    have = _printers(args)
    with_names = _resolves_local_names()
    rows = [_row(one, have, with_names) for one in _sorted(found)]
    if args.json:
        render.print_json_list(rows)
        return
    columns = (
        Column("NAME", gives_way=True),
        Column("MAKE AND MODEL", gives_way=True),
        Column("DEVICE URI"),
        Column("PRINTER"),
    )
    cells = [
        [one["name"], one["make_and_model"] or "-", one["uri"], one["printer"] or "-"]
        for one in rows
    ]
    render.print_table(columns, cells, "No printer answered; try a longer --timeout.")
    if rows:
        print("Add one: `spoold printer add NAME DEVICE-URI`.")


def _printers(args: Namespace) -> list[dict[str, Any]]:
    """The printers of the daemon that runs here; none without one, or when it does not tell us."""
    try:
        with connect(args) as client:
            return list(pages(client, "printer.list", {}, "printers"))
    except (NotRunning, OperationError):
        return []


def _sorted(found: list[Found]) -> list[Found]:
    """By name; of one name the protocol first that serves best."""
    from spoold.codec.dnssd import KINDS

    return sorted(found, key=lambda one: (one.name.casefold(), KINDS.index(one.kind)))


def _row(one: Found, have: list[dict[str, Any]], with_names: bool) -> dict[str, Any]:
    return {
        "name": one.name,
        "make_and_model": one.make_and_model,
        "uri": one.uri(_host(one, with_names)),
        "printer": _known_as(one, have),
        "kind": one.kind,
        "host": one.host,
        "port": one.port,
        "addresses": list(one.addresses),
        "uuid": str(one.uuid) if one.uuid else "",
    }


def _host(one: Found, with_names: bool) -> str:
    """Its name where this machine can look that up, or else an address."""
    is_local = one.host.lower().endswith(".local")
    if one.host and (not one.addresses or not is_local or with_names):
        return one.host
    return min(one.addresses, key=lambda text: (":" in text, text.lower().startswith("fe80:")))


def _resolves_local_names() -> bool:
    """Whether programs here find names in .local (nss-mdns)."""
    try:
        lines = RESOLVER.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.startswith("hosts:") and "mdns" in line for line in lines)


def _known_as(one: Found, have: list[dict[str, Any]]) -> str:
    """The printer here that prints there, or that this is an announcement of."""
    places = {host.lower() for host in (one.host, *one.addresses) if host}
    uris = {_place(one.uri(host)) for host in places}
    for printer in have:
        if one.uuid is not None and printer["guid"] == str(one.uuid):
            return f"{printer['name']}, shared from here"
        if printer["uri"] and _place(printer["uri"]) in uris:
            return str(printer["name"])
    return ""


_PORTS = {"ipp": 631, "ipps": 631, "socket": 9100, "lpd": 515}


def _place(uri: str) -> tuple[str, str, int | None, str]:
    """What two device URIs have in common that print in one place; TLS makes no difference."""
    parts = urlsplit(uri)
    port = parts.port or _PORTS.get(parts.scheme)
    return parts.scheme.removesuffix("s"), (parts.hostname or "").lower(), port, parts.path
