"""`featserve doctor`: find out why the service does not answer, or how well it does."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import grpc
import numpy as np

from ... import __version__
from ...client import FeatureClient
from ...exceptions import FeatserveError
from ...model.manifest import Manifest
from ...model.metadata import VersionStatus
from ...transport.address import proxy_variable, split
from ...transport.probe import probe
from ..options import Commands, add_server_options, make_client

_PROBE_S = 3.0
_ROUND_TRIPS = 5
#: Flags of Linux' /proc/cpuinfo, and what is faster with them.
_CPU_FLAGS = {
    "avx2": "float32",
    "avx512f": "float32",
    "avx512_vnni": "int8",
    "avx_vnni": "int8",
    "avx512_bf16": "bfloat16",
    "amx_bf16": "bfloat16",
    "amx_int8": "int8",
}

#: Whether a check passed, None where there is nothing to pass; and what it found.
Diagnosis = tuple[bool | None, str]


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("doctor", help="find out why the service does not answer, or how well it does")
    add_server_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    passed = True
    with make_client(arguments) as client:
        for verdict, text in _diagnoses(client):
            passed = passed and verdict is not False
            print(f"{ {True: 'ok', False: 'FAILED', None: ''}[verdict]:8}{text}")
    return 0 if passed else 1


def _diagnoses(client: FeatureClient) -> Iterator[Diagnosis]:
    yield None, f"client: featserve {__version__}, grpcio {grpc.__version__}, Python {platform.python_version()}"
    yield None, _cpu(Path("/proc/cpuinfo"))
    if variable := proxy_variable(client.target):
        yield None, f"proxy: gRPC goes through the one in ${variable}; no_grpc_proxy=HOST leaves it out"
    for address in split(client.target):
        host, _, port = address.rpartition(":")
        if port.isdigit() and ":" not in host.strip("[]").replace("::", ""):
            yield _address(client, host.strip("[]"), int(port))
    try:
        versions = client.status()
        states = ", ".join(_state(each) for each in versions)
        yield any(each.available for each in versions), f"model {client.model}: {states or 'no versions'}"
        if any(each.since is None for each in versions):
            yield None, "since when, and under which labels: unknown, for TensorFlow Serving does not tell"
        yield from _model(client)
    except FeatserveError as exc:
        yield False, f"{type(exc).__name__}: {exc}"


def _state(status: VersionStatus) -> str:
    labels = f" ({', '.join(status.labels)})" if status.labels else ""
    since = ""
    if status.since is not None:
        since = f" since {datetime.fromtimestamp(status.since).astimezone().isoformat(' ', 'seconds')}"
    return f"version {status.version}{labels} {status.state}{since} {status.error}".rstrip()


def _address(client: FeatureClient, host: str, port: int) -> Diagnosis:
    answer, reason = probe(host, port, _PROBE_S)
    where = f"address {host}:{port}: "
    if answer == "nothing":
        return (
            False,
            f"{where}nothing answers ({reason}); start a server with `featserve-serve --model_root build/models`",
        )
    if answer == "http":
        return False, f"{where}a web server answers, perhaps the REST API; gRPC's port is another, 8500 unless set"
    if answer == "other":
        return False, f"{where}something answers that is neither gRPC nor TLS"
    if answer == "tls" and not client.uses_tls:
        return False, f"{where}the server wants TLS: name the authority of its certificate with --ca PEM"
    if answer == "grpc" and client.uses_tls:
        return False, f"{where}the server speaks plain text: leave --ca and $FEATSERVE_CA out"
    return True, f"{where}gRPC{' under TLS' if answer == 'tls' else ' in plain text'}"


def _model(client: FeatureClient) -> Iterator[Diagnosis]:
    model = client.metadata()
    manifest = Manifest.parse(model.manifest or {})
    yield True, f"layers of version {model.version}: {', '.join(model.layers) or 'none that takes images'}"
    if model.manifest is None:
        yield None, "no manifest: the model was not exported by featserve-export"
    else:
        releases = (model.manifest.get("versions") or {}).items()
        yield None, f"exported in {manifest.precision} by {', '.join(f'{key} {value}' for key, value in releases)}"
    if not model.layers or "serving_default" not in model.signatures:
        return
    photo = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    times = []
    for _ in range(_ROUND_TRIPS):
        start = time.perf_counter()
        client.extract(photo)
        times.append(time.perf_counter() - start)
    yield True, f"round trip of an image of 224 x 224: {1000 * min(times):.1f} ms, the best of {_ROUND_TRIPS}"


def _cpu(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return f"CPU of this machine: {platform.processor() or platform.machine()}"
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [flag for flag in _CPU_FLAGS if flag in fields.get("flags", "").split()]
    fast = dict.fromkeys(_CPU_FLAGS[flag] for flag in flags)
    advice = (
        "--precision auto measures which is the fastest" if len(fast) > 1 else "bfloat16 would be slower than float32"
    )
    name = fields.get("model name", platform.machine())
    return f"CPU of this machine: {name}, {', '.join(flags) or 'no AVX2'}: for a server here, {advice}"
