"""What a site keeps encrypted: hashes of passwords, and the keys of the hashes of cards and PINs.

AES-256-GCM (NIST SP 800-38D). What a value is about is authenticated with it, so that nobody can
put one person's hash beside another's name. The nonce is made of the value itself by HMAC: the
same value seals the same, so that it can be seen whether it has changed, and no two values share
one. The key lies outside of the database, in the identity directory or handed over as a credential.

What this protects: a copy of the database, as a stolen file or a backup of it, gives away no hash
that could be guessed at, and hashes of cards and PINs need a key that is sealed in it. Who has the
whole disk has the key as well, unless it is a credential that is bound to the machine (by
systemd-creds with a TPM). Who is root on the running machine has everything.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from spoold.model.errors import SpooldError

KEY_BYTES = 32
NONCE_BYTES = 12
MARK = "sealed:1:"  # how a sealed text begins; no hash of a password does


class Vault:
    """Seals and opens. Anything sealed under another key is as good as lost."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(hmac.digest(key, b"spoold vault: cipher", "sha256"))
        self._nonces = hmac.digest(key, b"spoold vault: nonces", "sha256")

    def seal(self, plain: bytes, about: bytes) -> bytes:
        size = len(about).to_bytes(4, "big")
        nonce = hmac.digest(self._nonces, size + about + plain, "sha256")[:NONCE_BYTES]
        return nonce + self._cipher.encrypt(nonce, plain, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Raises VaultError: it was sealed under another key, about something else, or changed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError) as error:
            raise VaultError(
                "open",
                "what is sealed",
                "it does not belong to this node's key",
                "Restore identity/replica-key, or let the copy be taken anew: `spoold site sync`.",
            ) from error

    def seal_text(self, text: str, about: bytes) -> str:
        """As text, with a mark; an empty one stays so."""
        if not text:
            return text
        return MARK + b64encode(self.seal(text.encode("utf-8"), about)).decode("ascii")

    def open_text(self, text: str, about: bytes) -> str:
        """What was sealed by `seal_text`; a text without its mark is what it is.

        Raises:
            VaultError: as `open`.
        """
        if not text.startswith(MARK):
            return text
        return self.open(b64decode(text[len(MARK) :]), about).decode("utf-8")

    def __repr__(self) -> str:
        return "Vault()"


class VaultError(SpooldError):
    """Something sealed cannot be opened."""
