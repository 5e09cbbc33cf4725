"""One client on several event loops."""

import asyncio

from featserve_client import (
    AsyncFeatureClient,
)

from ..fake_server import FakeServer


def test_an_async_client_outlives_its_loop(server: FakeServer) -> None:
    client = AsyncFeatureClient(server.target, model="toy")
    for _ in range(2):
        assert asyncio.run(client.status())[0].available
