"""Whose money is asked about: the words for holders of purses, and how they are shown.

`faculty/physics` is a shared account, `user:ada` a person; an allowance can also be for
`group:students` or `everybody`. Every amount in an operation is a whole number of 1/10,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from spoold.daemon.operations.context import Services
from spoold.daemon.operations.views import plain_value
from spoold.model.account import Account, check_account_name
from spoold.model.charge import Charge
from spoold.model.errors import OperationError
from spoold.model.mfd import Mfd
from spoold.model.person import normalise_name
from spoold.model.purse import EVERYBODY, Allowance, Payer, PayerKind, Wallet
from spoold.model.user import check_group
from spoold.spool import accounts, postings
from spoold.spool.ledger_views import Entry, Story

USER = "user:"
GROUP = "group:"


@dataclass(frozen=True, slots=True)
class Holder:
    """A person or a shared account; `name` is how commands call it."""

    kind: PayerKind
    guid: UUID
    name: str
    account: Account | None = None

    @property
    def payer(self) -> Payer:
        return Payer(self.kind, self.guid)

    @property
    def recipient(self) -> str:
        return f"{self.kind}:{self.guid}"


async def find_account(services: Services, name: str) -> Account:
    """The shared account of a name.

    Raises:
        OperationError: `bad-request`, `not-found`.
    """
    checked = check_account_name(name)
    account = await services.reader.look(accounts.by_name, checked)
    if account is None:
        raise accounts.unknown(checked)
    return account


async def find_holder(services: Services, name: str) -> Holder:
    """Whose purses `name` means: a shared account's, or those of `user:NAME`.

    A person who is no user here can have purses, too.

    Raises:
        OperationError: `bad-request`, `not-found`.
    """
    if not name.startswith(USER):
        account = await find_account(services, name)
        return Holder(PayerKind.ACCOUNT, account.guid, account.name, account)
    wanted = normalise_name(name.removeprefix(USER))
    guid = await services.reader.look(accounts.person_by_name, wanted)
    if guid is None:
        raise OperationError(
            "not-found",
            f"nobody here is called {plain_value(wanted[:60])}.",
            "See `spoold user list`.",
        )
    return Holder(PayerKind.PERSON, guid, USER + wanted)


async def recipient_of(services: Services, name: str) -> str:
    """Whom an allowance is for, as it is kept.

    Raises:
        OperationError: `bad-request`, `not-found`.
    """
    if name == EVERYBODY:
        return EVERYBODY
    if name.startswith(GROUP):
        return GROUP + check_group(name.removeprefix(GROUP))
    return (await find_holder(services, name)).recipient


class Names:
    """The names behind the keys that a page speaks of; asked for together."""

    def __init__(
        self, people: dict[UUID, str], named: dict[UUID, str], mfd: Callable[[UUID], Mfd | None]
    ) -> None:
        self._people, self._accounts, self._mfd = people, named, mfd

    @classmethod
    async def of(cls, services: Services, guids: Iterable[UUID]) -> Names:
        wanted = list(dict.fromkeys(guids))
        named = await services.reader.look(accounts.names, wanted)
        rest = [guid for guid in wanted if guid not in named]
        return cls(await services.reader.names(rest), named, services.mfds.by_guid)

    def person(self, guid: UUID | None) -> str:
        """A person who was erased is known by the key alone."""
        return "" if guid is None else self._people.get(guid, str(guid))

    def holder(self, guid: UUID) -> str:
        found = self._accounts.get(guid)
        return found if found is not None else USER + self._people.get(guid, str(guid))

    def actor(self, actor: str) -> str:
        """`user:GUID` or `device:GUID` by name where it is known."""
        kind, _, key = actor.partition(":")
        if kind not in ("user", "device"):
            return actor
        try:
            guid = UUID(key)
        except ValueError:
            return actor
        if kind == "user":
            return USER + self._people.get(guid, key)
        mfd = self._mfd(guid)
        return actor if mfd is None else f"{kind}:{mfd.name}"


def actors(entries: Iterable[Entry]) -> list[UUID]:
    """The people who are authors of entries."""
    found = []
    for entry in entries:
        kind, _, key = entry.actor.partition(":")
        if kind == "user":
            found.append(UUID(key))
    return found


# -- maps --------------------------------------------------------------------------------------


def wallet_map(wallet: Wallet) -> dict[str, Any]:
    """What can be spent now. `available` null: without end."""
    return {
        "balance": wallet.balance,
        "available": wallet.available,
        "purses": [
            {
                "purse": purse.kind.value,
                "period": purse.period if purse.allowance else "",
                "balance": purse.balance,
                "until_us": purse.until_us,
                "is_refundable": purse.kind.is_refundable,
            }
            for purse in wallet.in_order()
        ],
    }


def allowance_map(allowance: Allowance) -> dict[str, Any]:
    return {
        "amount": allowance.amount,
        "period": allowance.period.value,
        "carry_over": allowance.carry_over,
        "from_us": allowance.from_us,
    }


async def allowance_maps(services: Services, recipient: str) -> list[dict[str, Any]]:
    """The allowances for a recipient alone, none that it has as a part of others."""
    found = await services.reader.look(postings.allowances, [recipient])
    return [allowance_map(one) for one in sorted(found, key=lambda one: one.period)]


def entry_map(entry: Entry, names: Names) -> dict[str, Any]:
    return {
        "id": entry.id,
        "cause": entry.cause,
        "job": entry.job_id,
        "work": entry.work,
        "happened_us": entry.happened_us,
        "booked_us": entry.booked_us,
        "amount": entry.amount,
        "actor": names.actor(entry.actor),
        "reason": entry.reason,
        "charge": None if entry.charge is None else entry.charge.hex(),
        "purses": [
            {
                "purse": line.kind,
                "period": line.period,
                "until_us": line.until_us,
                "before": line.before,
                "amount": line.amount,
                "after": line.after,
            }
            for line in entry.lines
        ],
    }


def charge_map(charge: Charge, names: Names, printer: str) -> dict[str, Any]:
    """A charge with its derivation."""
    usage = charge.usage
    return {
        "charge": charge.key.hex(),
        "state": charge.state.value,
        "job": charge.job_id,
        "payer": names.holder(charge.payer.guid),
        "payer_by": charge.payer.by,
        "user": names.person(charge.payer.spender),
        "printer": printer,
        "work": usage.work.value,
        "impressions": usage.impressions if usage.is_known else None,
        "color_impressions": usage.color_impressions,
        "sheets": usage.sheets,
        "reserved": charge.reserved,
        "total": charge.total,
        "refunded": charge.refunded,
        "paid": charge.net,
        "is_shadow": charge.is_shadow,
        "flags": list(charge.flags),
        "happened_us": charge.happened_us,
        "ended_us": charge.ended_us,
        "price_version": charge.quote.price_version,
        "derivation": charge.quote.told(),
    }


def story_map(story: Story, names: Names, printer: str) -> dict[str, Any]:
    """A charge, and what its payer's purses held before and after each step."""
    entries = [entry_map(entry, names) for entry in story.entries]
    return {**charge_map(story.charge, names, printer), "entries": entries}


async def names_of(services: Services, stories: Iterable[Story]) -> Names:
    """The names that charges and their entries speak of."""
    guids: list[UUID] = []
    for charge, entries in stories:
        spender = charge.payer.spender
        guids += [charge.payer.guid, *([] if spender is None else [spender]), *actors(entries)]
    return await Names.of(services, guids)
