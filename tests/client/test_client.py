"""What travels with a call, and with a client."""

import pickle

import numpy as np
from featserve_client import (
    AsyncFeatureClient,
    FeatureClient,
)

from .fake_server import FakeServer


def test_what_travels_with_a_call(server: FakeServer) -> None:
    with FeatureClient(server.target, model="toy", metadata={"tenant": "a"}, compression="gzip") as client:
        client.extract(np.zeros((50, 50, 3), np.uint8))
    sent = server.metadata[-1]
    assert sent["tenant"] == "a" and len(sent["x-request-id"]) == 32 and "featserve-client" in sent["user-agent"]
    with FeatureClient(server.target, model="toy", metadata={"x-request-id": "mine"}) as client:
        client.status()
    assert server.metadata[-1]["x-request-id"] == "mine"


def test_pickled_it_connects_by_itself(client: FeatureClient) -> None:
    client.status()
    with pickle.loads(pickle.dumps(client)) as again:
        assert again.status() == client.status()
    made = pickle.loads(pickle.dumps(AsyncFeatureClient("h:1", model="m", version=3)))
    assert repr(made) == "AsyncFeatureClient('h:1', model='m')"
