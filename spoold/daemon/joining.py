"""How a node joins: the token, the request for a certificate, and the door where it is asked for.

A node that has no certificate, or one that is too old, cannot pass 9195. It names `JOIN_NAME` in
its ClientHello and is let in without one, to ask for a certificate and nothing else. It believes
the server by the CA: the token carries its fingerprint, later the node knows the CA itself. Times
in certificates are not looked at here: a node whose clock is wrong must be able to come back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spoold.daemon import authority as authorities
from spoold.daemon.authority import PeerIdentity, identify
from spoold.model.errors import ConfigError, IdentityError, OperationError
from spoold.net.address import parse_address
from spoold.net.context import client_context, reason_of
from spoold.net.stream import Stream
from spoold.net.tls import TlsStream
from spoold.provider.connection import Connection
from spoold.provider.course import Lost, hello_arguments

JOIN_NAME = "join.spoold.invalid"  # RFC 6761: nobody has this name
TOKEN_PREFIX = "spj-"
SECRET_BYTES = 16
FINGERPRINT_BYTES = 32
TIMEOUT_S = 10.0
PEM_BYTES_MAX = 8192
NAMES_MAX = 32


class Network(Protocol):
    async def connect_tls(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        timeout_s: float,
    ) -> Stream: ...


@dataclass(frozen=True, slots=True)
class Token:
    """What an invitation gives out: the SHA-256 of the CA's certificate, and a secret."""

    fingerprint: bytes
    secret: bytes = field(repr=False)

    @property
    def key(self) -> bytes:
        """What the application server keeps of the secret."""
        return hashlib.sha256(self.secret).digest()

    def __str__(self) -> str:
        text = base64.urlsafe_b64encode(self.fingerprint + self.secret).decode().rstrip("=")
        return TOKEN_PREFIX + text

    @classmethod
    def parse(cls, text: str) -> Token:
        """Raises OperationError: `bad-request`: it is none, or was not copied whole."""
        body = text.strip().removeprefix(TOKEN_PREFIX)
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if not text.strip().startswith(TOKEN_PREFIX) or (
            len(data) != FINGERPRINT_BYTES + SECRET_BYTES
        ):
            raise OperationError(
                "bad-request",
                "this is no whole token.",
                f"`spoold site invite NAME` prints one; it begins with {TOKEN_PREFIX}.",
            )
        return cls(data[:FINGERPRINT_BYTES], data[FINGERPRINT_BYTES:])


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_request(
    guid: UUID, key: CertificateIssuerPrivateKeyTypes, names: Sequence[str] = ()
) -> str:
    """A certificate signing request of this node as PEM; it shows that the key is here.

    `names` are those under which it wants to serve.
    """
    subject = x509.UniformResourceIdentifier(f"spoold:node:{guid}")
    others = [authorities.general_name(name) for name in names]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([subject, *others]), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def read_request(pem: str) -> tuple[UUID, ec.EllipticCurvePublicKey, list[str]]:
    """Whose request it is, the key that has signed it, and the names that it asks for.

    Raises:
        OperationError: `bad-request`.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not request.is_signature_valid:
            raise ValueError("its signature is wrong, or its key of a kind that is not used")
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        kind, guid = authorities.subject_in(list(names))
        if kind != "node":
            raise ValueError(f"it is of a {kind}")
    except (ValueError, x509.ExtensionNotFound) as error:
        raise OperationError(
            "bad-request", f"the request for a certificate cannot be used: {error}."
        ) from error
    return guid, key, host_names(names)[:NAMES_MAX]


def host_names(names: Iterable[x509.GeneralName]) -> list[str]:
    """The host names and addresses of a SAN, as texts."""
    return [str(one.value) for one in names if isinstance(one, x509.DNSName | x509.IPAddress)]


def names_in(pem: str) -> list[str]:
    """The host names and addresses that a certificate is for."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return host_names(authorities.alternative_names(certificate))


def key_hash(key: ec.EllipticCurvePublicKey) -> bytes:
    """The SHA-256 of a public key, by which a node is known."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


@asynccontextmanager
async def open_door(
    network: Network,
    server: str,
    name: str,
    *,
    fingerprint: bytes | None = None,
    ca_pem: str = "",
) -> AsyncIterator[tuple[Connection, str]]:
    """The door of `server` for nodes without a certificate, and the CA certificates as PEM.

    The server is believed when a CA signs for it that has `fingerprint`, or is in `ca_pem`.

    Raises:
        Lost: nobody is there, or it is not to be believed.
    """
    context = client_context(is_verified=False)
    try:
        where = parse_address(server)
        stream = await network.connect_tls(
            where.host, where.port, context, server_hostname=JOIN_NAME, timeout_s=TIMEOUT_S
        )
    except OSError as error:
        raise Lost(f"{server}: {reason_of(error)}") from error
    except ConfigError as error:
        raise Lost(str(error)) from error
    connection = Connection(stream, answer_timeout_s=TIMEOUT_S)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(connection.run, hello_arguments("node", name, "spoold", 15.0))
            found = ca_pem or await _ask_ca(connection)
            _believe(stream, found, fingerprint)
            yield connection, found
        except (Lost, OperationError) as error:
            failure = Lost(f"{server}: {error}")
        except IdentityError as error:  # of those who use it; out of the nursery as it is
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _ask_ca(connection: Connection) -> str:
    """Raises Lost: no node joins at this port."""
    try:
        return str((await connection.call("site.ca", {})).get("pem"))
    except OperationError as error:
        raise Lost("no site joins at this port") from error


def _believe(stream: Stream, ca_pem: str, fingerprint: bytes | None) -> None:
    """Raises Lost: the server is none of an application server of this deployment."""
    assert isinstance(stream, TlsStream)
    der = stream.peer_certificate_der()
    try:
        trusted = x509.load_pem_x509_certificates(ca_pem.encode())
        if fingerprint is not None:
            trusted = [one for one in trusted if _has_fingerprint(one, fingerprint)]
        peer = identify(der or b"", trusted)
        _check_kind(peer, der or b"")
    except (ValueError, IdentityError) as error:
        cause = error.cause if isinstance(error, IdentityError) else error
        raise Lost(f"the server is not the one that the token is for: {cause}") from error


def check_upstream(der: bytes | None, ca_pem: str) -> None:
    """Raises Lost: what was dialled has the name, and is no application server."""
    try:
        peer = identify(der or b"", x509.load_pem_x509_certificates(ca_pem.encode()))
        _check_kind(peer, der or b"")
    except (ValueError, IdentityError) as error:
        cause = error.cause if isinstance(error, IdentityError) else error
        raise Lost(f"the server is not believed: {cause}") from error


def _check_kind(peer: PeerIdentity, der: bytes) -> None:
    """Raises ValueError. Sites have certificates of the same CA, and of other kinds."""
    if peer.kind != "node" or not authorities.may_serve(x509.load_der_x509_certificate(der)):
        raise ValueError("it is not the certificate of an application server")


def _has_fingerprint(certificate: x509.Certificate, fingerprint: bytes) -> bool:
    return hmac.compare_digest(certificate.fingerprint(hashes.SHA256()), fingerprint)


async def ask(connection: Connection, args: dict[str, Any]) -> dict[str, Any]:
    """The answer to `site.join`, checked.

    Raises:
        Lost: there is none, or it makes no sense. OperationError: it was refused.
    """
    answer = await connection.call("site.join", args)
    if answer.get("state") not in ("pending", "approved") or not all(
        isinstance(answer.get(key), str)
        for key in ("name", "certificate_pem", "server_pem", "ca_pem")
    ):
        raise Lost("the answer to the request makes no sense")
    return answer


def servers_of(answer: dict[str, Any]) -> Sequence[str]:
    """The endpoints of an answer."""
    found = answer.get("endpoints")
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
