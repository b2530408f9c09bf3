"""Logins as HTTP carries them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec.basic import credentials

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":"))
PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]))


def header(text: str, charset: str = "utf-8", scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(text.encode(charset)).decode()}"


@given(NAMES, PASSWORDS)
def test_name_and_password_come_through(name, password):
    """Whatever is in them; the first colon ends the name."""
    assert credentials(header(f"{name}:{password}")) == (name, password)


def test_as_the_standard_shows_it():
    """RFC 7617 2 and 2.1."""
    assert credentials("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==") == ("Aladdin", "open sesame")
    assert credentials("Basic dGVzdDoxMjPCow==") == ("test", "123£")


def test_clients_that_know_no_utf_8_send_latin_1():
    """The same name and password in either."""
    pair = ("jörg", "Straße: £1")
    assert credentials(header(":".join(pair), "latin-1")) == pair
    assert credentials(header(":".join(pair), "utf-8", "bAsIc")) == pair


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic ",
        "Basic QWxhZGRpbg==",  # no colon
        "Basic QWxhZGRpbjpvcGVu!",
        "Basic QWxhZGRpbjpvcGV",
        "Basic é",
        "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Digest username=ada",
        "Basic " + "QUFB" * 10_000,
    ],
)
def test_what_is_no_login_is_none(value):
    """It is nobody's; it harms nobody."""
    assert credentials(value) is None


@given(st.text())
def test_anything_is_a_login_or_none(value):
    """Two texts, or nothing; never an error."""
    for text in (value, f"Basic {value}"):
        found = credentials(text)
        assert found is None or len(found) == 2
