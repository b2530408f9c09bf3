"""Shared accounts, prices, allowances and terms as objects of a file.

`[account."faculty/physics"]` with the keys of `account.set`; `[prices]` with those of `price.set`,
its rates as `"print/color/a3 per sheet" = "0.40"`, or `"copy @plotter"` for one printer alone;
`[allowance."group:students/month"]`; and `[terms]`, what holds for everybody. Amounts are texts as
`"12.50"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from spoold.daemon.apply import Asked, Kind, Problem, Whole
from spoold.daemon.operations import accounts, prices
from spoold.daemon.operations.table import Argument
from spoold.model.account import Account, above, check_account_name, check_code
from spoold.model.errors import OperationError
from spoold.model.money import format_amount, parse_amount
from spoold.model.objects import Action, Object, Step
from spoold.model.pricing import RATES_MAX, Per, PriceList, Unknown
from spoold.model.purse import EVERYBODY, Period
from spoold.model.purse import Terms as TermsOfAll
from spoold.model.text import plain
from spoold.model.usage import COLORS, SIDES, Work, media_name, media_size_mm
from spoold.model.user import check_group, check_user_name

_ANY = "any"
_NOBODY = UUID(int=0)
_RATE = re.compile(r"(?P<what>[^ @]+)( per (?P<per>[^ @]+))?( @(?P<printer>\S+))?")


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def _arguments(op: str, operations: Iterable[Any], amounts: Sequence[str]) -> tuple[Argument, ...]:
    """The arguments of an operation as a file gives them: amounts as texts."""
    (found,) = (one.arguments for one in operations if one.name == op)
    return tuple(
        Argument(one.name, (str, int), summary=one.summary) if one.name in amounts else one
        for one in found
        if one.name not in _NO_KEYS
    )


_NO_KEYS = frozenset({"name", "rename", "rates", "replace", "from_us"})


def _amount(value: Any) -> int:
    """An amount from `"12.50"`, or a whole number of 1/10,000."""
    amount = parse_amount(value) if isinstance(value, str) else int(value)
    if amount < 0:
        raise _bad(f"{value!r} is below zero.", "Write an amount from 0.00 on.")
    return amount


class Accounts(Kind):
    word = "account"
    arguments = _arguments("account.add", accounts.OPERATIONS, ("overdraft",))
    listing = Asked("account.list", {})
    rows = "accounts"
    refers = ("user",)

    def name(self, text: str) -> str:
        return check_account_name(text)

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        found = dict(given)
        if "code" in found:
            found["code"] = check_code(found["code"])
        if "groups" in found:
            found["groups"] = sorted(
                {one if one == "*" else check_group(one) for one in found["groups"]}
            )
        if "members" in found:
            found["members"] = sorted({check_user_name(one) for one in found["members"]})
        if "overdraft" in found:
            found["overdraft"] = _amount(found["overdraft"])
        return found

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        names, users = whole.names("account", gone), whole.names("user")
        for step in steps:
            path = f'account."{step.name}"'
            lies_in = above(step.name)[:-1]
            if step.action is Action.ADD and not set(lies_in) <= names:
                yield Problem(path, f"there is no account {lies_in[-1]}.", "Name it, too.")
            if step.action is Action.REMOVE and any(step.name in above(one)[:-1] for one in names):
                yield Problem(path, "it would be removed, but others lie in it.", "Name it.")
            for one in sorted(set((step.wanted or {}).get("members", ())) - users):
                yield Problem(f"{path}.members", f"there is no user {plain(one)}.", "Add them.")

    def turn(self, step: Step, there: Object | None) -> int:
        """What lies in others is added after them and removed before."""
        depth = step.name.count("/")
        return -depth if step.action is Action.REMOVE else depth

    def asked(self, step: Step, there: Object | None) -> Asked:
        if step.action is Action.REMOVE:
            return Asked("account.remove", {"name": step.name})
        assert step.wanted is not None
        op = "account.add" if step.action is Action.ADD else "account.set"
        return Asked(op, {"name": step.name, **{key: step.wanted[key] for key in step.keys}})

    def blank(self) -> Object:
        one = Account(_NOBODY, "")
        return {
            "code": one.code,
            "groups": [],
            "members": [],
            "restricted": one.is_restricted,
            "overdraft": one.overdraft,
            "open": one.is_open,
        }

    def told(self, key: str, value: Any) -> Any:
        return format_amount(value) if key == "overdraft" and value is not None else value


class Allowances(Kind):
    """`[allowance."group:students/month"]`: for everybody, a group, an account or `user:NAME`."""

    word = "allowance"
    arguments = (
        Argument("amount", (str, int), summary="For each period."),
        Argument("carry_over", (str, int), summary="What may be left of the period before."),
    )
    listing = Asked("account.allowances", {})
    rows = "allowances"
    refers = ("user", "account")

    def name(self, text: str) -> str:
        recipient, _, period = text.rpartition("/")
        if period not in tuple(Period):
            raise _bad(
                f"{plain(text[:60])!r} is no allowance.",
                f"Write RECIPIENT/PERIOD, as everybody/month; periods are {', '.join(Period)}.",
            )
        if recipient.startswith("group:"):
            recipient = f"group:{check_group(recipient.removeprefix('group:'))}"
        elif recipient.startswith("user:"):
            recipient = f"user:{check_user_name(recipient.removeprefix('user:'))}"
        elif recipient != EVERYBODY:
            recipient = check_account_name(recipient)
        return f"{recipient}/{period}"

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        found = {key: _amount(value) for key, value in given.items()}
        if found.get("amount") == 0:
            raise _bad("it grants nothing.", "Leave it out; `apply --prune` takes it away.")
        return found

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        users, every = whole.names("user"), whole.names("account")
        for step in steps:
            recipient = step.name.rpartition("/")[0]
            path = f'allowance."{step.name}"'
            if step.action is Action.ADD and "amount" not in (step.wanted or {}):
                yield Problem(path, "it has no amount.", 'Give one, as amount = "5.00".')
            if step.action is Action.REMOVE or recipient == EVERYBODY:
                continue
            if recipient.startswith("user:"):
                if recipient.removeprefix("user:") not in users:
                    yield Problem(path, f"there is no {plain(recipient)}.", "Name them, too.")
            elif not recipient.startswith("group:") and recipient not in every:
                yield Problem(path, f"there is no account {plain(recipient)}.", "Name it, too.")

    def asked(self, step: Step, there: Object | None) -> Asked:
        recipient, _, period = step.name.rpartition("/")
        args = {"name": recipient, "period": period}
        if step.action is Action.REMOVE:
            return Asked("account.allow", {**args, "amount": 0})
        both = {**(there or {}), **(step.wanted or {})}
        return Asked("account.allow", {**args, **both})

    def blank(self) -> Object:
        return {"carry_over": 0}

    def told(self, key: str, value: Any) -> Any:
        return None if value is None else format_amount(value)


class Prices(Kind):
    word = "prices"
    is_single = True
    arguments = (
        *_arguments("price.set", prices.OPERATIONS, ("step", "unknown_price")),
        Argument("rates", (dict,), most=RATES_MAX, each=Argument("", most=40)),
    )
    listing = Asked("price.show", {})
    refers = ("printer",)

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        found = dict(given)
        for key in ("step", "unknown_price"):
            if key in found:
                found[key] = _amount(found[key])
        if "default_media" in found:
            found["default_media"] = media_name(found["default_media"])
        if "rates" in found:
            found["rates"] = {
                _rate_text(_rate(key)): value if value == "" else format_amount(_amount(value))
                for key, value in found["rates"].items()
            }
        return found

    def there(self, row: dict[str, Any]) -> Object:
        if not row["version"]:
            return {"rates": {}}  # nothing has a price yet, and nothing else was said either
        rates = {_rate_text(one): format_amount(one["price"]) for one in row["rates"]}
        return {**super().there(row), "rates": rates}

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        printers = whole.names("printer")
        for step in steps:
            for key in (step.wanted or {}).get("rates", ()):
                printer = _rate(key)["printer"]
                if printer and printer not in printers:
                    cause = f"there is no printer {plain(printer)}."
                    yield Problem("prices.rates", cause, "Name it in the file, too.")

    def asked(self, step: Step, there: Object | None) -> Asked:
        assert step.wanted is not None
        args = {key: step.wanted[key] for key in step.keys if key != "rates"}
        if "rates" in step.keys:
            args["rates"] = [
                {**_rate(key), "price": parse_amount(value) if value else None}
                for key, value in step.changed("rates").items()
            ]
        return Asked("price.set", args)

    def blank(self) -> Object:
        one = PriceList(0, unknown=Unknown.REFUSE)
        return {
            "duplex_discount": one.duplex_discount,
            "step": one.step,
            "unknown": one.unknown.value,
            "unknown_price": one.unknown_price,
            "unknown_color": one.unknown_color,
            "default_media": one.default_media,
        }

    def told(self, key: str, value: Any) -> Any:
        is_amount = key in ("step", "unknown_price") and value is not None
        return format_amount(value) if is_amount else value


def _rate(text: str) -> dict[str, str]:
    """The conditions of a price: `print/color/a3 per sheet @plotter`, in any order.

    Raises:
        OperationError: `bad-request`: a word is none.
    """
    found = {"per": Per.IMPRESSION.value, **dict.fromkeys(("work", "color", "sides", "media"), "")}
    match = _RATE.fullmatch(text)
    if match is None:
        raise _bad(f"{plain(text[:60])!r} names no price.", "Write print/color/a3 per sheet.")
    found["printer"] = match["printer"] or ""
    if match["per"] is not None:
        if match["per"] not in tuple(Per):
            raise _bad(f"{plain(match['per'][:40])!r} is no unit.", f"Use {', '.join(Per)}.")
        found["per"] = match["per"]
    for word in match["what"].split("/"):
        if word == _ANY:
            continue
        key, value = _condition(word)
        if found[key]:
            raise _bad(f"{plain(text[:60])!r} names two kinds of {key}.", "Write two prices.")
        found[key] = value
    return found


def _condition(word: str) -> tuple[str, str]:
    media = media_name(word)
    for key, known in (("work", tuple(Work)), ("color", COLORS[:2]), ("sides", SIDES)):
        if word in known:
            return key, word
    if media_size_mm(media) is not None:
        return "media", media
    known_words = ", ".join((*Work, _ANY, *COLORS[:2], *SIDES))
    raise _bad(f"{plain(word[:40])!r} is no condition.", f"Use {known_words}, or a medium.")


def _rate_text(rate: Mapping[str, Any]) -> str:
    words = [rate[key] for key in ("work", "color", "sides", "media") if rate[key]]
    per = "" if rate["per"] == Per.IMPRESSION else f" per {rate['per']}"
    return "/".join(words or [_ANY]) + per + (f" @{rate['printer']}" if rate["printer"] else "")


class Terms(Kind):
    word = "terms"
    is_single = True
    arguments = _arguments("account.terms", accounts.OPERATIONS, ("overdraft",))
    listing = Asked("account.terms", {})

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        found = dict(given)
        if "overdraft" in found:
            found["overdraft"] = _amount(found["overdraft"])
        return found

    def asked(self, step: Step, there: Object | None) -> Asked:
        assert step.wanted is not None
        return Asked("account.terms", {key: step.wanted[key] for key in step.keys})

    def blank(self) -> Object:
        return asdict(TermsOfAll())

    def told(self, key: str, value: Any) -> Any:
        return format_amount(value) if key == "overdraft" and value is not None else value
