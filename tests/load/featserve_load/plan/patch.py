"""A plan as a kustomize component for serving/kubernetes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from ..errors import LoadError

#: MiB of the server itself, as serving/README.md has them: TensorFlow Serving in its container.
SERVER_MIB = 350
#: In memory during a swap: two that serve, and a third that loads before the oldest goes.
VERSIONS = 3


def memory_mib(memory: dict[str, float] | None, threads: int, largest: int) -> int | None:
    """Returns the memory limit of a server with one model, by the rule of serving/README.md, in steps of 256 MiB.

    Example:
        >>> memory_mib({"version_mib": 203, "image_mib": 13.8}, 2, 8)
        1280
    """
    if not memory:
        return None
    need = SERVER_MIB + VERSIONS * memory["version_mib"] + threads * largest * memory["image_mib"]
    return 256 * math.ceil(need / 256)


def component(
    *, replicas: int, most: int, utilization: float, queue_s: float, cores: int, mib: int | None
) -> dict[str, Any]:
    """Returns the kustomization: replicas and targets of the autoscaler, and resources of the server.

    Args:
        replicas: at least.
        most: replicas at most.
        utilization: part of the cores that is busy at the planned load.
        queue_s: 95th percentile of an image's wait for a batch thread where the budget ends.
        cores: of a server.
        mib: memory of a server; None leaves the kit's.
    """
    resources = {"cpu": str(cores), **({"memory": f"{mib}Mi"} if mib else {})}
    metrics = [
        {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": max(1, math.floor(100 * utilization))},
            },
        },
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "featserve_queue_seconds"},
                "target": {"type": "AverageValue", "averageValue": f"{max(1, round(1e3 * queue_s))}m"},
            },
        },
    ]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "featserve"},
        "spec": {"minReplicas": replicas, "maxReplicas": most, "metrics": metrics},
    }
    container = {"name": "server", "resources": {"requests": resources, "limits": resources}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "featserve"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"patch": _yaml(each)} for each in (autoscaler, deployment)],
    }


def write(folder: Path, found: dict[str, Any], why: str) -> Path:
    """Writes `kustomization.yaml`, with `why` as a comment above it; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kustomization.yaml"
    comment = "".join(f"# {line}\n" for line in why.splitlines())
    try:
        path.write_text(comment + _yaml(found), encoding="utf-8")
    except OSError as exc:
        raise LoadError(f"cannot write {path}: {exc}") from exc
    return path


class _Dumper(yaml.SafeDumper):
    """Plain documents: no anchors, and texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _yaml(value: Any) -> str:
    dumped: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120)
    return dumped
