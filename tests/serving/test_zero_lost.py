"""While callers run: publish, roll back, relabel, reload, and stop one of two servers. No call may fail."""

import json
import signal
import threading
import urllib.request
from concurrent import futures
from contextlib import contextmanager

import numpy as np
import pytest
from featserve_serving import create_server
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

CALLERS = 16
#: A server that stops gets little of a busy machine beside so many callers.
STOPS_WITHIN_S = 300
#: What a client of any language has: retries of UNAVAILABLE by the channel itself.
RETRYING = (
    (
        "grpc.service_config",
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                "healthCheckConfig": {"serviceName": ""},
                "methodConfig": [
                    {
                        "name": [{}],
                        "retryPolicy": {
                            "maxAttempts": 5,
                            "initialBackoff": "0.2s",
                            "maxBackoff": "2s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ],
            }
        ),
    ),
)


@contextmanager
def calling(client, **kwargs):
    """Keeps callers running; yields the counts `[answers, failures, versions seen]`."""
    stop = threading.Event()
    lock = threading.Lock()
    answers, failures, versions = [0], [], set()

    def run():
        while not stop.is_set():
            try:
                value, version = client.predict(1.0, **kwargs)
                assert value == 1.0 + version  # the answer is the one of the version that it names
            except Exception as exc:
                with lock:
                    failures.append(exc)
            else:
                with lock:
                    answers[0] += 1
                    versions.add(version)

    threads = [threading.Thread(target=run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield answers, failures, versions
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def config_of(base_path, label):
    return text_format.Parse(
        f"""model_config_list {{ config {{ name: "adder" base_path: "{base_path}" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }} version_labels {{ key: "canary" value: {label} }} }} }}""",
        model_server_config_pb2.ModelServerConfig(),
    )


def test_no_call_is_lost_while_versions_change(publish, base_path, caller, eventually):
    publish(1)
    with create_server(model_base_path=base_path, model_name="adder", poll_interval_s=0.05) as server:
        client = caller(server)
        with calling(client) as (answers, failures, versions):
            newest = publish(2)
            eventually(lambda: 2 in versions)
            newest.rename(newest.with_name("withdrawn"))
            eventually(lambda: server.models() == {"adder": [1]})
            newest.with_name("withdrawn").rename(newest)
            eventually(lambda: server.models() == {"adder": [2]})
            for label in (2, 1, 2, 1):
                client.reload(config_of(base_path, label))
                assert client.predict(1.0, label="canary")[1] == label
            reached = answers[0]
            eventually(lambda: answers[0] > reached + 100)
        assert failures == []
        assert versions == {1, 2} and answers[0] > 100


def test_no_call_is_lost_when_one_of_two_servers_stops(publish, base_path, caller, eventually, server_process):
    publish(1)
    process, port, _ = server_process("--model_name=adder", f"--model_base_path={base_path}")
    with create_server(model_base_path=base_path, model_name="adder") as server:
        client = caller(f"ipv4:127.0.0.1:{port},127.0.0.1:{server.port}", options=RETRYING)
        with calling(client) as (answers, failures, _):
            eventually(lambda: answers[0] > 200)
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOPS_WITHIN_S) == 0
            reached = answers[0]
            eventually(lambda: answers[0] > reached + 200)
        assert failures == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_call_ends_before_the_server_does(number, publish, base_path, caller, eventually, server_process):
    publish(1)
    process, port, rest_port = server_process(
        "--model_name=adder", f"--model_base_path={base_path}", "--stop_grace_seconds=60"
    )
    client = caller(f"127.0.0.1:{port}")
    client.predict([[1.0]], signature="work")
    metrics = f"http://127.0.0.1:{rest_port}/monitoring/prometheus/metrics"
    work = np.ones((2000, 2000), np.float32)  # a second or more
    with futures.ThreadPoolExecutor(1) as thread:
        slow = thread.submit(client.predict, work, signature="work", timeout=120)
        eventually(lambda: b"\nfeatserve_in_flight 1.0\n" in urllib.request.urlopen(metrics, timeout=60).read())
        process.send_signal(number)
        assert process.wait(STOPS_WITHIN_S) == 0
        assert slow.result()[1] == 1
