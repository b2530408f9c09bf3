"""The deployment's certificate authority: it computes, and touches neither files nor sockets.

In: CA certificates and keys as PEM, a wall clock. Out: certificates for nodes and providers, the
list of revoked ones, and who a certificate stands for: its SAN says `spoold:KIND:GUID` (RFC 5280).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from ipaddress import ip_address
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spoold.model.errors import IdentityError
from spoold.model.text import plain
from spoold.net.address import host_name

AUTHORITY_DAYS = 3650
NODE_DAYS = 365
SITE_DAYS = 90
BACKDATED = timedelta(hours=1)  # for peers whose clocks are a little behind
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DESCRIBED_CHARACTERS_MAX = 400
COMMON_NAME_BYTES = 64  # RFC 5280, appendix A.1: ub-common-name
SUBJECT = re.compile(r"spoold:([a-z][a-z-]*):([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
KEY_BLOCK = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.*?-----END (?:[A-Z]+ )?PRIVATE KEY-----\n?", re.S
)
RESTORE = (
    "Restore the identity directory from a backup. Moved away, it is made anew at the next start; "
    "then every provider must be enrolled again."
)

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who a certificate of the deployment stands for; `serial` is lower-case hexadecimal."""

    kind: str
    guid: UUID
    name: str
    serial: str
    not_after_us: int


class Authority:
    """The CA certificates that this deployment trusts, and the keys of those that sign here.

    The first certificate signs. Two anchors during a rollover: the new one first, then the old one.
    Keep the key of the old one: without it there is no revocation list for its certificates, and
    the mutual port refuses them all.
    """

    def __init__(self, ca_pem: bytes, key_pem: bytes, wall_clock: Clock) -> None:
        """Raises IdentityError: a certificate or key is damaged, or the first has no key."""
        try:
            self.trusted = tuple(x509.load_pem_x509_certificates(ca_pem))
            keys = private_keys(key_pem)
        except (ValueError, TypeError) as error:
            raise IdentityError("read", "the deployment CA", error, RESTORE) from error
        self.ca_pem = ca_pem
        self._clock = wall_clock
        by_public = {public_bytes_of(key): key for key in keys}
        self._signers = [
            (certificate, by_public[public])
            for certificate in self.trusted
            if (public := public_bytes_of(certificate)) in by_public
        ]
        if not self._signers or self._signers[0][0] != self.trusted[0]:
            raise IdentityError(
                "read", "the deployment CA", "the key of its first certificate is missing", RESTORE
            )

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the signing certificate, as `openssl x509 -fingerprint` prints it."""
        return fingerprint_of(self.ca_pem)

    def enrol(self, kind: str, guid: UUID, name: str, days: int) -> tuple[bytes, bytes, str]:
        """A new key and its client certificate (both PEM), and the certificate's serial.

        Raises:
            IdentityError: the CA has expired, or the clock is wrong.
        """
        return _with_new_key(partial(self._sign, kind, guid, name, days, (), False))

    def enrol_node(self, guid: UUID, name: str, names: Iterable[str]) -> tuple[bytes, bytes, str]:
        """As `enrol`, for a node: it serves under `names`, and connects to other nodes.

        Raises:
            IdentityError: as `enrol`, or one of the names cannot be one.
        """
        return _with_new_key(partial(self._sign, "node", guid, name, NODE_DAYS, names, True))

    def certify_site(
        self, guid: UUID, name: str, key: ec.EllipticCurvePublicKey, names: Iterable[str]
    ) -> tuple[tuple[bytes, str], tuple[bytes, str]]:
        """Two certificates (PEM) with their serials for the key of a site: as `node` to dial with,
        and as `site` to serve under `names`. With neither can it pass for an application server.

        Raises:
            IdentityError: as `enrol`, or one of the names cannot be one.
        """
        return (
            self._sign("node", guid, name, SITE_DAYS, (), False, key),
            self._sign("site", guid, name, SITE_DAYS, names, True, key),
        )

    def crl(self, serials: Iterable[str]) -> bytes:
        """The list of revoked serials as PEM, one copy for each CA whose key is here.

        It is never too old nor too new: no outage and no clock can trip it.
        """
        revoked = sorted({int(serial, 16) for serial in serials})
        made = bytearray()
        for certificate, key in self._signers:
            since = certificate.not_valid_before_utc
            builder = (
                x509.CertificateRevocationListBuilder()
                .issuer_name(certificate.subject)
                .last_update(since)
                .next_update(NEVER)
                .add_extension(_authority_key(certificate), critical=False)
                .add_extension(x509.CRLNumber(len(revoked)), critical=False)
            )
            for serial in revoked:
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder()
                    .serial_number(serial)
                    .revocation_date(since)
                    .build()
                )
            made += builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return bytes(made)

    def identify(self, der: bytes) -> PeerIdentity:
        """As the function `identify`, with the certificates of this CA."""
        return identify(der, self.trusted)

    def is_issuer(self, certificate: x509.Certificate) -> bool:
        """The CA that signs today has signed it."""
        return _is_issued_by(certificate, self.trusted[0])

    def is_valid_at(self, now: datetime) -> bool:
        """What the CA signs can count at that moment."""
        ca, _ = self._signers[0]
        return ca.not_valid_before_utc <= now < ca.not_valid_after_utc

    def _sign(
        self,
        kind: str,
        guid: UUID,
        name: str,
        days: int,
        names: Iterable[str],
        is_server: bool,
        key: ec.EllipticCurvePublicKey,
    ) -> tuple[bytes, str]:
        ca, ca_key = self._signers[0]
        now = moment(self._clock())
        if not self.is_valid_at(now):
            raise IdentityError(
                "issue a certificate for",
                name,
                f"it is {now:%Y-%m-%d}, and the CA is valid from {ca.not_valid_before_utc:%Y-%m-%d}"
                f" to {ca.not_valid_after_utc:%Y-%m-%d}",
                "Set the clock; if it is right, the deployment needs a new CA.",
            )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if is_server:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        serial = x509.random_serial_number()
        subject = x509.UniformResourceIdentifier(f"spoold:{kind}:{guid}")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_common_name(name or str(guid)))
            .issuer_name(ca.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(max(now - BACKDATED, ca.not_valid_before_utc))
            .not_valid_after(min(now + timedelta(days=days), ca.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([subject, *map(general_name, names)]), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_key(ca), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM), f"{serial:x}"


def _with_new_key(
    sign: Callable[[ec.EllipticCurvePublicKey], tuple[bytes, str]],
) -> tuple[bytes, bytes, str]:
    """A key that is made here, its certificate, both PEM, and the serial of that."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, serial = sign(key.public_key())
    return key_pem_of(key), pem, serial


def fingerprint_of(ca_pem: bytes) -> str:
    """The SHA-256 of the first certificate, as `openssl x509 -fingerprint` prints it."""
    first = x509.load_pem_x509_certificates(ca_pem)[0]
    return first.fingerprint(hashes.SHA256()).hex(":").upper()


def may_serve(certificate: x509.Certificate) -> bool:
    """Whether a server may show it; one that does not say what for may be used for anything
    (RFC 5280 4.2.1.12).
    """
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    any_ = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or any_ in usage


def make_ca(wall_clock: Clock) -> tuple[bytes, bytes]:
    """Certificate and key (both PEM) of a new CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = moment(wall_clock())
    # unlike any other of the same deployment, so that two anchors are told apart by name as well
    subject = _common_name(f"spoold deployment CA {os.urandom(4).hex()}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), key_pem_of(key)


def described(der: bytes) -> str:
    """What an operator finds a certificate by, whoever has signed it: subject, serial, SHA-256.

    Ours are told by GUID: the name of a person can be erased, and this is kept.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        try:
            kind, guid = subject_of(certificate)
            subject = f"{kind} {guid}"
        except ValueError:
            subject = certificate.subject.rfc4514_string()
        shown = f"{subject}, serial {certificate.serial_number:x}, "
    except ValueError:
        shown = "unreadable, "
    return plain(f"{shown}SHA-256 {sha256(der).hexdigest()}")[:DESCRIBED_CHARACTERS_MAX]


def identify(der: bytes, trusted: Sequence[x509.Certificate]) -> PeerIdentity:
    """Who the certificate stands for. Validity and revocation were judged in the handshake.

    Raises:
        IdentityError: none of `trusted` has signed it, or it names nobody of ours.
    """

    def refused(cause: object) -> IdentityError:
        return IdentityError(
            "identify", "a client certificate", cause, "`spoold provider enrol` makes good ones."
        )

    try:
        certificate = x509.load_der_x509_certificate(der)
        kind, guid = subject_of(certificate)
    except ValueError as error:
        raise refused(error) from error
    if not any(_is_issued_by(certificate, ca) for ca in trusted):
        raise refused("no CA of this deployment has signed it")
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return PeerIdentity(
        kind=kind,
        guid=guid,
        name=str(names[0].value) if names else "",
        serial=f"{certificate.serial_number:x}",
        not_after_us=microseconds(certificate.not_valid_after_utc),
    )


def alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The names in its SAN; none without one."""
    with contextlib.suppress(x509.ExtensionNotFound):
        return list(
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    return []


def subject_of(certificate: x509.Certificate) -> tuple[str, UUID]:
    """KIND and GUID of the one `spoold:KIND:GUID`; else ValueError."""
    return subject_in(alternative_names(certificate))


def subject_in(names: Sequence[x509.GeneralName]) -> tuple[str, UUID]:
    """KIND and GUID of the one `spoold:KIND:GUID` in a SAN; else ValueError."""
    uris = [
        name.value
        for name in names
        if isinstance(name, x509.UniformResourceIdentifier) and name.value.startswith("spoold:")
    ]
    match = SUBJECT.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None:
        raise ValueError("its SAN has no `spoold:KIND:GUID`")
    return match[1], UUID(match[2])


def _is_issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def general_name(name: str) -> x509.GeneralName:
    """A host name or address as a SAN has it; IdentityError when it cannot be one."""
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ip_address(name.partition("%")[0]))
    try:
        return x509.DNSName(host_name(name))
    except ValueError as error:
        raise IdentityError(
            "make a certificate for",
            repr(name),
            "it is no host name",
            "Check the advertised names.",
        ) from error


def _common_name(name: str) -> x509.Name:
    short = name.encode("utf-8")[:COMMON_NAME_BYTES].decode("utf-8", "ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, short)])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        held = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = ca.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(held)


def private_keys(pem: bytes) -> list[CertificateIssuerPrivateKeyTypes]:
    """Every key in `pem`, in order.

    Raises:
        ValueError: one is damaged, or of a kind that cannot sign certificates.
        TypeError: one has a password.
    """
    keys: list[CertificateIssuerPrivateKeyTypes] = []
    for block in KEY_BLOCK.findall(pem):
        key = load_pem_private_key(block, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("only EC and RSA keys can be used")
        keys.append(key)
    return keys


def key_pem_of(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """The key as PEM, without a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_bytes_of(holder: x509.Certificate | CertificateIssuerPrivateKeyTypes) -> bytes:
    """The public key of a certificate or private key, in the one form that can be compared."""
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def moment(time_us: int) -> datetime:
    """The moment as certificates have it, in whole seconds."""
    return (EPOCH + timedelta(microseconds=time_us)).replace(microsecond=0)


def microseconds(time: datetime) -> int:
    """UTC µs of a certificate's time."""
    return int((time - EPOCH).total_seconds()) * 1_000_000
