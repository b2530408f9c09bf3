"""What people show at machines: cards and PINs; and `user.erase`.

Numbers of cards and PINs come in, become keyed hashes, and never leave; a PIN that was made here
leaves once. `convert` is the same for whoever gives a card and for the reader that reads it.
"""

from __future__ import annotations

import secrets
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import ADMINS, LOCAL, STAFF
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.users import NAME, find_user, user_map
from spoold.model import card as cards
from spoold.model.errors import OperationError
from spoold.model.person import normalise_name
from spoold.model.user import (
    LABEL_CHARACTERS_MAX,
    check_pin,
    check_text,
    pin_digits_alone,
)
from spoold.spool import people
from spoold.spool.store import PutCard, PutPin, RemoveCard

TRIES = 20
MENTIONS_SHOWN_MAX = 20


def converted(call: Call) -> str:
    return cards.convert(call.args["converter"], call.args["card"])


async def add_card(call: Call) -> dict[str, Any]:
    """A card that the user has gets the new label."""
    services, args = call.services, call.args
    user = await find_user(services, args["name"])
    number = converted(call)
    change = PutCard(
        user.name,
        tuple(services.digests.cards(number)),
        check_text(args["label"], "label", LABEL_CHARACTERS_MAX),
        cards.ending(number),
        services.wall_clock(),
        call.actor,
    )
    return await user_map(services, await services.journal.commit(change))


async def remove_card(call: Call) -> dict[str, Any]:
    """Refuse a card from now on, and end what its user has open at machines."""
    services, args = call.services, call.args
    user = await find_user(services, args["name"])
    if (args["number"] is None) == (args["card"] is None):
        raise OperationError(
            "bad-request", "which card is not said.", "Name its number, or read it."
        )
    digests = () if args["card"] is None else tuple(services.digests.cards(converted(call)))
    change = RemoveCard(user.name, args["number"], services.wall_clock(), digests, call.actor)
    return await user_map(services, await services.journal.commit(change))


async def find_card(call: Call) -> dict[str, Any]:
    """Whose card this is."""
    services = call.services
    digests = tuple(services.digests.cards(converted(call)))
    user = await services.reader.look(people.by_card, digests)
    if user is None:
        raise OperationError(
            "not-found",
            "nobody has this card.",
            "Try another converter, or give it: `spoold user card add`.",
        )
    return await user_map(services, user)


async def set_pin(call: Call) -> dict[str, Any]:
    """The PIN is answered when it was made here, and then only; `pin_stands`: whether it does
    alone, and `pin_digits_alone` how long one has to be for that.
    """
    services, args = call.services, call.args
    user = await find_user(services, args["name"])
    if args["generate"] == (args["pin"] is not None):
        raise OperationError("bad-request", "there is no PIN.", "Give one, or have one made.")
    digits = pin_digits_alone(await services.reader.look(people.count_users))
    for _ in range(TRIES):
        pin = _made(digits) if args["generate"] else args["pin"]
        if pin and not args["generate"]:
            check_pin(pin)
        digests = pin_digests(services.digests, pin, user.guid, digits)
        try:
            changed = await services.journal.commit(
                PutPin(user.name, digests, services.wall_clock(), call.actor)
            )
        except OperationError as error:
            if error.code == "conflict" and args["generate"]:
                continue
            raise
        shown: dict[str, Any] = {"pin": pin} if args["generate"] else {}
        if pin:
            shown |= {"pin_stands": len(pin) >= digits, "pin_digits_alone": digits}
        return {**await user_map(services, changed), **shown}
    raise OperationError("busy", "no PIN was found that nobody has.", "Try again.")


def pin_digests(
    digests: cards.Digests, pin: str, owner: UUID, digits_alone: int
) -> tuple[bytes, ...]:
    """The hashes under which a PIN is kept: alone, or beside its owner's card."""
    if not pin:
        return ()
    return tuple(digests.pins(pin, owner if len(pin) < digits_alone else None))


def _made(digits: int) -> str:
    while True:
        pin = "".join(secrets.choice("0123456789") for _ in range(digits))
        try:
            return check_pin(pin)
        except OperationError:
            pass  # 000000 and the like


async def erase(call: Call) -> dict[str, Any]:
    """Forget somebody, user or not, everywhere on this node; journal and ledger still verify.

    `mentions` are records of others in which the name stands in a text, `reasons` such entries of
    the ledger: whether that is the same person, somebody has to look.
    """
    name = normalise_name(call.args["name"])
    done = await call.services.erasure.erase(name, call.actor)
    return {
        "guid": str(done.guid),
        "jobs": done.jobs,
        "records": done.records,
        "is_rewritten": done.is_rewritten,
        "mentions": len(done.mentions),
        "mentioned_at": list(done.mentions[:MENTIONS_SHOWN_MAX]),
        "reasons": done.reasons,
    }


_CARD = Argument("card", least=1, most=cards.RAW_CHARACTERS_MAX, summary="As a reader tells it.")
_CONVERTER = Argument(
    "converter",
    default=cards.PLAIN,
    most=cards.RAW_CHARACTERS_MAX,
    summary="How its number is read; see `spoold card converters`.",
)

OPERATIONS = (
    Operation(
        "user.add-card",
        (
            NAME,
            Argument("card", least=1, most=cards.RAW_CHARACTERS_MAX, required=True),
            _CONVERTER,
            Argument("label", default="", most=LABEL_CHARACTERS_MAX),
        ),
        ADMINS,
        LOCAL,
        add_card,
        "Give a user a card.",
    ),
    Operation(
        "user.find-card",
        (
            Argument("card", least=1, most=cards.RAW_CHARACTERS_MAX, required=True),
            _CONVERTER,
        ),
        STAFF,
        LOCAL,
        find_card,
        "Whose card this is.",
    ),
    Operation(
        "user.remove-card",
        (
            NAME,
            Argument("number", (int,), least=1, summary="Which of the user's cards."),
            _CARD,
            _CONVERTER,
        ),
        ADMINS,
        LOCAL,
        remove_card,
        "Refuse a card from now on.",
    ),
    Operation(
        "user.pin",
        (
            NAME,
            Argument("pin", summary="An empty one takes it away."),
            Argument("generate", (bool,), default=False, summary="Make one, and answer it."),
        ),
        ADMINS,
        LOCAL,
        set_pin,
        "Set a user's PIN.",
    ),
    Operation("user.erase", (NAME,), ADMINS, LOCAL, erase, "Forget somebody everywhere."),
)
