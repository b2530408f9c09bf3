"""Keys and certificates for those who come in by themselves, made here and handed out once."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from cryptography import x509

from spoold.daemon.authority import microseconds
from spoold.daemon.operations.table import Call
from spoold.model.errors import IdentityError, OperationError


class Made(NamedTuple):
    """What is to be known here of a certificate, and what is `shown` of it, with its key."""

    serial: str
    until_us: int
    shown: dict[str, Any]


def make(call: Call, kind: str, guid: UUID, name: str, days: int) -> Made:
    """A key and a certificate for a provider, a device or a user; nothing is kept of it yet.

    Raises:
        OperationError: `not-possible`: the CA has expired, or the clock is wrong.
    """
    identity = call.services.identity
    try:
        key, certificate, serial = identity.enrol(kind, guid, name, days)
    except IdentityError as error:
        raise OperationError("not-possible", f"{error.cause}.", error.advice) from error
    until_us = microseconds(x509.load_pem_x509_certificate(certificate).not_valid_after_utc)
    shown = {
        "serial": serial,
        "not_after_us": until_us,
        "key_pem": key.decode(),
        "certificate_pem": certificate.decode(),
        "ca_pem": identity.ca_pem.decode(),
    }
    return Made(serial, until_us, shown)
