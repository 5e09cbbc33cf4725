"""Fixtures for every part's tests, and the files that `make test-fast` leaves out."""

import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from .expected_skips import pytest_sessionfinish as pytest_sessionfinish
from .waiting import eventually as wait_until

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

#: Files whose tests are many or take more than some seconds each: `make test-fast` leaves them out.
LONG = (
    "client/integrations/test_engines.py",
    "client/images/test_preprocess.py",
    "client/test_embedded.py",
    "client/test_local_server.py",
    "console/test_live_snippets.py",
    "export/graph/test_device.py",
    "export/graph/test_weights.py",
    "export/pixels/test_checks.py",
    "export/pixels/test_decode.py",
    "export/pixels/test_fuzz.py",
    "export/pixels/test_live_fuzz.py",
    "export/pixels/test_orientation_and_gray.py",
    "export/pixels/test_resize.py",
    "export/quantize/test_int8.py",
    "export/quantize/test_int8_real.py",
    "export/saved_model/test_exported_model.py",
    "export/saved_model/test_killed.py",
    "export/saved_model/test_shared_batches.py",
    "export/sources/test_drawn_networks.py",
    "export/sources/test_keras2.py",
    "export/sources/test_own_models.py",
    "export/sources/test_own_outputs.py",
    "export/sources/test_weights.py",
    "export/test_backbones.py",
    "export/test_batching.py",
    "export/test_examples.py",
    "export/test_labels.py",
    "export/test_manifest.py",
    "export/test_memory.py",
    "export/test_served_backbones.py",
    "load/test_bench.py",
    "load/test_generator.py",
    "load/test_referee.py",
    "load/test_report.py",
    "load/test_soak.py",
    "load/test_tune.py",
    "serving/launch/test_command.py",
    "serving/test_docker.py",
    "serving/test_hostile.py",
    "serving/test_kubernetes.py",
    "serving/test_memory.py",
    "serving/test_zero_lost.py",
    "test_expected_skips.py",
    "test_readme.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of the long files."""
    here = Path(__file__).parent
    files = {here / name for name in LONG}
    gone = [str(file) for file in files if not file.is_file()]
    assert not gone, f"expected the files of LONG in {__file__}, received none at {gone}"
    for item in items:
        if item.path in files:
            item.add_marker(pytest.mark.long)


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Returns a function that waits until a condition holds."""
    return wait_until


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Returns a function that finds a port on which nothing listens."""

    def find() -> int:
        while True:
            # Below what the system gives to sockets that name no port: nobody gets it in between.
            port = random.randrange(20_000, 32_768)
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port

    return find
