"""How numbers of cards are read, and under which hashes they are known."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.model.card import (
    CONVERTERS,
    NUMBER_CHARACTERS_MAX,
    STEPS,
    Digests,
    convert,
    ending,
    find_converter,
)
from spoold.model.errors import OperationError

ADA, BOB = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("converter", "raw", "number"),
    [
        ("plain", " 04a1-b2c3\r\n", "04A1B2C3"),
        ("plain", "12:3456", "12:3456"),
        ("decimal", "0003283263748", "3283263748"),
        ("hex", "0x04A1b2c3", "04A1B2C3"),
        ("hex", "04:A1:B2:C3", "04A1B2C3"),
        ("hex-to-decimal", "04A1B2C3", "77705923"),
        ("hex-reversed", "04A1B2C3", "C3B2A104"),
        ("hex-reversed-to-decimal", "04A1B2C3", "3283263748"),
        ("decimal-reversed", "77705923", "3283263748"),
        ("decimal-to-hex", "77705923", "04A1B2C3"),
        ("hex reverse-bits to-hex", "80", "01"),
        ("hex bits:8:16 decimal:8", "FF1234FF", "00004660"),
        # H10301, facility 159, number 1701 (0x9F, 0x6A5), with both parities.
        ("wiegand-26", "13E0D4B", "159:1701"),
        ("wiegand-26/1", "013E 0D4B", "159:1701"),
        ("wiegand-26-decimal", str(0x13E0D4B), "159:1701"),
        ("wiegand-26-number", "13E0D4B", "1701"),
        ("wiegand-24", "9F06A5", "159:1701"),
    ],
)
def test_the_same_card_has_one_number(converter, raw, number):
    """Whatever its reader makes of it."""
    assert convert(converter, raw) == number


@pytest.mark.parametrize(
    ("converter", "raw"),
    [
        ("wiegand-26", "13E0D4A"),  # the last parity
        ("wiegand-26", "33E0D4B"),  # the first
        ("wiegand-26", "FFFFFFFF"),
        ("decimal", "12a4"),
        ("decimal", "\uff11\uff12\uff13\uff14"),
        ("hex", "0xyz"),
        ("hex", ""),
        ("plain", " - "),
        ("plain", "x" * 65536),
        ("decimal", "9" * 250),
        ("hex", "F" * 200),
        ("decimal-to-hex", "4294967296"),
        ("hex reverse-bytes", "ABC"),
        ("hex bits:30:8", "04A1B2C3"),
        ("reverse-bytes", "04A1B2C3"),
    ],
)
def test_what_is_no_number_of_such_a_card_is_refused(converter, raw):
    """With advice; the number is not said back."""
    with pytest.raises(OperationError) as caught:
        convert(converter, raw)
    assert (caught.value.code, bool(caught.value.advice)) == ("bad-request", True)
    assert len(raw.strip(" -")) < 4 or raw not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "wiegand", "wiegand-26/2", "hex bits:1", "hex bits:1:2:3", "hex length:9999"),
        *("hex " * 13, "x" * 65536, "hex fields", "hex length:-1", "hex\0", "plain/../../1"),
    ],
)
def test_there_is_no_such_converter(text):
    """The advice names what comes near."""
    with pytest.raises(OperationError) as caught:
        find_converter(text)
    assert caught.value.code == "bad-request"
    assert len(str(caught.value)) < 400


def test_a_name_without_a_version_is_that_of_today():
    """What is kept is the name with its version, or the steps as they are."""
    assert find_converter("wiegand-26") == "wiegand-26/1"
    assert find_converter(" hex  reverse-bytes ") == "hex reverse-bytes"
    assert {find_converter(name) for name in CONVERTERS} == set(CONVERTERS)


@given(st.sampled_from([*CONVERTERS, *STEPS, "hex fields:4:4:8 "]), st.text(max_size=300))
def test_whatever_a_reader_says_is_a_number_or_refused(converter, raw):
    """And the number is short and plain."""
    try:
        number = convert(converter, raw)
    except OperationError:
        return
    assert 0 < len(number) <= NUMBER_CHARACTERS_MAX
    assert number.isascii()
    assert number.replace(":", "").isalnum()
    assert len(ending(number)) <= len(number) // 2


def test_cards_are_known_by_keyed_hashes():
    """Another key is another hash; of several keys the last one makes the new hashes."""
    old, new = Digests([bytes(32)]), Digests([bytes(32), b"k" * 32])
    assert new.cards("1234") == [old.card("1234"), new.card("1234")]
    assert old.card("1234") != new.card("1234") != new.card("1235")
    assert {digest[:4] for digest in new.cards("1234")} == set(new.key_ids)
    assert b"1234" not in new.card("1234")
    assert "0" * 10 not in repr(old)


def test_a_short_pin_is_hashed_with_its_owner():
    """Several people may have it; a long one is one person's."""
    digests = Digests([bytes(32)])
    for pin in ("7301", "730194"):
        assert digests.pins(pin, ADA) != digests.pins(pin, BOB)
        assert digests.pins(pin) != digests.pins(pin, ADA)
    assert digests.pins("7301") == []


@pytest.mark.parametrize("keys", [[], [b""], [b"k" * 31], [b"k" * 32, b"short"]])
def test_a_key_is_32_bytes(keys):
    """Nothing is hashed under less."""
    with pytest.raises(ValueError, match="32 bytes"):
        Digests(keys)
