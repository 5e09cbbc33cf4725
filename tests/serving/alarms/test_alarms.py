"""The alarms: what raises them, by `promtool test rules`; one source for Prometheus, Kubernetes, the page on call."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ..test_docker import BATCHING_METRICS, CLIENT_METRICS, EMBEDDED_METRICS, SERVING_METRICS, compose, queries
from .prometheus_rule import OBJECT, RULES, SERVING, written

CASES = Path(__file__).with_name("cases.yml")
# Of cAdvisor, kube-state-metrics and Prometheus itself, as far as the alarms ask for them.
OTHER_METRICS = {
    "up": {"job", "instance"},
    "process_start_time_seconds": {"job", "instance"},
    "container_memory_working_set_bytes": {"container", "pod"},
    "container_spec_memory_limit_bytes": {"container", "pod"},
    "kube_pod_container_status_restarts_total": {"container", "pod"},
}


def watch_metrics() -> dict[str, set[str]]:
    """What `featserve watch` exports, with its labels."""
    check = pytest.importorskip("featserve_client.watch.check")
    server = pytest.importorskip("featserve_client.watch.server")
    metrics = pytest.importorskip("featserve_client.watch.metrics")
    result = check.Result(model="m", version=1, cosines={"late": 1.0}, latency_s=0.1, facts={"weights": "0"})
    finding = server.Finding(server="s", result=result, last_success=1.0)
    cost = server.Cost(asked_s=1.0, interval_s=60.0)
    watch = SimpleNamespace(findings=lambda: [finding], costs=lambda: {"s": cost})
    samples = [sample for family in metrics.Collector(watch).collect() for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def alarms() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


NAMES = [alarm["alert"] for alarm in alarms()]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not on PATH")
    return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_alarms_are_rules() -> None:
    result = promtool("check", "rules", RULES)
    assert result.returncode == 0, result.stdout + result.stderr


def test_alarms_are_raised_by_their_cases_alone() -> None:
    result = promtool("test", "rules", CASES)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_cases_notice_an_alarm_that_is_never_raised_or_always(tmp_path: Path, name: str) -> None:
    (alarm,) = [alarm for alarm in alarms() if alarm["alert"] == name]
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8")) | {"rule_files": [RULES.name]}
    for case in cases["tests"]:
        case["alert_rule_test"] = [each for each in case["alert_rule_test"] if each["alertname"] == name]
    cases["tests"] = [case for case in cases["tests"] if case["alert_rule_test"]]
    (tmp_path / CASES.name).write_text(yaml.safe_dump(cases), encoding="utf-8")
    for expression in ("vector(1) > 2", 'label_replace(vector(1), "job", "featserve", "", "")'):
        rules = {"groups": [{"name": "changed", "rules": [alarm | {"expr": expression}]}]}
        (tmp_path / RULES.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
        result = promtool("test", "rules", tmp_path / CASES.name)
        assert result.returncode != 0
        assert f"alertname: {name}" in result.stdout + result.stderr


def test_the_object_of_kubernetes_is_the_rule_file() -> None:
    assert OBJECT.read_text(encoding="utf-8") == written()
    assert yaml.safe_load(written())["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))


def test_prometheus_reads_the_rule_file() -> None:
    (file,) = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))["rule_files"]
    mounted = {volume.split(":")[1] for volume in compose()["services"]["prometheus"]["volumes"]}
    assert f"/etc/prometheus/{file}" in mounted and file == RULES.name


def test_the_page_on_call_has_every_alarm_and_no_other() -> None:
    page = (SERVING / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(Featserve\w+)` \|", page, re.MULTILINE) == NAMES


def test_alarms_ask_for_metrics_and_labels_that_are_there() -> None:
    known = SERVING_METRICS | BATCHING_METRICS | EMBEDDED_METRICS | CLIENT_METRICS | OTHER_METRICS | watch_metrics()
    for alarm in alarms():
        found = re.findall(r"([a-z:_]*:[a-z_:0-9]+|\b\w+_\w+|\bup)\b(?:\{([^}]*)\})?", alarm["expr"])
        functions = {"histogram_quantile", "label_replace", "avg_over_time", "last_over_time", "model_name"}
        series = [(name, selector) for name, selector in found if name not in functions]
        assert series, alarm["alert"]
        for name, selector in series:
            metric = name if name in known else re.sub(r"_(bucket|sum|count)$", "", name)
            assert metric in known, name
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector)) <= known[metric] | {"job", "instance"}, alarm


def test_the_summary_of_a_wrong_answer_names_labels_that_are_there() -> None:
    (alarm,) = [alarm for alarm in alarms() if alarm["alert"] == "FeatserveVerificationFailed"]
    named = set(re.findall(r"\$labels\.(\w+)", alarm["annotations"]["summary"]))
    series = set(re.findall(r"featserve_watch_\w+", alarm["expr"]))
    assert named and series and all(named <= watch_metrics()[name] for name in series)


def test_the_limit_of_tensorflow_serving_is_that_of_its_flags() -> None:
    (threads,) = re.findall(
        r"^--grpc_max_threads=(\d+)", (SERVING / "configs" / "server.flags").read_text(), re.MULTILINE
    )
    (saturated,) = [alarm["expr"] for alarm in alarms() if alarm["alert"] == "FeatserveSaturated"]
    (panel,) = [query for query in queries() if "unless on (instance) featserve_queue_limit" in query]
    for query in (saturated, panel):
        assert re.findall(r"/ 1e6 / (\d+)", query) == [threads]
