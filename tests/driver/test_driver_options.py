"""Options of devices that an operator asks for: known names, and values that can be read."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from uuid import UUID

import pytest

from spoold import driver
from spoold.driver import link
from spoold.model.errors import OperationError
from spoold.model.printer import Device
from support.foreign import install_driver

ASKED = re.compile(r'device\.(?:option|seconds|is_on)\(\s*"(\w+)"|_choice\(device, "(\w+)"')


def device(uri: str, **options: str) -> Device:
    return Device(1, UUID(int=7), uri, options)


@pytest.mark.parametrize(
    ("uri", "options", "said"),
    [
        ("socket://h", {"pj1": "on"}, "no option pj1. Did you mean pjl?"),
        ("file:///d", {"whatever": "on"}, "no option whatever. Known: copies, sync."),
        ("lpd://h/q", {"whatever": "x"}, "`--option whatever=` takes it away."),
        ("socket://h", {"connect_timeout_s": "soon"}, "Give a number of seconds."),
        ("ipp://h", {"poll_max_s": "nan"}, "poll_max_s=nan cannot be"),
        ("lpd://h/q", {"timeout_s": "-1"}, "timeout_s=-1 cannot be"),
        ("socket://h", {"pjl": "maybe"}, "Give on or off."),
        ("ipps://h", {"ca_file": "ca.pem"}, "Give the whole path"),
    ],
)
def test_an_option_that_cannot_be_is_refused(uri, options, said):
    """With what it may have been meant to be."""
    with pytest.raises(OperationError) as caught:
        link.check_options(device(uri, **options))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("socket://h", {"pjl": "ON", "stall_s": "0.5", "snmp_community": "x", "silence": "wait"}),
        ("lpd://h/q", {"order": "data,control", "banner": "no", "snmp_timeout_s": "3"}),
        ("ipps://h", {"tls": "pin", "fingerprint": "x", "offer_s": "1e3", "chunked": "0"}),
        ("spoold://h/p", {"credentials": "/x", "answer_timeout_s": "60"}),
    ],
)
def test_options_that_can_be_are_let_through(uri, options):
    """What is in a text is for the driver to judge."""
    link.check_options(device(uri, **options))


def test_every_option_that_a_driver_asks_for_is_known():
    """Or nobody could give it."""
    folder = Path(driver.__file__).parent
    texts = [path.read_text() for path in folder.glob("*.py")]
    asked = {"".join(names) for text in texts for names in ASKED.findall(text)}
    known = {name for one in entry_points(group=link.GROUP) for name in one.load().options}
    assert asked - known == {"password"}, "a password must not stand in an option"
    assert known <= asked


def test_a_driver_without_a_list_judges_its_options_itself(tmp_path, monkeypatch):
    """It may come from anywhere."""
    install_driver(tmp_path, monkeypatch, "free")
    link.check_options(device("free://x", anything="goes"))
