"""How a node is, judged: facts and thresholds in, a verdict for each part and advice out. Pure.

`ok` is well, `warning` wants somebody to look, `failed` means that what the part is for does not
work now. A printer that is stopped is never a failure of the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
MIB = 1024 * 1024
LINE = "line"  # the name of the certificate with which a site dials
NAMED_MAX = 10  # printers, or sites, named in one sentence
CLOCK_OFF_S = 60  # from which on two clocks are not the same
SITE_GONE_S = 60  # a site is told of that has had no line for so long


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Part(StrEnum):
    STORE = "store"
    DISK = "disk"
    LOOP = "loop"
    PRINTERS = "printers"
    JOBS = "jobs"
    CERTIFICATES = "certificates"
    CLOCK = "clock"
    BACKUP = "backup"
    PEOPLE = "people"
    LINE = "line"
    JOURNALS = "journals"


# What a node that takes jobs needs, and what it needs to be alive at all.
READY = frozenset({Part.STORE, Part.DISK})
LIVE = frozenset({Part.STORE})


class Thresholds(Protocol):
    """From which on something is told; see the configuration."""

    @property
    def commit_s(self) -> float: ...
    @property
    def commit_failed_s(self) -> float: ...
    @property
    def loop_lag_s(self) -> float: ...
    @property
    def disk_share(self) -> float: ...
    @property
    def printer_stopped_s(self) -> float: ...
    @property
    def job_waiting_s(self) -> float: ...
    @property
    def certificate_days(self) -> float: ...
    @property
    def backup_age_s(self) -> float: ...


class Room(Protocol):
    """From which on new jobs are refused; see the configuration."""

    @property
    def spool_share(self) -> float: ...
    @property
    def reserve_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Stopped:
    """A printer that does not print, for a reason that is not an operator's; seen since a time."""

    name: str
    since_us: int
    reason: str
    printer_id: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Journals:
    """How journals are sent: records that a site has not sent yet (None: this is no site), whether
    its journal is forked; and for each site that sends its own here, how many are to come.
    """

    uplink_lag: int | None = None
    is_forked: bool = False
    sites: tuple[tuple[str, int], ...] = ()
    forked: tuple[str, ...] = ()
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Rights:
    """What a site may spend without asking: until when, whose money, and how much was granted."""

    site: str
    end_us: int
    holders: int
    granted: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen at `now_us`. `commit_s` is how long the writer has needed, or needs by now.

    `stranded` are printers of nodes that get no jobs from here, each with how many wait for it.
    `oldest_us` is when the oldest job was submitted that waits for a printer which is not paused.
    `certificates` are each with the end of its life; `providers` those whose own ends soon, or has
    ended lately. `backup_us` is None when there was none.
    """

    now_us: int
    is_store_failed: bool = False
    commit_s: float = 0.0
    loop_lag_s: float = 0.0
    free_bytes: int = 0
    total_bytes: int = 0
    printers: int = 0
    paused: int = 0
    absent: tuple[str, ...] = ()  # printers that the configuration names, and that are not there
    stopped: tuple[Stopped, ...] = ()
    waiting: int = 0
    in_doubt: int = 0
    damaged: int = 0  # jobs that ended in the last day, as their document was missing or changed
    stranded: tuple[tuple[str, int], ...] = ()
    oldest_us: int | None = None
    oldest_printer: str = ""
    certificates: tuple[tuple[str, int], ...] = ()
    providers: tuple[tuple[str, int], ...] = ()
    is_clock_doubtful: bool = False
    clock_set_back_s: float = 0.0  # lately
    clocks: tuple[tuple[str, float], ...] = ()  # of nodes with a line: how far they are ahead, in s
    backup_us: int | None = None
    line_gone_us: int | None = None  # since when a site has no line to its application servers
    line_reason: str = ""
    is_to_join: bool = False  # a site that has joined nobody, or waits to be approved
    to_approve: str = ""  # what it is called where it waits for that
    sites_gone: tuple[tuple[str, int], ...] = ()  # sites without a line, and since when
    behind: tuple[str, ...] = ()  # sources whose last round of synchronisation failed
    keyless: int = 0  # cards and PINs that were hashed under a key which is not here
    journals: Journals = field(default_factory=Journals)
    rights: tuple[Rights, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One part. `text` names no person, no document and no secret; `advice` is for an operator."""

    part: Part
    verdict: Verdict = Verdict.OK
    text: str = ""
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def judge(facts: Facts, wanted: Thresholds, room: Room) -> list[Check]:
    """A check for each part, in the order of `Part`."""
    return [
        _store(facts, wanted),
        _disk(facts, wanted, room),
        _loop(facts, wanted),
        _printers(facts, wanted),
        _jobs(facts, wanted),
        _certificates(facts, wanted),
        _clock(facts),
        _backup(facts, wanted),
        _people(facts),
        _line(facts),
        _journals(facts.journals),
    ]


def worst(checks: Iterable[Check], parts: Iterable[Part] | None = None) -> Verdict:
    """The worst verdict of these parts, or of all."""
    wanted = frozenset(Part if parts is None else parts)
    found = {check.verdict for check in checks if check.part in wanted}
    if Verdict.FAILED in found:
        return Verdict.FAILED
    return Verdict.WARNING if Verdict.WARNING in found else Verdict.OK


def _store(facts: Facts, wanted: Thresholds) -> Check:
    values = {"commit_s": round(facts.commit_s, 6)}
    if facts.is_store_failed:
        advice = "See the log; check the disk. spoold stops and recovers at its next start."
        return Check(Part.STORE, Verdict.FAILED, "the store has failed", advice, values)
    text = f"a commit takes {facts.commit_s:.1f} s"
    advice = "Look what else keeps the disk busy, and whether it reports errors (dmesg)."
    if facts.commit_s >= wanted.commit_failed_s:
        return Check(Part.STORE, Verdict.FAILED, text, advice, values)
    if facts.commit_s >= wanted.commit_s:
        return Check(Part.STORE, Verdict.WARNING, text, advice, values)
    return Check(Part.STORE, values=values)


def _disk(facts: Facts, wanted: Thresholds, room: Room) -> Check:
    values = {"free_bytes": facts.free_bytes, "total_bytes": facts.total_bytes}
    used = 1.0 - facts.free_bytes / facts.total_bytes if facts.total_bytes else 0.0
    text = f"the data directory's disk is {100 * used:.0f} % full"
    advice = "Free space there: let [retention] keep less, or remove old backups and quarantine/."
    if facts.total_bytes and facts.free_bytes < room.reserve_bytes:
        free, least = facts.free_bytes / MIB, room.reserve_bytes / MIB
        text = f"the data directory's disk has {free:.0f} MiB free; below {least:.0f} MiB"
        return Check(Part.DISK, Verdict.FAILED, f"{text} new jobs are refused", advice, values)
    if facts.total_bytes and used >= room.spool_share:
        text += "; new jobs are refused"
        return Check(Part.DISK, Verdict.FAILED, text, advice, values)
    if used >= wanted.disk_share:
        return Check(Part.DISK, Verdict.WARNING, text, advice, values)
    return Check(Part.DISK, values=values)


def _loop(facts: Facts, wanted: Thresholds) -> Check:
    values = {"lag_s": round(facts.loop_lag_s, 6)}
    if facts.loop_lag_s < wanted.loop_lag_s:
        return Check(Part.LOOP, values=values)
    text = f"the event loop was held up for {facts.loop_lag_s:.2f} s"
    advice = "The machine has too little processor time for this load."
    return Check(Part.LOOP, Verdict.WARNING, text, advice, values)


def _printers(facts: Facts, wanted: Thresholds) -> Check:
    values: dict[str, Any] = {
        "printers": facts.printers,
        "paused": facts.paused,
        "stopped": len(facts.stopped),
    }
    if facts.absent:
        named = ", ".join(facts.absent[:NAMED_MAX])
        text = f"[listen] takes jobs for printers that are not there, and refuses them: {named}"
        advice = f"`spoold printer add {facts.absent[0]} DEVICE-URI`, or change the configuration."
        return Check(Part.PRINTERS, Verdict.WARNING, text, advice, values)
    limit_us = wanted.printer_stopped_s * SECOND_US
    long = [one for one in facts.stopped if facts.now_us - one.since_us >= limit_us]
    if not long:
        return Check(Part.PRINTERS, values=values)
    named = ", ".join(f"{one.name} ({one.reason})" for one in long[:NAMED_MAX])
    more = f" and {len(long) - NAMED_MAX} more" if len(long) > NAMED_MAX else ""
    advice = f"`spoold printer show {long[0].name}` says what it waits for."
    text = f"{len(long)} of {facts.printers} printers print nothing: {named}{more}"
    return Check(Part.PRINTERS, Verdict.WARNING, text, advice, values)


def _jobs(facts: Facts, wanted: Thresholds) -> Check:
    age_s = 0 if facts.oldest_us is None else max(0, facts.now_us - facts.oldest_us) / SECOND_US
    values = {
        "waiting": facts.waiting,
        "in_doubt": facts.in_doubt,
        "damaged": facts.damaged,
        "oldest_s": round(age_s),
    }
    if facts.in_doubt:
        text = f"{_jobs_are(facts.in_doubt)} in doubt: nobody knows whether paper came out"
        advice = "`spoold job list --reason job-in-doubt`, look, then `spoold job settle ID`."
        return Check(Part.JOBS, Verdict.WARNING, text, advice, values)
    if facts.damaged:
        what = "job was" if facts.damaged == 1 else "jobs were"
        text = f"{facts.damaged} {what} aborted in the last day: the document is missing or damaged"
        advice = "`spoold job list --reason document-damaged`, and have them submitted again; see "
        advice += "whether the disk reports errors (dmesg)."
        return Check(Part.JOBS, Verdict.WARNING, text, advice, values)
    if facts.stranded:
        return _stranded(facts, values)
    if age_s >= wanted.job_waiting_s:
        text = f"a job for {facts.oldest_printer} has waited for {_hours(age_s)}"
        advice = f"`spoold job list --printer {facts.oldest_printer}`, then `spoold job explain`."
        return Check(Part.JOBS, Verdict.WARNING, text, advice, values)
    return Check(Part.JOBS, values=values)


def _stranded(facts: Facts, values: dict[str, Any]) -> Check:
    """At a site printers have gone to other nodes; an application server has revoked a site."""
    printers = ", ".join(name for name, _ in facts.stranded[:NAMED_MAX])
    count = sum(jobs for _, jobs in facts.stranded)
    text = f"{count} {'job waits' if count == 1 else 'jobs wait'} here for {printers}, "
    if facts.journals.uplink_lag is None:
        text += "whose node was revoked"
        advice = "`spoold printer rehome` gives its printers to another node."
    else:
        text += "which another node prints by now"
        advice = "It does not get them: `spoold job list --printer`, then `spoold job move`, or "
        advice += "`spoold job cancel`."
    return Check(Part.JOBS, Verdict.WARNING, text, advice, values)


def _certificates(facts: Facts, wanted: Thresholds) -> Check:
    left = {name: (end - facts.now_us) / DAY_US for name, end in facts.certificates}
    values = {"days_left": {name: int(days // 1) for name, days in left.items()}}
    of_line = left.pop(LINE, wanted.certificate_days)
    name, days = min(left.items(), key=lambda one: one[1], default=("", wanted.certificate_days))
    advice = "spoold renews its own by itself; a corporate one is read again when replaced."
    if days <= 0:
        text = f"the certificate {name} has expired"
        return Check(Part.CERTIFICATES, Verdict.FAILED, text, advice, values)
    if days < wanted.certificate_days:
        text = f"the certificate {name} has {int(days)} days left"
        return Check(Part.CERTIFICATES, Verdict.WARNING, text, advice, values)
    if of_line < wanted.certificate_days:
        how = f"has {int(of_line)} days left" if of_line > 0 else "has expired"
        text = f"the certificate of the line to the application server {how}"
        advice = "Nothing is lost by it: the site gets another one when it reaches that server."
        return Check(Part.CERTIFICATES, Verdict.WARNING, text, advice, values)
    if facts.providers:
        return _providers(facts, values)
    return Check(Part.CERTIFICATES, values=values)


def _providers(facts: Facts, values: dict[str, Any]) -> Check:
    """Theirs are renewed by hand, where the provider is."""
    (name, end), *others = sorted(facts.providers, key=lambda one: one[1])
    days = (end - facts.now_us) / DAY_US
    how = f"has {days:.1f} days left" if days > 0 else "has expired"
    more = f", and of {len(others)} more it ends soon" if others else ""
    text = f"the certificate of the provider {name} {how}{more}"
    advice = f"`spoold provider enrol {name}` makes another, to be taken there; one that is gone "
    advice += f"for good: `spoold provider revoke {name}`."
    return Check(Part.CERTIFICATES, Verdict.WARNING, text, advice, values)


def _clock(facts: Facts) -> Check:
    advice = "Set the clock right: see `timedatectl`."
    if facts.is_clock_doubtful:
        text = "the clock has jumped ahead; nothing expires until it is believed"
        return Check(Part.CLOCK, Verdict.WARNING, text, advice)
    off = [
        f"that of {name} is {_hours(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"
        for name, seconds in facts.clocks
        if abs(seconds) >= CLOCK_OFF_S
    ]
    if not off:
        return _set_back(facts.clock_set_back_s)
    more = f" and {len(off) - NAMED_MAX} more" if len(off) > NAMED_MAX else ""
    text = f"clocks differ: {', '.join(off[:NAMED_MAX])}{more}"
    return Check(Part.CLOCK, Verdict.WARNING, text, advice)


def _set_back(seconds: float) -> Check:
    """Nothing is lost by it, but what is written now seems to be older than what came before."""
    if not seconds:
        return Check(Part.CLOCK)
    text = f"the clock was set back by {_hours(seconds)}"
    advice = "If it is wrong now, set it right: see `timedatectl`. If it was wrong before, all is "
    advice += "well: this is told for six hours."
    return Check(Part.CLOCK, Verdict.WARNING, text, advice)


def _backup(facts: Facts, wanted: Thresholds) -> Check:
    if facts.backup_us is None:
        values: dict[str, Any] = {"age_s": None}
        text = "no backup was ever made"
        is_late = wanted.backup_age_s > 0
    else:
        age_s = max(0, facts.now_us - facts.backup_us) / SECOND_US
        values = {"age_s": round(age_s)}
        text = f"the last backup is {_hours(age_s)} old"
        is_late = 0 < wanted.backup_age_s <= age_s
    if not is_late:
        return Check(Part.BACKUP, values=values)
    advice = "`spoold backup DIR`; see the log for backup_failed."
    return Check(Part.BACKUP, Verdict.WARNING, text, advice, values)


def _people(facts: Facts) -> Check:
    if facts.keyless:
        what = "card or PIN was" if facts.keyless == 1 else "cards or PINs were"
        text = f"{facts.keyless} {what} kept by a key that is not here: nobody gets in by them"
        advice = "Put identity/card-keys, or the credential card-key, back as it was; a backup has "
        advice += "it. Else these cards and PINs are to be given anew."
        return Check(Part.PEOPLE, Verdict.WARNING, text, advice)
    if not facts.behind:
        return Check(Part.PEOPLE)
    text = f"people could not be taken over from {', '.join(facts.behind[:NAMED_MAX])}"
    return Check(Part.PEOPLE, Verdict.WARNING, text, "`spoold user sync --status` says why.")


def _line(facts: Facts) -> Check:
    if facts.to_approve:
        text = "this site waits to be approved by its application server"
        advice = f"There: `spoold site approve {facts.to_approve}`."
        return Check(Part.LINE, Verdict.WARNING, text, advice)
    if facts.is_to_join:
        text = "this node is to be a site, and no application server has let it in so far"
        advice = "`spoold site invite` there, then `spoold site join` here."
        return Check(Part.LINE, Verdict.WARNING, text, advice)
    if facts.line_gone_us is None:
        return _sites(facts)
    gone_s = max(0, facts.now_us - facts.line_gone_us) / 1e6
    advice = "It goes on alone, and the line comes back by itself; `spoold site show` says more."
    if "Hostname mismatch" in facts.line_reason:
        advice = "Name it so in [advertise] names of the application server, and restart that one."
    elif "certificate revoked" in facts.line_reason:
        advice = "It was shut out there for ever: as another node, in a new data directory, it may "
        advice += "join again."
    elif "without close_notify" in facts.line_reason:
        advice += " If that server was restored to before this site joined, it does not know it: "
        advice += "`spoold site invite` there, then `spoold site join` here."
    return Check(
        Part.LINE,
        Verdict.WARNING,
        f"this site has had no line to its application servers for {_hours(gone_s)} "
        f"({facts.line_reason[:200]})",
        advice,
        {"gone_us": facts.line_gone_us},
    )


def _sites(facts: Facts) -> Check:
    """Lines as an application server sees them; sites come and go for a moment when it starts."""
    ages = [(name, (facts.now_us - since_us) / SECOND_US) for name, since_us in facts.sites_gone]
    long = sorted((one for one in ages if one[1] >= SITE_GONE_S), key=lambda one: -one[1])
    if not long:
        return Check(Part.LINE)
    named = ", ".join(f"{name} for {_hours(age_s)}" for name, age_s in long[:NAMED_MAX])
    more = f" and {len(long) - NAMED_MAX} more" if len(long) > NAMED_MAX else ""
    return Check(
        Part.LINE,
        Verdict.WARNING,
        f"{'a site has' if len(long) == 1 else f'{len(long)} sites have'} no line: {named}{more}",
        "They go on alone, if their machines run. For one that is dead for good: "
        "`spoold printer rehome`.",
        {"sites_gone": len(long)},
    )


def _journals(found: Journals) -> Check:
    values = {"quarantined": found.quarantined}
    if found.is_forked:
        text = "the application server has other records of this journal: nothing is sent"
        advice = "Was this disk put back, or does it run twice? Then `spoold site begin-anew`."
        return Check(Part.JOURNALS, Verdict.FAILED, text, advice, values)
    if found.forked:
        text = f"other records than before came from {', '.join(found.forked[:NAMED_MAX])}"
        advice = "Nothing is taken from there until `spoold site begin-anew` is said there."
        return Check(Part.JOURNALS, Verdict.FAILED, text, advice, values)
    if found.quarantined:
        text = f"{found.quarantined} records of sites could not be applied"
        advice = "See `spoold journal quarantine list`; an upgrade may help."
        return Check(Part.JOURNALS, Verdict.WARNING, text, advice, values)
    return Check(Part.JOURNALS, values=values)


def _jobs_are(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def as_maps(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """For an operation's answer: what is not well comes first."""
    order = (Verdict.FAILED, Verdict.WARNING, Verdict.OK)
    return [
        {
            "part": check.part.value,
            "verdict": check.verdict.value,
            "text": check.text,
            "advice": check.advice,
            **check.values,
        }
        for check in sorted(checks, key=lambda check: order.index(check.verdict))
    ]
