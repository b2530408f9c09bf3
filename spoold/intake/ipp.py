"""IPP, the server's side: a POST of application/ipp is an operation, and its answer (RFC 8011).

In: an HTTP exchange whose body begins with an IPP request. Out: the operation done through the one
table of operations and the one door for jobs, and its answer; what is wrong with a request is
answered in IPP's own terms. What an operation does is in the `ipp_*` modules beside this one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import trio

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Message
from spoold.intake import (
    ipp_changing,
    ipp_documents,
    ipp_jobs,
    ipp_listing,
    ipp_printers,
    ipp_printing,
    ipp_steering,
    ipp_subscriptions,
)
from spoold.intake.exchange import Exchange, NeedsLogin
from spoold.intake.ipp_request import (
    HEADERS,
    Ask,
    Refusal,
    Reply,
    answer_version,
    check,
    is_ipp_path,
    not_supported,
    parse_target,
    reply_head,
    unsupported_group,
)
from spoold.intake.ipp_server import Server
from spoold.model.errors import (
    OperationError,
    RemoteProtocolError,
    SpooldError,
    SpoolFull,
    StoreFailed,
)

log = structlog.get_logger("spoold.intake")

FAILED: Final = "The server could not do it. Its log says why."
CONNECTION_ENDS: Final = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)
# Clients that do not wait for `100 Continue` read no answer before they have sent their document.
DRAIN_BYTES_MAX: Final = 8 * 1024 * 1024
# What an operation gives back; None when it has sent its answer by itself.
Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

OPERATIONS: Final[dict[Operation, Handler]] = {
    **ipp_printing.OPERATIONS,
    **ipp_jobs.OPERATIONS,
    **ipp_listing.OPERATIONS,
    **ipp_changing.OPERATIONS,
    **ipp_documents.OPERATIONS,
    **ipp_printers.OPERATIONS,
    **ipp_steering.OPERATIONS,
    **ipp_subscriptions.OPERATIONS,
}
SUPPORTED: Final = tuple(sorted(OPERATIONS))

_STATUS: Final = {
    "bad-request": Status.CLIENT_ERROR_BAD_REQUEST,
    "busy": Status.SERVER_ERROR_BUSY,
    "conflict": Status.CLIENT_ERROR_NOT_POSSIBLE,
    "digest-mismatch": Status.CLIENT_ERROR_DOCUMENT_FORMAT_ERROR,
    "forbidden": Status.CLIENT_ERROR_FORBIDDEN,
    "internal-error": Status.SERVER_ERROR_INTERNAL_ERROR,
    "not-accepting": Status.SERVER_ERROR_NOT_ACCEPTING_JOBS,
    "not-found": Status.CLIENT_ERROR_NOT_FOUND,
    "not-possible": Status.CLIENT_ERROR_NOT_POSSIBLE,
    "spool-area-full": Status.SERVER_ERROR_TEMPORARY_ERROR,
    "too-large": Status.CLIENT_ERROR_REQUEST_ENTITY_TOO_LARGE,
    "unauthorized": Status.CLIENT_ERROR_NOT_AUTHENTICATED,
}


class Ipp:
    """Serves the IPP requests of a node."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def speaks(self, path: str) -> bool:
        """Whether IPP is spoken at this path of a URI."""
        return is_ipp_path(path)

    def about(self, path: str) -> dict[str, Any] | None:
        """What anybody may know of the printer at a path, for `printer-more-info`."""
        target = parse_target(f"http://localhost{path}")
        printer = (
            None if target is None else self._server.printers.by_name.get(target.printer or "")
        )
        if printer is None:
            return None
        live = self._server.printers.live(printer)
        return {
            "printer": printer.name,
            "info": printer.info,
            "location": printer.location,
            "state": live.state,
            "reasons": list(live.reasons),
            "accepting": live.accepting,
            "jobs": live.queued,
        }

    async def serve(self, exchange: Exchange) -> None:
        """Do what one request asks, and answer it.

        Raises:
            RemoteProtocolError: its HTTP is broken.
            NeedsLogin: it may be done for somebody who is known; nothing was answered.
            StoreFailed: the spool failed; the daemon must stop.
        """
        limit = self._server.acceptance.limits.document_bytes_max
        if (exchange.body_bytes_left or 0) > limit + ipp.REQUEST_LIMITS.message_bytes_max:
            text = f"a document here has at most {limit} bytes\n".encode()
            await exchange.respond(413, [("Content-Type", "text/plain")], text)
            return
        exchange.drain_bytes_max = DRAIN_BYTES_MAX
        decoder = ipp.Decoder()
        message: Message | None = None
        try:
            while message is None:
                message = _decoded(decoder, await exchange.read())
            operation = check(message)
        except Refusal as refusal:
            await _refuse(exchange, decoder, refusal)
            return
        except _Malformed as error:
            if decoder.version is None:
                raise RemoteProtocolError(str(error), "400") from error
            malformed = Refusal(Status.of(error.reply_hint), f"{error}.")
            await _refuse(exchange, decoder, malformed)
            return
        await self._do(operation, Ask(exchange, message, decoder.rest))

    async def _do(self, operation: Operation, ask: Ask) -> None:
        handler = OPERATIONS.get(operation)
        try:
            if handler is None:
                raise not_supported(operation)
            reply = await handler(self._server, ask)
        except Refusal as refusal:
            reply = Reply(refusal.status, b"", refusal.unsupported, refusal.message)
        except StoreFailed:
            raise
        except OperationError as error:
            if error.code in ("forbidden", "unauthorized") and _may_log_in(ask):
                raise NeedsLogin from error
            status = _STATUS.get(error.code, Status.CLIENT_ERROR_NOT_POSSIBLE)
            reply = Reply(status, message=str(error))
        except SpoolFull:
            message = "The spool has no room for more jobs. Try again later."
            reply = Reply(Status.SERVER_ERROR_TEMPORARY_ERROR, message=message)
        except SpooldError as error:
            log.error("ipp_failed", operation=operation.keyword, reason=str(error))
            reply = Reply(Status.SERVER_ERROR_INTERNAL_ERROR, message=FAILED)
        except (RemoteProtocolError, NeedsLogin, ExceptionGroup, *CONNECTION_ENDS):
            raise
        except Exception:
            if ask.exchange.is_answered:
                raise
            # A reset is what libcups takes for a reason to ask again at once, and for ever.
            log.exception("handler_failed", client=ask.principal.address)
            reply = Reply(Status.SERVER_ERROR_INTERNAL_ERROR, message=FAILED)
        if reply is not None:
            if not reply.status.is_success:
                log.info(
                    "ipp_refused",
                    operation=operation.keyword,
                    status=reply.status.keyword,
                    client=ask.principal.address,
                    reason=reply.message,
                )
            await ask.answer(reply)


def _may_log_in(ask: Ask) -> bool:
    """Whether a login might change what the requester may do."""
    return ask.exchange.can_log_in and ask.principal.identity.startswith("address:")


class _Malformed(RemoteProtocolError):
    """The IPP part of a request is at fault, not its HTTP."""


def _decoded(decoder: ipp.Decoder, data: bytes) -> Message | None:
    try:
        if not data:
            decoder.end()
        return decoder.feed(data)
    except RemoteProtocolError as error:
        raise _Malformed(str(error), error.reply_hint) from error


async def _refuse(exchange: Exchange, decoder: ipp.Decoder, refusal: Refusal) -> None:
    """Answer what is no proper request, with as much of it as was understood."""
    log.warning(
        "ipp_request_refused",
        status=refusal.status.keyword,
        client=exchange.principal.address,
        reason=refusal.message,
    )
    request_id = decoder.request_id or 0
    head = reply_head(
        answer_version(decoder.version), max(0, request_id), refusal.status, refusal.message
    )
    body = head + unsupported_group(refusal.unsupported) + ipp.END
    await exchange.respond(200, HEADERS, body)
