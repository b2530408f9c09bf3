"""What CUPS tells a backend of one job: the device URI, the arguments and the environment.

In: `spoold://first,second:9195/printer?waitjob=yes`, argv and environ (backend(7), filter(7)). Out:
a `Queue` and a `Task`. Pure, but for one look whether the queue has a driver.

The arguments are job, user, title, copies, options, and files. Without a file the document is on
the standard input: filters have made it, with its copies and its layout. With one it is as the
user sent it, and copies and options are ours to pass on. FINAL_CONTENT_TYPE is the input of the
last filter as often as its output, so what filters made goes without a name: its first bytes
tell the server more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID, uuid4, uuid5

from spoold.codec.cups_options import parse_options
from spoold.model.errors import ConfigError
from spoold.net.address import parse_address
from spoold.provider.cups_messages import RETRY, RETRY_CURRENT

SCHEME = "spoold"
CLEAR_PORT = 9191
MUTUAL_PORT = 9195
PATIENCE_S = 10.0  # a server that starts anew is back by then
CLASS_WAIT_S = 5.0  # the backends of CUPS give a class so long before its next member has its turn
COPIES_MAX = 9999
ATTRIBUTES_MAX = 128
TEXT_CHARACTERS_MAX = 255
COLLECTION_LEVELS_MAX = 3
VALUE_CHARACTERS_MAX = 1023  # RFC 8011 5.1.3, text
OCTETS = "application/octet-stream"
NAMESPACE = UUID("6cf6ad4a-2d2e-5b0c-9f43-6d1a8f0f6a51")  # of job-uuids that are made from CUPS's

_ADVICE = "Write spoold://FIRST,SECOND:9195/PRINTER; the port of the last holds for the others."
_SWITCH = {"yes": True, "on": True, "true": True, "1": True} | {
    "no": False, "off": False, "false": False, "0": False
}  # fmt: skip
_AWAY = {"retry": RETRY, "retry-current": RETRY_CURRENT}
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,126}")  # keywords of PPDs begin with a capital

# What CUPS has done or keeps for itself.
_BOOKKEEPING = frozenset({
    "attributes-charset", "attributes-natural-language", "compression", "copies",
    "document-format", "document-format-supplied", "document-name", "document-name-supplied",
    "errors-sheet", "job-hold-until", "job-name", "job-originating-host-name",
    "job-originating-user-name", "job-priority", "job-sheets", "job-uuid",
    "multiple-document-handling", "raw",
})  # fmt: skip
_NUMBERS = frozenset({"finishings", "number-up", "orientation-requested", "print-quality"})
_LISTS = frozenset({"finishings", "page-ranges"})
_DIGITS = re.compile(r"[0-9]{1,9}")
_TIME = re.compile(r"(date-)?time-at-[a-z]+")
# What filters draw into the pages.
_DRAWN = frozenset({
    "brightness", "columns", "cpi", "fill", "fit-to-page", "fitplot", "gamma", "hue", "image-fit",
    "landscape", "lpi", "mirror", "natural-scaling", "number-up", "number-up-layout",
    "orientation-requested", "outputorder", "page-border", "page-bottom", "page-label",
    "page-left", "page-ranges", "page-right", "page-set", "page-top", "position", "ppi",
    "prettyprint", "print-scaling", "saturation", "scaling", "wrap",
})  # fmt: skip
# What CUPS adds to every job of a queue without a driver: it takes it for a monochrome printer.
_DRIVERLESS_DEFAULTS = {"finishings": "3", "number-up": "1", "print-color-mode": "monochrome"}


def _bad(uri: str, cause: str, advice: str = _ADVICE) -> ConfigError:
    return ConfigError("read the device URI", uri, cause, advice)


@dataclass(frozen=True, slots=True)
class Queue:
    """Where the jobs of a queue go, and how, as its device URI says.

    `contimeout_s` is how long to look for a server before the job goes back to CUPS, None for ever;
    `gives_back` is the exit code of that. After `patience_s` without any server the job may be
    printed without one, where its printer was set to that.
    """

    endpoints: tuple[str, ...]
    printer: str
    is_tls: bool = True
    waits_for_end: bool = False
    contimeout_s: float | None = None
    gives_back: int = RETRY_CURRENT
    priority: int = 50
    hold: bool = False
    patience_s: float = PATIENCE_S

    @classmethod
    def parse(cls, uri: str) -> Queue:
        """The queue of a device URI.

        Raises:
            ConfigError: it has no server or no printer, or an option that is none.
        """
        shown = uri[:200]
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise _bad(shown, str(error)) from None
        if parts.scheme != SCHEME:
            raise _bad(shown, f"its scheme is not {SCHEME}")
        if "@" in parts.netloc:
            advice = "Certificates say who we are: `spoold backend install --credentials FILE`."
            raise _bad(f"{SCHEME}://…@{parts.netloc.rpartition('@')[2]}", "it has a user", advice)
        endpoints = _endpoints(shown, parts.netloc)
        printer = unquote(parts.path.strip("/"))
        if not printer or "/" in printer or parts.fragment:
            raise _bad(shown, "it names no printer")
        options = _Options(shown, parts.query)
        is_clear = all(one.endswith(f":{CLEAR_PORT}") for one in endpoints)
        contimeout_s = options.number("contimeout", 1, 10**9)
        patience_s = options.number("patience", 0, 10**9)
        queue = cls(
            endpoints,
            printer,
            is_tls=options.switch("tls", not is_clear),
            waits_for_end=options.switch("waitjob", False),
            contimeout_s=None if contimeout_s is None else float(contimeout_s),
            gives_back=options.choice("away", _AWAY, RETRY_CURRENT),
            priority=options.number("priority", 1, 100) or 50,
            hold=options.switch("hold", False),
            patience_s=float(PATIENCE_S if patience_s is None else patience_s),
        )
        options.check_all_known()
        return queue


def _endpoints(uri: str, servers: str) -> tuple[str, ...]:
    """`host:port` of each server; one without a port has the last one's.

    CUPS takes a URI for bad that has a colon before the comma: there it is written `%3A`.
    """
    hosts = [unquote(one) for one in servers.split(",")]
    port = str(MUTUAL_PORT)
    found: list[str] = []
    for host in reversed(hosts):
        name, colon, digits = host.rpartition(":")
        if colon and not digits.endswith("]"):
            port = digits
        else:
            name = host
        if ":" in name and not name.startswith("["):
            name = f"[{name}]"
        try:
            found.append(str(parse_address(f"{name}:{port}")))
        except ConfigError as error:
            raise _bad(uri, f"{host!r} names no server: {error.cause}") from None
        if not int(port):
            raise _bad(uri, "nothing listens on port 0")
    return tuple(dict.fromkeys(reversed(found)))


class _Options:
    """The query of a device URI, checked as it is read."""

    def __init__(self, uri: str, query: str) -> None:
        self._uri = uri
        self._left = dict(parse_qsl(query, keep_blank_values=True))
        self._known: list[str] = []

    def _take(self, name: str) -> str | None:
        self._known.append(name)
        return self._left.pop(name, None)

    def switch(self, name: str, default: bool) -> bool:
        return bool(self.choice(name, _SWITCH, default))

    def choice(self, name: str, choices: Mapping[str, Any], default: Any) -> Any:
        text = self._take(name)
        if text is None:
            return default
        if text not in choices:
            raise _bad(self._uri, f"{name}={text}", f"Use one of {', '.join(choices)}.")
        return choices[text]

    def number(self, name: str, least: int, most: int) -> int | None:
        text = self._take(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise _bad(self._uri, f"{name}={text}", f"Use a number from {least} to {most}.")
        return int(text)

    def check_all_known(self) -> None:
        for name in self._left:
            known = ", ".join(self._known)
            raise _bad(self._uri, f"there is no option {name}", f"Options are {known}.")


@dataclass(frozen=True, slots=True)
class Task:
    """One job of CUPS. `files` is empty when filters feed the standard input."""

    queue: str
    number: str
    user: str
    title: str
    copies: int
    options: Mapping[str, str]
    files: tuple[str, ...]
    format: str = OCTETS
    is_of_class: bool = False
    has_driver: bool = False

    @classmethod
    def parse(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> Task:
        """The job of `arguments`, those behind the program's name.

        Raises:
            ConfigError: they are not those of a backend.
        """
        if len(arguments) < 5:
            raise ConfigError(
                "read the arguments",
                "of a CUPS backend",
                f"there are {len(arguments)}",
                "CUPS gives job, user, title, copies, options and maybe files; see backend(7).",
            )
        number, user, title, copies, options, *files = (_text(one) for one in arguments)
        format_ = environ.get("CONTENT_TYPE", OCTETS)
        if format_ == "application/vnd.cups-raw" or not _MEDIA_TYPE.fullmatch(format_):
            format_ = OCTETS
        count = int(copies) if re.fullmatch(r"[0-9]{1,6}", copies) else 1
        return cls(
            queue=environ.get("PRINTER", ""),
            number=number,
            user=user[:TEXT_CHARACTERS_MAX],
            title=title[:TEXT_CHARACTERS_MAX],
            copies=min(max(count, 1), COPIES_MAX) if files else 1,
            options=parse_options(options),
            files=tuple(arguments[5:]),
            format=format_ if files else OCTETS,
            is_of_class="CLASS" in environ,
            has_driver=os.path.exists(environ.get("PPD", "")),
        )

    def job_uuid(self, document: int, run: int) -> UUID:
        """The job-uuid of one of its documents: the same whenever CUPS tries this job again.

        CUPS numbers jobs, and after a crash may give a number twice; its job-uuid can be whatever
        a user asked for. Together, and with the time of submission, they are one job's.
        Restarting a finished job is printing it again: it has a time of completion then.
        `run` counts the submissions that were canceled on the way, by CUPS.
        """
        known = [self.options.get(name, "") for name in ("job-uuid", "time-at-creation")]
        if not any(known):
            return uuid4()
        ended = self.options.get("time-at-completed", "")
        name = "\0".join((self.number, *known, ended, str(document), str(run)))
        return uuid5(NAMESPACE, name)

    def attributes(self) -> dict[str, Any]:
        """The job template attributes to pass on, as plain values."""
        found: dict[str, Any] = {}
        for name, text in self.options.items():
            if self._is_passed_on(name, text) and len(found) < ATTRIBUTES_MAX:
                found[name] = _value(name, text)
        return found

    def _is_passed_on(self, name: str, text: str) -> bool:
        if not text or len(text) > VALUE_CHARACTERS_MAX or not _NAME.fullmatch(name):
            return False
        if name in _BOOKKEEPING or _TIME.fullmatch(name):
            return False
        if not self.files and name in _DRAWN:
            return False
        return self.has_driver or _DRIVERLESS_DEFAULTS.get(name) != text


def _text(argument: str) -> str:
    """An argument of any bytes as text."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _value(name: str, text: str) -> Any:
    """The plain value (`codec.ipp_plain`) of an option's text."""
    if text.startswith("{"):
        return _collection(text, COLLECTION_LEVELS_MAX)
    values: list[Any] = text.split(",") if name in _LISTS else [text]
    if name in _NUMBERS:
        values = [int(one) if _DIGITS.fullmatch(one) else one for one in values]
    return values if name in _LISTS else values[0]


def _collection(text: str, levels: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in parse_options(text[1:].removesuffix("}")).items():
        if value.startswith("{"):
            if levels:
                members[name] = _collection(value, levels - 1)
        else:
            members[name] = int(value) if _DIGITS.fullmatch(value) else value
    return members
