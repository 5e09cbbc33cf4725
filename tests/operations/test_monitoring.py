"""Dashboard and alarms under a real Prometheus: what they show is what the callers counted (`make test-monitoring`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client
import pytest
import yaml
from featserve_client import FeatserveError, FeatureClient, RetryPolicy
from featserve_client.interceptors import CallRecord, MetricsInterceptor, prometheus_record

from ..waiting import eventually
from .prometheus import CONFIG, Prometheus, Sample
from .small_model import save

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not on PATH"),
]
ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "serving" / "docker" / "grafana" / "dashboards" / "featserve.json"
#: Seconds that rates look back. Scrapes fill all of it, or Prometheus would stretch what there is.
WINDOW_S = 30
#: Calls that one thread of the server is busy with; the rest waits or is refused.
CROWD = 24
THREADS = 4
RUNTIMES = ("embedded", "native")


@dataclass(frozen=True)
class Served:
    """A server under traffic that is known."""

    runtime: str
    prometheus: Prometheus
    #: When the window ends, by `time.time`.
    end: float
    #: Codes of the calls that a model got in the window, as their callers saw them.
    codes: Counter[str]
    #: Images in the calls that were answered well by `serving_default`, and the batches that held them.
    images: int
    batches: int
    padded: int
    stop: Callable[[], None]
    model: Path

    def query(self, expression: str) -> list[Sample]:
        """What an expression was at the end of the window."""
        return self.prometheus.query(expression, self.end)

    def rate(self, expression: str) -> float:
        """What a rate amounts to over the window."""
        return self.prometheus.total(expression, self.end) * WINDOW_S


class Callers:
    """Calls that are counted twice: by hand, and by the client's own metrics."""

    def __init__(self, port: int) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.records: list[CallRecord] = []
        counted = MetricsInterceptor(prometheus_record(self.registry))
        by_hand = MetricsInterceptor(self.records.append)
        self.client = FeatureClient(
            f"127.0.0.1:{port}",
            model="small",
            interceptors=[by_hand, counted],
            retry=RetryPolicy(max_attempts=1),
        )

    def ask(self, x: Any, **how: Any) -> None:
        with suppress(FeatserveError):
            self.client.predict({"x": np.asarray(x)}, **how)

    def good(self, sizes: list[int]) -> None:
        for size in sizes:
            self.client.predict({"x": np.ones(size, np.float32)})

    def bad(self, times: int) -> None:
        for _ in range(times):
            self.ask(np.ones(1, np.float32), signature="none")

    def crowd(self) -> None:
        """As many calls at once as are certainly too many."""
        barrier = threading.Barrier(CROWD)

        def one(_: int) -> None:
            barrier.wait(60)
            for _ in range(3):
                self.ask(np.ones(1, np.float32), signature="heavy")

        with ThreadPoolExecutor(CROWD) as threads:
            list(threads.map(one, range(CROWD)))


def start(runtime: str, models: Path, port: int, rest_port: int) -> subprocess.Popen[bytes]:
    """A server that takes few calls at once."""
    limits = [f"--grpc_max_threads={THREADS}", "--file_system_poll_wait_seconds=1"]
    if runtime == "embedded":
        limits.append("--max_queued_requests=2")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "featserve_serving", f"--runtime={runtime}", f"--model_root={models}"),
            *(f"--port={port}", f"--rest_api_port={rest_port}", *limits),
            f"--monitoring_config_file={ROOT / 'serving' / 'configs' / 'monitoring.config'}",
        ],
        stdout=subprocess.DEVNULL,
    )


def stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait(60)


@pytest.fixture(scope="module", params=RUNTIMES)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Served]:
    runtime = request.param
    if runtime == "native" and shutil.which("tensorflow_model_server") is None:
        pytest.skip("tensorflow_model_server is not on PATH")
    folder = tmp_path_factory.mktemp(runtime)
    model = folder / "models" / "small" / "1"
    save(model)
    port, rest_port = free_port(), free_port()
    server = start(runtime, folder / "models", port, rest_port)
    callers = Callers(port)
    metrics, thread = prometheus_client.start_http_server(0, "127.0.0.1", callers.registry)
    caller = f"127.0.0.1:{metrics.server_port}"
    try:
        callers.client.wait_until_ready(120)
        # A series that begins within the window would hide its first value.
        callers.good([1, 2, 3])
        callers.bad(1)
        callers.crowd()
        prometheus = Prometheus(folder, free_port(), f"127.0.0.1:{rest_port}", caller)
        try:
            eventually(lambda: prometheus.total(":tensorflow:serving:request_latency_count") > 0)
            end = time.time() + WINDOW_S + 1
            time.sleep(4)  # scrapes of the state before
            callers.records.clear()
            sizes = [1] * 30 + [2] * 20 + [3] * 10
            callers.good(sizes)
            callers.bad(7)
            callers.crowd()
            codes = Counter(record.code.name for record in callers.records)
            left_s = end - time.time()
            assert left_s > 4, "expected the traffic to fit into the window"
            time.sleep(left_s)
            yield Served(
                runtime=runtime,
                prometheus=prometheus,
                end=end,
                codes=codes,
                images=sum(sizes),
                batches=len(sizes),
                padded=30 * 1 + 20 * 2 + 10 * 4,
                stop=lambda: stop(server),
                model=model,
            )
        finally:
            prometheus.stop()
    finally:
        metrics.shutdown()
        metrics.server_close()
        thread.join()
        callers.client.close()
        stop(server)


def panels() -> dict[str, list[str]]:
    """The queries of each panel, over the window."""
    found = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return {
        panel["title"]: [
            target["expr"].replace("$__rate_interval", f"{WINDOW_S}s").replace("$model", "small|.*")
            for target in panel["targets"]
        ]
        for outer in found
        for panel in outer.get("panels", [outer])
    }


def near(count: float) -> Any:
    """What Prometheus makes of a count: it extends the scrapes to the ends of its window."""
    return pytest.approx(count, rel=0.06, abs=0.6)


def test_every_query_is_understood_and_each_panel_shows_something(served: Served) -> None:
    for title, queries in panels().items():
        alone = {"Queue", "Images", "Executed batch size", "Batches by padded size"}
        embedded = {"Queue depth", "Executed batch size by version"}
        found = [served.query(query) for query in queries]
        if title == "Saturation":  # a query for each kind of server
            assert [bool(samples) for samples in found] == [served.runtime == "native", served.runtime == "embedded"]
        elif title == "Refused calls":  # callers see every refusal, the embedded server its own
            assert [bool(samples) for samples in found] == [served.runtime == "embedded", True]
        else:
            shown = title not in (alone if served.runtime == "embedded" else embedded)
            assert [bool(samples) for samples in found] == [shown] * len(queries), title


def test_requests_are_those_that_callers_sent(served: Served) -> None:
    (requests,) = panels()["Requests"]
    # A refusal is counted nowhere by TensorFlow Serving, and elsewhere by the embedded server.
    sent = served.codes.total() - served.codes["RESOURCE_EXHAUSTED"]
    assert served.rate(requests) == near(sent)


def test_errors_have_the_codes_that_callers_got(served: Served) -> None:
    (errors,) = panels()["Errors by code"]
    shown = {labels["status"]: round(value * WINDOW_S) for labels, value in served.query(errors)}
    assert served.codes["FAILED_PRECONDITION"] == 7
    assert shown == {"FAILED_PRECONDITION": 7}


def test_refused_calls_are_those_that_callers_got(served: Served) -> None:
    embedded, caller = panels()["Refused calls"]
    refused = served.codes["RESOURCE_EXHAUSTED"]
    assert refused > CROWD
    assert served.rate(caller) == near(refused)
    if served.runtime == "embedded":
        assert served.rate(embedded) == near(refused)
        total = served.prometheus.total('featserve_client_calls_total{code="RESOURCE_EXHAUSTED"}')
        assert served.prometheus.total("featserve_refused_total") == total


def test_latencies_are_ordered_and_contain_each_other(served: Served) -> None:
    means = []
    for title in ("Latency", "Latency in TensorFlow"):
        p50, p95, p99, mean = (served.query(query)[0][1] for query in panels()[title])
        assert 0 < p50 <= p95 <= p99
        means.append(mean)
    assert means[0] > means[1] > 0


def test_batches_are_those_that_were_sent(served: Served) -> None:
    if served.runtime == "native":
        (images,), (size,) = panels()["Images"], panels()["Executed batch size"]
        assert served.rate(images) == near(served.images)
        assert served.query(size)[0][1] == pytest.approx(served.images / served.batches, rel=0.01)
        by_size = panels()["Batches by padded size"][0]
        shown = {int(labels["batch_size"]): value for labels, value in served.query(by_size)}
        assert sum(size * count for size, count in shown.items()) * WINDOW_S == near(served.padded)
    else:
        ((_, mean),) = served.query(panels()["Executed batch size by version"][0])
        assert mean == pytest.approx(served.padded / served.batches, rel=0.01)


def test_an_idle_server_is_not_saturated(served: Served) -> None:
    if served.runtime == "embedded":
        ((_, share),) = served.query(panels()["Saturation"][1])
        assert share == 0
        assert served.prometheus.total("featserve_in_flight_limit") == THREADS


def alarms() -> dict[str, str]:
    (group,) = yaml.safe_load((CONFIG.parent / "alarms.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def raised(served: Served) -> set[str]:
    return {name for name, expression in alarms().items() if served.prometheus.query(expression)}


def test_alarms_are_evaluated_and_the_overload_alone_raises_one(served: Served) -> None:
    assert set(served.prometheus.rules().values()) == {"ok"}
    assert served.prometheus.rules().keys() == alarms().keys()
    # Under the crowd images wait for a batch thread, which may raise the alarm of saturation too.
    assert {"FeatserveRefusesCalls"} <= raised(served) <= {"FeatserveRefusesCalls", "FeatserveSaturated"}


def test_a_model_that_goes_and_a_server_that_goes_raise_theirs(served: Served) -> None:
    """The last of the tests: nothing is left of the server."""
    served.model.rename(served.model.with_name("gone"))
    if served.runtime == "embedded":
        eventually(lambda: "FeatserveModelUnavailable" in raised(served))
    served.stop()
    eventually(lambda: "FeatserveDown" in raised(served))
