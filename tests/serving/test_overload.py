"""More callers than the server can take."""

import threading
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import psutil
import pytest
from featserve_serving import create_server

HINT = "grpc-retry-pushback-ms"


@pytest.fixture
def small_server(publish, base_path):
    """A server with room for 2 calls that run and 4 that wait."""
    publish(1)
    with create_server(
        model_base_path=base_path,
        model_name="adder",
        max_threads=2,
        max_queued_requests=4,
        rest_address="127.0.0.1:0",
    ) as server:
        yield server


def runs(server):
    """Return how many calls reached TensorFlow."""
    url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
    page = urllib.request.urlopen(url, timeout=20).read().decode()
    lines = [line for line in page.splitlines() if line.startswith(":tensorflow:serving:runtime_latency_count")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def closed_loop(client, work, callers, seconds):
    """Return the latencies of accepted calls and the errors of all others."""
    end = time.monotonic() + seconds
    latencies, errors = [], []

    def run():
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                client.predict(work, signature="work", timeout=60)
            except grpc.RpcError as exc:
                errors.append(exc)
                time.sleep(0.02)  # what the hint asks for at least
            else:
                latencies.append(time.monotonic() - started)

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, errors


def test_past_the_limit_calls_are_refused_with_a_hint(small_server, caller):
    client = caller(small_server)
    work = np.ones((300, 300), np.float32)
    accepted, refused = closed_loop(client, work, callers=6, seconds=1)
    assert accepted and not refused
    accepted, refused = closed_loop(client, work, callers=24, seconds=2)
    assert accepted
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    hints = [dict(error.trailing_metadata())[HINT] for error in refused]
    assert all(20 <= int(hint) <= 5000 for hint in hints)
    accepted, refused = closed_loop(client, work, callers=6, seconds=1)
    assert accepted and not refused


def test_health_and_status_answer_while_predict_is_full(small_server, caller):
    client = caller(small_server)
    work = np.ones((500, 500), np.float32)
    busy = threading.Thread(target=closed_loop, args=(caller(small_server), work, 20, 2.0))
    busy.start()
    time.sleep(0.5)
    started = time.monotonic()
    for _ in range(10):
        assert client.health() == "SERVING"
        assert client.states()[1][0] == "AVAILABLE"
    assert time.monotonic() - started < 2
    busy.join()


def test_a_caller_that_gave_up_costs_no_compute(small_server, caller):
    client = caller(small_server)
    work = np.ones((1000, 1000), np.float32)
    client.predict([[1.0]], signature="work")
    before = runs(small_server)
    futures = [threading.Thread(target=client.predict, args=(work,), kwargs={"signature": "work"}) for _ in range(2)]
    for thread in futures:
        thread.start()
    time.sleep(0.05)
    for _ in range(4):
        with pytest.raises(grpc.RpcError) as refusal:
            client.predict([[1.0]], signature="work", timeout=0.01)
        assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    for thread in futures:
        thread.join()
    assert runs(small_server) - before == 2


def test_a_request_over_the_limit_is_refused_and_costs_no_memory(publish, base_path, caller, server_process):
    publish(1)
    process, port, rest_port = server_process(
        "--model_name=adder", f"--model_base_path={base_path}", "--max_message_mb=1"
    )
    client = caller(f"127.0.0.1:{port}", options=(("grpc.max_send_message_length", -1),))
    client.predict(1.0)
    before = psutil.Process(process.pid).memory_info().rss
    with pytest.raises(grpc.RpcError) as refusal:
        client.predict(np.ones(300 << 18, np.float32), timeout=60)  # 300 MiB
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises((urllib.error.HTTPError, urllib.error.URLError)):
        urllib.request.urlopen(f"http://127.0.0.1:{rest_port}/v1/models/adder:predict", b" " * (8 << 20), timeout=20)
    assert psutil.Process(process.pid).memory_info().rss - before < 32 << 20
    assert client.predict(1.0) == (2, 1)
