"""What `capacity` writes down of a server, and `plan` reads."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from featserve_client import FeatserveError

from ..deployment import Deployment, say
from ..errors import LoadError
from ..generator import Generator
from ..payload import Payload
from ..server import pid_of
from . import calibration, service_times
from .fleet import Fleet
from .service_times import ServiceTimes
from .simulated_server import Settings

FORMAT = 4
FOLDER = Path("build/load")
NAME = "capacity.json"


@dataclass(frozen=True, kw_only=True)
class CapacityReport:
    """A capacity report with service times.

    Attributes:
        path: where it was read.
        model: the servable.
        input: what was sent, such as `encoded`.
        cpu: of the machine that served.
        times: service times under load.
        settings: batching and admission.
        images_per_request: of the payload.
        single_ms: one request alone, median.
        budget_ms: of p99, that `images_per_s` was measured within.
        images_per_s: the capacity measured, of each server.
        start_s: from a server's start until it answers; None for a server that ran already.
        memory: of the manifest: `version_mib` and `image_mib`; None where it has none.
    """

    path: Path
    model: str
    input: str
    cpu: str
    times: ServiceTimes
    settings: Settings
    images_per_request: int
    single_ms: float
    budget_ms: float
    images_per_s: float
    start_s: float | None
    memory: dict[str, float] | None


def needs(server: Deployment, payload: Payload, generator: Generator) -> dict[str, Any]:
    """Returns the needs of a plan beside a capacity: service times, or why there are none."""
    manifest = server.metadata.manifest or {}
    pid = pid_of(server.targets[0])
    cores = (
        len(psutil.Process(pid).cpu_affinity()) if pid else (manifest.get("batching") or {}).get("num_batch_threads")
    )
    found: dict[str, Any] = {"memory": manifest.get("memory"), "service_times": None}
    say("timing requests and batches, one caller")
    try:
        times = service_times.measure(
            server.targets[0], server.metadata, payload, pid=pid, cores=cores or os.cpu_count() or 1
        )
    except (LoadError, FeatserveError) as exc:
        say(f"no service times, so `plan` cannot use this report: {exc}")
        return {**found, "no_service_times": str(exc)}
    say("timing calls among others, at half load")
    fleet = Fleet(
        times=times,
        settings=Settings.of(manifest["batching"]),
        servers=len(server.targets),
        images_per_request=payload.images_per_request,
    )
    return {**found, "service_times": calibration.among_others(fleet, generator.run).as_dict()}


def newest(folder: Path = FOLDER) -> Path:
    """Returns the newest capacity report below a folder."""
    found = sorted(folder.rglob(NAME), key=lambda path: path.stat().st_mtime)
    if not found:
        raise LoadError(f"no capacity report in {folder}: `make capacity` measures one, on the CPU that is to serve")
    return found[-1]


def read(path: Path, model: str | None = None) -> CapacityReport:
    """Returns the report of a file.

    Raises:
        LoadError: it is none, is of another model, or has no service times.
    """
    again = f"`make capacity{f' MODEL={model}' if model else ''}` writes one"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise LoadError(f"cannot read the capacity report {path}: {exc}; {again}") from exc
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise LoadError(f"{path} is no capacity report of this version; {again}")
    if model and found["model"] != model:
        raise LoadError(f"{path} is of {found['model']}, not of {model}; {again}")
    if not found.get("service_times"):
        why = found.get("no_service_times", "they were not measured")
        raise LoadError(f"{path} has no service times ({why}); measure a model of featserve-export")
    if not found["images_per_s"] > 0:
        raise LoadError(
            f"{path} says that no rate keeps a p99 of {found['budget_ms']:.0f} ms; measure with more SLO_MS"
        )
    return CapacityReport(
        path=path,
        model=found["model"],
        input=found["input"],
        cpu=found["machine"]["cpu"],
        times=ServiceTimes.of(found["service_times"]),
        settings=Settings.of(found["batching"]),
        images_per_request=found["images_per_request"],
        single_ms=found["single_ms"],
        budget_ms=found["budget_ms"],
        images_per_s=found["images_per_s"] / found["servers"],
        start_s=found.get("start_s"),
        memory=found.get("memory"),
    )
