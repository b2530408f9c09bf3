"""Rights as they go over the line: `site.rights` and its answer (FRAMES.md, on sites).

A want is `[is account, holder, least, has, known]`, a right `[is account, purse, amount]` with the
purse as `Purse.as_map` tells it. Readers raise OperationError `bad-request` for anything else.

In hello a site says how far each incarnation of its journal is: `books`, of `[incarnation,
position]`. Who does not say so, as the version before, is taken by the incarnation in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from spoold.codec.batch import POSITION_MAX
from spoold.model.errors import OperationError
from spoold.model.money import AMOUNT_MAX
from spoold.model.offline import OfflinePolicy, Right, Want
from spoold.model.purse import PayerKind, Purse
from spoold.spool.books import Place
from spoold.spool.held import Standing
from spoold.spool.leases import purse_of
from spoold.spool.sending import Chain
from spoold.spool.store import Granted, GrantRights

CHAINS_MAX = 256
PERIOD_CHARACTERS_MAX = 64
TIME_US_MAX = 2**62


def asked(
    incarnation: str, standing: Standing, wants: Iterable[Want], held: Iterable[Right]
) -> dict[str, Any]:
    return {
        "incarnation": incarnation,
        "epoch": standing.epoch,
        "upstream": None if standing.upstream is None else str(standing.upstream),
        "wants": [
            [one.kind is PayerKind.ACCOUNT, one.holder.bytes, one.least, one.has, one.known]
            for one in wants
        ],
        "held": _told(held),
    }


def read_asked(site: UUID, args: Mapping[str, Any], now_us: int, actor: str) -> GrantRights:
    try:
        upstream = args["upstream"]
        return GrantRights(
            site,
            UUID(args["incarnation"]),
            args["epoch"],
            None if upstream is None else UUID(upstream),
            tuple(
                Want(_kind(kind), UUID(bytes=holder), *map(_amount, rest))
                for kind, holder, *rest in args["wants"]
            ),
            _read(args["held"]),
            now_us,
            actor,
        )
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise _senseless() from error


def books_told(chains: Iterable[Chain]) -> dict[str, Any]:
    """What hello says of this node's own journal, of its last incarnations."""
    return {"books": [[str(one.incarnation), one.position] for one in chains][-CHAINS_MAX:]}


def read_books(about: Mapping[str, Any]) -> tuple[Place, ...]:
    """What a site has said of its journal in its hello."""
    more = about.get("more")
    told = more.get("books", ()) if isinstance(more, dict) else ()
    try:
        places = [*told[:CHAINS_MAX], (about["incarnation"], about["position"])]
        return tuple((UUID(incarnation), _place(position)) for incarnation, position in places)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _senseless() from error


def _place(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= POSITION_MAX:
        raise ValueError("no position")
    return value


def told(granted: Granted) -> dict[str, Any]:
    return {
        "epoch": granted.epoch,
        "valid_us": granted.valid_us,
        "upstream": str(granted.upstream),
        "policy": granted.policy.as_map(),
        "rights": _told(granted.rights),
    }


def read_granted(answer: Mapping[str, Any]) -> Granted:
    try:
        return Granted(
            _amount(answer["epoch"]),
            _amount(answer["valid_us"]),
            UUID(answer["upstream"]),
            OfflinePolicy.from_map(answer["policy"]),
            _read(answer["rights"]),
        )
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise _senseless() from error


def _told(rights: Iterable[Right]) -> list[list[Any]]:
    return [[one.kind is PayerKind.ACCOUNT, one.purse.as_map(), one.amount] for one in rights]


def _read(rows: Iterable[Any]) -> tuple[Right, ...]:
    return tuple(Right(_kind(kind), _purse(purse), _amount(amount)) for kind, purse, amount in rows)


def _purse(told: Any) -> Purse:
    """One that can be kept: what a site names may be opened here."""
    if not isinstance(told, dict):
        raise TypeError("no purse")
    purse = purse_of(told)
    until_us = 0 if purse.until_us is None else purse.until_us
    is_time = all(0 <= at_us <= TIME_US_MAX for at_us in (purse.from_us, until_us))
    if not is_time or len(purse.period) > PERIOD_CHARACTERS_MAX:
        raise ValueError("no purse")
    return purse


def _kind(is_account: Any) -> PayerKind:
    return PayerKind.ACCOUNT if is_account else PayerKind.PERSON


def _amount(value: Any) -> int:
    if type(value) is not int or not -AMOUNT_MAX <= value <= AMOUNT_MAX:
        raise ValueError("no amount")
    return value


def _senseless() -> OperationError:
    return OperationError("bad-request", "that makes no sense as rights.")
