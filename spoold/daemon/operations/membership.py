"""This node as a site: `site.enter` a deployment, and `site.line`, how the line of it is."""

from __future__ import annotations

from typing import Any

import trio

from spoold.daemon.joining import Token
from spoold.daemon.membership import Membership
from spoold.daemon.operations.access import ADMINS, LOCAL, STAFF
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import ConfigError, IdentityError, OperationError
from spoold.net.address import parse_address
from spoold.site.line import Line, Lost

UP_S = 5.0  # a line that is up by then is told as such


def _own(call: Call) -> tuple[Line, Membership]:
    """Raises OperationError: this node is no site."""
    line, membership = call.services.line, call.services.membership
    if line is None or membership is None:
        raise OperationError(
            "not-possible",
            "this node is an application server.",
            'To make a site of it, write role = "site" in [node] and restart it.',
        )
    return line, membership


async def enter(call: Call) -> dict[str, Any]:
    """Join the deployment of an application server, by a token that it gave out."""
    line, membership = _own(call)
    server = call.args["server"]
    token = Token.parse(call.args["token"])
    try:
        if not parse_address(server).port:
            raise ConfigError("read", server, "it names no port", "Write HOST:9195.")
    except ConfigError as error:
        advice = "Write HOST:9195, the port for client certificates of the application server."
        raise OperationError("bad-request", f"{error.subject}: {error.cause}.", advice) from error
    try:
        member = await membership.join(server, token)
    except Lost as error:
        raise OperationError(
            "not-possible",
            f"{error}.",
            "Check the address: it is port 9195 of the application server that gave out the token.",
        ) from error
    except IdentityError as error:
        raise OperationError("not-possible", f"{error.cause}.", error.advice) from error
    if member.certificate_pem:
        with trio.move_on_after(UP_S):
            await line.wait_up()
    return line_map(call)


async def show_line(call: Call) -> dict[str, Any]:
    return line_map(call)


def line_map(call: Call) -> dict[str, Any]:
    """How this site stands to its application servers."""
    line, membership = _own(call)
    member = membership.member
    asked = member is not None and bool(member.servers)
    upstream = line.upstream
    return {
        "state": "joined" if membership.is_joined else "pending" if asked else "alone",
        "name": member.name if member is not None else "",
        "guid": str(call.services.node_guid),
        "line": line.state.value if membership.is_joined else "",
        "since_us": line.since_us if membership.is_joined else None,
        "reason": line.reason[:500] if membership.is_joined else "",
        "servers": list(membership.servers()),
        "server": "" if upstream is None else upstream.server,
        "upstream": "" if upstream is None else upstream.name,
        "upstream_guid": None if upstream is None else str(upstream.guid),
        "upstream_software": "" if upstream is None else upstream.software[:200],
        "version": None if upstream is None else upstream.version,
        "clock_offset_ms": None if line.offset_us is None else round(line.offset_us / 1000, 3),
        "not_after_us": membership.not_after_us,
        "joined_us": member.joined_us or None if member is not None else None,
    }


OPERATIONS = (
    Operation(
        "site.enter",
        (
            Argument("server", required=True, most=255, summary="HOST:9195."),
            Argument(
                "token", required=True, most=200, summary="What `spoold site invite` printed."
            ),
        ),
        ADMINS,
        LOCAL,
        enter,
        "Join a deployment as a site.",
    ),
    Operation("site.line", (), STAFF, LOCAL, show_line, "How the line of this site is."),
)
