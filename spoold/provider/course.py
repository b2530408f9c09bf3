"""How one job fares on its way to a server: what to ask next, and what it comes to at the end.

In: what endpoints said, or that they said nothing, and the time. Out: whom to try next, a receipt,
or one of the three errors. Pure: `client` and `direct` do what it says, each in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.codec.frame import TEXT_BYTES_MAX, VERSIONS
from spoold.model.errors import OperationError
from spoold.provider.receipt import (
    CHECK_SERVERS,
    AnswerUnknown,
    Receipt,
    SubmitRefused,
    Unreachable,
)

Progress = Callable[[int, int], None]  # bytes of the document that went out, and its size

TITLE_CHARACTERS_MAX = 1024
PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 5.0
# Where others could take what a broken connection has cut off, nobody waits longer for this one.
RECONNECT_S = 0.7
# An endpoint that does not answer has the next one tried beside it after this (RFC 8305, 5, has
# 250 ms for the addresses of one server). Over TLS a server is welcome after three round trips.
HEAD_START_S = 0.5
# Nor does an upload wait for a server that says nothing: three of these go unanswered.
UPLOAD_PING_S = 0.2
# It may have the job, once the last byte is out: that it stands still for a moment is less than to
# ask it again.
ANSWER_PING_S = 0.7
# Who may have the job is asked alone for so long, where the next one belongs to its deployment: of
# a job that both have one comes out (spoold/site/twins.py, spoold/dispatch/handed.py).
KIN_DOUBT_S = 1.0
FRESH_S = 1.0  # what was heard so lately is there; else a small document waits for a go-ahead, too
TURNS_MAX = 3  # at one endpoint before the next one has its turn
EAGER_BYTES_MAX = 64 * 1024  # a document of this size does not wait for a go-ahead
CHUNK_BYTES = 256 * 1024
RECEIVE_BYTES = 64 * 1024
MISSED_PINGS_MAX = 3
SERVERS_MAX = 16
SLOWEST_BYTES_S = 64 * 1024  # what the default deadline allows a document to take

# Refusals that say nothing about the job itself: the same server may take it in a moment, ...
TRANSIENT = frozenset({"busy", "timed-out", "internal-error"})
# ... or another server may take it now.
ELSEWHERE = frozenset({"spool-area-full", "not-accepting", "version-not-supported"})
# A site has but some printers, and hands no jobs on: its application server may take these, too,
# and is waited for as if there were no site.
ELSEWHERE_THAN_A_SITE = ELSEWHERE | {"not-found"}
SITE = "site"  # the role of a server, as in its welcome


class Lost(Exception):
    """The connection ended, or the server did not answer in time.

    `is_distrusted`: one side refused the other's certificate. `was_silent`: it said nothing any
    more, and to connect again at once would find nobody.
    """

    def __init__(self, message: str, is_distrusted: bool = False, was_silent: bool = False) -> None:
        super().__init__(message)
        self.is_distrusted = is_distrusted
        self.was_silent = was_silent


def check_welcome(welcome: dict[str, Any], offered: Sequence[int]) -> tuple[float, int]:
    """The ping interval and the requests in flight of a welcome that makes sense.

    Raises:
        Lost: it makes none.
    """
    ping_s = welcome.get("ping_s")
    inflight_max = welcome.get("inflight_max")
    if (
        welcome.get("version") not in offered
        or not isinstance(welcome.get("node_guid"), str)
        or not isinstance(ping_s, int | float)
        or not isinstance(inflight_max, int)
        or not (ping_s > 0 and inflight_max > 0)
    ):
        raise Lost("the server's welcome makes no sense")
    return float(ping_s), inflight_max


def hello_arguments(kind: str, name: str, software: str, ping_s: float) -> dict[str, Any]:
    versions = list(VERSIONS)
    return {
        "versions": versions, "kind": kind, "name": name, "software": software, "ping_s": ping_s
    }  # fmt: skip


def submit_arguments(
    uuid: UUID,
    size: int,
    digest_algorithm: str,
    *,
    printer: str,
    user: str = "",
    title: str = "",
    copies: int = 1,
    priority: int = 50,
    hold: bool = False,
    format: str = "application/octet-stream",
    attributes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The arguments of `submit` (FRAMES.md 6); those with names are what a caller may say.

    A long title is cut, as servers do it.

    Raises:
        SubmitRefused: a text is longer than a message can hold: no server would read it.
    """
    attributes = attributes or {}
    for what, text in {"printer": printer, "user": user, "format": format, **attributes}.items():
        if isinstance(text, str) and len(text.encode()) > TEXT_BYTES_MAX:
            message = f"{what} has more than {TEXT_BYTES_MAX:,} bytes."
            raise SubmitRefused("too-large", message, "Make it shorter.", uuid)
    return {
        "job_uuid": str(uuid),
        "printer": printer,
        "user": user,
        "title": title[:TITLE_CHARACTERS_MAX],
        "copies": copies,
        "priority": priority,
        "hold": hold,
        "format": format,
        "attributes": attributes,
        "size": size,
        "digest_algorithm": digest_algorithm,
    }


def default_timeout_s(size: int) -> float:
    """10 minutes and a second for each 64 KiB."""
    return 600.0 + size / SLOWEST_BYTES_S


@dataclass(slots=True, eq=False)
class Course:
    """`uuid` names the job, `size` is the document's. Endpoints go by their names.

    `doubts` are endpoints that got the document whole and did not answer, by their node's GUID.
    """

    uuid: UUID
    size: int
    reached_at: float
    doubts: dict[str, str] = field(default_factory=dict)
    asked_first: str = ""  # the one that must be asked before all others,
    asked_until: float = 0.0  # until then,
    kin: frozenset[str] = frozenset()  # but for those of its deployment:
    kin_from: float = 0.0  # from then on they are asked as well
    causes: dict[str, str] = field(default_factory=dict)  # why not, by endpoint
    silent: set[str] = field(default_factory=set)  # who has fallen silent once
    distrusted: set[str] = field(default_factory=set)  # the endpoints where it is a certificate
    refusals: dict[str, OperationError] = field(default_factory=dict)
    last_word: OperationError | None = None  # of a server that is no site
    waits_since: float | None = None  # sites refused, and others do not answer
    # The bytes of an earlier attempt may have been others; another connection may have had it.
    second_chances: set[str] = field(default_factory=lambda: {"digest-mismatch", "conflict"})

    def candidates(self, names: Sequence[str], now: float) -> list[str]:
        """Whom to try now, of endpoints in the order of preference.

        Who may have the job already is asked alone for a time, and comes last after that.
        """
        first = self.asked_first
        if first and now < self.asked_until:
            kin = self.kin if now >= self.kin_from else ()
            return [*(name for name in names if name in kin and name != first), first]
        self.asked_first = ""
        return sorted(names, key=lambda name: name == first) if first else list(names)

    def check_hope(self, names: Sequence[str], now: float, unreachable_timeout_s: float) -> None:
        """To be asked when the endpoints `names` have had their turns, but for those that were
        learned meanwhile.

        Raises:
            SubmitRefused, Unreachable, AnswerUnknown: trying on is of no use.
        """
        if self.asked_first or any(
            name not in self.refusals and name not in self.causes for name in names
        ):
            return
        if not self.refusals:
            if now - self.reached_at > unreachable_timeout_s:
                raise self.given_up("no server could be reached")
            return
        if self.last_word is not None or all(name in self.refusals for name in names):
            raise self._refused(self.last_word or next(iter(self.refusals.values())))
        self.waits_since = now if self.waits_since is None else self.waits_since
        if now - self.waits_since > unreachable_timeout_s:
            raise self.given_up("no server that has the printer could be reached")

    def note_no_connection(self, name: str, error: Lost) -> None:
        self._note(name, error)

    def note_lost(
        self,
        name: str,
        guid: str,
        was_in_doubt: bool,
        error: Lost,
        *,
        now: float,
        doubt_timeout_s: float,
        kin: frozenset[str],
    ) -> None:
        """The connection broke; when it got the job just now, it alone knows what became of it.

        `kin` are the endpoints of its deployment. Who fell silent once has another turn when nobody
        else takes the job.
        """
        if error.was_silent and name not in self.silent:
            self.silent.add(name)
        else:
            self._note(name, error)
        if guid in self.doubts and not was_in_doubt:
            self.asked_first, self.asked_until = name, now + doubt_timeout_s
            self.kin, self.kin_from = kin, now + KIN_DOUBT_S

    def note_refusal(
        self, name: str, welcome: dict[str, Any], was_in_doubt: bool, error: OperationError
    ) -> bool:
        """Whether the same endpoint may take it in a moment; else it is another one's turn.

        Raises:
            SubmitRefused, AnswerUnknown: this was the last word.
        """
        is_answer = not (was_in_doubt and error.code in TRANSIENT)
        guid, is_site = str(welcome["node_guid"]), welcome.get("role") == SITE
        if is_answer and self.doubts.pop(guid, name) == self.asked_first:
            self.asked_first = ""
        is_of_kin = self.asked_first not in ("", name) and error.code not in TRANSIENT
        elsewhere = ELSEWHERE_THAN_A_SITE if is_site else ELSEWHERE
        if error.code in elsewhere or is_of_kin:  # who is asked first may still have it
            self.refusals[name] = error
            if not is_site:
                self.last_word = error
            return False
        if error.code not in TRANSIENT and error.code not in self.second_chances:
            raise self._refused(error) from error
        self.second_chances.discard(error.code)
        self._note(name, error)
        return True

    def _note(self, name: str, error: Lost | OperationError) -> None:
        self.causes[name] = str(error)
        self.distrusted.discard(name)
        if isinstance(error, Lost) and error.is_distrusted:
            self.distrusted.add(name)

    def receipt(
        self, name: str, welcome: dict[str, Any], result: dict[str, Any], digest: str
    ) -> Receipt:
        guid = str(welcome["node_guid"])
        return Receipt(
            job_id=result["job_id"],
            job_uuid=self.uuid,
            position=result["position"],
            state=result["state"],
            is_duplicate=result["duplicate"],
            node_guid=guid,
            node_name=str(welcome.get("node_name", "")),
            endpoint=name,
            size=self.size,
            digest=digest,
            unknown=tuple(name for other, name in self.doubts.items() if other != guid),
        )

    def _refused(self, error: OperationError) -> SubmitRefused | AnswerUnknown:
        if self.doubts:
            return self._unknown(f"another server refused it: {error.message}")
        return SubmitRefused(error.code, error.message, error.advice, self.uuid)

    def given_up(self, message: str) -> Unreachable | AnswerUnknown:
        """The error of a job that no server took in time."""
        if self.doubts:
            return self._unknown(message)
        said = {name: error.message.rstrip(".") for name, error in self.refusals.items()}
        causes = self.causes | said
        listed = "; ".join(f"{name}: {cause}" for name, cause in causes.items())
        message = f"{message} ({listed})." if listed else f"{message}."
        distrusted = self.distrusted - said.keys()
        return Unreachable(message, CHECK_SERVERS, self.uuid, causes, distrusted, bool(said))

    def _unknown(self, message: str) -> AnswerUnknown:
        names = tuple(self.doubts.values())
        return AnswerUnknown(
            f"the job went out whole to {', '.join(names)}, whose answer was lost; {message}.",
            "Ask there, or submit it again there under the same job-uuid.",
            self.uuid,
            names,
        )
