"""One client on many threads, closed, and in a forked process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from featserve_client import (
    FeatureClient,
)

from ..fake_server import jpeg


def test_one_client_for_many_threads(client: FeatureClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda seed: client.extract(jpeg(seed % 4))["late"], range(64)))
    for seed, row in enumerate(rows):
        np.testing.assert_array_equal(row, rows[seed % 4])


def test_closed_it_opens_again(client: FeatureClient) -> None:
    client.status()
    client.close()
    assert client.status()[0].available


@pytest.fixture
def forked(client: FeatureClient) -> Iterator[int]:
    """The exit status of a child that uses a client that its parent has used."""
    code = (
        "import os, sys, numpy\n"
        "from featserve_client import FeatureClient\n"
        f"client = FeatureClient({client.target!r}, model='toy', timeout_s=60)\n"
        "client.status()\n"
        "with client._runner._lock:\n"  # as another thread may hold it
        "    child = os.fork()\n"
        "    if not child:\n"
        "        client.status(); os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])); client.status()\n"
    )
    import subprocess
    import sys

    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=240)
    yield int(out.stdout)


def test_a_forked_child_connects_anew(forked: int) -> None:
    assert forked == 7
