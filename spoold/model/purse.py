"""Purses: what somebody may spend, in parts that come from somewhere and may end.

A holder, a person or a shared account, has a wallet of purses. They are spent in a fixed order:
allowances (the one that ends first before the others), credit, money paid in, and then the
overdraft, whose balance alone goes below zero, down to the holder's limit. What comes in first
fills an overdraft up; what is given back goes to the purse that it came from, and beyond a filled
overdraft becomes credit. Only money that was paid in can be paid out again.

A purse counts for what happens inside its period: what is left of it afterwards stays there, for
a charge that is booked late, and can otherwise not be spent. Amounts are in 1/10,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from spoold.model.errors import OperationError
from spoold.model.money import format_amount

SECOND_US = 1_000_000
named = lru_cache(8192)(uuid5)  # the GUIDs of purses are asked for over and over
EVERYBODY = "everybody"


class PurseKind(StrEnum):
    """What a purse holds, in the order in which purses are spent."""

    ALLOWANCE = "allowance"
    CREDIT = "credit"
    PAID_IN = "paid-in"
    OVERDRAFT = "overdraft"

    @property
    def is_refundable(self) -> bool:
        """Whether it can be paid out."""
        return self is PurseKind.PAID_IN


_ORDER = {kind: number for number, kind in enumerate(PurseKind)}


class Period(StrEnum):
    DAY = "day"
    WEEK = "week"  # ISO 8601: from Monday on
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


class Span(NamedTuple):
    """A period of a site: its name (`2026-11`), its begin, and the begin of the next one."""

    name: str
    from_us: int
    until_us: int


def span_at(period: Period, at_us: int, zone: tzinfo) -> Span:
    """The period around a moment, as the clocks of the site's zone show it."""
    day = datetime.fromtimestamp(at_us // SECOND_US, zone).date()
    first, after, name = _days(period, day)
    return Span(name, _midnight_us(first, zone), _midnight_us(after, zone))


def _days(period: Period, day: date) -> tuple[date, date, str]:
    if period is Period.DAY:
        return day, day + timedelta(days=1), day.isoformat()
    if period is Period.WEEK:
        monday = day - timedelta(days=day.weekday())
        year, week, _ = day.isocalendar()
        return monday, monday + timedelta(days=7), f"{year}-W{week:02}"
    months = {Period.MONTH: 1, Period.QUARTER: 3, Period.YEAR: 12}[period]
    month = (day.month - 1) // months * months + 1
    first = date(day.year, month, 1)
    after = date(day.year + (month + months > 12), (month + months - 1) % 12 + 1, 1)
    if period is Period.MONTH:
        return first, after, f"{day.year}-{month:02}"
    if period is Period.QUARTER:
        return first, after, f"{day.year}-Q{(month + 2) // 3}"
    return first, after, f"{day.year}"


def _midnight_us(day: date, zone: tzinfo) -> int:
    at = datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(at.timestamp()) * SECOND_US


@dataclass(frozen=True, slots=True)
class Allowance:
    """So much for each period, for everybody of `to`: `everybody`, `group:NAME`, `person:GUID`,
    `account:GUID`, from the period around `from_us` on. Up to `carry_over` of what was left of the
    period before comes along.
    """

    guid: UUID
    to: str
    amount: int
    period: Period = Period.MONTH
    carry_over: int = 0
    from_us: int = 0

    def as_map(self) -> dict[str, Any]:
        return {
            "allowance": self.guid.bytes,
            "to": self.to,
            "amount": self.amount,
            "period": self.period.value,
            "carry_over": self.carry_over,
            "from_us": self.from_us,
        }

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Allowance:
        return cls(
            UUID(bytes=found["allowance"]),
            found["to"],
            found["amount"],
            Period(found["period"]),
            found["carry_over"],
            found["from_us"],
        )


@dataclass(frozen=True, slots=True)
class Purse:
    """One purse. `allowance` and `period` say which grant it is, where it is one."""

    holder: UUID
    kind: PurseKind
    balance: int = 0
    allowance: UUID | None = None
    period: str = ""
    from_us: int = 0
    until_us: int | None = None

    @property
    def guid(self) -> UUID:
        """The same on every node: an allowance that two of them grant is one."""
        of = f"{self.allowance or ''}/{self.period}"
        return named(self.holder, f"{self.kind}/{of}")

    def counts_at(self, at_us: int) -> bool:
        return self.from_us <= at_us and (self.until_us is None or at_us < self.until_us)

    @property
    def _place(self) -> tuple[int, bool, int, bytes]:
        """By which it stands in the spending order."""
        return (_ORDER[self.kind], self.until_us is None, self.until_us or 0, self.guid.bytes)

    def as_map(self) -> dict[str, Any]:
        """All but the balance."""
        found: dict[str, Any] = {"holder": self.holder.bytes, "kind": self.kind.value}
        if self.allowance is not None:
            found["allowance"] = self.allowance.bytes
        if self.period:
            found["period"] = self.period
        if self.until_us is not None:
            found |= {"from_us": self.from_us, "until_us": self.until_us}
        return found


class Share(NamedTuple):
    """A part of an amount that one purse gives, or gets when it is below zero."""

    purse: UUID
    amount: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a holder has at a moment. `limit` is how far the overdraft goes; None: without end."""

    holder: UUID
    purses: tuple[Purse, ...] = ()
    limit: int | None = 0

    @property
    def balance(self) -> int:
        return sum(purse.balance for purse in self.purses)

    @property
    def available(self) -> int | None:
        """What may be promised; below zero after a charge beyond the limit. None: without end."""
        return None if self.limit is None else self.balance + self.limit

    def holds(self, amount: int) -> bool:
        """Whether so much may be promised. What costs nothing always may."""
        available = self.available
        return not amount or available is None or amount <= available

    def purse(self, kind: PurseKind) -> Purse:
        """The purse of a kind that has no period; an empty one where there is none yet."""
        for one in self.purses:  # that it is the one could be told by its GUID, which takes longer
            if one.kind is kind and one.allowance is None and not one.period:
                return one
        return Purse(self.holder, kind)

    def in_order(self) -> list[Purse]:
        """The purses as they are spent; the overdraft is always there, and last."""
        kept = [one for one in self.purses if one.kind is not PurseKind.OVERDRAFT]
        return [*sorted(kept, key=lambda one: one._place), self.purse(PurseKind.OVERDRAFT)]

    def spend(self, amount: int) -> list[Share]:
        """Who gives how much of `amount`: the overdraft all that the others do not have."""
        shares: list[Share] = []
        left = amount
        *purses, overdraft = self.in_order()
        for purse in purses:
            part = min(max(purse.balance, 0), left)
            if part:
                shares.append(Share(purse.guid, part))
                left -= part
        if left:
            shares.append(Share(overdraft.guid, left))
        return shares

    def after(self, shares: Iterable[Share], opened: Iterable[Purse] = ()) -> Wallet:
        """The wallet after purses gave their shares; `opened` are new ones among them."""
        own = {one.guid: one for one in map(self.purse, (PurseKind.CREDIT, PurseKind.OVERDRAFT))}
        purses = {one.guid: one for one in (*self.purses, *opened)}
        for purse, amount in shares:
            found = purses.get(purse) or own.get(purse)
            if found is not None:  # else its period is over
                purses[purse] = replace(found, balance=found.balance - amount)
        return replace(self, purses=tuple(purses.values()))

    def give_back(self, shares: Iterable[Share]) -> list[Share]:
        """Who gets what was taken: negative shares, of the purses that it came from."""
        overdraft = self.purse(PurseKind.OVERDRAFT)
        credit = self.purse(PurseKind.CREDIT)
        back: list[Share] = []
        for purse, amount in shares:
            over = 0
            if purse == overdraft.guid:
                over = max(0, overdraft.balance + amount)
                over = min(over, amount)
                overdraft = replace(overdraft, balance=overdraft.balance + amount - over)
            if amount > over:
                back.append(Share(purse, over - amount))
            if over:
                back.append(Share(credit.guid, -over))
        return back

    def receive(self, purse: Purse, amount: int) -> list[Share]:
        """Who gets `amount` that comes in for a purse: an overdraft is filled up first."""
        overdraft = self.purse(PurseKind.OVERDRAFT)
        filled = min(max(-overdraft.balance, 0), amount)
        parts = [Share(overdraft.guid, -filled), Share(purse.guid, filled - amount)]
        return [share for share in parts if share.amount]


class Carried(NamedTuple):
    """What comes along into a new period: `moved` out of `purse`, and `given` for periods between
    in which nobody asked.
    """

    purse: UUID | None = None
    moved: int = 0
    given: int = 0


PERIODS_BACK_MAX = 400


def carried(
    allowance: Allowance,
    span: Span,
    holder: UUID,
    zone: tzinfo,
    balance_of: Callable[[UUID], int | None],
) -> Carried:
    """What of an allowance comes along into `span`, as if each period had been looked at in time.

    `balance_of` says what is left in a purse; None: there is no such purse.
    """
    cap, skipped, before = allowance.carry_over, 0, span
    while cap and allowance.amount and before.from_us > allowance.from_us:
        if skipped * allowance.amount >= cap or skipped >= PERIODS_BACK_MAX:
            break
        before = span_at(allowance.period, before.from_us - SECOND_US, zone)
        purse = grant_purse(allowance, before, holder)
        left = balance_of(purse.guid)
        if left is not None:
            moved = min(max(left, 0), cap)
            return Carried(purse.guid, moved, min(cap - moved, skipped * allowance.amount))
        skipped += 1
    return Carried(None, 0, min(cap, skipped * allowance.amount))


def grant_purse(allowance: Allowance, span: Span, holder: UUID) -> Purse:
    """The purse of one holder for one period of an allowance."""
    return Purse(
        holder, PurseKind.ALLOWANCE, 0, allowance.guid, span.name, span.from_us, span.until_us
    )


def split(shares: Iterable[Share], keep: int) -> tuple[list[Share], list[Share]]:
    """The first `keep` of what purses gave, and the rest."""
    kept: list[Share] = []
    rest: list[Share] = []
    for purse, amount in shares:
        part = min(amount, keep)
        keep -= part
        if part:
            kept.append(Share(purse, part))
        if amount > part:
            rest.append(Share(purse, amount - part))
    return kept, rest


class PayerKind(StrEnum):
    PERSON = "person"
    ACCOUNT = "account"


DECIDED = ("rule", "printer-default")  # how an administrator lets an account pay, for everybody


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose purses pay. `by` is how that was found: `job-attribute`, `pjl`, `printer-default`,
    `rule`, `choice`, `owner`, or `limit` where the purses of another one were empty. `person` is
    for whom it is, where an account pays.
    """

    kind: PayerKind
    guid: UUID
    by: str = "owner"
    person: UUID | None = None

    @property
    def spender(self) -> UUID | None:
        """The person for whom it is, if anybody is known."""
        return self.guid if self.kind is PayerKind.PERSON else self.person

    def as_map(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind.value, "guid": self.guid.bytes, "by": self.by}
        return found if self.person is None else {**found, "person": self.person.bytes}

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Payer:
        person = found.get("person")
        return cls(
            PayerKind(found["kind"]),
            UUID(bytes=found["guid"]),
            found["by"],
            None if person is None else UUID(bytes=person),
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for everybody: the name of the currency, the site's IANA zone, and how far people
    may go below zero who have no limit of their own. The shared account `spare_account` (its GUID;
    "" is none) pays for what a person's purses do not hold.
    """

    currency: str = ""
    zone: str = "UTC"
    overdraft: int = 0
    spare_account: str = ""


def limit_reached(total: int, wallet: Wallet, account: str = "") -> OperationError:
    """The refusal of what a wallet cannot pay: that of a person, or of the `account`."""
    left = max(0, wallet.available or 0)
    of = f" of the account {account}" if account else ""
    return OperationError(
        "account-limit-reached",
        f"this costs {format_amount(total)}, and {format_amount(left)}{of} is left.",
        "Have money paid in, or choose an account that pays for it.",
    )
