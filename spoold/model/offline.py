"""What holds at a site that is cut off from its application server; decided in advance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.money import AMOUNT_MAX
from spoold.model.purse import PayerKind, Purse, PurseKind

HOUR_US = 3_600_000_000
MARGIN_US = 24 * HOUR_US  # after which rights that have ended are taken back
CLOCK_BACK_US = 120_000_000  # what a clock may be set back, as by NTP, and is believed


class RightsOut(StrEnum):
    """What happens when the rights that a site holds do not pay for the work."""

    DENY = "deny"
    ACCOUNT = "account"  # the shared account pays
    OVERDRAFT = "overdraft"  # a person may go below zero so far


class Strangers(StrEnum):
    """What happens to jobs of people whom the site does not know."""

    DENY = "deny"
    HOLD = "hold"
    ACCOUNT = "account"


class Choice(StrEnum):
    """Who may pay, where people choose accounts."""

    ALLOWED = "allowed"  # as at other times
    OWN = "own"  # everybody pays with their own money
    ACCOUNT = "account"  # the shared account pays for all that would be charged to one


@dataclass(frozen=True, slots=True)
class OfflinePolicy:
    """`account` is the name of the shared account of the rules above. `overdraft` is how far each
    person may go below zero in an outage, in 1/10,000.

    `passwords` lets people in by the password of a directory that cannot be asked, if it was right
    at this site in the last `password_days`. A site holds rights to `share` per cent of what
    somebody has, at most to `most`, for `valid_hours`: of everybody, or with `ahead` off of those
    who were there. What somebody needs there at once it gets beyond that, up to `need_share` per
    cent and `need_most`; when that comes to more than `alarm` of all holders in a day, it is told.
    """

    rights_out: RightsOut = RightsOut.DENY
    strangers: Strangers = Strangers.HOLD
    choice: Choice = Choice.ALLOWED
    account: str = ""
    overdraft: int = 0
    passwords: bool = False
    password_days: int = 30
    share: int = 25
    most: int = 100_000
    valid_hours: int = 168
    ahead: bool = True
    need_share: int = 100
    need_most: int = 10_000_000
    alarm: int = 100_000_000

    def ahead_of_need(self, there: int) -> int:
        """How much a site should hold of what a holder has altogether, here and there."""
        return min(self.most, self.share * max(there, 0) // 100)

    def at_need(self, there: int) -> int:
        """How much of it a site may hold at all."""
        return min(self.need_most, self.need_share * max(there, 0) // 100)

    def as_map(self) -> dict[str, Any]:
        return {key: getattr(value, "value", value) for key, value in asdict(self).items()}

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> OfflinePolicy:
        """Raises ValueError: this is no policy. What is not named is as usual."""
        known = {one.name: one for one in fields(cls)}
        given = {key: value for key, value in found.items() if key in known}
        default = cls()
        for key, value in given.items():
            kind = type(getattr(default, key))
            if issubclass(kind, StrEnum):
                given[key] = kind(value)
            elif type(value) is not kind:
                raise ValueError(f"{key} is {value!r}")
        return cls(**given)


_BOUNDS = {
    "overdraft": AMOUNT_MAX,
    "password_days": 365,
    "share": 100,
    "most": AMOUNT_MAX,
    "valid_hours": 24 * 90,
    "need_share": 100,
    "need_most": AMOUNT_MAX,
    "alarm": AMOUNT_MAX,
}


def check_policy(policy: OfflinePolicy) -> OfflinePolicy:
    """Raises:
    OperationError: `bad-request`: it does not make sense.
    """
    for key, most in _BOUNDS.items():
        if not 0 <= getattr(policy, key) <= most:
            raise OperationError("bad-request", f"{key} lies between 0 and {most}.")
    if not policy.valid_hours:
        raise OperationError("bad-request", "rights that never hold are of no use.")
    rules = (policy.rights_out, policy.strangers, policy.choice)
    if any(rule.value == "account" for rule in rules) and not policy.account:
        raise OperationError(
            "bad-request", "no account is named that pays.", "Name one with --account."
        )
    return policy


@dataclass(frozen=True, slots=True)
class Beyond:
    """Who pays what rights do not, as the policy of a site that is alone says."""

    overdraft: int = 0
    account: UUID | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """A site asks for rights to a holder's money: `least` in all, where it `has` some. What it
    counts as granted altogether is `known`.
    """

    kind: PayerKind
    holder: UUID
    least: int
    has: int
    known: int


@dataclass(frozen=True, slots=True)
class Right:
    """What a site was granted out of a purse in its epoch, altogether."""

    kind: PayerKind
    purse: Purse
    amount: int

    @property
    def local(self) -> Purse:
        """The purse that holds it at the site: an overdraft is granted there as credit."""
        if self.purse.kind is PurseKind.OVERDRAFT:
            return Purse(self.purse.holder, PurseKind.CREDIT)
        return self.purse
