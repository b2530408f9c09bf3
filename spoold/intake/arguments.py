"""The arguments of `submit` and `end` (`codec/FRAMES.md`), checked, and whose job it is.

A peer's map enters; a `Submission` or an `OperationError` leaves. Who submits comes from the
principal alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from spoold.codec.frame import OFFSET_MAX
from spoold.intake.submission import Submission
from spoold.model.errors import OperationError
from spoold.model.person import Known, Owner, decode_text, normalise_name
from spoold.model.principal import Port, Principal, Role
from spoold.spool.handed import HANDED_ON

COPIES_MAX = 9999
PRIORITY_MAX = 100
DIGEST_ALGORITHMS = ("blake3", "sha256")

_HEX = "[0-9a-fA-F]"
_is_uuid = re.compile(
    rf"(?:urn:uuid:)?(?:{_HEX}{{32}}|{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}})"
).fullmatch
_is_media_type = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}").fullmatch
_is_identity = re.compile(r"[a-z]{1,16}:[!-~]{1,255}").fullmatch
_is_digest = re.compile(r"(blake3|sha256):[0-9a-f]{64}").fullmatch


def submission(args: dict[str, Any], principal: Principal, client_host: str) -> Submission:
    """What a `submit` asks for.

    Raises:
        OperationError: `bad-request`, or `forbidden` when the principal may not speak for the user.
    """
    if principal.port is Port.JOIN:
        raise OperationError("forbidden", "no jobs come in here.", "Show a certificate.")
    get = args.get
    uuid = get("job_uuid")
    if type(uuid) is not str or not _is_uuid(uuid):
        raise _bad("job_uuid must be a UUID")
    printer = get("printer")
    if type(printer) is not str or not printer:
        raise _bad("printer must be a name")
    title = _text(args, "title", "")
    format_ = _text(args, "format", "application/octet-stream")
    if not _is_media_type(format_):
        raise _bad("format must be a media type")
    size = get("size")
    if size is not None and (type(size) is not int or not 0 <= size <= OFFSET_MAX):
        raise _bad("size must be a number of bytes")
    _check_not_empty(size)
    attributes = get("attributes", {})
    if type(attributes) is not dict:
        raise _bad("attributes must be a map")
    algorithm = get("digest_algorithm", "blake3")
    if algorithm not in DIGEST_ALGORITHMS:
        raise _bad(f"digest_algorithm must be one of {', '.join(DIGEST_ALGORITHMS)}")
    first = _handed_on(args, principal)
    if first is None:
        first = _First(owner(principal, _text(args, "user", "")), principal.identity, client_host)
    return Submission(
        printer,
        first.owner,
        first.submitter,
        first.intake,
        first.client_host,
        uuid=UUID(uuid),
        title=decode_text(title.encode()) if title else "",
        copies=_number(args, "copies", 1, COPIES_MAX),
        priority=_number(args, "priority", 50, PRIORITY_MAX),
        attributes=attributes,
        format=format_,
        hold=_switch(args, "hold"),
        size=size,
        digest_algorithm=algorithm,
        copies_embedded=first.copies_embedded,
        created_us=first.created_us,
        handed_by=first.handed_by,
        awaits_release=first.is_held,
    )


@dataclass(frozen=True, slots=True)
class _First:
    """Where a job came from before anybody handed it on."""

    owner: Owner
    submitter: str
    client_host: str
    intake: str = "frames"
    copies_embedded: bool = False
    created_us: int | None = None
    is_held: bool = False
    handed_by: str = ""


def hands_on(principal: Principal) -> bool:
    """Whether what `principal` says of the jobs that it hands on is taken on trust."""
    if principal.port is not Port.MUTUAL:
        return False
    is_provider = Role.PROVIDER in principal.roles and "*" in principal.may_assert
    return is_provider or Role.SITE in principal.roles


def _handed_on(args: dict[str, Any], principal: Principal) -> _First | None:
    """What another node says of a job that it hands on; None when nobody says so.

    Raises:
        OperationError: `forbidden`, this one may not; `bad-request`.
    """
    told = args.get("handed_on")
    if told is None:
        return None
    if not hands_on(principal):
        raise OperationError(
            "forbidden",
            f"{principal.name or principal.identity} may not hand on jobs of others.",
            "Nodes of the deployment may, and providers that may speak for anybody.",
        )
    if type(told) is not dict:
        raise _bad("handed_on must be a map")
    submitter = _text(told, "submitter", principal.identity)
    known = _text(told, "known", Known.CLAIMED.value)
    if not _is_identity(submitter):
        raise _bad("handed_on.submitter must be an identity, as provider:GUID")
    if known not in set(Known):
        raise _bad(f"handed_on.known must be one of {', '.join(Known)}")
    created_us = told.get("created_us")
    if created_us is not None and (type(created_us) is not int or not 0 < created_us < 1 << 53):
        raise _bad("handed_on.created_us must be microseconds")
    by = decode_text(_text(told, "by", "").encode())
    host = decode_text(_text(told, "client_host", "").encode())
    name = normalise_name(_text(args, "user", ""))
    embedded = _switch(told, "copies_embedded")
    whose = Owner(name, Known(known), by)
    held = _switch(told, "held")
    from_ = principal.identity
    return _First(whose, submitter, host, HANDED_ON, embedded, created_us, held, from_)


def is_eager(args: dict[str, Any]) -> bool:
    return _switch(args, "eager")


def ending(args: dict[str, Any], algorithm: str) -> tuple[int, str]:
    """Size and digest of an `end`.

    Raises:
        OperationError: `bad-request`.
    """
    size = args.get("size")
    digest = args.get("digest")
    if type(size) is not int or not 0 <= size <= OFFSET_MAX:
        raise _bad("end must bring the size of the document")
    _check_not_empty(size)
    match = _is_digest(digest) if type(digest) is str else None
    if match is None or match[1] != algorithm:
        raise _bad(f"end must bring the digest of the document, as {algorithm}:HEX")
    assert type(digest) is str
    return size, digest


def owner(principal: Principal, user: str) -> Owner:
    """Whose job it is that `principal` submits for `user`, and how that is known.

    Whoever has proven to be a user submits as that user, whatever a client says beside it: print
    systems send the name of the local account (RFC 8011 9.3: the most authenticated name counts).

    Raises:
        OperationError: `forbidden`, it may not speak for this user.
    """
    if Role.USER in principal.roles:
        return Owner(principal.name, Known.AUTHENTICATED, principal.method)
    name = normalise_name(user)
    if principal.port is Port.CONTROL:
        own = normalise_name(principal.name)
        if name in ("", own):
            return Owner(own, Known.AUTHENTICATED, "local") if own else Owner("")
        if Role.ADMIN in principal.roles:
            return Owner(name, Known.ASSERTED, principal.identity)
    elif principal.port is not Port.MUTUAL:
        return Owner(name, Known.CLAIMED)
    elif not name:
        return Owner("")
    elif principal.may_speak_for(name):
        return Owner(name, Known.ASSERTED, principal.name)
    raise OperationError(
        "forbidden",
        f"{principal.name or principal.identity} may not submit jobs for {name[:127]!r}.",
        "An administrator says for whom it may: `spoold provider enrol`.",
    )


def _text(args: dict[str, Any], key: str, default: str) -> str:
    value = args.get(key, default)
    if type(value) is not str:
        raise _bad(f"{key} must be a text")
    return value


def _number(args: dict[str, Any], key: str, default: int, largest: int) -> int:
    value = args.get(key, default)
    if type(value) is not int or not 1 <= value <= largest:
        raise _bad(f"{key} must be a number from 1 to {largest}")
    return value


def _switch(args: dict[str, Any], key: str) -> bool:
    value = args.get(key, False)
    if type(value) is not bool:
        raise _bad(f"{key} must be true or false")
    return value


def _check_not_empty(size: int | None) -> None:
    """No bytes are no job, at whatever door."""
    if size == 0:
        raise OperationError(
            "bad-request", "the document is empty.", "See why whatever made it wrote nothing."
        )


def _bad(message: str) -> OperationError:
    return OperationError("bad-request", f"{message}.", "See FRAMES.md, section 6.")
