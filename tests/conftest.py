"""What every part's tests share."""

import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from .expected_skips import pytest_sessionfinish as pytest_sessionfinish
from .waiting import eventually as wait_until

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Return a function that waits until a condition holds."""
    return wait_until


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that finds a port on which nothing listens."""

    def find() -> int:
        while True:
            # Below what the system gives to sockets that name no port: nobody gets it in between.
            port = random.randrange(20_000, 32_768)
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port

    return find
