"""A Source: a directory (LDAP, Active Directory) that people are taken over from; and its checks.

What a source says of a person stands in attributes, by names that differ between flavours; a source
may name others. Passwords never stand in it: `password_file` says where the daemon reads one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any
from uuid import UUID

from spoold.model.card import find_converter
from spoold.model.errors import OperationError
from spoold.model.text import plain
from spoold.model.user import check_group

SERVERS_MAX = 8
BASES_MAX = 32
GROUPS_MAX = 200
TEXT_CHARACTERS_MAX = 1024
EVERY_S_MIN, EVERY_S_MAX = 60, 30 * 86_400
NOT_ASKED = "-"  # in the place of an attribute
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"


class Flavour(StrEnum):
    """How a directory speaks of people and groups."""

    RFC2307BIS = "rfc2307bis"  # OpenLDAP most often: groups name members by DN
    RFC2307 = "rfc2307"  # groups name members by user name (memberUid)
    ACTIVE_DIRECTORY = "active-directory"


class Vanished(StrEnum):
    """What becomes of a user whom the source knows no more. Who has a balance is only disabled."""

    REMOVE = "remove"
    DISABLE = "disable"


# What is asked of an entry: id, name, full_name, email of a person; group and member of a group;
# member_of of both. "" is not asked.
_ATTRIBUTES: dict[Flavour, dict[str, str]] = {
    Flavour.RFC2307BIS: {
        "id": "entryUUID", "name": "uid", "full_name": "cn", "email": "mail",
        "group": "cn", "member": "member", "member_of": "", "card": "", "account": "",
    },
    Flavour.RFC2307: {
        "id": "entryUUID", "name": "uid", "full_name": "cn", "email": "mail",
        "group": "cn", "member": "memberUid", "member_of": "", "card": "", "account": "",
    },
    Flavour.ACTIVE_DIRECTORY: {
        # Members of large groups come in ranges there; who is member of what comes whole.
        "id": "objectGUID", "name": "sAMAccountName", "full_name": "displayName", "email": "mail",
        "group": "sAMAccountName", "member": "", "member_of": "memberOf", "card": "", "account": "",
    },
}  # fmt: skip
_PEOPLE = {
    Flavour.RFC2307BIS: "(objectClass=inetOrgPerson)",
    Flavour.RFC2307: "(objectClass=posixAccount)",
    Flavour.ACTIVE_DIRECTORY: "(&(objectCategory=person)(objectClass=user))",
}
_GROUPS = {
    Flavour.RFC2307BIS: "(objectClass=groupOfNames)",
    Flavour.RFC2307: "(objectClass=posixGroup)",
    Flavour.ACTIVE_DIRECTORY: "(objectCategory=group)",
}
ATTRIBUTES = tuple(_ATTRIBUTES[Flavour.RFC2307BIS])
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}|[0-9]+(\.[0-9]+){1,40}", re.ASCII).fullmatch
_SERVER = re.compile(r"ldaps?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`servers` are asked in their order, the next when one does not answer: `ldap://` with
    STARTTLS unless `start_tls` is off, or `ldaps://`. Every base is searched below.

    `members_of`: only members of these groups, and of groups in them, are users; `groups`: only
    these groups are taken over, or all. `attributes` names those that the flavour calls otherwise,
    `-` those that are not asked for. `logins`: it is asked for the passwords of its users who have
    none here. `every_s` is how often people are synchronised, 0 for only when somebody asks. A
    round in which more than `vanish_share` (percent) of the users would go changes nothing.
    """

    guid: UUID
    name: str
    servers: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    group_bases: tuple[str, ...] = ()
    flavour: Flavour = Flavour.RFC2307BIS
    start_tls: bool = True
    ca_file: str = ""
    bind_dn: str = ""
    password_file: str = ""
    clear_password: bool = False
    logins: bool = False
    people_filter: str = ""
    group_filter: str = ""
    attributes: Mapping[str, str]
    card_converter: str = ""
    members_of: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    vanished: Vanished = Vanished.REMOVE
    vanish_share: int = 20
    every_s: int = 3600
    deadline_s: int = 300

    @property
    def identity(self) -> str:
        """Who the records of a round name as the actor."""
        return f"source:{self.guid}"

    def attribute(self, what: str) -> str:
        """The directory's name of one of `ATTRIBUTES`; "" when it is not asked for."""
        return self.attributes.get(what, _ATTRIBUTES[self.flavour][what]).removeprefix(NOT_ASKED)

    @property
    def asked_of_people(self) -> str:
        return self.people_filter or _PEOPLE[self.flavour]

    @property
    def asked_of_groups(self) -> str:
        return self.group_filter or _GROUPS[self.flavour]

    @property
    def trusts(self) -> str:
        return self.ca_file or CA_FILE


SETTINGS = tuple(one.name for one in fields(Source) if one.name not in ("guid", "name"))


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def check_source_name(text: str) -> str:
    """Raises:
    OperationError: `bad-request`: it cannot name a source.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text, re.ASCII):
        raise _bad(
            f"{plain(text[:40])!r} cannot name a source.", "Use letters, digits, '.', '-' and '_'."
        )
    return text


def source_of(guid: UUID, name: str, given: Mapping[str, Any]) -> Source:
    """The source with the settings that are `given` as plain values; the others by default.

    Raises:
        OperationError: `bad-request`: one cannot be, or they do not go together.
    """
    values = {key: value for key, value in given.items() if value is not None}
    found: dict[str, Any] = {key: _read(key, value) for key, value in values.items()}
    source = Source(guid=guid, name=check_source_name(name), **{"attributes": {}, **found})
    _check_together(source)
    return source


def _read(key: str, value: Any) -> Any:
    if key in ("servers", "bases", "group_bases", "members_of", "groups"):
        return _texts(key, value)
    if key == "attributes":
        return _attributes(value)
    if key in ("flavour", "vanished"):
        keywords: type[Flavour] | type[Vanished] = Flavour if key == "flavour" else Vanished
        try:
            return keywords(value or next(iter(keywords)))
        except ValueError:
            raise _bad(f"{key} is {plain(value[:40])!r}.", f"Use {', '.join(keywords)}.") from None
    if key == "card_converter":
        return find_converter(value) if value else ""
    if isinstance(value, str):
        return _text(key, value)
    return value


def _text(key: str, value: str) -> str:
    if len(value) > TEXT_CHARACTERS_MAX or not value.isprintable():
        raise _bad(f"{key} is {plain(value[:40])!r}.", "Use a text that can be printed.")
    return value.strip()


def _texts(key: str, value: Sequence[str]) -> tuple[str, ...]:
    most = {"servers": SERVERS_MAX, "members_of": GROUPS_MAX, "groups": GROUPS_MAX}
    if len(value) > most.get(key, BASES_MAX):
        raise _bad(f"{key} has {len(value)} entries.", f"It can have {most.get(key, BASES_MAX)}.")
    found = tuple(dict.fromkeys(_text(key, one) for one in value))
    if key in ("members_of", "groups"):
        return tuple(sorted({check_group(one) for one in found}))
    for one in found:
        if key == "servers" and not _SERVER.fullmatch(one):
            advice = "Write ldap://dc1.example.org or ldaps://dc1.example.org:636."
            raise _bad(f"{plain(one[:80])!r} is no server of a directory.", advice)
        if key != "servers" and "=" not in one:
            raise _bad(f"{plain(one[:80])!r} is no base.", "Write ou=people,dc=example,dc=org.")
    return found


def _attributes(value: Mapping[str, Any]) -> dict[str, str]:
    for key, name in value.items():
        if key not in ATTRIBUTES:
            raise _bad(
                f"there is no attribute {plain(key[:40])!r} to be mapped.",
                f"Known are {', '.join(ATTRIBUTES)}.",
            )
        if not isinstance(name, str) or not (name in ("", NOT_ASKED) or _ATTRIBUTE(name)):
            raise _bad(f"{key} is {plain(str(name)[:40])!r}.", "Name an attribute, as mail.")
        if name == NOT_ASKED and key in ("id", "name", "group"):
            raise _bad(f"nobody is known without {key}.", "Name its attribute.")
    return {key: name for key, name in value.items() if name}


def _check_together(source: Source) -> None:
    for key in ("servers", "bases"):
        if not getattr(source, key):
            raise _bad(f"{key} is missing.", f"Give {key}, at least one of them.")
    for key in ("people_filter", "group_filter"):
        text = getattr(source, key)
        if text and not (text.startswith("(") and text.endswith(")")):
            raise _bad(f"{key} is {plain(text[:60])!r}.", "Write it as (objectClass=person).")
    if bool(source.bind_dn) != bool(source.password_file):
        raise _bad("bind_dn and password_file go together.", "Give both, or none of them.")
    clear = [one for one in source.servers if one.startswith("ldap:")]
    has_secrets = source.password_file or source.logins
    if has_secrets and clear and not (source.start_tls or source.clear_password):
        raise _bad(
            f"passwords would go to {clear[0]} in clear.",
            "Leave start_tls on, or say that they may with clear_password.",
        )
    for key in ("password_file", "ca_file"):
        text = getattr(source, key)
        if text and not text.startswith(("/", "credential:")):
            raise _bad(f"{key} is no whole path.", "Begin it with a slash, or credential:NAME.")
    if not 1 <= source.vanish_share <= 100:
        raise _bad(f"vanish_share is {source.vanish_share}.", "It can be 1 to 100 (percent).")
    if source.every_s and not EVERY_S_MIN <= source.every_s <= EVERY_S_MAX:
        raise _bad(f"every_s is {source.every_s}.", "It can be 60 to 2592000 seconds, or 0.")
    if not 5 <= source.deadline_s <= 3600:
        raise _bad(f"deadline_s is {source.deadline_s}.", "It can be 5 to 3600 seconds.")


def settings_map(source: Source) -> dict[str, Any]:
    """Its settings as plain values, from which `source_of` makes it again."""
    found: dict[str, Any] = {}
    for key in SETTINGS:
        value = getattr(source, key)
        if isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, StrEnum):
            value = value.value
        elif key == "attributes":
            value = dict(value)
        found[key] = value
    return found
