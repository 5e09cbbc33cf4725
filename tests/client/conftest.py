"""Fixtures of the client's tests."""

from collections.abc import Iterator

import pytest
from featserve_client import FeatureClient

from .fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer().start()
    yield fake
    fake.stop()


@pytest.fixture
def client(server: FakeServer) -> Iterator[FeatureClient]:
    with FeatureClient(server.target, model="toy", timeout_s=20) as made:
        yield made
