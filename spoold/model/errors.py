"""Every error of spoold, once. Its docstring is its meaning.

Four kinds: expected outcomes are values (`outcome`); the peer's fault is `RemoteProtocolError`; the
world's fault is a `SpooldError` with advice; anything else is our own bug and ends the daemon.
"""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """The peer broke the protocol. Raised only by codecs, caught once, at the connection.

    `reply_hint` is what to answer, in the protocol's own terms (an HTTP status, an IPP status
    keyword, a frames error code); empty when there is nothing to say.
    """

    def __init__(self, message: str, reply_hint: str = "") -> None:
        super().__init__(message)
        self.reply_hint = reply_hint


class SpooldError(Exception):
    """The world's fault: what was tried, on what, why it failed, and what the operator can do."""

    def __init__(self, operation: str, subject: str, cause: object, advice: str) -> None:
        super().__init__(f"{operation} {subject}: {str(cause).removesuffix('.')}. {advice}")
        self.operation = operation
        self.subject = subject
        self.cause = cause
        self.advice = advice


class ConfigError(SpooldError):
    """The configuration cannot be used. The daemon does not start, or keeps the one it has."""


class SpoolError(SpooldError):
    """The spool could not keep or find something. Nothing was acknowledged."""


class SpoolFull(SpoolError):
    """No room for a new job. Nothing was stored; jobs already accepted are safe."""


class StoreFailed(SpoolError):
    """A write or sync of the store failed. The daemon must stop: nothing after this is durable."""


class IdentityError(SpooldError):
    """A key or certificate is missing, damaged or not ours."""


class OperationError(Exception):
    """An operation was asked for and refused; the answer to the asker, on every port.

    `code` is a stable keyword: `not-found`, `not-possible`, `bad-request`, `forbidden`, `conflict`,
    `spool-area-full`, `busy`, `not-accepting`, `too-large`, `digest-mismatch`, `unauthorized` (log
    in), `internal-error`, `in-doubt` (nobody heard whether it was done); of money
    `account-limit-reached`, `account-info-needed` (nobody is known who pays), `pages-unknown`.
    """

    def __init__(self, code: str, message: str, advice: str = "") -> None:
        super().__init__(f"{message} {advice}".strip())
        self.code = code
        self.message = message
        self.advice = advice

    def as_map(self) -> dict[str, str]:
        """As it stands in answers: FRAMES.md 2."""
        return {"code": self.code, "message": self.message, "advice": self.advice}
