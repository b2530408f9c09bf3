"""Changes of money: prices, allowances, shared accounts, and what is booked."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from spoold.model.offline import Beyond
from spoold.model.pricing import PriceList, Quote
from spoold.model.purse import Allowance, Payer, PayerKind, PurseKind, Terms
from spoold.model.usage import Usage


@dataclass(slots=True)
class PutPrices:
    """A new version of the price list. Answer: the `PriceList` with its version."""

    prices: PriceList
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class PutTerms:
    """What holds for everybody. Answer: None."""

    terms: Terms
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class PutAllowance:
    """Add an allowance, or change the one with this guid, from the next period on. Answer: None."""

    allowance: Allowance
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class RemoveAllowance:
    """Grant it no more; what was granted stays to the end of its period. Answer: None."""

    guid: UUID
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class PutAccount:
    """Add a shared account (`is_new`), or change the one of this name. Answer: the `Account`.

    None keeps what was. Refused with `conflict` when name or code is another one's, `not-found`
    when the account that it would lie in does not exist.
    """

    name: str
    now_us: int
    is_new: bool = False
    new_name: str | None = None
    code: str | None = None
    groups: tuple[str, ...] | None = None
    members: tuple[UUID, ...] | None = None
    is_restricted: bool | None = None
    overdraft: int | None = None
    is_open: bool | None = None
    actor: str = "node"


@dataclass(slots=True)
class RemoveAccount:
    """Remove a shared account; its charges stay. Answer: None.

    Refused with `not-possible` while it holds money or owes it, work on it goes on, or other
    accounts lie in it.
    """

    name: str
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class Adjust:
    """Give to a holder, or take. Answer: the balance of all purses then.

    `purse` None takes in spending order, and gives as credit. `until_us` is when credit ends.
    The same key again books nothing, and gets the balance of today.
    """

    key: bytes
    kind: PayerKind
    holder: UUID
    amount: int
    reason: str
    now_us: int
    actor: str
    purse: PurseKind | None = None
    until_us: int | None = None


@dataclass(slots=True)
class Reserve:
    """Take what a piece of work will cost, before it is done. Answer: the `Charge`.

    Refused with `account-limit-reached`. `is_enforced` False: it is counted and priced, no more.
    The same key again gets the same charge, as it is by then. `beyond` is what a site that is alone
    lets pay for what the purses do not hold.
    """

    key: bytes
    payer: Payer
    quote: Quote
    usage: Usage
    printer_id: int | None
    now_us: int
    actor: str = "node"
    is_enforced: bool = True
    job_id: int | None = None
    happened_us: int | None = None
    beyond: Beyond | None = None


@dataclass(slots=True)
class Settle:
    """The work was done: charge for `usage` (None: as reserved). Answer: the `Charge`.

    What was not used goes back; what is beyond is taken, whatever is left, and flagged. Where
    nothing was reserved under this key, it is charged as `unreserved` says, if that is given.
    """

    key: bytes
    usage: Usage | None
    now_us: int
    actor: str = "node"
    happened_us: int | None = None
    unreserved: Reserve | None = None
    flags: tuple[str, ...] = ()


@dataclass(slots=True)
class Cancel:
    """Nothing was made: all goes back. Answer: the `Charge`; a settled one stays settled."""

    key: bytes
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class PaidElsewhere:
    """What a job costs is paid at another node: nothing is reserved for it here. Answer: None.

    Refused with `paid-here` when it has come out here, and that is paid.
    """

    job_id: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class Refund:
    """Give back a part of a settled charge, to where it came from. Answer: the `Charge`.

    The same `key` again gives nothing back. Refused with `not-possible` beyond what was paid.
    """

    key: bytes
    charge: bytes
    amount: int
    reason: str
    now_us: int
    actor: str


@dataclass(slots=True)
class CarryLedger:
    """Carry what was booked before a time, of the next `limit` entries. Answer: how many."""

    before_us: int
    after_id: int
    limit: int
    now_us: int
