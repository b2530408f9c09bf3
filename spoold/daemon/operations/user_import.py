"""Many users at once: `user.import`, for lists of people from elsewhere.

In: rows that say what users are to be; what a row does not say stays. Out: for each row what became
of it, or would become with `dry_run`, with the values of before and after. Cards and PINs are only
added: a list never takes away what it does not name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import ADMINS, LOCAL
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.people import pin_digests
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.users import (
    DETAILS,
    ROLES,
    USUAL,
    fields_of,
    no_account,
    roles_of,
)
from spoold.daemon.operations.views import fitting
from spoold.model import card as cards
from spoold.model.errors import OperationError
from spoold.model.principal import Role
from spoold.model.user import (
    CARDS_MAX,
    FIELDS,
    LABEL_CHARACTERS_MAX,
    User,
    check_pin,
    check_text,
    check_user_name,
    pin_digits_alone,
)
from spoold.spool import accounts, people, users
from spoold.spool.store import Change, PutCard, PutPin, PutUser

ROWS_MAX = 200
_NOBODY = User(UUID(int=0), "", frozenset({Role.USER}), False, 0, 0)  # what a new user is
ADDED, CHANGED, UNCHANGED, REFUSED = "added", "changed", "unchanged", "refused"


@dataclass(slots=True)
class _Row:
    """A row on its way: what it asks for, what is there, and what becomes of it."""

    name: str
    roles: frozenset[Any] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    cards: list[tuple[str, str]] = field(default_factory=list)  # label, number
    pin: str = ""
    error: OperationError | None = None
    user: User | None = None
    card_holders: list[User | None] = field(default_factory=list)
    pin_holder: User | None = None
    changes: dict[str, list[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wanted: list[Change] = field(default_factory=list)

    @property
    def action(self) -> str:
        if self.error is not None:
            return REFUSED
        if self.user is None:
            return ADDED
        return CHANGED if self.wanted else UNCHANGED

    def as_map(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "action": self.action}
        if self.error is not None:
            found |= {"error": self.error.message, "advice": self.error.advice}
        else:
            found |= {"changes": self.changes, "notes": self.notes}
        return found


async def import_users(call: Call) -> dict[str, Any]:
    """Each row is taken by itself: a refused one leaves the others alone."""
    services, args = call.services, call.args
    rows = [await _read(services, given) for given in args["users"]]
    await services.reader.look(_find, services.digests, rows)
    digits = pin_digits_alone(await services.reader.look(people.count_users))
    for row in rows:
        if row.error is None:
            _compare(services, row, digits, call.actor)
    if not args["dry_run"]:
        await _commit(services, rows, digits, call.actor)
    shown, _ = fitting((row.as_map() for row in rows), len(rows))
    shown += [{"name": row.name, "action": row.action} for row in rows[len(shown) :]]
    return {"users": shown}


async def _read(services: Services, given: dict[str, Any]) -> _Row:
    """What a row asks for, checked."""
    row = _Row(given["name"])
    try:
        row.name = check_user_name(given["name"])
        row.roles = roles_of(given["roles"])
        row.fields = await fields_of(services, {**dict.fromkeys(FIELDS), **given})
        for one in given["cards"] or ():
            label = check_text(one["label"], "label", LABEL_CHARACTERS_MAX)
            row.cards.append((label, cards.convert(given["converter"], one["number"])))
        if given["pin"]:
            row.pin = check_pin(given["pin"])
    except OperationError as error:
        row.error = error
    return row


def _find(db: sqlite3.Connection, digests: cards.Digests, rows: Sequence[_Row]) -> None:
    """In the reader's thread: who is there, whose the cards and PINs are, and what is missing."""
    for row in rows:
        if row.error is not None:
            continue
        if (account := row.fields.get("default_account")) and accounts.missing(db, [account]):
            row.notes.append(no_account(account))
        found = users.find(db, row.name)
        row.user = found[0] if found else None
        row.card_holders = [
            people.by_card(db, tuple(digests.cards(number))) for _, number in row.cards
        ]
        pins = digests.pins(row.pin) if row.pin else []
        if row.pin and row.user:
            pins += digests.pins(row.pin, row.user.guid)
        row.pin_holder = people.by_pin(db, tuple(pins)) if pins else None


def _compare(services: Services, row: _Row, digits_alone: int, actor: str) -> None:
    """What is to change, and the changes that make it so."""
    before, now_us = row.user or _NOBODY, services.wall_clock()
    roles = row.roles if row.roles != before.roles else None
    fields = {name: value for name, value in row.fields.items() if getattr(before, name) != value}
    for name, value in fields.items():
        row.changes[name] = [_shown(name, getattr(before, name)), _shown(name, value)]
    if roles is not None:
        row.changes["roles"] = [sorted(before.roles), sorted(roles)]
    is_new = row.user is None
    if is_new or fields or roles is not None:
        row.wanted.append(PutUser(row.name, now_us, roles, None, is_new, actor, fields=fields))
    for (label, number), holder in zip(row.cards, row.card_holders, strict=True):
        _compare_card(services, row, label, number, holder, actor)
    if row.pin_holder is not None and row.pin_holder.name != row.name:
        row.error = OperationError("conflict", "this PIN cannot be had.", "Take another.")
    elif row.pin and row.pin_holder is None:
        row.changes["pin"] = ["", "set" if len(row.pin) >= digits_alone else "beside a card"]


def _compare_card(
    services: Services, row: _Row, label: str, number: str, holder: User | None, actor: str
) -> None:
    if holder is not None and holder.name != row.name:
        row.error = OperationError(
            "conflict", f"the card …{cards.ending(number)} is one of {holder.name}'s.", ""
        )
    elif holder is None:
        known = row.changes.setdefault("cards", [[], []])
        known[1].append(f"{label} …{cards.ending(number)}".strip())
        digests = tuple(services.digests.cards(number))
        now_us = services.wall_clock()
        change = PutCard(row.name, digests, label, cards.ending(number), now_us, actor)
        row.wanted.append(change)


def _shown(name: str, value: Any) -> Any:
    if name == "overdraft" and value is None:
        return USUAL
    return list(value) if isinstance(value, tuple) else value


async def _commit(services: Services, rows: Sequence[_Row], digits_alone: int, actor: str) -> None:
    wanted = [(row, change) for row in rows if row.error is None for change in row.wanted]
    await _commit_all(services, wanted)
    # A short PIN is hashed with its owner's key, which a new user has by now.
    pins: list[tuple[_Row, Change]] = []
    for row in rows:
        if row.error is None and "pin" in row.changes:
            user = await services.reader.user(row.name)
            if user is not None:
                digests = pin_digests(services.digests, row.pin, user.guid, digits_alone)
                pins.append((row, PutPin(row.name, digests, services.wall_clock(), actor)))
    await _commit_all(services, pins)


async def _commit_all(services: Services, wanted: list[tuple[_Row, Change]]) -> None:
    if not wanted:
        return
    answers = await services.journal.commit_all([change for _, change in wanted])
    for (row, _), answer in zip(wanted, answers, strict=True):
        if isinstance(answer, OperationError):
            row.error = answer
        elif isinstance(answer, Exception):
            raise answer


_ROW = (
    Argument("name", required=True),
    ROLES,
    *DETAILS,
    Argument(
        "cards",
        (list,),
        most=CARDS_MAX,
        each=Argument(
            "",
            (dict,),
            keys=(
                Argument("label", default=""),
                Argument("number", required=True, most=cards.RAW_CHARACTERS_MAX),
            ),
        ),
    ),
    Argument("converter", default=cards.PLAIN, most=cards.RAW_CHARACTERS_MAX),
    Argument("pin", default=""),
)

OPERATIONS = (
    Operation(
        "user.import",
        (
            Argument(
                "users",
                (list,),
                required=True,
                most=ROWS_MAX,
                each=Argument("", (dict,), keys=_ROW),
            ),
            Argument("dry_run", (bool,), default=False, summary="Only say what would change."),
        ),
        ADMINS,
        LOCAL,
        import_users,
        "Add and change many users.",
    ),
)
