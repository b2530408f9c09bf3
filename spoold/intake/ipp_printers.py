"""Printers by IPP: asking for one or for all, as RFC 8011 and as CUPS's clients do.

In: a request that names a printer, or none. Out: attributes of printers as they are now. Answers
about many printers are streamed, so that two thousand of them hold nobody up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

import trio

from spoold.codec import ipp
from spoold.codec.ipp_model import selected
from spoold.codec.ipp_model_printer import Reach
from spoold.codec.ipp_names import Operation, Status
from spoold.intake.ipp_printing import document_format
from spoold.intake.ipp_request import HEADERS, Ask, Refusal, Reply
from spoold.intake.ipp_server import Server
from spoold.model.printer import Printer

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

PAGE_PRINTERS: Final = 20


def _group(server: Server, printer: Printer, reach: Reach, asked: list[str] | None) -> bytes:
    """The group of one printer with the attributes that are asked for."""
    sheet = server.printers.sheet(printer)
    groups = sheet.groups(reach)
    names = selected(asked, groups, sheet.names(reach), groups["all"])
    return sheet.group(names, reach, server.printers.live(printer))


async def get_printer_attributes(server: Server, ask: Ask) -> Reply:
    printer = server.printer(ask)
    document_format(ask, server.printers.sheet(printer))
    asked = ask.keywords("requested-attributes")
    return Reply(groups=_group(server, printer, server.reach(ask), asked))


async def get_default(server: Server, ask: Ask) -> Reply:
    """CUPS-Get-Default."""
    name = server.node.default_printer()
    printer = server.printers.by_name.get(name)
    if printer is None:
        raise Refusal(Status.CLIENT_ERROR_NOT_FOUND, "there is no default printer.")
    asked = ask.keywords("requested-attributes")
    return Reply(groups=_group(server, printer, server.reach(ask), asked))


async def get_printers(server: Server, ask: Ask) -> Reply | None:
    """CUPS-Get-Printers: queues and pools, by name."""
    return await _stream(server, ask, _chosen(server, ask, pools_only=False))


async def get_classes(server: Server, ask: Ask) -> Reply | None:
    """CUPS-Get-Classes: pools are what CUPS calls classes."""
    return await _stream(server, ask, _chosen(server, ask, pools_only=True))


def _chosen(server: Server, ask: Ask, *, pools_only: bool) -> list[Printer]:
    """The printers that a listing has, at most `limit`, from `first-printer-name` on."""
    limit = ask.integer("limit", 1)
    first = ask.text("first-printer-name") or ""
    location = ask.text("printer-location")
    by_name = server.printers.by_name
    found = (
        by_name[name]
        for name in sorted(by_name)
        if name >= first
        and (by_name[name].members or not pools_only)
        and location in (None, by_name[name].location)
    )
    return list(islice(found, limit))


async def _stream(server: Server, ask: Ask, printers: list[Printer]) -> Reply | None:
    reach, asked = server.reach(ask), ask.keywords("requested-attributes")

    def groups(some: Iterable[Printer]) -> bytes:
        return b"".join(_group(server, printer, reach, asked) for printer in some)

    if len(printers) <= PAGE_PRINTERS:
        return Reply(groups=groups(printers))
    exchange = ask.exchange
    await exchange.begin(200, HEADERS)
    await exchange.send(ask.head(Status.SUCCESSFUL_OK))
    for at in range(0, len(printers), PAGE_PRINTERS):
        await exchange.send(groups(printers[at : at + PAGE_PRINTERS]))
        await trio.lowlevel.checkpoint()
    await exchange.end(ipp.END)
    return None


OPERATIONS: Final[dict[Operation, Handler]] = {
    Operation.GET_PRINTER_ATTRIBUTES: get_printer_attributes,
    Operation.CUPS_GET_DEFAULT: get_default,
    Operation.CUPS_GET_PRINTERS: get_printers,
    Operation.CUPS_GET_CLASSES: get_classes,
}
