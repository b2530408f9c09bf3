"""Printers steered by IPP (RFC 8011 4.2.7 to 4.2.9, RFC 3998, RFC 3380): for operators.

In: a request that names a printer. Out: the operation of the table, done. A printer that is shut
down takes no jobs and prints none; starting it takes both back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from spoold.codec import ipp
from spoold.codec.ipp_model_printer import IDENTIFY_ACTIONS, SETTABLE_PRINTER
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Attribute, Tag, WithLanguage
from spoold.intake.ipp_jobs import call
from spoold.intake.ipp_request import Ask, Refusal, Reply, bad
from spoold.intake.ipp_server import Server
from spoold.model.person import decode_text

log = structlog.get_logger("spoold.intake")

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]


def _steps(*ops: str) -> Handler:
    """Operations on the printer, one after the other."""

    async def do(server: Server, ask: Ask) -> Reply:
        name = server.printer(ask).name
        for op in ops:
            await call(server, ask, op, name=name)
        return Reply()

    return do


def _with_reason(op: str) -> Handler:
    """An operation that may say why (CUPS's `-r`, RFC 3998's message to the operator)."""

    async def do(server: Server, ask: Ask) -> Reply:
        why = ask.text("printer-message-from-operator") or ""
        group = ask.group(Tag.PRINTER)
        if not why and group is not None:
            why = str(group.first("printer-state-message", ""))
        args = {"reason": why[:127]} if why else {}
        await call(server, ask, op, name=server.printer(ask).name, **args)
        return Reply()

    return do


def _current(op: str) -> Handler:
    """An operation on the job that the printer works on; it may be named."""

    async def do(server: Server, ask: Ask) -> Reply:
        job_id = ask.integer("job-id", 1)
        args = {} if job_id is None else {"job": job_id}
        await call(server, ask, op, name=server.printer(ask).name, **args)
        return Reply()

    return do


async def set_printer_attributes(server: Server, ask: Ask) -> Reply:
    """Set-Printer-Attributes (RFC 3380 4.1): all of them, or none."""
    printer = server.printer(ask)
    group = ask.group(Tag.PRINTER)
    if group is None or not group.attributes:
        raise bad("there is nothing to set.")
    args: dict[str, Any] = {}
    refused: list[Attribute] = []
    for name, attribute in group.attributes.items():
        value = attribute.first
        if name not in SETTABLE_PRINTER:
            refused.append(ipp.out_of_band(name, Tag.NOT_SETTABLE))
        elif attribute.tag == Tag.DELETE:
            args[name.removeprefix("printer-")] = ""
        elif attribute.tag in (Tag.TEXT, Tag.TEXT_LANGUAGE):
            text = value.text if isinstance(value, WithLanguage) else value
            args[name.removeprefix("printer-")] = text
        else:
            raise bad(f"{name} has the wrong syntax.")
    if refused:
        status = Status.CLIENT_ERROR_ATTRIBUTES_NOT_SETTABLE
        raise Refusal(status, "some of this cannot be set.", refused)
    await call(server, ask, "printer.set", name=printer.name, **args)
    return Reply()


async def get_printer_supported_values(server: Server, ask: Ask) -> Reply:
    """Get-Printer-Supported-Values (RFC 3380 4.3): any text will do for what can be set."""
    server.printer(ask)
    asked = ask.keywords("requested-attributes") or ["all"]
    is_all = not {"all", "printer-description"}.isdisjoint(asked)
    names = [name for name in SETTABLE_PRINTER if is_all or name in asked]
    found = [ipp.out_of_band(name, Tag.ADMIN_DEFINE) for name in names]
    return Reply(groups=ipp.encode_group(Tag.PRINTER, found))


async def identify_printer(server: Server, ask: Ask) -> Reply:
    """Identify-Printer (PWG 5100.13 5.1.4): the log shows which one is meant."""
    printer = server.printer(ask)
    actions = ask.keywords("identify-actions") or []
    strange = [one for one in actions if one not in IDENTIFY_ACTIONS]
    message = decode_text((ask.text("message") or "").encode())
    log.info(
        "printer_identified", printer=printer.name, message=message, client=ask.principal.address
    )
    if not strange:
        return Reply()
    status = Status.SUCCESSFUL_OK_IGNORED_OR_SUBSTITUTED_ATTRIBUTES
    return Reply(status, unsupported=(ipp.keyword("identify-actions", *strange),))


OPERATIONS: Final[dict[Operation, Handler]] = {
    Operation.PAUSE_PRINTER: _with_reason("printer.pause"),
    Operation.PAUSE_PRINTER_AFTER_CURRENT_JOB: _with_reason("printer.pause"),
    Operation.RESUME_PRINTER: _steps("printer.resume"),
    Operation.RESTART_PRINTER: _steps("printer.resume"),
    Operation.SHUTDOWN_PRINTER: _steps("printer.reject", "printer.pause"),
    Operation.STARTUP_PRINTER: _steps("printer.resume", "printer.accept"),
    Operation.PURGE_JOBS: _steps("printer.purge"),
    Operation.ENABLE_PRINTER: _steps("printer.accept"),
    Operation.DISABLE_PRINTER: _with_reason("printer.reject"),
    Operation.CUPS_ACCEPT_JOBS: _steps("printer.accept"),
    Operation.CUPS_REJECT_JOBS: _with_reason("printer.reject"),
    Operation.HOLD_NEW_JOBS: _steps("printer.hold-new-jobs"),
    Operation.RELEASE_HELD_NEW_JOBS: _steps("printer.release-held-new-jobs"),
    Operation.CANCEL_CURRENT_JOB: _current("printer.cancel-current"),
    Operation.SUSPEND_CURRENT_JOB: _current("printer.suspend-current"),
    Operation.IDENTIFY_PRINTER: identify_printer,
    Operation.SET_PRINTER_ATTRIBUTES: set_printer_attributes,
    Operation.GET_PRINTER_SUPPORTED_VALUES: get_printer_supported_values,
}
