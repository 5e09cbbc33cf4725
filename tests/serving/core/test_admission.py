"""More callers than the server can take."""

import socket
import struct
import time
import urllib.error
import urllib.request
from concurrent import futures

import grpc
import numpy as np
import psutil
import pytest
from featserve_serving import create_server
from featserve_serving.core.admission import BoundedPool

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


def post(server, body=b'{"instances": [1.0]}'):
    """Predict over REST; return the status and the headers of the answer."""
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/adder:predict"
    try:
        with urllib.request.urlopen(url, body, timeout=60) as response:
            return response.status, response.headers
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers


def total(server, metric):
    """Returns the sum of a metric's series."""
    url = f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics"
    page = urllib.request.urlopen(url, timeout=60).read().decode()
    lines = [line for line in page.splitlines() if line.partition(" ")[0].partition("{")[0] == metric]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def runs(server):
    """Returns how many calls reached TensorFlow."""
    return total(server, ":tensorflow:serving:runtime_latency_count")


@pytest.fixture
def occupy(caller, eventually, gate):
    """Returns a function that keeps a server busy with so many calls until the gate opens, and gives their futures."""
    with futures.ThreadPoolExecutor(16) as threads:

        def calls(server, count):
            client, before = caller(server), server._pools.compute.running + server._pools.compute.waiting
            answers = [threads.submit(client.predict, 1.0, timeout=120) for _ in range(count)]
            eventually(lambda: server._pools.compute.running + server._pools.compute.waiting == before + count)
            return answers

        yield calls
        gate.set()


def test_past_the_limit_calls_are_refused_with_a_hint(small_server, caller, gate, occupy, eventually):
    client = caller(small_server)
    accepted = occupy(small_server, 6)
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as refusal:
            client.predict(1.0)
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 20 <= int(dict(refusal.value.trailing_metadata())[HINT]) <= 5000
    status, headers = post(small_server)
    assert status == 429 and 1 <= int(headers["retry-after"]) <= 5
    gate.set()
    assert [answer.result() for answer in accepted] == [(2, 1)] * 6
    eventually(lambda: not small_server._pools.compute.full)
    assert client.predict(1.0) == (2, 1) and post(small_server)[0] == 200


def test_refused_callers_are_told_to_come_back_one_after_the_other():
    pool = BoundedPool(4, 2, "test")
    pool._mean_s = 0.8  # a thread is free each 200 ms
    hints = [pool.retry_after_ms() for _ in range(30)]
    steps = np.diff(hints[:20])
    assert hints[0] <= 200 and np.all(np.abs(steps - 200) <= 50)
    assert hints[-1] == 5000  # nobody is sent away for longer


def test_refusals_and_what_comes_before_them_are_counted(small_server, caller, gate, occupy):
    client = caller(small_server)
    for more, running, waiting in ((2, 2, 0), (4, 2, 4)):
        occupy(small_server, more)
        assert total(small_server, "featserve_in_flight") == running
        assert total(small_server, "featserve_queue_depth") == waiting
    assert (total(small_server, "featserve_in_flight_limit"), total(small_server, "featserve_queue_limit")) == (2, 4)
    assert total(small_server, "featserve_refused_total") == 0
    for _ in range(7):
        with pytest.raises(grpc.RpcError):
            client.predict(1.0)
    assert post(small_server)[0] == 429
    assert total(small_server, "featserve_refused_total") == 8


def test_health_and_status_answer_while_predict_is_full(small_server, caller, occupy):
    client = caller(small_server)
    occupy(small_server, 6)
    for _ in range(10):
        assert client.health() == "SERVING"
        assert client.states()[1][0] == "AVAILABLE"


def test_a_caller_that_gave_up_costs_no_compute(small_server, caller, gate, occupy, eventually):
    client = caller(small_server)
    accepted = occupy(small_server, 2)
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as refusal:
            client.predict(1.0, timeout=0.2)
        assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    body = b'{"instances": [1.0]}'
    head = b"POST /v1/models/adder:predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", small_server.rest_port)) as connection:
        connection.sendall(head + body)
        eventually(lambda: small_server._pools.compute.waiting == 4)
        # The connection is reset: a caller that merely closes its side may still listen.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: small_server._pools.compute.waiting == 3)
    time.sleep(1)  # the server's clock may reach the deadlines a little after the client's
    gate.set()
    assert [answer.result() for answer in accepted] == [(2, 1)] * 2
    eventually(lambda: small_server._pools.compute.running == 0)
    assert runs(small_server) == 2


def test_a_server_that_stops_sends_rest_callers_elsewhere(small_server, gate, occupy, eventually):
    accepted = occupy(small_server, 1)
    with futures.ThreadPoolExecutor(2) as threads:
        accepted.append(threads.submit(post, small_server))
        eventually(lambda: small_server._pools.compute.running == 2)
        stopped = threads.submit(small_server.stop, 120)
        eventually(lambda: small_server._pools.compute.draining)
        status, headers = post(small_server)
        assert status == 503 and headers["retry-after"] == "1"
        assert not stopped.done()
        gate.set()
        stopped.result()
    assert accepted[0].result() == (2, 1) and accepted[1].result()[0] == 200


@pytest.mark.long
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
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"http://127.0.0.1:{rest_port}/v1/models/adder:predict", b" " * (8 << 20), timeout=60)
    assert psutil.Process(process.pid).memory_info().rss - before < 32 << 20
    assert client.predict(1.0) == (2, 1)


def test_thousands_of_calls_at_once_are_refused_and_none_is_cancelled(small_server, caller, gate, occupy):
    accepted = occupy(small_server, 6)
    clients = [caller(small_server, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(8)]
    predict = [client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict") for client in clients]
    calls = [predict[number % len(predict)].future(b"", timeout=120) for number in range(3000)]
    assert {call.code() for call in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    gate.set()
    assert all(answer.result() for answer in accepted)
