"""The journal of sites on its way up: what sites send, and how far it has come, at both ends.

`site.records`, `.stand` and `.hash` are of the line; the rest is for operators: `site.sync`,
`site.history`, `site.begin-anew`, `journal.status` and `journal.quarantine`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spoold.codec.batch import BATCH_RECORDS_MAX, POSITION_MAX
from spoold.daemon.operations.access import ADMINS, KNOWN, LINES, LOCAL, OPERATORS, SITES, STAFF
from spoold.daemon.operations.ownership import upstream_name
from spoold.daemon.operations.sites import site_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, record_map
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.model.principal import Role
from spoold.provider.course import Lost
from spoold.site.uplink import Uplink
from spoold.spool import nodes, received
from spoold.spool.received import Quarantined, Round, Standing
from spoold.spool.sending import CURSOR
from spoold.spool.store import RetryQuarantined

GUID_CHARACTERS = 36
PAGE_ROWS = 50
PAGE_ROWS_MAX = 500
RETRIED_AT_ONCE = 100


# -- what sites ask ----------------------------------------------------------------------------


async def records(call: Call) -> dict[str, Any]:
    """Take a batch of the calling site's journal; where that stands then, durably."""
    site = await site_of(call)
    args = dict(call.args)
    _guid(args["incarnation"])
    if args["parent"] is not None:
        _guid(args["parent"]["incarnation"])
    return await call.services.receiver.take(site.guid, args)


async def stand(call: Call) -> dict[str, Any]:
    site = await site_of(call)
    return {"chains": await call.services.receiver.stand(site.guid)}


async def hash_at(call: Call) -> dict[str, Any]:
    site = await site_of(call)
    incarnation, position = _guid(call.args["incarnation"]), call.args["position"]
    return {"hash": await call.services.receiver.hash_at(site.guid, incarnation, position)}


def _guid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise OperationError("bad-request", f"{text[:40]!r} is no GUID.") from None


# -- what operators ask ------------------------------------------------------------------------


def _uplink(call: Call) -> Uplink:
    uplink = call.services.uplink
    if uplink is None:
        raise OperationError(
            "not-possible",
            "this node is no site: its journal goes nowhere.",
            "Ask an application server with the site's name, or the site itself.",
        )
    return uplink


async def sync(call: Call) -> dict[str, Any]:
    """Start a round at once: here, or on an application server at the site that is named."""
    name, services = call.args["name"], call.services
    if name is None:
        uplink = _uplink(call)
        uplink.sync_nowait()
        is_there = services.line is not None and services.line.is_connected
        return {"lag": uplink.lag, "begins": is_there}
    node = await services.reader.look(nodes.find_called, name)
    if node is None:
        raise OperationError(
            "not-found", f"there is no site {name[:60]}.", "See `spoold site list`."
        )
    if not services.sites.tell(node.guid, "sync-now", {}):
        raise OperationError("not-possible", f"{name} is not here now.", "It syncs when it is.")
    lag = _lag_of(await services.reader.look(received.standings, node.guid))
    return {"lag": lag, "begins": True}


def _lag_of(standings: list[Standing]) -> int:
    return sum(one.lag for one in received.latest(standings).values())


async def begin_anew(call: Call) -> dict[str, Any]:
    try:
        return {"position": await _uplink(call).begin_anew()}
    except Lost as error:
        raise OperationError(
            "not-possible", f"the application server cannot be asked: {error}.", "Try again."
        ) from error


async def history(call: Call) -> dict[str, Any]:
    """The rounds, the newest first."""
    limit = call.args["limit"]
    rows = await call.services.reader.look(received.rounds, limit, call.args["after_id"])
    names = await _names(call)
    page, is_more = fitting((_round_map(one, names) for one in rows), limit)
    return {
        "rounds": page,
        "next_after_id": page[-1]["id"] if page and (is_more or len(rows) == limit) else None,
    }


async def _names(call: Call) -> dict[UUID, str]:
    """The nodes that this one knows, by their GUIDs."""
    return await call.services.reader.look(nodes.names) | upstream_name(call.services)


def _round_map(one: Round, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "id": one.id,
        "peer": names.get(one.peer, str(one.peer)),
        "trigger": one.cause,
        "started_us": one.started_us,
        "ended_us": one.ended_us,
        "from": one.first,
        "to": one.last,
        "records": one.records,
        "result": one.result,
    }


async def status(call: Call) -> dict[str, Any]:
    """How far this journal is, and those of others that come here."""
    services = call.services
    journal, incarnation = services.journal.identity
    names = await _names(call)
    standings = await services.reader.look(received.standings)
    latest = received.latest(standings)
    return {
        "journal": journal,
        "incarnation": incarnation,
        "position": services.journal.head,
        "oldest": await services.reader.anchor() + 1,
        "upstream": _upstream_map(call),
        "sites": [_standing_map(call, one, names) for one in latest.values()][:PAGE_ROWS_MAX],
        "quarantined": sum(one.quarantined for one in standings),
    }


def _upstream_map(call: Call) -> dict[str, Any] | None:
    """How sending goes, where this is a site."""
    uplink, line = call.services.uplink, call.services.line
    if uplink is None or line is None:
        return None
    standing = uplink.standing
    return {
        "name": None if line.upstream is None else line.upstream.name,
        "state": standing.state,
        "reason": standing.reason or line.reason,
        "acknowledged": standing.acknowledged,
        "acknowledged_us": standing.acknowledged_us,
        "lag": uplink.lag,
        "rate": round(uplink.rate, 1),
        "cursor": CURSOR,
    }


def _standing_map(call: Call, one: Standing, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "name": names.get(one.journal, str(one.journal)),
        "journal": str(one.journal),
        "incarnation": str(one.incarnation),
        "state": one.state,
        "position": one.position,
        "head": one.head,
        "lag": one.lag,
        "received_us": one.received_us,
        "rate": round(call.services.receiver.rate(one.journal), 1),
        "fork_position": one.fork_position,
        "quarantined": one.quarantined,
    }


async def quarantine(call: Call) -> dict[str, Any]:
    """Records of other nodes that could not be applied, in order."""
    limit, after = call.args["limit"], call.args["after_id"]
    rows = await call.services.reader.look(received.quarantined, _place(after), limit)
    names = await _names(call)
    page, is_more = fitting((_quarantined_map(one, names) for one in rows), limit)
    more = bool(page) and (is_more or len(rows) == limit)
    return {"records": page, "next_after_id": page[-1]["id"] if more else None}


def _place(id_: str) -> tuple[int, int]:
    """The chain and position behind an id as it is told, `CHAIN/POSITION`; "" is before all."""
    if not id_:
        return 0, 0
    chain, _, position = id_.partition("/")
    try:
        return int(chain), int(position)
    except ValueError:
        raise OperationError(
            "bad-request",
            f"{id_[:40]!r} is not CHAIN/POSITION.",
            "See `spoold journal quarantine list`.",
        ) from None


def _quarantined_map(one: Quarantined, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "id": f"{one.chain_id}/{one.position}",
        "node": names.get(one.journal, str(one.journal)),
        "journal": str(one.journal),
        "incarnation": str(one.incarnation),
        "position": one.position,
        "kind": one.kind,
        "reason": one.reason,
        "noticed_us": one.noticed_us,
    }


async def quarantined(call: Call) -> dict[str, Any]:
    """One record of quarantine, as far as it can be read."""
    chain_id, position = _place(call.args["id"])
    look = call.services.reader.look
    rows = await look(received.quarantined, (chain_id, position - 1), 1)
    if not rows or (rows[0].chain_id, rows[0].position) != (chain_id, position):
        raise OperationError(
            "not-found",
            "no such record is in quarantine.",
            "See `spoold journal quarantine list`.",
        )
    found = _quarantined_map(rows[0], await _names(call))
    try:
        record = await look(received.record, chain_id, position)
    except RemoteProtocolError as error:
        return {**found, "record": None, "reason": str(error)}
    if record is None:
        return {**found, "record": None}
    shown = record_map(record, with_personal=Role.ADMIN in call.roles)
    return {**found, "record": shown}


async def retry(call: Call) -> dict[str, Any]:
    """Apply quarantined records once more: after an upgrade of this node they may make sense."""
    services, wanted = call.services, call.args["id"]
    applied = tried = 0
    after = (0, 0)
    while True:
        rows = await services.reader.look(received.quarantined, after, RETRIED_AT_ONCE)
        if not rows:
            break
        after = (rows[-1].chain_id, rows[-1].position)
        by_chain: dict[int, list[tuple[int, ...]]] = {}
        for one in rows:
            if wanted is None or _place(wanted) == (one.chain_id, one.position):
                later = await services.reader.look(received.later, one.chain_id, one.position)
                by_chain.setdefault(one.chain_id, []).append((one.position, *later))
        for chain_id, positions in by_chain.items():
            tried += len(positions)
            change = RetryQuarantined(chain_id, tuple(positions), services.wall_clock())
            applied += await services.journal.commit(change)
    if wanted is not None and not tried:
        raise OperationError(
            "not-found",
            "no such record is in quarantine.",
            "See `spoold journal quarantine list`.",
        )
    return {"applied": applied, "left": tried - applied}


_PARENT = (
    Argument("incarnation", required=True, least=GUID_CHARACTERS, most=GUID_CHARACTERS),
    Argument("position", (int,), required=True, most=POSITION_MAX),
    Argument("hash", (bytes,), required=True),
)
_INCARNATION = Argument("incarnation", required=True, least=GUID_CHARACTERS, most=GUID_CHARACTERS)
_LIMIT = Argument("limit", (int,), default=PAGE_ROWS, least=1, most=PAGE_ROWS_MAX)

OPERATIONS = (
    Operation(
        "site.records",
        (
            _INCARNATION,
            Argument("parent", (dict,), keys=_PARENT, summary="After which record it began."),
            Argument("first", (int,), required=True, least=1, most=POSITION_MAX),
            Argument("previous", (bytes,), required=True, summary="The hash before the first."),
            Argument("records", (list,), required=True, least=1, most=BATCH_RECORDS_MAX),
            Argument("count", (int,), required=True, most=BATCH_RECORDS_MAX),
            Argument("hash", (bytes,), required=True, summary="That of the last record."),
            Argument("head", (int,), required=True, most=POSITION_MAX, summary="The site's last."),
            Argument("window", (int,), default=0, most=64, summary="How many are in flight."),
            Argument("oldest", (bool,), default=False, summary="Earlier ones are not kept."),
            Argument("behind", (bool,), default=False, summary="The site has less than you."),
            Argument("round", most=64, summary="What began the round that begins with this."),
        ),
        SITES,
        LINES,
        records,
        "Records of the journal of a site.",
    ),
    Operation("site.stand", (), SITES, LINES, stand, "How far the site's journal is here."),
    Operation(
        "site.hash",
        (_INCARNATION, Argument("position", (int,), required=True, most=POSITION_MAX)),
        SITES,
        LINES,
        hash_at,
        "The hash of a record of the site.",
    ),
    Operation(
        "site.sync",
        (Argument("name", least=1, most=64, summary="On an application server: which site."),),
        OPERATORS,
        KNOWN,
        sync,
        "Start a round of sending at once.",
    ),
    Operation(
        "site.begin-anew",
        (),
        ADMINS,
        LOCAL,
        begin_anew,
        "After a fork: go on behind the last record that both have.",
    ),
    Operation(
        "site.history",
        (_LIMIT, Argument("after_id", (int,), default=0)),
        STAFF,
        KNOWN,
        history,
        "The rounds of sending, the newest first.",
    ),
    Operation("journal.status", (), STAFF, KNOWN, status, "How far journals have come."),
    Operation(
        "journal.quarantine",
        (_LIMIT, Argument("after_id", default="", most=64)),
        OPERATORS,
        KNOWN,
        quarantine,
        "Records of other nodes that could not be applied.",
    ),
    Operation(
        "journal.quarantined",
        (Argument("id", required=True, least=3, most=64, summary="As the list shows it."),),
        OPERATORS,
        KNOWN,
        quarantined,
        "One of these records.",
    ),
    Operation(
        "journal.retry",
        (Argument("id", least=3, most=64, summary="One of them; else all."),),
        ADMINS,
        LOCAL,
        retry,
        "Apply them once more.",
    ),
)
