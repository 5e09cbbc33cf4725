"""compose.yaml under a real Compose (`make test-containers`), on the engine's own network.

Grafana has no stand-in: it is started only where the real images are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..local_server import LocalServer
from ..waiting import eventually
from .compose import Compose, find
from .engine import Container
from .kit import DRAIN_S, STAND_IN, Kit, ask, callers, models_config

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Up:
    """A project that is up, and the port of each service on this machine."""

    compose: Compose
    ports: dict[str, int]

    def get(self, service: str, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers."""
        path = f"/api/v1/query?query={urllib.parse.quote(expression)}"
        found: list[dict[str, Any]] = json.loads(self.get("PROMETHEUS_PORT", path))["data"]["result"]
        return found


def stand_ins(kit: Kit) -> dict[str, Any]:
    """What the kit's file lacks where TensorFlow Serving, Python and Prometheus have stand-ins."""
    mounts = [option.removeprefix("--volume=") for option in kit.mounts]
    server = {"image": "featserve-test-runtime", "volumes": mounts, "environment": {"DRAIN_SECONDS": str(DRAIN_S)}}
    services: dict[str, Any] = {"server": server}
    if kit.base:
        program = shutil.which("prometheus")
        flags = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
        services["watch"] = {"image": "featserve-test-client", "volumes": mounts}
        services["prometheus"] = {
            "image": STAND_IN,
            "entrypoint": ["/usr/bin/prometheus", *flags],
            "volumes": [f"{program}:/usr/bin/prometheus:ro", *mounts],
        }
    return {"services": services}


@pytest.fixture
def up(kit: Kit, free_port: Callable[[], int], tmp_path: Path) -> Iterator[Up]:
    """The server, its watch and Prometheus, built and started as serving/README.md says."""
    command = find()
    if isinstance(command, str):
        pytest.skip(command)
    if kit.engine.command != "docker":
        pytest.skip(f"no Compose for {kit.engine.command}")
    if kit.base and shutil.which("prometheus") is None:
        pytest.skip("prometheus is not on PATH")
    names = ("PORT", "REST_PORT", "WATCH_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
    ports = {name: free_port() for name in names}
    given = {
        "MODEL_ROOT": str(kit.models),
        "MODELS_CONFIG": str(models_config(kit.models, tmp_path / "models.config")),
        "WATCH_MODEL": "first",
        **{name: str(port) for name, port in ports.items()},
        **{name: value for name, value in kit.base.items() if name.startswith("SERVING")},
    }
    if kit.base:
        given |= {"PYTHON_IMAGE": kit.base["SERVING_IMAGE"], "PYTHON_TAG": kit.base["SERVING_TAG"]}
    compose = Compose(command, f"featserve-test-{os.getpid()}", stand_ins(kit), tmp_path, given)
    try:
        compose.up(*(("server", "watch", "prometheus") if kit.base else ()))
        yield Up(compose, ports)
    finally:
        compose.down()


def samples(text: str, name: str) -> list[float]:
    """The values of a metric on a page of metrics."""
    return [float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)]


def test_compose_serves_watches_and_goes_down_without_losing_a_call(kit: Kit, up: Up) -> None:
    Container(kit.engine, up.compose.container("server")).wait_until_healthy()
    ask("verify", up.ports["PORT"], kit.models / "first" / "1")
    assert "FAILED" not in ask("doctor", up.ports["PORT"])
    # The watch finds the server by its name on Compose's network, and Prometheus finds both.
    eventually(lambda: samples(up.get("WATCH_PORT", "/metrics"), "featserve_watch_last_result") == [1.0])
    jobs = {"featserve", "featserve-watch"}
    eventually(lambda: {each["metric"]["job"] for each in up.query("up == 1")} == jobs, timeout_s=120)
    elsewhere = LocalServer(f"--model_root={kit.models}")
    try:
        elsewhere.wait_until_ready()
        with callers(up.ports["PORT"], elsewhere.port):
            up.compose.down()
    finally:
        elsewhere.stop()
