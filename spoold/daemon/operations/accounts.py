"""Money of people and shared accounts: `account.*`.

Who handles money changes it: an accountant, or an administrator. What is booked by hand: `booking`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from spoold.daemon.operations.access import KNOWN, MONEY, STAFF, USERS
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.holders import (
    GROUP,
    Names,
    allowance_map,
    allowance_maps,
    find_account,
    find_holder,
    recipient_of,
    wallet_map,
)
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.users import find_user
from spoold.daemon.operations.views import fitting, uuid_of
from spoold.model.account import GROUPS_MAX, MEMBERS_MAX, Account
from spoold.model.money import AMOUNT_MAX
from spoold.model.purse import EVERYBODY, Allowance, Payer, PayerKind, Period, Terms
from spoold.model.user import check_group
from spoold.spool import accounts, escrow, nodes, postings, users
from spoold.spool.store import (
    PutAccount,
    PutAllowance,
    PutTerms,
    RemoveAccount,
    RemoveAllowance,
)

READERS = STAFF | MONEY
CHOICES_SHOWN_MAX = 500
NAMED_MAX = 5
SITES_SHOWN_MAX = 200


# -- shared accounts ---------------------------------------------------------------------------


async def account_map(call: Call, account: Account) -> dict[str, Any]:
    """An account as it is set, and what it holds. `available` null: without end."""
    services = call.services
    people = await services.reader.names(list(account.members))
    payer = Payer(PayerKind.ACCOUNT, account.guid)
    shown = {
        "name": account.name,
        "guid": str(account.guid),
        "code": account.code,
        "groups": list(account.groups),
        "members": sorted(people[guid] for guid in account.members if guid in people),
        "restricted": account.is_restricted,
        "overdraft": account.overdraft,
        "open": account.is_open,
        "created_us": account.created_us,
        "changed_us": account.changed_us,
    }
    if account.is_open:
        wallet = await services.charging.wallet(payer)
        shown |= {"balance": wallet.balance, "available": wallet.available}
    else:
        found = await services.reader.look(postings.purses_of, account.guid)
        shown |= {"balance": sum(one.balance for one in found), "available": 0}
    return shown


async def _still_named(services: Services, names: set[str]) -> list[str]:
    """Advice on who still names an account by names and codes that it has no more."""
    advice = []
    for name in sorted(names - {""}):
        people = await services.reader.look(users.with_default_account, name)
        if people:
            told = ", ".join(people[:NAMED_MAX]) + ", …" * (len(people) > NAMED_MAX)
            count = "1 user" if len(people) == 1 else f"{len(people)} users"
            advice.append(
                f"{name} is still the default account of {count} ({told}), whose jobs wait for it: "
                "`spoold user set NAME --default-account OTHER`."
            )
        known = await services.catalogue.look()
        printers = sorted(
            one.name
            for one in known.printers.values()
            if name in {one.default_account, *(rule.account for rule in one.senders)}
        )
        if printers:
            told = ", ".join(printers[:NAMED_MAX]) + ", …" * (len(printers) > NAMED_MAX)
            advice.append(f"Printers still name {name}: {told}: see `spoold printer set --help`.")
    return advice


async def _put(call: Call, *, is_new: bool) -> dict[str, Any]:
    services, args = call.services, call.args
    members = args["members"]
    if members is not None:
        wanted = dict.fromkeys(members)
        members = tuple([(await find_user(services, one)).guid for one in wanted])
    groups = args["groups"]
    if groups is not None:
        every = (one if one == accounts.ANYBODY else check_group(one) for one in groups)
        groups = tuple(sorted(set(every)))
    change = PutAccount(
        args["name"],
        services.wall_clock(),
        is_new,
        None if is_new else args["rename"],
        args["code"],
        groups,
        members,
        args["restricted"],
        args["overdraft"],
        args["open"],
        call.actor,
    )
    before = None if is_new else await find_account(services, args["name"])
    after: Account = await services.journal.commit(change)
    gone = set() if before is None else {before.name, before.code} - {after.name, after.code}
    return {**await account_map(call, after), "advice": await _still_named(services, gone)}


async def add(call: Call) -> dict[str, Any]:
    """An account lies in the one that its name names before the last `/`."""
    return await _put(call, is_new=True)


async def change(call: Call) -> dict[str, Any]:
    """What is not named stays; new groups and members stand in for the old ones."""
    return await _put(call, is_new=False)


async def remove(call: Call) -> dict[str, Any]:
    account = await find_account(call.services, call.args["name"])
    now_us = call.services.wall_clock()
    await call.services.journal.commit(RemoveAccount(account.name, now_us, call.actor))
    advice = await _still_named(call.services, {account.name, account.code})
    return {"name": account.name, "advice": advice}


async def list_accounts(call: Call) -> dict[str, Any]:
    after, limit = call.args["after_id"], call.args["limit"]
    found = await call.services.reader.look(accounts.page, after, limit + 1)
    page, more = fitting([await account_map(call, one) for one in found], limit)
    return {"accounts": page, "next_after_id": page[-1]["name"] if more else None}


async def show(call: Call) -> dict[str, Any]:
    """What a holder has: purses in the order in which they are spent, and allowances."""
    services, name = call.services, call.args["name"]
    terms = await services.reader.look(postings.terms)
    if name == EVERYBODY or name.startswith(GROUP):
        recipient = await recipient_of(services, name)
        shown: dict[str, Any] = {"name": recipient}
        if name == EVERYBODY:
            shown |= await _terms_map(call, terms)
    else:
        holder = await find_holder(services, name)
        recipient = holder.recipient
        shown = {"name": holder.name, "guid": str(holder.guid)}
        if holder.account is not None:
            shown = await account_map(call, holder.account)
        if holder.account is None or holder.account.is_open:
            shown |= wallet_map(await services.charging.wallet(holder.payer))
        shown["at_sites"] = await _at_sites(services, holder.guid)
    shown["currency"] = terms.currency
    shown["allowances"] = await allowance_maps(services, recipient)
    return shown


async def _at_sites(services: Services, holder: UUID) -> list[dict[str, Any]]:
    """What sites may spend of a holder's money: it is no part of the balance here."""
    found = await services.reader.look(escrow.at_sites, holder, services.wall_clock())
    names = await services.reader.look(nodes.names)
    return [
        {"site": names.get(site, str(site)), "amount": amount}
        for site, amount in list(found.items())[:SITES_SHOWN_MAX]
    ]


async def mine(call: Call) -> dict[str, Any]:
    """What the caller has, and which accounts the caller may charge to."""
    services = call.services
    user = await find_user(services, call.principal.name)
    wallet = await services.charging.wallet(Payer(PayerKind.PERSON, user.guid))
    terms = await services.reader.look(postings.terms)
    found = await services.charging.choices(user)
    chosen = [{"name": one.name, "code": one.code} for one in found[:CHOICES_SHOWN_MAX]]
    shown = {"name": user.name, "currency": terms.currency, **wallet_map(wallet)}
    page, _ = fitting(chosen, CHOICES_SHOWN_MAX, shown)
    return {**shown, "accounts": page}


# -- allowances and terms ----------------------------------------------------------------------


async def allow(call: Call) -> dict[str, Any]:
    """Grant so much for each period; one allowance for a recipient and a kind of period.

    A changed one holds from the next period on; 0 ends it, and what was granted stays.
    """
    services, args = call.services, call.args
    recipient = await recipient_of(services, args["name"])
    period, now_us = Period(args["period"]), services.wall_clock()
    guid = uuid5(UUID(int=0), f"{recipient}/{period}")
    allowance = Allowance(guid, recipient, args["amount"], period, args["carry_over"], now_us)
    if args["amount"]:
        await services.journal.commit(PutAllowance(allowance, now_us, call.actor))
    else:
        await services.journal.commit(RemoveAllowance(guid, now_us, call.actor))
    return {"name": args["name"], **allowance_map(allowance)}


async def list_allowances(call: Call) -> dict[str, Any]:
    """Every allowance, called RECIPIENT/PERIOD; one for an account or person by their names."""
    services, after = call.services, uuid_of(call.args["after_id"])
    limit = call.args["limit"]
    first = b"" if after is None else after.bytes
    found = await services.reader.look(postings.allowance_page, first, limit + 1)
    guids = {one.guid: _recipient_guid(one.to) for one in found}
    names = await Names.of(services, [guid for guid in guids.values() if guid is not None])
    rows = []
    for one in found:
        guid = guids[one.guid]
        to = one.to if guid is None else names.holder(guid)
        rows.append({"id": str(one.guid), "name": f"{to}/{one.period}", **allowance_map(one)})
    page, more = fitting(rows, limit)
    return {"allowances": page, "next_after_id": page[-1]["id"] if more else None}


def _recipient_guid(to: str) -> UUID | None:
    """The account or the person that an allowance is for; None for everybody and groups."""
    return None if to == EVERYBODY or to.startswith(GROUP) else UUID(to.partition(":")[2])


async def set_terms(call: Call) -> dict[str, Any]:
    """What holds for everybody; what is not named stays."""
    services = call.services
    terms = await services.reader.look(postings.terms)
    named = {key: value for key, value in call.args.items() if value is not None}
    if named.get("spare_account"):
        spare = await find_account(services, named["spare_account"])
        named["spare_account"] = str(spare.guid)
    if named:
        terms = replace(terms, **named)
        await services.journal.commit(PutTerms(terms, services.wall_clock(), call.actor))
    return await _terms_map(call, terms)


async def _terms_map(call: Call, terms: Terms) -> dict[str, Any]:
    spare = ""
    if terms.spare_account:
        guid = UUID(terms.spare_account)
        spare = (await call.services.reader.look(accounts.names, [guid])).get(guid, "")
    return {
        "currency": terms.currency,
        "zone": terms.zone,
        "overdraft": terms.overdraft,
        "spare_account": spare,
    }


# -- the table ---------------------------------------------------------------------------------

_NAME = Argument("name", required=True, least=1, summary="Name a shared account, or user:NAME.")
_OVERDRAFT = Argument("overdraft", (int,), most=AMOUNT_MAX, summary="How far below zero.")
_SETTINGS = (
    Argument("code", summary="What is typed at a machine; an empty one takes it away."),
    Argument(
        "groups", (list,), most=GROUPS_MAX, each=Argument(""), summary="Who may charge to it; *."
    ),
    Argument(
        "members", (list,), most=MEMBERS_MAX, each=Argument(""), summary="Users who may do so."
    ),
    Argument("restricted", (bool,), summary="It goes below zero by the overdraft at most."),
    _OVERDRAFT,
    Argument("open", (bool,), summary="A closed one pays for nothing new."),
)
OPERATIONS = (
    Operation("account.add", (_NAME, *_SETTINGS), MONEY, KNOWN, add, "Add a shared account."),
    Operation(
        "account.set",
        (_NAME, Argument("rename", least=1, summary="A new name."), *_SETTINGS),
        MONEY,
        KNOWN,
        change,
        "Change a shared account.",
    ),
    Operation("account.remove", (_NAME,), MONEY, KNOWN, remove, "Remove a shared account."),
    Operation(
        "account.list",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        READERS,
        KNOWN,
        list_accounts,
        "Shared accounts, and what they hold.",
    ),
    Operation("account.show", (_NAME,), READERS, KNOWN, show, "What somebody has."),
    Operation("account.mine", (), USERS, KNOWN, mine, "What the caller has."),
    Operation(
        "account.allow",
        (
            _NAME,
            Argument("amount", (int,), required=True, most=AMOUNT_MAX, summary="0 ends it."),
            Argument("period", default=Period.MONTH.value, choices=tuple(Period)),
            Argument("carry_over", (int,), default=0, most=AMOUNT_MAX),
        ),
        MONEY,
        KNOWN,
        allow,
        "Grant so much for each period.",
    ),
    Operation(
        "account.allowances",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        READERS,
        KNOWN,
        list_allowances,
        "What is granted for each period, and to whom.",
    ),
    Operation(
        "account.terms",
        (
            Argument("currency"),
            Argument("zone", summary="As Europe/Berlin."),
            _OVERDRAFT,
            Argument("spare_account", summary="Pays where somebody's purses are empty."),
        ),
        MONEY,
        KNOWN,
        set_terms,
        "Currency, time zone and what else holds for everybody.",
    ),
)
