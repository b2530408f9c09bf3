"""A provider's credentials in one file that only root reads: key, certificate, whom it trusts.

In: PEM blocks in the order of `cat NAME.key NAME.crt ca.crt`, as `spoold provider enrol` makes
these files. Out: a TLS context, made in memory. The first certificate is the provider's own; those
behind it are the CAs of the servers. Nobody else may read or write the file, or it is not used.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from dataclasses import dataclass, field

from spoold.model.errors import ConfigError
from spoold.net.context import client_context

FILE_BYTES_MAX = 256 * 1024
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n[A-Za-z0-9+/=\r\n]{1,65536}-----END \1-----\r?\n?"
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the file holds, in PEM. `trusted_pem` is empty for the CAs that this machine trusts."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes
    trusted_pem: bytes

    def context(self) -> ssl.SSLContext:
        """Raises:
        IdentityError: key, certificate or CA cannot be used.
        """
        return client_context(
            ca_pem=self.trusted_pem or None, chain_pem=self.chain_pem, key_pem=self.key_pem
        )


def read_bundle(path: str) -> Bundle:
    """The credentials in `path`.

    Raises:
        ConfigError: it is not there, others may read it, or it does not hold key and certificate.
    """
    data = _read_private(path)
    keys, certificates = [], []
    for block in _BLOCK.finditer(data):
        if block[1] == b"CERTIFICATE":
            certificates.append(block[0])
        elif block[1].endswith(b"PRIVATE KEY"):
            keys.append(block[0])
    if len(keys) != 1 or not certificates:
        raise _unusable(
            path,
            f"it holds {len(keys)} private keys and {len(certificates)} certificates",
            "Make it of one key, its certificate and the CA: cat NAME.key NAME.crt ca.crt.",
        )
    return Bundle(keys[0], certificates[0], b"\n".join(certificates[1:]))


def _read_private(path: str) -> bytes:
    """The bytes of a file that belongs to root or to us, and that nobody else may touch."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _unusable(path, "it is not a file", "Name a file in PEM.")
            if status.st_mode & 0o077:
                raise _unusable(path, "others may read or write it", f"Run: chmod 600 {path}")
            if status.st_uid not in (0, os.geteuid()):
                raise _unusable(path, "it belongs to another user", f"Run: chown root {path}")
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error), "Only root reads it.") from error
    if len(data) > FILE_BYTES_MAX:
        raise _unusable(path, f"it is over {FILE_BYTES_MAX} bytes long", "Name a file in PEM.")
    return data


def _unusable(path: str, cause: str, advice: str) -> ConfigError:
    return ConfigError("use the credentials in", path, cause, advice)
