"""The manual pages: complete, and without a complaint of the formatter."""

from __future__ import annotations

import subprocess
from dataclasses import fields

import pytest

from spoold.cli import manual
from spoold.daemon import config, config_help


def test_every_key_of_the_configuration_is_explained() -> None:
    """Each key and section has its sentence, and no sentence speaks of a key that is gone."""
    sections = [(one.name, one.default_factory) for one in fields(config.Config)]
    keys = [name for prefix, shape in sections for name, _, _ in manual.keys(shape, prefix)]
    assert sorted(keys) == sorted(config_help.KEYS)
    assert {name for name, _ in sections} == set(config_help.SECTIONS)
    assert set(config_help.DEFAULTS) <= set(keys)


def test_commands_and_keys_stand_in_the_pages() -> None:
    """A command with its options and examples, a key with its range and default."""
    commands, keys = manual.commands(), manual.configuration()
    assert ".SS spoold printer add" in commands
    assert "\\fB\\-\\-in\\-doubt\\fR" in commands
    assert "spoold printer add frontdesk socket://192.0.2.7:9100" in commands
    assert "from 1 to 1000000. Default: 10000." in keys
    assert "from 60 s to 30 days" in keys


def test_text_that_looks_like_a_request_is_text() -> None:
    """A line that begins with a dot, a backslash, or a minus sign is shown as it is."""
    assert manual.escaped(".TH\\x\n'a -b") == "\\&.TH\\ex\n\\&'a \\-b"


@pytest.mark.slow
@pytest.mark.parametrize("page", [manual.commands, manual.configuration])
def test_the_formatter_has_nothing_to_say(page) -> None:
    """groff formats the page without a warning."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-wall", "-rLL=78n"],
        input=page(),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
