"""Callers share batches, and a caller of garbage disturbs none of them."""

import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from featserve_client import FeatureClient, InvalidRequest
from featserve_export import Batching, ExportOptions, export_backbone
from featserve_serving import create_server

from ..golden_file import load_golden

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
CALLERS = 16
REQUESTS = 12
LAYER = "conv_pw_13_relu"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model whose batches wait for company for longer than a caller takes to come back, however slow the machine."""
    return export_backbone(
        ExportOptions(
            "mobilenet",
            alpha=0.25,
            weights="random",
            image_size=(96, 96),
            batching=Batching(
                num_batch_threads=1,
                max_batch_size=8,
                batch_timeout_micros=500_000,
                max_enqueued_batches=256,
                allowed_batch_sizes=(1, 2, 4, 8),
            ),
            model_root=tmp_path_factory.mktemp("models"),
        )
    )


def executed(server):
    """How many batches were executed, and the images in them, padding included."""
    url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
    lines = urllib.request.urlopen(url, timeout=60).read().decode().splitlines()
    values = {line.split("{")[0]: float(line.split()[-1]) for line in lines if 'model="mobilenet"' in line}
    return np.array([values.get(f"featserve_executed_batch_size_{part}", 0.0) for part in ("count", "sum")])


def test_callers_share_batches_beside_one_that_sends_garbage(exported):
    golden = load_golden(exported.path)
    contents, expected = golden.input("encoded"), golden.expected["encoded"][LAYER]
    stop, bad = threading.Event(), []
    start = threading.Barrier(CALLERS + 1)

    def poison():
        start.wait()
        while not stop.is_set():
            try:
                extract(np.array([b"garbage"], object))
                bad.append("answered")
            except Exception as error:
                bad.append(error)
            stop.wait(0.01)

    def extract(rows):
        return client.predict({"image_bytes": rows}, signature="encoded", timeout_s=300)

    def ask(caller):
        start.wait()
        for index in range(REQUESTS):
            row = (caller + index) % len(contents)
            answer = extract(contents[row : row + 1])
            np.testing.assert_allclose(
                answer[LAYER], expected[row : row + 1], rtol=0, atol=1e-4 * np.abs(expected).max()
            )

    server = create_server(model_root=exported.path.parents[1], rest_address="127.0.0.1:0", warmup=False)
    with server, FeatureClient(f"127.0.0.1:{server.port}", model="mobilenet") as client:
        poisoner = threading.Thread(target=poison)
        extract(contents)
        before = executed(server)
        poisoner.start()
        try:
            with ThreadPoolExecutor(CALLERS) as pool:
                list(pool.map(ask, range(CALLERS)))
        finally:
            stop.set()
            poisoner.join()
        batches, images = executed(server) - before
    assert len(bad) > REQUESTS
    assert all(isinstance(error, InvalidRequest) for error in bad), bad
    assert images >= CALLERS * REQUESTS
    assert CALLERS * REQUESTS / batches > 4
