"""The page over a server of the tests."""

import copy
from collections.abc import Callable, Iterator

import pytest
from featserve_client import FeatureClient
from featserve_console import Address, console_app
from featserve_console.client_source import ClientSource
from starlette.testclient import TestClient

from ..client.fake_server import MANIFEST, FakeServer

BASE = "http://127.0.0.1:8502"
NAMES = ["cat", "dog", "bird", "fish"]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    manifest = copy.deepcopy(MANIFEST)
    manifest |= {
        "backbone": "drawn",
        "precision": "float32",
        "labels": {"late": NAMES},
        "closeness": {"early": {"cosine": 0.999999}},
    }
    fake = FakeServer(manifest=manifest).start()
    yield fake
    fake.stop()


@pytest.fixture
def page(server: FakeServer) -> Iterator[Callable[..., TestClient]]:
    """Return a function that opens the page, for models and a REST API of choice."""
    made: list[FeatureClient] = []

    def client(name: str) -> FeatureClient:
        made.append(FeatureClient(server.target, model=name, timeout_s=10))
        return made[-1]

    def open_page(*names: str, rest: str | None = None, max_message_bytes: int = 1 << 20) -> TestClient:
        source = ClientSource(
            client,
            names,
            Address(grpc=server.target, rest=rest),
            fallback="toy",
            max_message_bytes=max_message_bytes,
        )
        return TestClient(console_app(source, ["console.example"]), base_url=BASE, raise_server_exceptions=False)

    yield open_page
    for each in made:
        each.close()
