"""Amounts of money: whole numbers of 1/10,000 of the ledger's one currency, and nothing else.

A price may be worth less than the smallest coin, an amount never is a float. What is not whole
(square metres, a discount) is kept exact until the one rounding of a job, which is `rounded`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from spoold.model.errors import OperationError

UNIT = 10_000
PLACES = 4
AMOUNT_MAX = 10**13  # a thousand million: sums of very many of them are still exact in JSON

_NUMBER = re.compile(r"[+-]?[0-9]{1,10}(\.[0-9]{1,4})?")


def parse_amount(text: str) -> int:
    """The amount that `1.25`, `-0.0375` or `+10` says.

    Raises:
        OperationError: `bad-request`: it is no number, has more than four decimals or is too much.
    """
    if _NUMBER.fullmatch(text) is None:
        raise OperationError(
            "bad-request",
            f"{text[:40]!r} is no amount of money.",
            "Write it as 12.50, with at most four decimals.",
        )
    return check_amount(int(Decimal(text).scaleb(PLACES)))


def check_amount(amount: int) -> int:
    """`amount` when it is one that the ledger takes.

    Raises:
        OperationError: `bad-request`.
    """
    if not -AMOUNT_MAX <= amount <= AMOUNT_MAX:
        most = format_amount(AMOUNT_MAX)
        raise OperationError("bad-request", f"an amount is beyond {most}.", "Give less at once.")
    return amount


def format_amount(amount: int) -> str:
    """`12.50`, `0.0375`, `-3.00`: two decimals, or as many as it takes."""
    whole, part = divmod(abs(amount), UNIT)
    decimals = f"{part:04}"
    decimals = decimals[:2] + decimals[2:].rstrip("0")
    return f"{'-' if amount < 0 else ''}{whole}.{decimals}"


def rounded(exact: Decimal | Fraction | int, step: int = 1) -> int:
    """`exact` 1/10,000 as a multiple of `step`, halves away from zero: the one rounding rule."""
    value = Fraction(exact) / step
    whole, rest = divmod(abs(value), 1)
    whole += rest >= Fraction(1, 2)
    return int(whole if value >= 0 else -whole) * step
