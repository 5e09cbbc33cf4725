"""Several servers behind one target."""

import time
from collections.abc import Callable

import numpy as np
from featserve_client import (
    FeatureClient,
)

from ..fake_server import FakeServer, features, jpeg


def test_half_the_addresses_dead(server: FakeServer, free_port: Callable[[], int]) -> None:
    target = f"127.0.0.1:{free_port()},{server.target}"
    with FeatureClient(target, model="toy") as client:
        for seed in range(10):
            np.testing.assert_array_equal(client.extract(jpeg(seed))["late"][0], features(jpeg(seed))["late"])
    assert len(server.predicts) == 10


def test_several_addresses_share_the_work(server: FakeServer) -> None:
    other = FakeServer().start()
    try:
        with FeatureClient([server.target, other.target], model="toy") as client:
            end = time.monotonic() + 60
            while not (server.predicts and other.predicts):  # the second address may take longer to connect
                assert time.monotonic() < end
                client.extract(jpeg(0))
    finally:
        other.stop()
