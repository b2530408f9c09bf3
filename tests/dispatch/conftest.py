"""A floor of devices that do as a test says."""

from __future__ import annotations

import pytest

from support.devices import Floor, Machine


@pytest.fixture
def floor(spool):
    return Floor(spool, Machine)
