"""What the tests of sockets share: a listening socket on the loop-back."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from spoold.net import listen


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    [listener] = listen.bind("127.0.0.1:0")
    yield listener
    listener.close()
