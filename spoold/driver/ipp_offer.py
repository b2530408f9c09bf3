"""What a printer says of itself, read for the driver: what it can do, how it is, what it has left.

In: the printer-attributes group of a Get-Printer-Attributes answer (RFC 8011 5.4, PWG 5100.13).
Out: an `Offer`; which of a job's wishes the printer knows; its supplies; and `learn`, its abilities
as the plain values that a `Printer.options` holds. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, PrinterState
from spoold.codec.ipp_plain import PRINTER, TEMPLATE, NotPlain, to_attribute, to_plain
from spoold.codec.ipp_values import Attribute, Group, Range, Tag, WithLanguage
from spoold.driver.link import Learned
from spoold.model.job import Job

ANY_FORMAT: Final = "application/octet-stream"
# Asked before a job: what decides how it is sent, and how the printer is.
STATE: Final = (
    "printer-state", "printer-state-reasons", "printer-state-message",
    "printer-is-accepting-jobs", "printer-alert", "printer-alert-description",
    "printer-impressions-completed", "queued-job-count",
)  # fmt: skip
SUPPLIES: Final = (
    "marker-names", "marker-types", "marker-colors", "marker-levels", "marker-low-levels",
    "marker-message", "printer-supply", "printer-supply-description",
    "printer-media-sheets-completed", "printer-pages-completed",
)  # fmt: skip
# Wishes that are the spool's own business, or said elsewhere in the request.
_OURS: Final = frozenset(
    {"copies", "job-hold-until", "job-priority", "job-cancel-after", "multiple-document-handling"}
)
WISHES: Final = tuple(name for name in TEMPLATE if name not in _OURS)
ABILITIES: Final = (
    "operations-supported", "document-format-supported", "job-creation-attributes-supported",
    "job-account-id-supported", "job-accounting-user-id-supported", "copies-supported",
    *(f"{name}-supported" for name in WISHES),
)  # fmt: skip
# Large, and to be had from the rest; or who the device is, which is not who the printer is.
_NOT_LEARNED: Final = frozenset(
    {
        "media-col-database", "finishings-col-database", "printer-dns-sd-name",
        "printer-geo-location", "printer-message-from-operator", "printer-organization",
        "printer-organizational-unit",
    }
)  # fmt: skip
LEARNED: Final = ("all",)
_TEXT_OF_SUPPLY: Final = {"type": "type", "colorantname": "color", "unit": "unit"}


def text_of(value: Any) -> str:
    """A text or name, with or without its language; "" for anything else."""
    if isinstance(value, WithLanguage):
        return value.text
    return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A printer's attributes. What it does not say, it does not have."""

    group: Group
    operations: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        found = frozenset(one for one in self.all("operations-supported") if isinstance(one, int))
        object.__setattr__(self, "operations", found)

    def all(self, name: str) -> list[Any]:
        """The values of an attribute; none for one that is not there, or has no value."""
        attribute = self.group.get(name)
        return [] if attribute is None else [one for one in attribute.all if one is not None]

    def words(self, name: str) -> list[str]:
        return [word for one in self.all(name) if (word := text_of(one))]

    def word(self, name: str) -> str:
        return next(iter(self.words(name)), "")

    def number(self, name: str) -> int | None:
        found = next(iter(self.all(name)), None)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    # --- how it is --------------------------------------------------------------------------------

    @property
    def is_accepting(self) -> bool:
        return next(iter(self.all("printer-is-accepting-jobs")), True) is not False

    @property
    def is_stopped(self) -> bool:
        return self.number("printer-state") == PrinterState.STOPPED

    @property
    def is_idle(self) -> bool:
        """Nothing prints, and nothing waits."""
        is_empty = not self.number("queued-job-count")
        return self.number("printer-state") == PrinterState.IDLE and is_empty

    @property
    def reasons(self) -> tuple[str, ...]:
        """printer-state-reasons, `none` left out."""
        return tuple(word for word in self.words("printer-state-reasons") if word != "none")

    @property
    def message(self) -> str:
        """What it says to people of its state."""
        said = [self.word("printer-state-message"), *self.words("printer-alert-description")]
        return "; ".join(dict.fromkeys(one for one in said if one))

    @property
    def counters(self) -> dict[str, int]:
        names = {
            "impressions": "printer-impressions-completed",
            "sheets": "printer-media-sheets-completed",
            "pages": "printer-pages-completed",
        }
        found = {key: self.number(name) for key, name in names.items()}
        return {key: count for key, count in found.items() if count is not None}

    @property
    def supplies(self) -> tuple[dict[str, Any], ...]:
        """Ink, toner, waste: `name`, `type`, `color`, `level` in per cent where it knows."""
        markers = _markers(self)
        found = markers or tuple(_supply(self, number) for number in range(_count(self)))
        return tuple(one for one in found if "level" in one or one.get("name") != "unknown")

    # --- what it can do ---------------------------------------------------------------------------

    def has(self, *operations: Operation) -> bool:
        return all(operation in self.operations for operation in operations)

    @property
    def creates_jobs(self) -> bool:
        return self.has(Operation.CREATE_JOB, Operation.SEND_DOCUMENT)

    @property
    def formats(self) -> list[str]:
        return self.words("document-format-supported")

    def format_like(self, name: str) -> str:
        """How the printer spells a document format; "" when it does not take it."""
        return next((one for one in self.formats if one.lower() == name.lower()), "")

    @property
    def copies_max(self) -> int:
        """How many copies of a document it makes by itself."""
        found = next(iter(self.all("copies-supported")), None)
        if isinstance(found, Range):
            return max(1, found.high)
        return max(1, found) if isinstance(found, int) else 1

    def knows(self, wish: Attribute) -> bool:
        """Whether it can do what this job template attribute says."""
        attribute = self.group.get(f"{wish.name}-supported")
        supported = [] if attribute is None else self.all(attribute.name)
        if not supported:
            return wish.name in self.words("job-creation-attributes-supported")
        if wish.tag == Tag.COLLECTION:
            names = set(self.words(f"{wish.name}-supported"))
            return all(set(one) <= names for one in wish.all)
        if isinstance(supported[0], bool):
            return supported[0]
        return all(_is_among(one, supported) for one in wish.all)


def _is_among(value: Any, supported: list[Any]) -> bool:
    for one in supported:
        if isinstance(one, Range) and isinstance(value, int):
            if one.low <= value <= one.high:
                return True
        elif one == value or (text_of(one) and text_of(one) == text_of(value)):
            return True
    return False


def wishes_of(job: Job, offer: Offer) -> tuple[list[Attribute], list[str]]:
    """The job template attributes to be sent; and the names of those that the printer lacks."""
    known: list[Attribute] = []
    left_out: list[str] = []
    for name in WISHES:
        if name not in job.attributes:
            continue
        try:
            wish = to_attribute(name, job.attributes[name])
            ipp.encode_group(Tag.JOB, [wish])
        except (NotPlain, ValueError):
            left_out.append(name)
            continue
        if offer.knows(wish):
            known.append(wish)
        else:
            left_out.append(name)
    return known, left_out


# --- supplies -------------------------------------------------------------------------------------


def _count(offer: Offer) -> int:
    return min(32, len(offer.all("printer-supply")))


def _supply(offer: Offer, number: int) -> dict[str, Any]:
    """One of `printer-supply` (PWG 5100.13 5.6.31): `type=toner;maxcapacity=100;level=80;...`."""
    packed = offer.all("printer-supply")[number]
    said = packed.decode("utf-8", "replace") if isinstance(packed, bytes) else text_of(packed)
    words = dict(part.split("=", 1) for part in said.split(";") if "=" in part)
    words = {key.strip().lower(): value.strip() for key, value in words.items()}
    found: dict[str, Any] = {}
    names = offer.words("printer-supply-description")
    if number < len(names):
        found["name"] = names[number]
    found |= {key: words[word] for word, key in _TEXT_OF_SUPPLY.items() if words.get(word)}
    level, capacity = words.get("level", ""), words.get("maxcapacity", "")
    if level.isdecimal() and capacity.isdecimal() and 0 < int(capacity) < 1 << 31:
        found["level"] = min(100, int(level) * 100 // int(capacity))
    return found


def _markers(offer: Offer) -> tuple[dict[str, Any], ...]:
    """The `marker-` attributes of CUPS: one value of each for a supply; a level below 0 is none."""
    names, levels = offer.words("marker-names"), offer.all("marker-levels")
    columns = {"type": offer.words("marker-types"), "color": offer.words("marker-colors")}
    lows = offer.all("marker-low-levels")
    found = []
    for number, name in enumerate(names[:32]):
        row: dict[str, Any] = {"name": name}
        row |= {key: words[number] for key, words in columns.items() if number < len(words)}
        level = levels[number] if number < len(levels) else -1
        if isinstance(level, int) and 0 <= level <= 100:
            row["level"] = level
            low = lows[number] if number < len(lows) else 0
            row["is_low"] = isinstance(low, int) and level <= low
        found.append(row)
    return tuple(found)


# --- learning -------------------------------------------------------------------------------------


def learn(group: Group) -> Learned:
    """The abilities of the printer behind a Get-Printer-Attributes answer, as plain values.

    What has no plain form, and what a peer said wrongly, is left out.
    """
    offer = Offer(group)
    options: dict[str, Any] = {}
    for name in PRINTER:
        attribute = group.get(name)
        if attribute is None or name in _NOT_LEARNED or not offer.all(name):
            continue
        try:
            plain = to_plain(attribute)
            ipp.encode_group(Tag.PRINTER, [to_attribute(name, plain)])
        except (NotPlain, ValueError):
            continue
        if plain not in ("", [], [""]):
            options[name] = plain
    device_id = options.get("printer-device-id", "")
    words = dict(part.split(":", 1) for part in str(device_id).split(";") if ":" in part)
    return Learned(
        options,
        offer.word("printer-info"),
        offer.word("printer-location"),
        words.get("SN", words.get("SERN", "")).strip(),
    )
