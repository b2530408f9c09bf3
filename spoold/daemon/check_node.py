"""What `spoold check` looks at of the node: its data, ports, names, certificates, printers."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from cryptography import x509

from spoold.daemon.check import Finding, Subject, failed, ok, warning
from spoold.daemon.check_machine import existing
from spoold.daemon.identity import read_chain
from spoold.daemon.lock import READY, STAGING
from spoold.model.errors import ConfigError, IdentityError
from spoold.net import credentials, dnssd, listen
from spoold.net.address import Address
from spoold.spool.migrations import newest

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

CONNECT_S = 3.0
AT_ONCE = 16
DAY_S = 86_400
# The ports of device URIs that name none.
DEVICE_PORTS = {"socket": 9100, "lpd": 515, "ipp": 631, "ipps": 631, "spoold": 9195}


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the spool, by the name of a printer on it."""

    printer: str
    uri: str


def check_data_dir(subject: Subject) -> Iterator[Finding]:
    path = subject.data_dir
    if not path.exists():
        parent = existing(path)
        if os.access(parent, os.W_OK | os.X_OK):
            yield ok("data", f"{path} will be made")
        else:
            advice = f"Make it, for the daemon's user: `install -d -m 0700 -o spoold {path}`."
            yield failed("data", f"{path} is not there, and {parent} may not be written", advice)
        return
    status = path.stat()
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        advice = "The daemon's user must own it; check as that user."
        yield failed("data", f"{path} may not be written by uid {os.geteuid()}", advice)
        return
    if status.st_mode & 0o077:
        text = f"{path} may be read by others (mode {status.st_mode & 0o777:04o})"
        yield warning("data", text, f"`chmod 0700 {path}`: jobs and keys lie there.")
    else:
        yield ok("data", f"{path}, of uid {status.st_uid}")
    if (path / STAGING / READY).exists():
        advice = "Give the same `spoold restore` again."
        yield failed("restore", "a restore was interrupted; the daemon does not start", advice)
    yield from _check_spool(path / "spool.db")


def _check_spool(file: Path) -> Iterator[Finding]:
    if not file.exists():
        yield ok("spool", "none yet")
        return
    try:
        db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        finally:
            db.close()
    except sqlite3.Error as error:
        yield failed("spool", f"{file}: {error}", "Look at the disk; restore a backup.")
        return
    known = newest()
    if version > known:
        text = f"it was written by a newer spoold (schema {version}, this one knows {known})"
        yield failed("spool", text, "Run the newer spoold, or restore a backup.")
    elif version < known:
        text = f"schema {version}; it is upgraded to {known} at the next start, and copied before"
        yield ok("spool", text)
    else:
        yield ok("spool", f"schema {version}, {file.stat().st_size / 2**20:.0f} MiB")


def check_ports(subject: Subject) -> Iterator[Finding]:
    for key, address in subject.config.listen.every_address():
        yield _port(key, address, subject.is_running)


def _port(key: str, address: Address, is_running: bool) -> Finding:
    if address.socket_name:
        return ok("port", f"{key}: comes from systemd as {address.socket_name}")
    try:
        for sock in listen.bind(address):
            sock.close()
    except ConfigError as error:
        cause = error.__cause__
        is_taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        if is_taken and is_running:
            return ok("port", f"{key}: {address} is the running daemon's")
        return failed("port", f"{key}: {address}: {error.cause}", error.advice)
    return ok("port", f"{key}: {address} is free")


def check_names(subject: Subject) -> Iterator[Finding]:
    """This machine's name, and those that others are told, can be looked up."""
    config = subject.config
    told = [*config.advertise.names]
    for endpoints in (config.advertise.endpoints, *(to.endpoints for to in config.advertise.to)):
        told += [urlsplit(f"//{one}").hostname or one for one in endpoints]
    names = list(dict.fromkeys((socket.gethostname(), *told)))
    for name, addresses in zip(names, _each(_look_up, names), strict=True):
        if addresses:
            yield ok("name", f"{name} is {', '.join(addresses[:3])}")
        elif name in told:
            advice = "Clients are told this name: put it into the DNS, or take it out of advertise."
            yield failed("name", f"{name} cannot be looked up", advice)
        else:
            advice = "Put it into the DNS or /etc/hosts, or name others as advertise.names."
            yield warning("name", f"{name}, this machine's name, cannot be looked up", advice)


def check_interfaces(subject: Subject) -> Iterator[Finding]:
    """The interfaces that printers are to be announced on are there, and have addresses."""
    named = subject.config.dnssd.interfaces
    if not subject.config.dnssd.enabled or not named:
        return
    try:
        found = {one.name: one for one in dnssd.interfaces(named)}
    except dnssd.Unusable as error:
        yield warning("interface", str(error), "Nothing is announced until it is there.")
        return
    for name in named:
        if name in found:
            yield ok("interface", f"{name} has {', '.join(found[name].addresses[:3])}")
        else:
            advice = "Nothing is announced there: `ip address` lists those of this machine."
            yield warning("interface", f"dnssd.interfaces: {name} has no address here", advice)


def _look_up(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def check_certificates(subject: Subject) -> Iterator[Finding]:
    days = subject.config.health.certificate_days
    yield from _own_certificates(subject.data_dir / "identity", days)
    own = subject.config.tls
    if own.certificate is not None and own.key is not None:
        if own.certificate.parent == credentials.OF_UNIT and not own.certificate.exists():
            text = f"{own.certificate.name} is what systemd hands over: it was not looked at"
            yield warning("certificate", text, "Check again as root, once the service runs.")
            return
        try:
            read_chain(own.certificate, own.key)
        except IdentityError as error:
            yield failed("certificate", f"{error.subject}: {error.cause}", error.advice)
        else:
            yield from _certificate(own.certificate, days)


def _own_certificates(folder: Path, days: float) -> Iterator[Finding]:
    try:
        there = [folder / name for name in ("ca.pem", "node.pem") if (folder / name).exists()]
        is_to_come = not folder.exists()
    except PermissionError as error:
        text = f"{error.filename}: {error.strerror}"
        yield warning("certificate", text, "Check as the daemon's user.")
        return
    if is_to_come:
        yield ok("certificate", "the node's own are made at the first start")
    for file in there:
        yield from _certificate(file, days)


def _certificate(file: Path, days: float) -> Iterator[Finding]:
    try:
        first = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except (OSError, ValueError, IndexError) as error:
        yield failed("certificate", f"{file}: {error}", "Check as the daemon's user.")
        return
    left = (first.not_valid_after_utc.timestamp() - time.time()) / DAY_S
    if first.not_valid_before_utc.timestamp() > time.time():
        text = f"{file} is valid from {first.not_valid_before_utc:%Y-%m-%d} on"
        yield failed("certificate", text, "Set the clock right.")
    elif left <= 0:
        advice = "The daemon renews its own while it runs; replace one that is not its own."
        yield failed("certificate", f"{file} has expired", advice)
    elif left < days:
        advice = "The daemon renews its own while it runs; replace one that is not its own."
        yield warning("certificate", f"{file} has {int(left)} days left", advice)
    else:
        yield ok("certificate", f"{file} has {int(left)} days left")


def check_printers(devices: Sequence[Device]) -> Iterator[Finding]:
    """Whether each device takes a connection, asked all at once."""
    found = list(zip(devices, _each(_reach, devices), strict=True))
    well = sum(not problem for _, problem in found)
    if well or not found:
        yield ok("printers", f"{well} of {len(found)} devices answer")
    for device, problem in found:
        if problem:
            advice = (
                f"Check its power, network and address: `spoold printer show {device.printer}`."
            )
            yield failed("printer", f"{device.printer}: {_place(device)}: {problem}", advice)


def _place(device: Device) -> str:
    """Where it is, without what a URI may say beside that."""
    parts = urlsplit(device.uri)
    return parts.path if parts.scheme == "file" else parts.netloc.rpartition("@")[2]


def _reach(device: Device) -> str:
    """Why the device does not take a connection; "" when it does, or is not reached by one."""
    parts = urlsplit(device.uri)
    if parts.scheme == "file":
        path = Path(parts.path)
        return "" if os.access(existing(path), os.W_OK) else "it may not be written"
    port = parts.port or DEVICE_PORTS.get(parts.scheme)
    if port is None or not parts.hostname:
        return ""
    try:
        with socket.create_connection((parts.hostname, port), CONNECT_S):
            return ""
    except (OSError, UnicodeError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _each(function: Callable[[Asked], Answer], values: Iterable[Asked]) -> list[Answer]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, values))


CHECKERS = (check_data_dir, check_ports, check_names, check_interfaces, check_certificates)
