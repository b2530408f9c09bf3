"""What other nodes post, booked here once: by the keys under which they posted it.

A charge is of the payer whom its node charged, for what that node found it to cost. Here it is
taken from what the node was granted the right to spend (see `rights`), then from the payer's purses
as they are: what lies beyond the limit is flagged, never refused, for the paper is out. Where
nobody knows the payer, the ledger's own purse `suspense` pays until an accountant finds out.
Reservations are of the node that made them, and are not booked here, nor are the allowances of a
period: whoever spends here is granted them here. What people gave or took by hand is booked as
long as that node kept books of its own (`books`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model import policy
from spoold.model.charge import (
    JOB_KEY_BYTES,
    REPORT_KEY,
    Charge,
    ChargeState,
    Flag,
    charged_by,
    check_key,
)
from spoold.model.errors import OperationError
from spoold.model.money import check_amount
from spoold.model.node import Node, identity_of
from spoold.model.pricing import Quote
from spoold.model.purse import Payer, PayerKind, PurseKind, Share, Wallet
from spoold.model.record import Record
from spoold.model.usage import Usage
from spoold.spool import (
    adjustments,
    books,
    charges,
    ledger,
    nodes,
    postings,
    rights_spent,
    scoped,
    shared_work,
    store,
)
from spoold.spool.escrow import Told
from spoold.spool.leases import EPOCH_MAX
from spoold.spool.postings import Line, Own, lines_of
from spoold.spool.rights_spent import Taken

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

OFF_US = 86_400_000_000  # from which on an accountant is told that a time is not known
OWN_KEYS = (b"grant/", REPORT_KEY, b"carried")  # and those of jobs and rights, which are longer


@dataclass(slots=True)
class By:
    """Who has posted an entry, where its record stands, and when that was by the clock there.
    `known` is the key by which a person of that node is known here.
    """

    site: UUID
    chain_id: int
    known: Callable[[bytes], UUID]
    now_us: int
    position: int = 0
    told: Told = field(default_factory=Told)
    _nodes: list[Node | None] = field(default_factory=list)  # that node, once it was looked up

    @property
    def actor(self) -> str:
        return identity_of(self.site)

    def kept_own_books(self, db: sqlite3.Connection) -> bool:
        return books.kept_own(db, self.site, self.chain_id, self.position)

    def node(self, db: sqlite3.Connection) -> Node | None:
        if not self._nodes:
            self._nodes.append(nodes.find(db, self.site))
        return self._nodes[0]


def book(writer: SqliteStore, fact: Record, by: By) -> None:
    """Book a record `ledger-posted` of another node, unless it is booked already.

    Raises:
        OperationError: `not-possible`: nobody knows how to book such an entry here; `forbidden`,
            `bad-request`: it is none that this node can have made.
    """
    cause = fact.payload["cause"]
    book_one = BOOK.get(cause)
    if book_one is None:
        raise OperationError("not-possible", "this version of spoold books no such entry.")
    at_us = _whole(fact.payload.get("happened_us", fact.event_us))
    by.told = Told(at_us, rights_spent.shares_told(fact.payload.get("given", ())))
    book_one(writer, fact, by)


def _nothing(writer: SqliteStore, fact: Record, by: By) -> None:
    """Of concern at its own node alone."""


def _settle(writer: SqliteStore, fact: Record, by: By) -> None:
    told = fact.payload
    key = check_key(bytes(told["charge"]))
    if charged_by(key) not in (None, by.site):
        raise OperationError("forbidden", "it is a charge of another node.")
    charge = _timed(_charge(told, by.known), fact, by.now_us)
    if shared_work.is_shared(key):
        charge = _placed(writer.db, charge, by)
    epoch = _epoch(told.get("epoch", 0))
    kept = charges.find(writer.db, charge.key)
    if kept is None:
        _post_settled(writer, charge, epoch, by)
    elif kept.charge.state is ChargeState.CANCELED:
        ledger.settle(writer, charge.key, charge.usage, by.now_us, by.actor)
    elif kept.charge.state is ChargeState.RESERVED:  # it was promised here, and made there
        at_us = charge.happened_us
        ledger.settle(writer, charge.key, charge.usage, by.now_us, by.actor, at_us)
    else:
        _free(writer, charge, epoch, by)


def _epoch(told: object) -> int:
    """Raises OperationError: `bad-request`: it cannot be one."""
    epoch = _whole(told)
    if not 0 <= epoch <= EPOCH_MAX:
        raise OperationError("bad-request", "there is no such epoch of rights.")
    return epoch


def _timed(charge: Charge, fact: Record, now_us: int) -> Charge:
    """A charge belongs to the time when it was made, by the clock here; to now, where that of its
    node was so wrong that nobody knows.
    """
    at_us = policy.told_at_us(charge.happened_us, fact.clock_offset_us, now_us)
    if at_us is not None:
        return replace(charge, happened_us=at_us)
    is_far = abs(now_us - charge.happened_us) > OFF_US
    flags = (*charge.flags, Flag.CLOCK.value) if is_far else charge.flags
    return replace(charge, happened_us=now_us, flags=flags)


def _free(writer: SqliteStore, charge: Charge, epoch: int, by: By) -> None:
    """What is booked was charged once more, as by a site that was put back: the rights that it has
    spent on that are its payer's again.
    """
    payer = charge.payer
    if epoch and not charge.is_shadow and postings.is_known(writer.db, payer):
        key, total = b"%b/again/%d/%d" % (charge.key, by.chain_id, by.position), charge.quote.total
        rights_spent.give_back(
            writer, by.site, epoch, payer.guid, total, by.told, key, by.now_us, by.actor
        )


def _placed(db: sqlite3.Connection, charge: Charge, by: By) -> Charge:
    """A charge of work that may be reported at more than one node, under its key here: that of the
    same work where there is a charge of it, else the site's own.
    """
    key = shared_work.key_of(charge.key, by.site)
    others = shared_work.under(db, charge.key)
    if any(one.key == key for one in others):
        return replace(charge, key=key)
    is_there = scoped.owns_printer(db, by.site, charge.printer)
    known = (one for one in others if is_there or one.state is ChargeState.SETTLED)
    same = shared_work.same_as(known, charge.printer, charge.payer, charge.total)
    if same is not None:
        return replace(charge, key=same.key)
    flags = (*charge.flags, Flag.KEY_TAKEN.value) if others else charge.flags
    return replace(charge, key=key, flags=flags)


def _charge(told: dict[str, Any], known: Callable[[bytes], UUID]) -> Charge:
    payer = Payer.from_map(told["paid_by"])
    guid, person = payer.guid, payer.person
    if payer.kind is PayerKind.PERSON:
        guid = known(guid.bytes)
    if person is not None:
        person = known(person.bytes)
    payer = Payer(payer.kind, guid, payer.by, person)
    quote = Quote.from_map(told["quote"])
    if check_amount(_whole(quote.total)) < 0:
        raise OperationError("bad-request", "nobody is charged less than nothing.")
    printer, uuid = told.get("printer"), told.get("uuid")
    return Charge(
        bytes(told["charge"]),
        ChargeState.SETTLED,
        payer,
        quote,
        Usage.from_map(told["usage"]),
        _whole(told["reserved"]),
        _whole(told["happened_us"]),
        None if printer is None else UUID(bytes=printer),
        None,
        None if uuid is None else UUID(bytes=uuid),
        is_shadow=bool(told.get("shadow", False)),
        flags=tuple(map(str, told.get("flags", ()))),
    )


def _whole(value: object) -> int:
    """Raises OperationError: `bad-request`: it is no whole number."""
    if type(value) is int:
        return value
    raise OperationError("bad-request", "an amount or a time is no whole number.")


def _post_settled(writer: SqliteStore, charge: Charge, epoch: int, by: By) -> None:
    wallet, taken = _taken(writer, charge, epoch, by)
    strange = _strange(writer.db, charge, wallet, epoch, by)
    flags = tuple(dict.fromkeys((*charge.flags, *taken.flags, *strange)))
    charge = replace(charge, flags=flags, ended_us=by.now_us)
    paid = sum(one.amount for one in taken.shares)
    lines = [*taken.lines, Line(Own.REVENUE.guid, paid)]
    postings.post(
        writer,
        charge.key + b"/settle",
        "settle",
        wallet,
        lines,
        by.now_us,
        by.actor,
        happened_us=charge.happened_us,
        charge=charge.key,
        more=charge.as_map(),
    )
    charges.keep(writer, charge, taken.shares)


def _taken(writer: SqliteStore, charge: Charge, epoch: int, by: By) -> tuple[Wallet, Taken]:
    """What pays for a charge of a site, and what an accountant should look at."""
    total, payer = charge.quote.total, charge.payer
    if charge.is_shadow:
        return Wallet(payer.guid), Taken()
    if not postings.is_known(writer.db, payer):
        shares = _suspended(total)
        flags = [Flag.NO_PAYER.value]
        return Wallet(payer.guid), Taken(shares, lines_of(shares), flags)
    wallet = ledger.wallet_of(writer, charge, charge.happened_us, by.now_us)
    taken = rights_spent.consume(writer, by.site, epoch, payer.kind, wallet, total, by.told)
    return wallet, taken


def _strange(
    db: sqlite3.Connection, charge: Charge, wallet: Wallet, epoch: int, by: By
) -> list[str]:
    """What an accountant should look at as that node is a site, and had no books of its own then:
    who pays by no rights of any time, and who is none of those whom it has to do with.
    """
    node = by.node(db)
    found = []
    if not epoch and charge.quote.total and wallet.limit is not None:
        found.append(Flag.BEYOND_RIGHTS.value)
    if node is not None and not charge.is_shadow and not scoped.may_pay(db, node, charge.payer):
        found.append(Flag.BEYOND_SCOPE.value)
    return [] if not found or by.kept_own_books(db) else found


def _suspended(total: int) -> list[Share]:
    return [Share(Own.SUSPENSE.guid, total)] if total else []


def _refund(writer: SqliteStore, fact: Record, by: By) -> None:
    told = fact.payload
    key, charge = _entry_key(told), bytes(told["charge"])
    own = shared_work.key_of(charge, by.site)
    if _has_settled(writer, by.actor, own):
        charge = own
    elif not _has_settled(writer, by.actor, charge):
        raise OperationError("forbidden", "it is no charge of that node.")
    paid = (amount for guid, amount in told["lines"] if guid == Own.REVENUE.guid.bytes)
    amount = -sum(map(_whole, paid))
    refund = store.Refund(key, charge, amount, _reason(fact), by.now_us, by.actor)
    adjustments.refund(writer, refund)


def _has_settled(writer: SqliteStore, actor: str, charge: bytes) -> bool:
    row = writer.db.execute(
        "SELECT 1 FROM entry WHERE charge = ? AND cause = 'settle' AND actor = ?", (charge, actor)
    ).fetchone()
    return row is not None


def _entry_key(told: dict[str, Any]) -> bytes:
    """The key of what was booked by hand, or given back.

    Raises:
        OperationError: `forbidden`: this node, or another one, is to post something under it.
    """
    key = check_key(bytes(told["entry"]))
    if len(key) < JOB_KEY_BYTES and not key.startswith(OWN_KEYS):
        return key
    raise OperationError("forbidden", "the key is of an entry of another kind.")


def _adjust(writer: SqliteStore, fact: Record, by: By) -> None:
    """Raises:
    OperationError: `forbidden`: that node has no books of its own any more.
    """
    told = fact.payload
    if not by.kept_own_books(writer.db):
        raise OperationError("forbidden", "balances are not the site's: nobody books them there.")
    holder = UUID(bytes=told["payer"])
    is_account = postings.is_known(writer.db, Payer(PayerKind.ACCOUNT, holder))
    kind = PayerKind.ACCOUNT if is_account else PayerKind.PERSON
    if not is_account:
        holder = by.known(holder.bytes)
    amount = int(told["amount"])
    purse: PurseKind | None = PurseKind.PAID_IN
    if told["cause"] == "adjust":  # what is taken comes from whatever there is, in its order
        purse = None if amount < 0 else PurseKind.CREDIT
    change = store.Adjust(
        _entry_key(told), kind, holder, amount, _reason(fact), by.now_us, by.actor, purse
    )
    adjustments.adjust(writer, change)


def _right_back(writer: SqliteStore, fact: Record, by: By) -> None:
    _entry_key(fact.payload)
    epoch = _epoch(fact.payload["epoch"])  # it has to name one
    holder = UUID(bytes=fact.payload["payer"])
    if not postings.is_known(writer.db, Payer(PayerKind.ACCOUNT, holder)):
        holder = by.known(holder.bytes)
    at_us = by.told.at_us
    rights_spent.take_back(writer, by.site, epoch, fact.payload, holder, at_us, by.now_us, by.actor)


def _reason(fact: Record) -> str:
    return str((fact.personal or {}).get("reason", ""))


Book = Callable[["SqliteStore", Record, By], None]
BOOK: dict[str, Book] = {
    "reserve": _nothing,
    "cancel": _nothing,
    "grant": _nothing,
    "right": _nothing,
    "right-return": _right_back,
    "settle": _settle,
    "refund": _refund,
    "adjust": _adjust,
    "pay-in": _adjust,
    "pay-out": _adjust,
}
