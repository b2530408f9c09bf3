"""Device URIs of CUPS as device URIs of spoold, with their options; pure.

In: what `DeviceURI` says in printers.conf. Out: a `Taken` with our URI and our driver's options,
and a line for each option that has no place here; or `NotTaken`, with the reason.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_ON = frozenset({"", "on", "yes", "true", "1"})
_SECONDS = re.compile(r"[0-9]{1,9}")
_LPD_FORMATS = frozenset("cdfglnoprtv")
_NEEDLESS = {
    "contimeout": "spoold tries a device again at growing intervals, for as long as it takes",
    "sanitize_title": "titles are passed on as they came",
    "mode": "documents are stored before they are sent, so their length is known",
    "waitjob": "a job is followed to its end in any case",
    "waitprinter": "a busy printer is waited for in any case",
    "version": "the printer says what it speaks",
    "compression": "documents are sent as they came",
}
_NO_DRIVER = {
    "dnssd": "it names a printer by DNS-SD: add it by its address",
    "mdns": "it names a printer by DNS-SD: add it by its address",
    "implicitclass": "cups-browsed made it, and makes it again; add the printer behind it",
    "cups-pdf": "a virtual printer of CUPS",
    "usb": "USB printers stay with CUPS, or with ipp-usb: then it is an ipp:// printer",
    "parallel": "there is no driver for parallel ports",
    "serial": "there is no driver for serial ports",
    "smb": "there is no driver for Windows shares: use the printer's own address",
    "hp": "it needs a program of its maker: use the printer's own address",
    "hpfax": "there are no fax queues",
    "beh": "it wraps another device: add that one; spoold tries again by itself",
}


class NotTaken(Exception):
    """This device cannot be one of ours; the text says why."""


@dataclass(slots=True)
class Taken:
    """`left_out` says of options of the URI why they have no place."""

    uri: str
    options: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def leave(self, name: str, value: str, why: str = "") -> None:
        why = why or _NEEDLESS.get(name, "it is not known here")
        self.left_out.append((f"{name}={value}", why))


def shown_uri(uri: str) -> str:
    """The URI without a password, for people."""
    scheme, mark, rest = uri.partition("://")
    servers, slash, path = rest.partition("/")
    if not mark or "@" not in servers:
        return uri
    return f"{scheme}://…@{servers.rpartition('@')[2]}{slash}{path}"


def take(uri: str) -> Taken:
    """Our device for a device URI of CUPS.

    Raises:
        NotTaken: there is none.
    """
    if not uri:
        raise NotTaken("it has no device URI")
    try:
        parts = urlsplit(uri)
        query = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=64)
        host = parts.hostname
        port = parts.port
    except ValueError as error:
        raise NotTaken(f"its device URI cannot be read: {error}") from None
    scheme = parts.scheme.lower()
    if scheme == "file":
        return _file(uri, parts)
    if scheme not in ("socket", "lpd", "ipp", "ipps", "http", "https", "spoold"):
        raise NotTaken(_NO_DRIVER.get(scheme, f"there is no driver for {scheme or 'it'}"))
    if not host:
        raise NotTaken("its device URI has no host")
    if scheme == "socket":
        return _socket(parts, query)
    if scheme == "lpd":
        return _lpd(parts, query)
    if scheme == "spoold":
        return Taken(uri)
    return _ipp(parts, query, port)


def _file(uri: str, parts: SplitResult) -> Taken:
    """CUPS writes each job over the one before; here each becomes a file beside the others."""
    path = posixpath.normpath(unquote(parts.path))
    folder = posixpath.dirname(path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/"):
        raise NotTaken("its device URI names no file of this machine")
    if folder == "/" or folder.startswith(("/dev", "/proc", "/sys")):
        raise NotTaken(f"{path} is no file that jobs can be kept beside")
    taken = Taken(f"file://{folder}")
    why = f"each job becomes a file of its own in {folder}"
    taken.left_out.append((uri, why))
    return taken


def _where(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _socket(parts: SplitResult, query: list[tuple[str, str]]) -> Taken:
    taken = Taken(f"socket://{_where(parts)}")
    for name, value in query:
        if name == "waiteof":
            if value.lower() not in _ON:
                taken.options["silence"] = "acknowledged"
        elif name == "snmp":
            _snmp(taken, value)
        else:
            taken.leave(name, value)
    return taken


def _lpd(parts: SplitResult, query: list[tuple[str, str]]) -> Taken:
    taken = Taken(f"lpd://{_where(parts)}{parts.path}")
    if parts.username:
        taken.left_out.append((f"user {parts.username}", "a job is sent in its owner's name"))
    for name, value in query:
        if name in ("banner", "manual_copies"):
            taken.options[name] = "on" if value.lower() in _ON else "off"
        elif name == "order" and value.replace(" ", "") in ("control,data", "data,control"):
            taken.options[name] = value.replace(" ", "")
        elif name == "reserve":
            is_on = value.lower() in _ON | {"rfc1179"}
            taken.options[name] = "rfc1179" if is_on else "any" if value == "any" else "none"
        elif name == "format" and value[:1] in _LPD_FORMATS:
            taken.options[name] = value[0]
        elif name == "timeout" and _SECONDS.fullmatch(value):
            taken.options["timeout_s"] = value
        elif name == "snmp":
            _snmp(taken, value)
        else:
            taken.leave(name, value)
    return taken


def _snmp(taken: Taken, value: str) -> None:
    taken.options["snmp"] = "on" if value.lower() in _ON else "off"


def _ipp(parts: SplitResult, query: list[tuple[str, str]], port: int | None) -> Taken:
    scheme = {"http": "ipp", "https": "ipps"}.get(parts.scheme, parts.scheme)
    where = parts.netloc
    if port is None and parts.scheme != scheme:
        where += ":80" if scheme == "ipp" else ":443"  # the ports of HTTP, not of IPP
    taken = Taken(f"{scheme}://{where}{parts.path}")
    for name, value in query:
        if name == "encryption" and value.lower() in ("required", "always"):
            if scheme == "ipp":
                raise NotTaken("it asks for encryption on ipp://: add it with ipps://")
            continue
        taken.leave(name, value)
    return taken
