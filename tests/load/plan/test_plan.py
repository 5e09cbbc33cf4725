"""The command: what it prints and writes, what it refuses, and that Kubernetes takes its component."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest
import yaml
from featserve_load.errors import LoadError
from featserve_load.plan import capacity_report, main, patch

KUBERNETES = Path(__file__).parents[3] / "serving" / "kubernetes"
REPORT = {
    "format": capacity_report.FORMAT,
    "servers": 1,
    "model": "m",
    "batching": {
        "num_batch_threads": 2,
        "max_batch_size": 8,
        "batch_timeout_micros": 0,
        "max_enqueued_batches": 256,
        "allowed_batch_sizes": [1, 2, 4, 8],
    },
    "machine": {"cpu": "a CPU", "cores": 2},
    "input": "encoded",
    "images_per_request": 1,
    "single_ms": 20.0,
    "budget_ms": 150.0,
    "images_per_s": 100.0,
    "start_s": 10.0,
    "memory": {"version_mib": 203, "image_mib": 13.8},
    "service_times": {
        "cores": 2,
        "request_ms": [2.0, 3.0, 5.0, 8.0],
        "alone_ms": [0.0, 0.0, 0.0, 0.0],
        "variation": [1.0],
        "batch_ms": {"1": 16.0, "2": 28.0, "4": 50.0, "8": 92.0},
        "parallel": 1.6,
        "outside_ms": 0.5,
    },
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory, with a capacity report where `capacity` leaves it."""
    monkeypatch.chdir(tmp_path)
    write(**REPORT)
    monkeypatch.setattr("featserve_load.plan.sizing.DURATION_S", 15.0)
    return tmp_path


def write(**fields):
    capacity_report.FOLDER.mkdir(parents=True, exist_ok=True)
    (capacity_report.FOLDER / capacity_report.NAME).write_text(json.dumps(fields))


def planned(capsys, *more):
    """A plan as JSON; its pictures are drawn elsewhere."""
    with mock.patch("featserve_load.plan.command._pictures", return_value=[]):
        assert main(["--qps", "300", "--slo-ms", "150", "--price", "0.10", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.long
def test_a_plan_is_printed_and_written(here, capsys):
    assert main(["--qps", "300", "--slo-ms", "150", "--price", "0.10"]) == 0
    text = capsys.readouterr().out
    plan = json.loads((here / "build/load/plan/plan.json").read_text())
    servers = plan["servers"]
    assert f"m: {servers['replicas']} replicas for 300 requests/s within p99 150 ms" in text
    assert servers["replicas"] > servers["load"] >= 2
    assert plan["zone_lost"]["p99_ms"] <= 150 * 1.15
    assert plan["planned"]["p99_ms"] < plan["zone_lost"]["p99_ms"]
    assert plan["per_million"] == pytest.approx(0.1 * servers["replicas"] / (300 * 3600) * 1e6)
    assert (here / "build/load/plan/plan.png").stat().st_size > 10_000


def test_json_is_the_plan(here, capsys):
    assert planned(capsys) == json.loads((here / "build/load/plan/plan.json").read_text())


def test_a_server_that_bore_less_than_is_simulated_is_not_trusted_with_more(here, capsys):
    good = planned(capsys)
    write(**{**REPORT, "images_per_s": 0.5 * REPORT["images_per_s"]})
    worse = planned(capsys)
    assert worse["per_server"]["trust"] == pytest.approx(0.5 * good["per_server"]["trust"])
    assert worse["servers"]["load"] > good["servers"]["load"]
    assert worse["per_server"]["images_per_s"] == pytest.approx(0.5 * REPORT["images_per_s"], rel=0.05)
    # What is drawn is of the slower server, too.
    good_busy, worse_busy = (plan["planned"]["utilization"] / plan["planned"]["load"] for plan in (good, worse))
    assert worse_busy > 1.2 * good_busy


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")
def test_kubernetes_takes_the_component(here, capsys):
    plan = planned(capsys)
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    folder = here / "mine"
    folder.mkdir()
    kustomization = {
        "resources": [os.path.relpath(KUBERNETES / "overlays" / "cpu", folder.resolve())],
        "components": ["../build/load/plan"],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    done = subprocess.run(["kubectl", "kustomize", folder.resolve()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    objects = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    for kind in ("HorizontalPodAutoscaler", "Deployment"):
        kubernetes_validate.validate(objects[kind], kubernetes_validate.latest_version(), strict=True)
    spec = objects["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (plan["servers"]["replicas"], plan["hpa"]["max"])
    assert spec["maxReplicas"] > spec["minReplicas"]
    assert [each["type"] for each in spec["metrics"]] == ["Resource", "Pods"]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    [server] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["requests"] == server["resources"]["limits"] == {"cpu": "2", "memory": "1280Mi"}
    assert server["startupProbe"] and server["image"].startswith("registry.example.com/")


def test_memory_is_by_the_rule_of_the_readme():
    assert patch.memory_mib({"version_mib": 203, "image_mib": 13.8}, 2, 8) == 1280
    assert patch.memory_mib(None, 2, 8) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slo-ms", "10"], r"budget of 10 ms cannot be met: one request alone takes 20\.0 ms .* larger SLO_MS"),
        (["--qps", "0"], "QPS is a number above 0, not 0"),
        (["--qps", "nan"], "QPS is a number above 0, not nan"),
        (["--slo-ms", "-5"], "SLO_MS is a number above 0, not -5"),
        (["--price", "-1"], "PRICE is a number above 0, not -1"),
        (["--zones", "0"], "ZONES is at least 1, not 0"),
        (["--qps", "1e6"], r"take .* servers of .* more than 1,000"),
        (["--model", "other"], "is of m, not of other; `make capacity MODEL=other` writes one"),
        (["--report", "none.json"], "cannot read the capacity report none.json"),
    ],
)
def test_what_cannot_be_planned_says_why(here, arguments, said):
    with pytest.raises(LoadError, match=said):
        main(["--qps", "300", "--slo-ms", "150", *arguments])
    assert not (here / "build/load/plan").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tried": []}, "no capacity report of this version; `make capacity` writes one"),
        ({**REPORT, "service_times": None, "no_service_times": "no batching"}, r"no service times \(no batching\)"),
        ({**REPORT, "images_per_s": 0.0}, "no rate keeps a p99 of 150 ms"),
    ],
)
def test_a_report_that_cannot_be_used_says_why(here, fields, said):
    write(**fields)
    with pytest.raises(LoadError, match=said):
        main(["--qps", "300", "--slo-ms", "150"])


def test_without_a_report_it_names_the_command_that_makes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoadError, match="no capacity report in build/load: `make capacity` measures one"):
        main(["--qps", "300", "--slo-ms", "150"])


def test_a_report_of_several_servers_is_of_each(tmp_path):
    path = tmp_path / "capacity.json"
    path.write_text(json.dumps({**REPORT, "servers": 2}))
    assert capacity_report.read(path).images_per_s == REPORT["images_per_s"] / 2
