"""Which printer is believed over TLS, and who we say that we are.

In: a device's options. Out: a `Trust` that turns a connected socket into a TLS stream and checks
whose it is, and a `Login` that reads its password when it is needed. Printers mostly sign their own
certificates: `tls=pin` takes one by the SHA-256 fingerprint in `fingerprint`, which the one who
adds the printer has seen; `verify` (the default) asks the CAs of `ca_file` or of this machine;
`none` takes any. A password stands in a file of the daemon's own, never in an option: options go
into the journal.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import trio

from spoold.driver.options import Options, files, switches, texts
from spoold.model.errors import IdentityError, OperationError
from spoold.model.printer import Device
from spoold.net import credentials
from spoold.net.stream import Stream
from spoold.net.tcp import SocketStream
from spoold.net.tls import TlsStream, client_context

MODES: Final = ("verify", "pin", "none")
PASSWORD_BYTES_MAX: Final = 1024


class NotTrusted(Exception):
    """The printer's certificate is not the one that we were told to believe."""


class NoPassword(Exception):
    """The file with the password cannot be used; the message says why and what to do."""


def fingerprint_of(certificate_der: bytes) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(certificate_der).hexdigest()


@dataclass(frozen=True)
class Trust:
    """How a device is known over TLS."""

    host: str
    mode: str = "verify"
    fingerprint: str = ""
    ca_file: Path | None = None

    @property
    def is_told(self) -> bool:
        """Whether somebody said whom to believe."""
        return self.mode != "verify" or self.ca_file is not None

    @cached_property
    def _context(self) -> ssl.SSLContext:
        if self.mode != "verify":
            return client_context(is_verified=False)
        ca_pem = self.ca_file.read_bytes() if self.ca_file is not None else None
        return client_context(ca_pem=ca_pem)

    async def secure(self, stream: Stream, timeout_s: float) -> TlsStream:
        """TLS on the connection that `stream` has; the printer behind it is the one we know.

        Raises:
            NotTrusted: it is another, or nobody vouches for it.
            OSError: there is no TLS to be had.
        """
        if not isinstance(stream, SocketStream):
            raise OSError(errno.EPROTOTYPE, "only a socket can speak TLS")
        try:
            context = self._context
        except (OSError, IdentityError) as error:
            stream.abort()
            raise NotTrusted(f"ca_file cannot be used: {error}") from error
        peer = stream.peer
        secured = TlsStream(
            stream.detach(), context, server_side=False, server_hostname=self.host, peer=peer
        )
        try:
            await secured.handshake(timeout_s)
        except trio.BrokenResourceError as broken:
            if isinstance(broken.__cause__, ssl.SSLCertVerificationError):
                raise NotTrusted(f"its certificate: {broken.__cause__.verify_message}") from broken
            raise OSError(errno.ECONNABORTED, str(broken)) from broken
        self._check(secured)
        return secured

    def _check(self, stream: TlsStream) -> None:
        if self.mode != "pin":
            return
        shown = fingerprint_of(stream.peer_certificate_der() or b"")
        if shown != self.fingerprint:
            stream.abort()
            raise NotTrusted(f"its certificate is another now: {shown}")


OPTIONS: Final[Options] = {
    **texts("tls", "fingerprint", "user"),
    **files("ca_file", "password_file"),
    **switches("clear_password"),
}


def trust_of(device: Device, host: str) -> Trust:
    """How the device's options say that its printer is known.

    Raises:
        OperationError: `bad-request`, an option cannot be.
    """
    mode = device.option("tls", "verify")
    fingerprint = device.option("fingerprint", "").lower().replace(" ", "")
    if fingerprint and not fingerprint.startswith("sha256:"):
        fingerprint = f"sha256:{fingerprint}"
    digits = fingerprint.removeprefix("sha256:").replace(":", "")
    ca_file = device.option("ca_file", "")
    if mode not in MODES:
        raise OperationError(
            "bad-request", f"tls={mode} cannot be.", f"Known are {', '.join(MODES)}."
        )
    if mode == "pin" and (len(digits) != 64 or set(digits) - set("0123456789abcdef")):
        raise OperationError(
            "bad-request",
            "tls=pin needs the printer's certificate.",
            "Give its SHA-256 as fingerprint=HEX; `openssl x509 -fingerprint -sha256` shows it.",
        )
    return Trust(host, mode, f"sha256:{digits}", Path(ca_file) if ca_file else None)


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the printer. The password is read anew each time: it may have been changed."""

    user: str
    password_file: Path

    async def header(self) -> str:
        """The value of `Authorization` (RFC 7617).

        Raises:
            NoPassword: the file is not there, empty, or can be read by others.
        """
        return await trio.to_thread.run_sync(self._header)

    def _header(self) -> str:
        path = self.password_file
        try:
            path = credentials.resolve(str(path))
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if not credentials.is_private(path, status):
                    raise NoPassword(f"{path} can be read by others: `chmod 600 {path}`.")
                password = file.read(PASSWORD_BYTES_MAX).partition(b"\n")[0].rstrip(b"\r")
        except OSError as error:
            raise NoPassword(
                f"{path} cannot be read: {error.strerror}. Let spoold's user own it."
            ) from error
        if not password:
            raise NoPassword(f"{path} is empty: its first line is the password.")
        pair = self.user.encode() + b":" + password
        return "Basic " + base64.b64encode(pair).decode("ascii")


def login_of(device: Device) -> Login | None:
    """Whom the device's options say that we are; None without a user.

    Raises:
        OperationError: `bad-request`, an option is missing, or one is where it must not be.
    """
    user, file = device.option("user", ""), device.option("password_file", "")
    if device.option("password", "") or device.parts.password:
        raise OperationError(
            "bad-request",
            "a password must not stand in an option or a URI: they go into the journal.",
            "Write it to a file that only spoold's user can read: password_file=PATH.",
        )
    if (
        bool(user) is not bool(file)
        or ":" in user
        or (file and not file.startswith("/") and not credentials.is_name(file))
    ):
        raise OperationError(
            "bad-request",
            f"user={user}, password_file={file} cannot be.",
            "Give both; the user has no colon, the file its whole path, or it is credential:NAME.",
        )
    return Login(user, Path(file)) if user else None
