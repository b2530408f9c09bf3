"""Operator commands."""


def main() -> int:
    return 0
