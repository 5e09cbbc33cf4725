"""serving/kubernetes, rendered by `kubectl kustomize` and validated against the API's own schemas; no cluster."""

from __future__ import annotations

import functools
import inspect
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

SERVING = Path(__file__).parents[2] / "serving"
KUBERNETES = SERVING / "kubernetes"
WATCH = "featserve-watch"
OVERLAYS = ("overlays/cpu", "overlays/gpu", "overlays/canary")
# Objects of other projects: their schemas are not in the Kubernetes API.
CUSTOM_KINDS = {
    "ServiceMonitor",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "InferenceService",
    "Gateway",
    "GRPCRoute",
}

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")

Object = dict[str, Any]


@functools.cache
def render(folder: Path) -> list[Object]:
    result = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def overlay(name: str) -> list[Object]:
    return render(KUBERNETES / name)


#: Each takes the place of what another component, or the overlay, has.
ALTERNATIVES = {"image-volume", "keda"}


@pytest.fixture
def with_components(tmp_path: Path) -> list[Object]:
    """The CPU overlay with every component but the alternatives, as a user's own kustomization would take them."""
    names = {path.name for path in (KUBERNETES / "components").iterdir()}
    assert names >= ALTERNATIVES
    return combined(tmp_path, *sorted(names - ALTERNATIVES))


def combined(tmp_path: Path, *components: str) -> list[Object]:
    relative = os.path.relpath(KUBERNETES, tmp_path.resolve())
    kustomization = {
        "resources": [f"{relative}/overlays/cpu"],
        "components": [f"{relative}/components/{name}" for name in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(tmp_path.resolve())


def one(objects: list[Object], kind: str) -> Object:
    """The only object of a kind; the watch, which comes with servers, apart."""
    (found,) = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] != WATCH]
    return found


@pytest.fixture
def watch(with_components: list[Object]) -> dict[str, Object]:
    """The objects of `components/watch`, by their kind."""
    return {item["kind"]: item for item in with_components if item["metadata"]["name"] == WATCH}


def pod(name: str) -> Object:
    spec: Object = one(overlay(name), "Deployment")["spec"]["template"]["spec"]
    return spec


def server(name: str) -> Object:
    (container,) = pod(name)["containers"]
    found: Object = container
    return found


def dockerfile_line(word: str) -> list[str]:
    lines = (SERVING / "docker" / "Dockerfile").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{word} "))


def validate(objects: list[Object]) -> Iterator[str]:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for item in objects:
        if item["kind"] in CUSTOM_KINDS:
            continue
        # The oldest version that is still maintained in mid-2026, and the newest that the package knows.
        for version in ("1.33", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(item, version, strict=True)
            yield item["kind"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_are_valid(name: str) -> None:
    assert {"Deployment", "ConfigMap"} <= set(validate(overlay(name)))


def test_components_are_valid(with_components: list[Object]) -> None:
    assert "PersistentVolumeClaim" in set(validate(with_components))
    assert {item["kind"] for item in with_components} >= {"Gateway", "GRPCRoute", "PrometheusRule"}


def test_validation_notices_a_misspelt_field() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    deployment = yaml.safe_load(yaml.safe_dump(one(overlay("overlays/cpu"), "Deployment")))
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        list(validate([deployment]))


def test_an_overlay_has_every_object() -> None:
    kinds = sorted(item["kind"] for item in overlay("overlays/cpu"))
    assert kinds == [
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceMonitor",
    ]


def test_the_canary_adds_only_its_deployment_behind_the_same_service() -> None:
    stable, canary = overlay("overlays/cpu"), overlay("overlays/canary")
    assert sorted(item["kind"] for item in canary) == ["ConfigMap", "Deployment"]
    names = {(item["kind"], item["metadata"]["name"]) for item in stable}
    assert not names & {(item["kind"], item["metadata"]["name"]) for item in canary}
    tracks = [one(objects, "Deployment")["spec"]["selector"]["matchLabels"] for objects in (stable, canary)]
    assert tracks[0] != tracks[1]
    shared = [
        one(stable, "Service")["spec"]["selector"],
        one(stable, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(stable, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    for objects in (stable, canary):
        deployment = one(objects, "Deployment")["spec"]
        labels = deployment["template"]["metadata"]["labels"].items()
        assert deployment["selector"]["matchLabels"].items() <= labels
        for selector in shared:
            assert selector.items() <= labels


@pytest.mark.parametrize("name", OVERLAYS)
def test_ports_are_those_of_the_image(name: str) -> None:
    ports = {port["name"]: port["containerPort"] for port in server(name)["ports"]}
    assert [str(port) for port in ports.values()] == dockerfile_line("EXPOSE")
    assert server(name)["readinessProbe"]["grpc"] == {"port": ports["grpc"], "service": "PredictionService"}
    assert server(name)["livenessProbe"]["grpc"]["port"] == ports["grpc"]


def test_the_service_leads_to_the_ports_of_the_pod() -> None:
    ports = {port["name"]: port["containerPort"] for port in server("overlays/cpu")["ports"]}
    service = one(overlay("overlays/cpu"), "Service")["spec"]
    assert service["clusterIP"] == "None"
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    for rule in one(overlay("overlays/cpu"), "NetworkPolicy")["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= ports.keys()


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_grace_period_covers_pre_stop_and_drain(name: str) -> None:
    command, seconds = server(name)["lifecycle"]["preStop"]["exec"]["command"]
    entrypoint = (SERVING / "docker" / "bin" / "featserve-entrypoint").read_text()
    (drain,) = re.findall(r"\{DRAIN_SECONDS:=(\d+)", entrypoint)
    assert command == "sleep"
    assert int(seconds) + int(drain) < pod(name)["terminationGracePeriodSeconds"]


def test_a_connection_that_ages_leaves_a_call_the_default_deadline_of_the_client() -> None:
    config = pytest.importorskip("featserve_client")
    flags = (SERVING / "configs" / "server.flags").read_text()
    (grace_ms,) = re.findall(r"max_connection_age_grace_ms=(\d+)", flags)
    (timeout,) = [
        each for each in inspect.signature(config.FeatureClient).parameters.values() if each.name == "timeout_s"
    ]
    assert int(grace_ms) >= timeout.default * 1000


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_rollout_waits_longer_than_a_pod_may_take_to_start(name: str) -> None:
    probe = server(name)["startupProbe"]
    deployment = one(overlay(name), "Deployment")["spec"]
    assert probe["failureThreshold"] * probe["periodSeconds"] < deployment["progressDeadlineSeconds"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_are_guaranteed_their_cores(name: str) -> None:
    # Of every container, or the kubelet gives none of them whole cores.
    for container in [*pod(name)["initContainers"], *pod(name)["containers"]]:
        resources = container["resources"]
        assert resources["limits"] == resources["requests"] and {"cpu", "memory"} <= resources["limits"].keys()


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_run_where_the_image_does_and_spread_over_zones(name: str) -> None:
    assert pod(name)["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    (constraint,) = pod(name)["topologySpreadConstraints"]
    labels = one(overlay(name), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert constraint["topologyKey"] == "topology.kubernetes.io/zone"
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", OVERLAYS)
def test_volumes_are_bounded_and_not_walked_on_every_start(name: str) -> None:
    assert pod(name)["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    for volume in pod(name)["volumes"]:
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


def test_the_autoscaler_takes_one_pod_away_in_the_time_of_a_drain() -> None:
    scale_down = one(overlay("overlays/cpu"), "HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]
    (policy,) = scale_down["policies"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert policy["periodSeconds"] >= pod("overlays/cpu")["terminationGracePeriodSeconds"]


def test_the_dashboard_is_that_of_grafana(with_components: list[Object]) -> None:
    (dashboard,) = [item for item in with_components if item["metadata"]["name"] == "featserve-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    file = SERVING / "docker" / "grafana" / "dashboards" / "featserve.json"
    assert dashboard["data"] == {file.name: file.read_text()}


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_run_locked_down_as_the_user_of_the_image(name: str) -> None:
    context = pod(name)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert dockerfile_line("USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert pod(name)["automountServiceAccountToken"] is False
    for container in [*pod(name)["initContainers"], *pod(name)["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_images_are_pinned(name: str) -> None:
    for container in [*pod(name)["initContainers"], *pod(name)["containers"]]:
        assert re.search(r":\d+\.\d+\.\d+", container["image"]), container["image"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_mount_has_its_volume_and_the_server_finds_its_config(name: str) -> None:
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    for container in [*pod(name)["initContainers"], *pod(name)["containers"]]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in server(name)["volumeMounts"]}
    (variable,) = server(name)["env"]
    assert variable["name"] == "MODELS_CONFIG"
    config = one(overlay(name), "ConfigMap")
    path = Path(variable["value"])
    assert mounts[str(path.parent)]["configMap"]["name"] == config["metadata"]["name"]
    model_server_config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    parsed = text_format.Parse(config["data"][path.name], model_server_config_pb2.ModelServerConfig())
    for model in parsed.model_config_list.config:
        assert str(Path(model.base_path).parent) in mounts


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_startup_probe_is_a_script_of_the_image(name: str) -> None:
    (script,) = server(name)["startupProbe"]["exec"]["command"]
    assert (SERVING / "docker" / "bin" / script).is_file()


def batch_threads() -> str:
    config = (SERVING / "configs" / "batching.config").read_text()
    threads = re.search(r"num_batch_threads \{ value: (\d+) \}", config)
    assert threads is not None
    return threads[1]


def test_cores_are_whole_and_as_many_as_batch_threads() -> None:
    resources = server("overlays/cpu")["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"]["cpu"] == batch_threads()


def test_the_gpu_overlay_asks_for_a_gpu_and_scales_by_the_queue() -> None:
    resources = server("overlays/gpu")["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    metrics = one(overlay("overlays/gpu"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["Pods"]


def test_the_autoscaler_reads_what_the_adapter_computes_from_the_metric_of_the_dashboard() -> None:
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    cpu, queue = one(overlay("overlays/cpu"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert cpu["resource"]["name"] == "cpu"
    assert queue["pods"]["metric"]["name"] == rule["name"]["as"]
    (series,) = re.findall(r'__name__="([^"]+)"', rule["seriesQuery"])
    assert series in (SERVING / "docker" / "grafana" / "dashboards" / "featserve.json").read_text()
    promql_parser = pytest.importorskip("promql_parser")
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", series)
    promql_parser.parse(query.replace("<<.LabelMatchers>>", 'namespace="default"'))


def test_the_monitor_scrapes_the_path_that_the_server_serves() -> None:
    monitor = one(overlay("overlays/cpu"), "ServiceMonitor")["spec"]
    service = one(overlay("overlays/cpu"), "Service")
    (endpoint,) = monitor["endpoints"]
    assert f'path: "{endpoint["path"]}"' in (SERVING / "configs" / "monitoring.config").read_text()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    # More than a server of many models has, and few enough to stop one that runs away.
    assert 1000 <= monitor["sampleLimit"] <= 100_000
    assert one(overlay("overlays/cpu"), "ServiceMonitor")["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_the_volume_replaces_the_init_container(with_components: list[Object]) -> None:
    spec = one(with_components, "Deployment")["spec"]["template"]["spec"]
    assert not spec.get("initContainers")
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "models"]
    claim = one(with_components, "PersistentVolumeClaim")["metadata"]["name"]
    assert volume == {"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}


def test_the_image_volume_replaces_the_init_container(tmp_path: Path) -> None:
    objects = combined(tmp_path, "image-volume")
    assert "Deployment" in set(validate(objects))
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert not spec.get("initContainers")
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "models"]
    (init,) = pod("overlays/cpu")["initContainers"]
    assert volume == {"name": "models", "image": {"reference": init["image"], "pullPolicy": "IfNotPresent"}}
    (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "models"]
    # Where the Dockerfile's target `models` has them, and models.config looks.
    assert mount == {"name": "models", "mountPath": "/models", "subPath": "models", "readOnly": True}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = required | (optional or {})
    return {"type": "object", "required": [*required], "properties": properties, "additionalProperties": False}


_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
#: What of keda.sh/v1alpha1 is used here, as KEDA's resource definition has it; nothing else is let in.
SCALED_OBJECT = _object(
    {
        "scaleTargetRef": _object({"name": _TEXT}),
        "triggers": {
            "type": "array",
            "items": _object(
                {
                    "type": {"const": "prometheus"},
                    # Every value is text.
                    "metadata": _object(
                        {"serverAddress": _TEXT, "query": _TEXT, "threshold": _TEXT}, {"ignoreNullValues": _TEXT}
                    ),
                },
                {"metricType": {"enum": ["AverageValue", "Value"]}},
            ),
        },
    },
    {
        "minReplicaCount": _COUNT,
        "maxReplicaCount": _COUNT,
        "pollingInterval": _COUNT,
        "fallback": _object(
            {"failureThreshold": _COUNT, "replicas": _COUNT},
            {"behavior": {"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]}},
        ),
        "advanced": _object({"horizontalPodAutoscalerConfig": _object({"behavior": {"type": "object"}})}),
    },
)


def test_keda_takes_the_place_of_the_autoscaler(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    objects = combined(tmp_path, "keda")
    assert "HorizontalPodAutoscaler" not in {item["kind"] for item in objects}
    spec = one(objects, "ScaledObject")["spec"]
    jsonschema.validate(spec, SCALED_OBJECT)
    autoscaler = one(overlay("overlays/cpu"), "HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == one(objects, "Deployment")["metadata"]["name"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (autoscaler["minReplicas"], autoscaler["maxReplicas"])
    assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == autoscaler["behavior"]
    (trigger,) = spec["triggers"]
    query = trigger["metadata"]["query"]
    pytest.importorskip("promql_parser").parse(query)
    series = re.findall(r":tensorflow:serving:[a-z_]+", query)
    assert series == [":tensorflow:serving:request_latency_sum"]
    assert all(name in (SERVING / "docker" / "prometheus" / "alarms.yml").read_text() for name in series)


def memory_table() -> dict[str, int]:
    """MiB that three versions of each model use, with the allocator of the container."""
    results = (SERVING.parent / "tests" / "load" / "RESULTS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| MALLOC_ARENA_MAX=2 \| [\d,]+ \| [\d,]+ \| ([\d,]+) \|", results, re.MULTILINE)
    return {model: int(used.replace(",", "")) for model, used in rows}


def mebibytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi|g|m)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit in ("Gi", "g") else 1)


def test_memory_limits_hold_three_versions_as_measured_beside_the_server() -> None:
    readme = (SERVING / "README.md").read_text(encoding="utf-8")
    found = re.search(r"TensorFlow Serving without a model takes (\d+) MiB", readme)
    assert found is not None
    needed = {model: int(found[1]) + used for model, used in memory_table().items()}
    compose = yaml.safe_load((SERVING / "docker" / "compose.yaml").read_text())["services"]["server"]["mem_limit"]
    default = re.fullmatch(r"\$\{MEMORY:-(.+)\}", compose)
    assert default is not None
    kserve = one(overlay("kserve"), "InferenceService")["spec"]["predictor"]["model"]["resources"]["limits"]["memory"]
    limits = [default[1], kserve, *(server(name)["resources"]["limits"]["memory"] for name in OVERLAYS)]
    # The default model, and the largest that the comment of the Deployment promises.
    for limit in limits:
        assert max(needed["efficientnet_lite0"], needed["vgg16"]) <= mebibytes(limit)
    # A model for which the limit must be raised: the rule tells it from the others.
    assert needed["convnext_base"] > mebibytes(default[1])


def test_the_gateway_lets_no_reload_through(with_components: list[Object]) -> None:
    route = one(with_components, "GRPCRoute")["spec"]
    (rule,) = route["rules"]
    methods = [match["method"] for match in rule["matches"]]
    assert {"service": "tensorflow.serving.PredictionService"} in methods
    model_service = [method for method in methods if method["service"] == "tensorflow.serving.ModelService"]
    assert [method.get("method") for method in model_service] == ["GetModelStatus"]
    service = one(with_components, "Service")
    (backend,) = rule["backendRefs"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}


def test_kserve_takes_the_same_flags_and_cores() -> None:
    model = one(overlay("kserve"), "InferenceService")["spec"]["predictor"]["model"]
    flags = re.findall(r"^--\S+", (SERVING / "configs" / "server.flags").read_text(), re.MULTILINE)
    of_the_config_file = ("--model_config_file_poll_wait_seconds", "--allow_version_labels_for_unavailable_models")
    assert model["args"] == [flag for flag in flags if not flag.startswith(of_the_config_file)]
    assert model["resources"]["limits"]["cpu"] == batch_threads()
    tag = re.search(r"^ARG SERVING_TAG=(\S+)", (SERVING / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    assert tag is not None
    assert model["runtimeVersion"] == tag[1]


def test_the_watch_asks_every_pod_and_is_let_in(watch: dict[str, Object], with_components: list[Object]) -> None:
    template = watch["Deployment"]["spec"]["template"]
    labels, (container,) = template["metadata"]["labels"], template["spec"]["containers"]
    dispatch = pytest.importorskip("featserve_client.cli.dispatch")
    options = dispatch._parser().parse_args(container["args"])
    service = one(with_components, "Service")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert options.server == [f"{service['metadata']['name']}:{ports['grpc']}"]
    assert options.host == "0.0.0.0"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"metrics": options.port}
    (mount,) = container["volumeMounts"]
    assert Path(options.remember).parent == Path(mount["mountPath"])
    clients = one(with_components, "NetworkPolicy")["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert clients.items() <= labels.items()
    servers = one(with_components, "Deployment")["spec"]["template"]["metadata"]["labels"]
    to_servers, to_dns = watch["NetworkPolicy"]["spec"]["egress"]
    assert to_servers["to"][0]["podSelector"]["matchLabels"].items() <= servers.items()
    assert to_servers["ports"] == [{"port": ports["grpc"]}]
    assert {port["port"] for port in to_dns["ports"]} == {53}


def test_the_watch_is_no_server(watch: dict[str, Object], with_components: list[Object]) -> None:
    labels = watch["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        one(with_components, "Service")["spec"]["selector"],
        one(with_components, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(with_components, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert not selector.items() <= labels.items()
    assert watch["Deployment"]["spec"]["template"]["spec"]["volumes"][0]["name"] == "seen"  # no model of components/pvc
    assert watch["Deployment"]["spec"]["strategy"]["type"] == "Recreate"


def test_the_watch_runs_locked_down_and_is_scraped(watch: dict[str, Object]) -> None:
    spec = watch["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["automountServiceAccountToken"] is False
    image = (SERVING / "docker" / "client.Dockerfile").read_text()
    context = spec["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in image
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() >= {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert re.search(r"/featserve-client:\d+\.\d+\.\d+$", container["image"])
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == "metrics"
    monitor = watch["PodMonitor"]["spec"]
    labels = watch["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == ["metrics"]
