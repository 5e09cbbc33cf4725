"""What is measured: a server by address, or the default deployment, started for the purpose."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from featserve_client import ModelMetadata

from .errors import LoadError
from .generator import Generator, Stage, default_processes
from .payload import Payload, describe, make
from .server import ServerProcess, Watch

DEFAULT_MODEL = "efficientnet_lite0"
DEFAULT_ROOT = Path("build/models")
EXPORT_S = 1800
#: Of those that the speed of networks depends on, by their names in /proc/cpuinfo.
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "VNNI",
    "avx512_bf16": "bfloat16",
    "amx_tile": "AMX",
}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A server that answers, and how to look at it."""

    targets: list[str]
    model: str
    metadata: ModelMetadata
    watch: Watch
    description: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose the server and what it is asked."""
    parser.add_argument("--target", default="", metavar="HOST:PORT[,...]", help="running servers (default: start one)")
    parser.add_argument("--rest", default="", metavar="HOST:PORT[,...]", help="REST of --target (default: looked for)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="(default: %(default)s)")
    parser.add_argument("--model-root", type=Path, default=DEFAULT_ROOT, metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--runtime", default="auto", help="of the server that is started (default: %(default)s)")
    parser.add_argument("--input", choices=("encoded", "uint8", "float"), default="encoded", help="what is sent")
    parser.add_argument("--layer", help="ask for this layer alone")
    parser.add_argument("--images-per-request", type=int, default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="send these (default: scikit-image's own photos)")
    parser.add_argument(
        "--processes",
        type=int,
        default=default_processes(),
        metavar="N",
        help="client processes (default: %(default)s)",
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Adds the option that `budget_ms` takes."""
    parser.add_argument("--slo-ms", type=float, metavar="MS", help="p99 budget (default: 100, or 5 times one image)")


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[Deployment]:
    """Yields the deployment that the options name, answering.

    Raises:
        LoadError: there is nothing to measure.
        FeatserveError: the target does not answer, or lacks the model.
    """
    targets = [target.strip() for target in options.target.split(",") if target.strip()]
    if targets:
        metadata = [describe(target, options.model) for target in targets][0]
        rest = [address.strip() for address in options.rest.split(",") if address.strip()]
        yield _deployment(targets, options.model, metadata, Watch(targets, options.model, rest))
        return
    base_path = ensure_model(options.model_root, options.model)
    say(f"starting featserve-serve with {base_path}")
    began = time.monotonic()
    with ServerProcess(base_path, options.model, runtime=options.runtime) as server:
        start_s = round(time.monotonic() - began, 3)
        metadata = describe(server.target, options.model)
        watch = Watch([server.target], options.model, [server.rest])
        found = _deployment([server.target], options.model, metadata, watch)
        found.description["start_s"] = start_s
        yield found


def ensure_model(root: Path, model: str) -> Path:
    """Returns the directory of a model's versions; the default model is exported if it is not there."""
    base_path = root / model
    if any(base_path.glob("[0-9]*/saved_model.pb")):
        return base_path
    if model != DEFAULT_MODEL:
        raise LoadError(f"no exported model in {base_path}; run `make export BACKBONE={model}`, or give --target")
    export(model, "--model-root", str(root))
    return base_path


def export(*arguments: str) -> Path:
    """Runs `featserve-export`; returns the version's directory."""
    say(f"featserve-export {' '.join(arguments)}")
    command = [sys.executable, "-m", "featserve_export", *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Its progress and errors go to the terminal: an export takes minutes.
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, timeout=EXPORT_S)
    except subprocess.TimeoutExpired as exc:
        raise LoadError(f"featserve-export took more than {EXPORT_S} s") from exc
    if done.returncode:
        raise LoadError(f"featserve-export ended with status {done.returncode}; its errors are above")
    if not done.stdout.strip():
        raise LoadError("featserve-export named no directory")
    return Path(done.stdout.strip().splitlines()[-1])


def copy_version(source: Path, target: Path) -> None:
    """Copy a version's directory, by hard links where both are on one file system: nothing changes these files."""
    linked = source.stat().st_dev == target.parent.stat().st_dev
    shutil.copytree(source, target, copy_function=os.link if linked else shutil.copy2)


def payload_of(options: argparse.Namespace, metadata: ModelMetadata) -> Payload:
    """Returns the requests that the options describe."""
    if options.images_per_request < 1:
        raise LoadError(f"--images-per-request is at least 1, not {options.images_per_request}")
    if options.processes < 1:
        raise LoadError(f"--processes is at least 1, not {options.processes}")
    return make(
        metadata,
        options.model,
        input=options.input,
        layer=options.layer,
        images_per_request=options.images_per_request,
        folder=options.photos,
    )


def single_latency_ms(generator: Generator, duration_s: float = 2.0) -> float:
    """Returns the median latency of one caller alone."""
    measured = generator.run(Stage(callers=1, duration_s=duration_s, warmup_s=1.0, timeout_s=60))
    if not len(measured.ok):
        raise LoadError(f"no request was answered: {measured.errors or 'none was sent'}")
    return measured.percentile_ms(50)


def budget_ms(asked: float | None, single_ms: float) -> float:
    """Returns the p99 budget: the one asked for, or 100 ms, or 5 times the latency of one image alone.

    Raises:
        LoadError: one image alone takes longer than the budget.
    """
    if asked is None:
        return max(100.0, 5 * single_ms)
    if asked < single_ms:
        raise LoadError(
            f"the budget of {asked:g} ms cannot be met: one request alone takes {single_ms:.1f} ms (median)"
        )
    return asked


def machine() -> dict[str, Any]:
    """Returns what the numbers depend on."""
    fields = {"model name": "unknown CPU", "flags": ""}
    with contextlib.suppress(OSError):
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        fields |= {key.strip(): value.strip() for key, _, value in lines}
    flags = fields["flags"].split()
    instructions = [name for flag, name in _INSTRUCTIONS.items() if flag in flags]
    cpu = f"{fields['model name']} ({', '.join(instructions) or 'no AVX2'})"
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def say(text: str) -> None:
    """Tells the user what goes on."""
    print(text, file=sys.stderr, flush=True)


def _deployment(targets: list[str], model: str, metadata: ModelMetadata, watch: Watch) -> Deployment:
    manifest = metadata.manifest or {}
    description = {
        "target": ",".join(targets),
        "model": model,
        "version": metadata.version,
        "precision": manifest.get("precision"),
        "batching": manifest.get("batching"),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": machine(),
    }
    return Deployment(targets=targets, model=model, metadata=metadata, watch=watch, description=description)


def check_answers(deployment: Deployment, payload: Payload) -> None:
    """Raises LoadError unless the first request is answered with an array of the right number of rows."""
    from featserve_client.wire.tensors import decode_predict_response

    from .payload import PREDICT

    with grpc.insecure_channel(deployment.targets[0], [("grpc.max_receive_message_length", -1)]) as channel:
        raw = channel.unary_unary(PREDICT)(payload.requests[0], timeout=60)
    _, outputs = decode_predict_response(raw)
    rows = {name: array.shape[0] for name, array in outputs.items() if array.ndim}
    if not rows or set(rows.values()) != {payload.images_per_request}:
        raise LoadError(f"expected {payload.images_per_request} rows, received {rows or 'nothing'}")
    if not all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
        raise LoadError("the answer is not finite")
