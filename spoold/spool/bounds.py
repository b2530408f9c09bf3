"""How much of what others say is kept: texts, attributes, evidence.

What a sender says is refused when it is too much; what a driver, or a rule, says of a job is cut:
an attempt must end, whatever a driver from anywhere says of it.
"""

from __future__ import annotations

from typing import Any

from spoold.model.errors import OperationError
from spoold.spool.rows import pack

TEXT_CHARACTERS_MAX = 1024
ATTRIBUTES_BYTES_MAX = 8192
ATTRIBUTES_LEVELS_MAX = 8
EVIDENCE_BYTES_MAX = 8192
WORD_CHARACTERS_MAX = 127
REASONS_MAX = 16


def packed_attributes(attributes: dict[str, Any]) -> bytes:
    """A sender's attributes as they are kept.

    Raises:
        OperationError: `too-large`: in bytes, or nested deeper than any reader wants to follow.
    """
    if _is_shallow(attributes, ATTRIBUTES_LEVELS_MAX):
        packed: bytes = pack(attributes)
        if len(packed) <= ATTRIBUTES_BYTES_MAX:
            return packed
    raise OperationError("too-large", "the job's attributes are too large.", "Send fewer.")


def _is_shallow(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return True
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in value)


def bounded_text(text: str) -> str:
    text = text[:TEXT_CHARACTERS_MAX]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def bounded_word(word: str) -> str:
    return bounded_text(word[:WORD_CHARACTERS_MAX])


def bounded_count(count: object) -> int:
    return count if isinstance(count, int) and 0 <= count < 1 << 63 else 0


def bounded_map(evidence: dict[str, Any]) -> dict[str, Any]:
    try:
        if len(pack(evidence)) <= EVIDENCE_BYTES_MAX:
            return evidence
        cause = "it is too large"
    except (ValueError, TypeError, OverflowError) as error:
        cause = bounded_text(str(error))
    return {"not-kept": cause}
