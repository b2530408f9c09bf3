"""One IPP request: what it says, checked, and the octets of the answer to it.

In: a decoded message and the exchange that it came by. Out: typed values, the printer or job that
it is about, and answers. What is wrong with it becomes a `Refusal` with the status that RFC 8011
names, and, where values are at fault, with the attributes that are not supported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Attribute, Group, Message, Tag
from spoold.intake.exchange import Exchange
from spoold.model.principal import Principal

HEADERS: Final = (("Content-Type", "application/ipp"), ("Cache-Control", "no-store"))
LANGUAGE: Final = "en"
VERSIONS: Final = frozenset({(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)})
_CHARSETS: Final = frozenset({"utf-8", "us-ascii"})
_TEXTS: Final = (Tag.NAME, Tag.TEXT, Tag.NAME_LANGUAGE, Tag.TEXT_LANGUAGE)
_KEYWORDS: Final = (Tag.KEYWORD, Tag.NAME)
_OPERATION_GROUP: Final = ipp.encode_group(
    Tag.OPERATION,
    [
        ipp.charset("attributes-charset", "utf-8"),
        ipp.language("attributes-natural-language", LANGUAGE),
    ],
)
_JOB_PATH = re.compile(r"/jobs/([0-9]{1,10})/?").fullmatch
_PRINTER_PATH = re.compile(
    r"/(?:printers|classes|ipp/print|ipp)/([^/]+)(?:/\.printer)?/?"
).fullmatch
_DEFAULT_PATHS = frozenset({"/ipp", "/ipp/", "/ipp/print", "/ipp/print/"})
_NODE_PATHS = frozenset(
    {"", "/", "/jobs", "/jobs/", "/printers", "/printers/", "/classes", "/classes/"}
)
_HTTP_PATH = re.compile(r"/(?:(?:ipp|printers|classes|jobs|admin)(?:/.*)?)?").fullmatch


class Refusal(Exception):
    """The request is not done. `unsupported` are the attributes that stand in its way."""

    def __init__(self, status: Status, message: str, unsupported: Iterable[Attribute] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.unsupported = tuple(unsupported)


def bad(message: str) -> Refusal:
    return Refusal(Status.CLIENT_ERROR_BAD_REQUEST, message)


class Target(NamedTuple):
    """What a request is about: a printer by name, or a job by number.

    The name "" is the default printer's; without a name it is the whole node, of which an operation
    on one printer takes the default one, as CUPS's clients and IPP's both expect.
    """

    printer: str | None
    job_id: int | None


class Reply(NamedTuple):
    """An answer: its groups behind the operation attributes, as octets."""

    status: Status = Status.SUCCESSFUL_OK
    groups: bytes = b""
    unsupported: tuple[Attribute, ...] = ()
    message: str = ""


def is_ipp_path(path: str) -> bool:
    """Whether IPP is spoken at this path: where clients of printers, and of CUPS, post."""
    return _HTTP_PATH(path) is not None


@lru_cache(maxsize=1024)
def parse_target(uri: str) -> Target | None:
    """The object that a printer-uri or job-uri names by its path; None for none of ours."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme not in ("ipp", "ipps", "http", "https"):
        return None
    path = parts.path
    if path in _NODE_PATHS:
        return Target(None, None)
    if path in _DEFAULT_PATHS:
        return Target("", None)
    if (found := _JOB_PATH(path)) is not None:
        return Target(None, int(found[1]))
    if (found := _PRINTER_PATH(path)) is not None:
        return Target(unquote(found[1]), None)
    return None


class Ask:
    """A request that is a proper one. `rest` is what came of a document behind the attributes."""

    __slots__ = ("exchange", "groups", "operation", "principal", "request_id", "rest", "version")

    def __init__(self, exchange: Exchange, message: Message, rest: bytes) -> None:
        self.exchange = exchange
        self.principal: Principal = exchange.principal
        self.version = message.version
        self.request_id = message.request_id
        self.groups = message.groups
        self.operation = message.groups[0]
        self.rest = rest

    # -- what it says --------------------------------------------------------------------------

    def group(self, tag: int) -> Group | None:
        return next((one for one in self.groups if one.tag == tag), None)

    def _one(self, name: str, tags: tuple[int, ...]) -> Any:
        attribute = self.operation.attributes.get(name)
        if attribute is None:
            return None
        if len(attribute.values) != 1 or attribute.values[0].tag not in tags:
            raise bad(f"{name} has the wrong syntax, or several values.")
        return attribute.values[0].value

    def text(self, name: str) -> str | None:
        """A name or text of the operation attributes, without its language."""
        value = self._one(name, _TEXTS)
        return value.text if isinstance(value, ipp.WithLanguage) else value

    def keyword(self, name: str) -> str | None:
        value: str | None = self._one(name, _KEYWORDS)
        return value

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self._one(name, (Tag.BOOLEAN,))
        return default if value is None else value

    def required_boolean(self, name: str) -> bool:
        value: bool | None = self._one(name, (Tag.BOOLEAN,))
        if value is None:
            raise bad(f"{name} is missing.")
        return value

    def integer(self, name: str, least: int = 0) -> int | None:
        value: int | None = self._one(name, (Tag.INTEGER,))
        if value is not None and value < least:
            raise bad(f"{name} is {value}: it can be {least} or more.")
        return value

    def integers(self, name: str, least: int = 1) -> list[int] | None:
        """All the values of a 1setOf integer."""
        attribute = self.operation.attributes.get(name)
        if attribute is None:
            return None
        if any(tag != Tag.INTEGER or value < least for tag, value in attribute.values):
            raise bad(f"{name} has the wrong syntax.")
        return attribute.all

    def uri(self, name: str) -> str | None:
        value: str | None = self._one(name, (Tag.URI,))
        return value

    def mime(self, name: str) -> str | None:
        value: str | None = self._one(name, (Tag.MIME,))
        return value

    def keywords(self, name: str) -> list[str] | None:
        """All the values of a 1setOf keyword."""
        attribute = self.operation.attributes.get(name)
        if attribute is None:
            return None
        if any(value.tag not in _KEYWORDS for value in attribute.values):
            raise bad(f"{name} has the wrong syntax.")
        return attribute.all

    @property
    def user(self) -> str:
        """Who the requester says to be; the principal says who that is."""
        return self.text("requesting-user-name") or ""

    @property
    def known_as(self) -> str:
        """The user whose jobs are the requester's own: by login, else as it says."""
        is_user = self.principal.identity.startswith("user:")
        return self.principal.name if is_user else self.user

    def target(self) -> Target:
        """What the request is about.

        Raises:
            Refusal: it does not say, or names nothing of this node.
        """
        uri = self.uri("job-uri")
        if uri is None:
            uri = self.uri("printer-uri")
        if uri is None:
            raise bad("the request names no printer and no job.")
        found = parse_target(uri)
        if found is None:
            raise Refusal(Status.CLIENT_ERROR_NOT_FOUND, "there is nothing of this name.")
        job_id = self.integer("job-id", 1)
        if job_id is not None and found.job_id is None:
            return found._replace(job_id=job_id)
        return found

    def job_id(self) -> int:
        """The number of the job that the request is about.

        Raises:
            Refusal: it names none.
        """
        found = self.target().job_id
        if found is None:
            raise bad("the request names no job.")
        return found

    async def has_document(self) -> bool:
        """Whether anything comes behind the attributes."""
        if not self.rest:
            self.rest = await self.exchange.read()
        return bool(self.rest)

    # -- the answer ----------------------------------------------------------------------------

    def head(self, status: Status, message: str = "") -> bytes:
        """The answer up to its groups."""
        return reply_head(self.version, self.request_id, status, message)

    async def answer(self, reply: Reply) -> None:
        head = self.head(reply.status, reply.message)
        unsupported = unsupported_group(reply.unsupported)
        body = b"".join((head, unsupported, reply.groups, ipp.END))
        await self.exchange.respond(200, HEADERS, body)


_status_message = lru_cache(maxsize=256)(
    lambda message: ipp.encode_group(Tag.OPERATION, [ipp.text("status-message", message)])[1:]
)


def reply_head(
    version: tuple[int, int], request_id: int, status: Status, message: str = ""
) -> bytes:
    """The head of an answer and its operation attributes, open for its groups."""
    head = ipp.encode_head(version, status, request_id) + _OPERATION_GROUP
    return head + _status_message(message[:255]) if message else head


def unsupported_group(attributes: Iterable[Attribute]) -> bytes:
    """The group of RFC 8011 4.1.7, or nothing."""
    found = list(attributes)
    return ipp.encode_group(Tag.UNSUPPORTED, found) if found else b""


def check(message: Message) -> Operation:
    """The operation that a request asks for, when the request is one (RFC 8011 4.1).

    Raises:
        Refusal: it is none, and why.
    """
    if message.version not in VERSIONS:
        raise Refusal(Status.SERVER_ERROR_VERSION_NOT_SUPPORTED, "IPP 1.0 to 2.2 are spoken here.")
    if message.request_id < 1:
        raise bad("the request-id must be 1 or more.")
    groups = message.groups
    if not groups or groups[0].tag != Tag.OPERATION:
        raise bad("the operation attributes are missing.")
    first = list(groups[0].attributes.values())[:2]
    if (
        len(first) < 2
        or first[0].name != "attributes-charset"
        or first[1].name != "attributes-natural-language"
        or first[0].tag != Tag.CHARSET
        or first[1].tag != Tag.LANGUAGE
        or len(first[0].values) != 1
        or len(first[1].values) != 1
    ):
        raise bad("attributes-charset and attributes-natural-language must come first.")
    if first[0].first.lower() not in _CHARSETS:
        raise Refusal(Status.CLIENT_ERROR_CHARSET_NOT_SUPPORTED, "utf-8 is spoken here.")
    try:
        return Operation(message.code)
    except ValueError:
        raise not_supported(message.code) from None


def not_supported(code: int) -> Refusal:
    status = Status.SERVER_ERROR_OPERATION_NOT_SUPPORTED
    return Refusal(status, f"the operation {code:#06x} is not supported.")


def answer_version(version: tuple[int, int] | None) -> tuple[int, int]:
    """The version that an answer to a request of `version` has (RFC 8011 4.1.8)."""
    if version in VERSIONS:
        assert version is not None
        return version
    return (2, 0) if version is not None and version[0] >= 2 else (1, 1)
