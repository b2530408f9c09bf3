"""TLS contexts: who is believed, who is refused, and what may be spoken.

In: certificates, keys and revocation lists as PEM. Out: `ssl.SSLContext`s for TLS 1.2 and 1.3 with
AEAD ciphers, without renegotiation and compression (RFC 9325). A refusal is a TLS alert that names
its reason, since OpenSSL itself checks CA, validity, purpose and revocation in the handshake.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from spoold.model.errors import IdentityError

RELOAD_S = 30.0
IGNORE_UNEXPECTED_EOF = 1 << 7  # SSL_OP_IGNORE_UNEXPECTED_EOF, <openssl/ssl.h>
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, <openssl/x509_vfy.h>
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all AEAD


def is_cut(error: OSError) -> bool:
    """Whether the peer's end came without close_notify; early OpenSSL 3 in Python says so oddly."""
    return isinstance(error, ssl.SSLEOFError) or (
        isinstance(error, ssl.SSLError) and "UNEXPECTED_EOF" in (error.reason or "")
    )


def reason_of(error: OSError) -> str:
    """Why TLS failed, in a few words for the log: what we found, or the alert that came."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if is_cut(error):
        return "the connection ended without close_notify"
    if isinstance(error, ssl.SSLError) and error.reason:
        alert = error.reason.partition("_ALERT_")[2]
        words = (alert or error.reason).lower().replace("_", " ")
        return f"the peer says: {words}" if alert else words
    return error.strerror or str(error)


def is_about_certificate(error: BaseException | None) -> bool:
    """Whether one side refused the other's certificate: it is missing, or not to be believed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    alert = error.reason or "" if isinstance(error, ssl.SSLError) else ""
    return alert.partition("_ALERT_")[2] in _CERTIFICATE_ALERTS


# RFC 8446 6.2, as OpenSSL spells them
_CERTIFICATE_ALERTS = frozenset({
    "ACCESS_DENIED", "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "CERTIFICATE_REQUIRED", "UNKNOWN_CA",
})  # fmt: skip


# How OpenSSL says it of a key of the same kind, and of one of another kind.
_KEY_OF_ANOTHER = frozenset({"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})


@contextlib.contextmanager
def _as_file(pem: bytes) -> Iterator[str]:
    """A path at which OpenSSL finds `pem`, which stays in memory; good inside the context."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _load_chain(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    try:
        with _as_file(chain_pem) as chain, _as_file(key_pem) as key:
            # without a password function OpenSSL would ask at the terminal
            context.load_cert_chain(chain, key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        is_of_another = getattr(error, "reason", None) in _KEY_OF_ANOTHER
        raise IdentityError(
            "use",
            "the TLS certificate",
            "the key is not that of the certificate" if is_of_another else reason_of(error),
            "The chain is PEM, the server's certificate first; its key is PEM without a password.",
        ) from error


def _trust(context: ssl.SSLContext, ca_pem: bytes, crl_pem: bytes | None) -> None:
    try:
        with _as_file(ca_pem + b"\n" + (crl_pem or b"")) as path:
            context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise IdentityError(
            "trust", "the CA certificates", reason_of(error), "They are PEM, one after another."
        ) from error
    # an intermediate can be an anchor: its root need not be there
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if crl_pem:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _settle_common(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Python 3.11 before 3.11.4 lets OpenSSL 3 take a cut for an orderly end: a job cut off would
    # print. The option has no name in Python before 3.12.
    context.options &= ~IGNORE_UNEXPECTED_EOF


def server_context(
    chain_pem: bytes,
    key_pem: bytes,
    *,
    client_ca_pem: bytes | None = None,
    crl_pem: bytes | None = None,
    checks_times: bool = True,
) -> ssl.SSLContext:
    """The context of a port. With `client_ca_pem` it is the mutual port.

    There a client must show a certificate of that CA which `crl_pem` does not revoke; missing,
    foreign, expired and revoked ones are answered by the alert that says so. A list must then be
    there for every CA, else its certificates are refused. There are no session tickets; a TLS 1.2
    session that OpenSSL remembers ends with this context, which a revocation replaces. On the other
    ports there are tickets for TLS 1.2 alone. Without `checks_times` whoever asks for the identity
    judges how old a client's certificate may be.

    Raises:
        IdentityError: certificate, key, CA or list cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _settle_common(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_chain(context, chain_pem, key_pem)
    if client_ca_pem is not None:
        _trust(context, client_ca_pem, crl_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        context.options |= ssl.OP_NO_TICKET
        if not checks_times:
            context.verify_flags |= NO_CHECK_TIME
    # A ticket of TLS 1.3 comes when it likes, and libcups before 2.5 takes it for the end.
    context.num_tickets = 0
    return context


def client_context(
    *,
    ca_pem: bytes | None = None,
    chain_pem: bytes | None = None,
    key_pem: bytes | None = None,
    is_verified: bool = True,
    checks_times: bool = True,
) -> ssl.SSLContext:
    """A context for connecting; `ca_pem` None means the CAs that this machine trusts.

    `is_verified=False` takes any certificate: for devices whose certificate the caller pins, by
    `TlsStream.peer_certificate_der`. Without `checks_times` a clock that is wrong here does not
    matter.

    Raises:
        IdentityError: certificate, key or CA cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _settle_common(context)
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_pem is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _trust(context, ca_pem, None)
    if not checks_times:
        context.verify_flags |= NO_CHECK_TIME
    if chain_pem is not None:
        _load_chain(context, chain_pem, key_pem or chain_pem)
    return context


class LiveContext:
    """The context of a port, built again when a file changes or a provider is revoked.

    `current` is for the next handshake; connections that stand keep theirs.
    """

    def __init__(self, build: Callable[[], ssl.SSLContext], files: Sequence[Path] = ()) -> None:
        self._build = build
        self._files = tuple(files)
        self._seen = self._look()
        self.current = build()

    def rebuild(self) -> None:
        """`current` is what `build` makes now; when it raises IdentityError, what it was."""
        self._seen = self._look()
        self.current = self._build()

    def refresh(self) -> bool:
        """Rebuilds when a file has changed since the last look, and says whether one had."""
        if self._look() == self._seen:
            return False
        self.rebuild()
        return True

    async def run(
        self, report: Callable[[IdentityError | None], None], interval_s: float = RELOAD_S
    ) -> None:
        """Looks at the files for ever; `report` hears None for a reload, or why there was none.

        A file that is half written fails once, and is read again when it has changed again.
        """
        import trio  # programs that only connect do without it

        while True:
            await trio.sleep(interval_s)
            try:
                if self.refresh():
                    report(None)
            except IdentityError as error:
                report(error)

    def _look(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for path in self._files:
            try:
                status = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found
