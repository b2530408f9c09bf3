"""How jobs wait for their people at a printer, and rules of who may print there what and when.

Rules are plain values with one text form each, the one in which an administrator writes them and in
which they are kept. A rule for releases is `WHO [DAYS] [HH:MM-HH:MM]: EFFECT`; one for senders is
`ADDRESS [USER] -> OWNER [charge ACCOUNT]`. All rules that apply hold together.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from spoold.model.errors import OperationError
from spoold.model.person import Known, Owner, normalise_name
from spoold.model.text import plain

KEEP_HELD_S = 86_400  # for how long a job waits to be fetched, unless a printer says otherwise
RULES_MAX = 32  # of one printer
RULE_CHARACTERS_MAX = 500
PAGES_MAX = 10_000_000
PJL_ACCOUNT = "spoold-pjl-account"  # an attribute of a job whose PJL says who pays
SOMEBODY_CHOOSES = "?"  # as a printer's default account: nobody pays until an account is chosen


class ReleaseMode(StrEnum):
    IMMEDIATE = "immediate"
    HOLD = "hold"  # a job waits until its owner stands at the machine
    FIND_ME = "find-me"  # and comes out at whichever machine that is

    @property
    def is_secure(self) -> bool:
        return self is not ReleaseMode.IMMEDIATE


class Charging(StrEnum):
    OFF = "off"
    SHADOW = "shadow"  # counted and priced; nothing is refused for want of money
    ON = "on"

    @property
    def rank(self) -> int:
        return _RANK[self]


_RANK = {one: number for number, one in enumerate(Charging)}


class Effect(StrEnum):
    DENY = "deny"
    NO_COLOR = "no-color"  # what has color, or may have, is refused
    MONOCHROME = "monochrome"  # printed without color
    DUPLEX = "duplex"  # printed on both sides
    PAGES = "pages"  # at most so many impressions, all copies together


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60


def _bad(text: str, why: str, advice: str) -> OperationError:
    return OperationError("bad-request", f"the rule {plain(text[:100])!r} {why}.", advice)


_RELEASE_ADVICE = (
    "Write `WHO [DAYS] [HH:MM-HH:MM]: EFFECT`, as '@students: pages 50', '!@staff: no-color', "
    "'* sat,sun: deny'; effects are deny, no-color, monochrome, duplex and pages N."
)


@dataclass(frozen=True, slots=True)
class ReleaseRule:
    """What holds for some people at some times. `days` count from Monday as 0; empty: every day.

    `who` are names, `@groups`, or `*`; one with `!` before it leaves those out. `begin` and `end`
    are minutes of the day in the site's time; a window may go over midnight. A group with a space
    in its name is written in quotes.
    """

    who: tuple[str, ...]
    effect: Effect
    pages_max: int = 0
    days: tuple[int, ...] = ()
    begin: int = 0
    end: int = _DAY_MINUTES

    def __str__(self) -> str:
        who = ",".join(self.who)
        words = [shlex.quote(who) if any(c in who for c in " '\"\\") else who]
        if self.days:
            words.append(",".join(DAYS[day] for day in self.days))
        if (self.begin, self.end) != (0, _DAY_MINUTES):
            words.append(f"{_clock(self.begin)}-{_clock(self.end)}")
        limit = f" {self.pages_max}" if self.effect is Effect.PAGES else ""
        return f"{' '.join(words)}: {self.effect}{limit}"

    def is_for(self, name: str, groups: frozenset[str]) -> bool:
        """Whether it is a rule for this person; names and groups are normalised."""
        wanted = [one for one in self.who if not one.startswith("!")]
        others = [one.removeprefix("!") for one in self.who if one.startswith("!")]
        if any(_matches(one, name, groups) for one in others):
            return False
        return not wanted or any(_matches(one, name, groups) for one in wanted)

    def holds_at(self, when: datetime) -> bool:
        """Whether it holds at this time of the site."""
        minute, day = when.hour * 60 + when.minute, when.weekday()
        if self.begin <= self.end:
            is_in = self.begin <= minute < self.end
        else:
            is_in = minute >= self.begin or minute < self.end
            if minute < self.end:
                day = (day - 1) % 7  # the window began on the day before
        return is_in and (not self.days or day in self.days)


def _matches(who: str, name: str, groups: frozenset[str]) -> bool:
    if who == "*":
        return True
    return who[1:] in groups if who.startswith("@") else who == name


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def read_rule(text: str) -> ReleaseRule:
    """The rule that `text` says.

    Raises:
        OperationError: `bad-request`: it says none.
    """
    # An effect has no colon; a time before it has.
    head, colon, effect_text = text.rpartition(":")
    effect = effect_text.split()
    try:
        words = shlex.split(head) if len(text) <= RULE_CHARACTERS_MAX else []
        if not colon or not words or not effect:
            raise ValueError("something is missing, or it is too long")
        rule = ReleaseRule(_read_who(words[0]), Effect(effect[0].lower()))
        for word in words[1:]:
            if word[0].isdigit():
                begin, _, end = word.partition("-")
                rule = replace(rule, begin=_minute(begin), end=_minute(end))
            else:
                rule = replace(rule, days=_read_days(word.lower()))
        if rule.effect is Effect.PAGES:
            return replace(rule, pages_max=_pages(effect[1:]))
        if len(effect) > 1:
            raise ValueError(f"has more than the effect {effect[0]}")
    except ValueError as error:
        raise _bad(text, f"cannot be read ({plain(str(error)[:80])})", _RELEASE_ADVICE) from None
    return rule


def _read_who(word: str) -> tuple[str, ...]:
    found = []
    for one in word.split(","):
        sign = "!" if one.startswith("!") else ""
        rest = one.removeprefix("!")
        kind = "@" if rest.startswith("@") else ""
        name = rest.removeprefix("@").strip().casefold() if kind else rest
        if not kind and rest != "*":
            name = normalise_name(rest)
        if not name:
            raise ValueError("a name is missing")
        found.append(f"{sign}{kind}{name}")
    return tuple(found)


def _read_days(word: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in word.split(","):
        first, dash, last = part.partition("-")
        begin = DAYS.index(first)
        end = DAYS.index(last) if dash else begin
        found |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return tuple(sorted(found))


def _minute(text: str) -> int:
    hour, colon, minute = text.partition(":")
    value = int(hour) * 60 + int(minute)
    if not colon or not 0 <= value <= _DAY_MINUTES or not 0 <= int(minute) < 60:
        raise ValueError(f"{text} is no time of the day")
    return value


def _pages(words: list[str]) -> int:
    if len(words) != 1 or not words[0].isascii() or not words[0].isdecimal():
        raise ValueError("pages needs a number")
    value = int(words[0])
    if not 1 <= value <= PAGES_MAX:
        raise ValueError(f"pages is 1 to {PAGES_MAX}")
    return value


class Terms(NamedTuple):
    """On what terms somebody may print: what is forced on the job. `by` are the rules' texts."""

    monochrome: bool = False
    duplex: bool = False
    by: tuple[str, ...] = ()


def judge(
    rules: tuple[ReleaseRule, ...],
    name: str,
    groups: frozenset[str],
    when: datetime,
    impressions: int | None,
    has_color: bool,
) -> Terms:
    """On what terms this person may print a job of so many impressions there and then.

    `impressions` None is unknown; `has_color`: it has, or may have.

    Raises:
        OperationError: `forbidden`, with the rule.
    """
    terms = Terms()
    applying = [one for one in rules if one.is_for(name, groups) and one.holds_at(when)]
    is_gray = any(one.effect is Effect.MONOCHROME for one in applying)
    for rule in applying:
        match rule.effect:
            case Effect.DENY:
                raise _refused(rule, "this printer is not for you now.", "Choose another one.")
            case Effect.NO_COLOR if has_color and not is_gray:
                raise _refused(rule, "the job has color, or may have.", "Print it without.")
            case Effect.PAGES if impressions is None:
                raise _refused(rule, "nobody knows how many pages it has.", "Ask an operator.")
            case Effect.PAGES if impressions is not None and impressions > rule.pages_max:
                raise _refused(rule, f"the job has {impressions} pages.", "Print fewer.")
            case Effect.MONOCHROME:
                terms = terms._replace(monochrome=True, by=(*terms.by, str(rule)))
            case Effect.DUPLEX:
                terms = terms._replace(duplex=True, by=(*terms.by, str(rule)))
    return terms


def _refused(rule: ReleaseRule, message: str, advice: str) -> OperationError:
    return OperationError("forbidden", message, f"{advice} The printer's rule is `{rule}`.")


# -- senders -----------------------------------------------------------------------------------

_SENDER_ADVICE = (
    "Write `ADDRESS [USER] -> OWNER [charge ACCOUNT]`, as '10.1.0.0/16 -> erp', "
    "'* sap* -> erp charge faculty/physics', '10.2.0.9 -> ='; = is the name as it was sent."
)


@dataclass(frozen=True, slots=True)
class SenderRule:
    """Whose the jobs of a sender are, which proves nothing of it: LPD, raw, ERP systems.

    `network` is None for any address; `user` is a pattern of the name that was sent, `*` any;
    `owner` "" keeps that name; `account` pays for what it sends, "" for who would pay else.
    """

    network: IPv4Network | IPv6Network | None
    user: str
    owner: str
    account: str = ""

    def __str__(self) -> str:
        where = "*" if self.network is None else str(self.network)
        user = "" if self.user == "*" else f" {self.user}"
        charge = f" charge {self.account}" if self.account else ""
        return f"{where}{user} -> {self.owner or '='}{charge}"

    @property
    def id(self) -> str:
        """How a job says by which rule it has its owner: the rule itself may name people."""
        return sha256(str(self).encode()).hexdigest()[:8]

    def is_for(self, address: str, user: str) -> bool:
        """Whether it is about a job from this address, sent in this normalised name."""
        if self.network is not None:
            try:
                found = ip_address(address)
            except ValueError:
                return False
            if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
                found = found.ipv4_mapped
            if found not in self.network:
                return False
        return fnmatchcase(user, self.user)


def read_sender(text: str) -> SenderRule:
    """The rule that `text` says.

    Raises:
        OperationError: `bad-request`: it says none.
    """
    left, arrow, right = text.partition("->")
    source, target = left.split(), right.split()
    is_charged = len(target) == 3 and target[1] == "charge"
    if (
        len(text) > RULE_CHARACTERS_MAX
        or not arrow
        or len(source) not in (1, 2)
        or not (len(target) == 1 or is_charged)
    ):
        raise _bad(text, "is none", _SENDER_ADVICE)
    try:
        network = None if source[0] == "*" else ip_network(source[0], strict=False)
    except ValueError:
        raise _bad(text, f"has no address before its arrow: {source[0]}", _SENDER_ADVICE) from None
    user = source[1].casefold() if len(source) == 2 else "*"
    owner = "" if target[0] == "=" else normalise_name(target[0])
    if not owner and target[0] != "=":
        raise _bad(text, "names no owner", _SENDER_ADVICE)
    return SenderRule(network, user, owner, target[2] if is_charged else "")


def owner_by_rule(rules: tuple[SenderRule, ...], owner: Owner, address: str) -> Owner:
    """The owner of a job after the first rule that is about its sender.

    What somebody has proven, or a provider asserts, no rule changes.
    """
    if owner.known.is_at_least(Known.MAPPED):
        return owner
    for rule in rules:
        name = rule.owner or owner.name
        if name and rule.is_for(address, owner.name):
            return Owner(name, Known.MAPPED, rule.id)
    return owner


def account_by_rule(rules: tuple[SenderRule, ...], owner: Owner) -> str:
    """The account that pays by the rule which said whose the job is; "" when none does."""
    if owner.known is not Known.MAPPED:
        return ""
    return next((one.account for one in rules if one.id == owner.by), "")


def names_in(policies: Iterable[ReleaseRule], senders: Iterable[SenderRule]) -> list[str]:
    """The people whom these rules name, for whoever has to find what names somebody."""
    found = {one.removeprefix("!") for rule in policies for one in rule.who}
    found |= {name for rule in senders for name in (rule.user, rule.owner)}
    return sorted(name for name in found if name and name != "*" and not name.startswith("@"))


# -- what may be changed when a job is released ------------------------------------------------


class Changes(NamedTuple):
    """What somebody wants changed about a job as it is released; None stays as it is."""

    copies: int | None = None
    sides: str | None = None  # a keyword of RFC 8011 5.2.8
    color: str | None = None  # a print-color-mode (PWG 5100.13): `monochrome`, `color`, `auto`

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the job that they change."""
        wanted = {"sides": self.sides, "print-color-mode": self.color}
        return {name: value for name, value in wanted.items() if value is not None}


NO_CHANGES = Changes()
SIDES = ("one-sided", "two-sided-long-edge", "two-sided-short-edge")
COLORS = ("auto", "color", "monochrome")
# Formats in which a page sets sides and color itself, whatever is said before it.
_FIXED = frozenset({"image/pwg-raster", "image/urf"})
_TELLABLE = frozenset({"ipp", "ipps"})


def changeable(scheme: str, has_pjl: bool, format_: str, copies_embedded: bool) -> frozenset[str]:
    """What of `copies`, `sides` and `color` a device can be told when a job is sent to it.

    `has_pjl`: the device's driver puts PJL around documents. Formats that say by themselves how
    they come out, and devices that are sent bytes alone, leave nothing to tell.
    """
    found = set() if copies_embedded else {"copies"}
    if (scheme in _TELLABLE or (scheme == "socket" and has_pjl)) and format_ not in _FIXED:
        found |= {"sides", "color"}
    return frozenset(found)
