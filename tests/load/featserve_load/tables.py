"""The measurements behind RESULTS.md, one function a section."""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from featserve_client import FeatureClient
from featserve_client import _wire_pb2 as wire_pb2
from featserve_client._tensors import predict_request, tensor_parts

from . import deployment, photos
from .deployment import say
from .errors import LoadError
from .generator import Generator, Stage
from .inprocess import InProcess
from .payload import PREDICT, SIGNATURES, Input, Payload, describe, make, network_size
from .server import ROOT, ServerProcess

#: Name, and how it is exported.
MODELS: dict[str, list[str]] = {
    "efficientnet_lite0": [],
    "mobilenet": ["--alpha", "0.25", "--weights", "random"],
    "resnet50": ["--weights", "random"],
    "inception_v3": ["--weights", "random"],
    "vgg16": ["--weights", "random"],
}
DEFAULT = "efficientnet_lite0"
CALLERS = 32
COUNTS = (1, 2, 4, 8, 16, 32, 64)
SIDES = (64, 128, 256, 512, 1024, 2048)
TEAMS = (1, 4, 16, 64, 256)

Figures = tuple[float, ...]


def served(options: argparse.Namespace) -> list[str]:
    """Served against in process, 32 callers of one image each."""
    lines = [
        f"{CALLERS} callers, one image a request. In process: {CALLERS} threads call the same signature of the same "
        "SavedModel. `÷, client's cores returned` adds the cores that the generator used to what served.",
        "",
        "| model | input | in process, images/s | served, images/s | ÷ | ÷, client's cores returned |",
        "|---|---|--:|--:|--:|--:|",
    ]
    cores = len(os.sched_getaffinity(0))
    kinds: tuple[Input, ...] = ("encoded", "uint8")
    for model in options.models.split(","):
        for kind in kinds:
            try:
                a, b, c, d = _medians(_served(options, model, kind, cores))
            except LoadError as exc:  # one model that fails costs no other its row
                say(f"{model}, {kind}: {exc}")
                lines.append(f"| {model} | {kind} | not measured | | | |")
                continue
            lines.append(f"| {model} | {kind} | {a:.1f} | {b:.1f} | {c:.2f} | {d:.2f} |")
    if all("not measured" in line for line in lines[4:]):
        raise LoadError("no model could be measured")
    return lines


def _served(options: argparse.Namespace, model: str, kind: Input, cores: int) -> list[Figures]:
    base_path = _exported(options, model)
    say(f"{model}, {kind}: starting a server and the same model in process")
    rows: list[Figures] = []
    with ServerProcess(base_path, model) as server:
        metadata = describe(server.target, model)
        with (
            InProcess(base_path / "1", SIGNATURES[kind], network_size(metadata)) as local,
            Generator([server.target], make(metadata, model, input=kind)) as generator,
        ):
            for turn in range(options.rounds):
                alone = local.images_per_s(options.seconds)
                over = generator.run(
                    Stage(callers=CALLERS, duration_s=options.seconds, warmup_s=1.0, seed=turn, timeout_s=60)
                )
                if over.errors:
                    raise LoadError(f"requests failed: {over.errors}")
                ratio = over.images_per_s / alone
                share = max(1 - over.client_cores * over.processes / cores, 0.01)
                rows.append((alone, over.images_per_s, ratio, ratio / share))
                say(f"  {turn + 1} of {options.rounds}: {alone:.1f} in process, {over.images_per_s:.1f} served")
    return rows


def export(options: argparse.Namespace) -> list[str]:
    """Our export against `model.export()`: two embedded servers, float pixels, the two taking turns."""
    lines = [
        "Float pixels of the network's size by gRPC, the same weights and preprocessing, each export in an embedded "
        "server of its own; images/s of the two taking turns, ÷ is the median of the rounds' ratios.",
        "",
        "| model | precision | load | model.export() | this export | ÷ |",
        "|---|---|---|--:|--:|--:|",
    ]
    loads = ((1, 1), (CALLERS, 1), (1, 16))
    for model in options.export_models.split(","):
        plain = _plain(options, model)
        for precision in options.precisions.split(","):
            name, extra = model, list[str]()
            if precision != "float32":
                name = f"{model}_{precision}"
                extra = ["--precision", precision, "--model-name", name]
            if precision == "int8":
                extra += ["--calibrate", str(photos.folder())]
            try:
                base_path = _exported(options, model, name, extra)
            except LoadError as exc:  # a precision that the export refuses costs no other its rows
                say(f"{model}, {precision}: {exc}")
                lines.append(f"| {model} | {precision} | refused by the export | | | |")
                continue
            say(f"{model}, {precision}: starting both servers")
            with ServerProcess(base_path, name) as ours, ServerProcess(plain, "plain") as theirs:
                size = network_size(describe(ours.target, name))
                for callers, count in loads:
                    with (
                        Generator([ours.target], _floats(ours, "float_images", size, count), processes=1) as one,
                        Generator([theirs.target], _floats(theirs, "serving_default", size, count), processes=1) as two,
                    ):
                        speeds = _turns(
                            options.rounds,
                            {
                                "model.export()": _load(two, options, callers),
                                "this export": _load(one, options, callers),
                            },
                        )
                    slow = [row[0] for row in speeds["model.export()"]]
                    fast = [row[0] for row in speeds["this export"]]
                    if not all(slow):
                        raise LoadError(f"model.export() of {model} answered nothing in {options.seconds} s")
                    ratio = statistics.median(b / a for a, b in zip(slow, fast, strict=True))
                    load = f"{callers} caller{'s' * (callers > 1)}, {count} image{'s' * (count > 1)}"
                    lines.append(
                        f"| {model} | {precision} | {load} | {statistics.median(slow):.1f} "
                        f"| {statistics.median(fast):.1f} | {ratio:.2f} |"
                    )
    return lines


def client(options: argparse.Namespace) -> list[str]:
    """The clients' own work, without a server."""
    command = [sys.executable, str(ROOT / "tests/load/bench_client.py"), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300)
    if done.returncode:
        raise LoadError("tests/load/bench_client.py failed; its errors are above")
    lines = ["| | this client | tensorflow-serving-api | ÷ |", "|---|--:|--:|--:|"]
    for what, row in json.loads(done.stdout).items():
        if "seconds" in row:
            continue
        ours, theirs = row["featserve_client"], row["tensorflow-serving-api"]
        lines.append(f"| {what} | {ours} | {theirs} | {theirs / ours:.1f} |")
    imports = {what.removeprefix("import "): row for what, row in json.loads(done.stdout).items() if "seconds" in row}
    ours, theirs = imports["featserve_client"], imports["tensorflow-serving-api"]
    for key, what in (("seconds", "import, s"), ("rss_mb", "memory after import, MB")):
        lines.append(f"| {what} | {ours[key]} | {theirs[key]} | {theirs[key] / ours[key]:.1f} |")
    return lines


def bulk(options: argparse.Namespace) -> list[str]:
    """`featserve extract` against the usual Keras loop."""
    sys.path.insert(0, str(ROOT / "tests/load"))
    bench_bulk = importlib.import_module("bench_bulk")
    results = bench_bulk.measure(options.bulk_models.split(","), images=options.bulk_images, rounds=options.rounds)
    lines: list[str] = bench_bulk.table(results).splitlines()
    return lines


def native(options: argparse.Namespace) -> list[str]:
    """The embedded server against `tensorflow_model_server`, encoded photos, 32 callers."""
    binary = options.native or shutil.which("tensorflow_model_server")
    if not binary:
        raise LoadError("tensorflow_model_server is not on PATH, and --native does not name it")
    os.environ["PATH"] = f"{Path(binary).resolve().parent}{os.pathsep}{os.environ['PATH']}"
    base_path = _exported(options, DEFAULT)
    with (
        ServerProcess(base_path, DEFAULT, runtime="embedded") as embedded,
        ServerProcess(base_path, DEFAULT, runtime="native") as real,
    ):
        payload = make(describe(embedded.target, DEFAULT), DEFAULT)
        with Generator([embedded.target], payload) as one, Generator([real.target], payload) as two:
            rows = _turns(
                options.rounds, {"embedded": _load(one, options), "tensorflow_model_server": _load(two, options)}
            )
    return _speeds(f"{CALLERS} callers", rows)


def wire(options: argparse.Namespace) -> list[str]:
    """Ways to send an image: bytes, latency, throughput."""
    base_path = _exported(options, DEFAULT)
    lines = [
        f"{DEFAULT}, photos of {min(photos.SIDES)} to {max(photos.SIDES)} pixels; pixels are sent in the network's "
        "size. Ready-made requests from one process; answers are read, not parsed. The answer is the last feature map.",
        "",
        "| | request, bytes | answer, bytes | one caller, p50 ms | 8 callers, images/s |",
        "|---|--:|--:|--:|--:|",
    ]
    with ServerProcess(base_path, DEFAULT) as server, contextlib.ExitStack() as stack:
        metadata = describe(server.target, DEFAULT)
        files = photos.files()
        images = photos.pixels(files, network_size(metadata))
        channel = stack.enter_context(grpc.insecure_channel(server.target, [("grpc.max_receive_message_length", -1)]))
        call = channel.unary_unary(PREDICT)
        grpc_kinds: dict[str, Input] = {"gRPC encoded": "encoded", "gRPC uint8": "uint8", "gRPC float": "float"}
        ways: dict[str, tuple[Callable[[], Callable[[bytes], int]], list[bytes]]] = {
            what: (lambda: lambda body: len(call(body, timeout=120)), make(metadata, DEFAULT, input=kind).requests)
            for what, kind in grpc_kinds.items()
        }
        b64 = [{"instances": [{"b64": base64.b64encode(data).decode()}], "signature_name": "encoded"} for data in files]
        raw = [{"instances": [image.tolist()], "signature_name": "serving_default"} for image in images]
        for what, bodies in (("REST b64", b64), ("REST JSON pixels", raw)):
            ways[what] = (
                lambda: _poster(server.rest, f"/v1/models/{DEFAULT}:predict"),
                [json.dumps(body, separators=(",", ":")).encode() for body in bodies],
            )
        cases = {what: _closed(opener, bodies, options.seconds) for what, (opener, bodies) in ways.items()}
        rows = _turns(options.rounds, cases)
    for what, found in rows.items():
        request = round(float(np.mean([len(body) for body in ways[what][1]])))
        answer, p50, speed = _medians(found)
        lines.append(f"| {what} | {request:,} | {answer:,.0f} | {p50:.1f} | {speed:.1f} |")
    return lines


def cold(options: argparse.Namespace) -> list[str]:
    """From process start to the first answer."""
    base_path = _exported(options, DEFAULT)
    data = photos.files()[0]

    def start(*flags: str) -> Callable[[], Figures]:
        def once() -> Figures:
            began = time.monotonic()
            with ServerProcess(base_path, DEFAULT, flags=flags) as server:
                ready = time.monotonic()
                with FeatureClient(server.target, model=DEFAULT, timeout_s=60) as client:
                    client.extract(data)
                return ready - began, time.monotonic() - ready, time.monotonic() - began

        return once

    def importing() -> Figures:
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, stderr=subprocess.DEVNULL, timeout=120)
        return (time.monotonic() - began,)

    cases = {
        "with warm-up": start(),
        "without": start("--enable_model_warmup=false"),
        "importing TensorFlow": importing,
    }
    rows = {what: _medians(found) for what, found in _turns(options.rounds, cases).items()}
    lines = [f"{DEFAULT}, seconds.", "", "| | start to ready | first answer | both |", "|---|--:|--:|--:|"]
    for what in ("with warm-up", "without"):
        lines.append(f"| {what} | " + " | ".join(f"{value:.2f}" for value in rows[what]) + " |")
    return [*lines, f"| of which importing TensorFlow | {rows['importing TensorFlow'][0]:.2f} | | |"]


def growth(options: argparse.Namespace) -> list[str]:
    """How cost grows with images per request, image side, callers and cores."""
    base_path = _exported(options, DEFAULT)
    lines = [f"{DEFAULT}, encoded photos. The rows of a group took turns.", ""]

    with ServerProcess(base_path, DEFAULT, flags=(f"--max_queued_requests={max(TEAMS)}",)) as server:
        metadata = describe(server.target, DEFAULT)

        def opened(stack: contextlib.ExitStack, payload: Payload) -> Generator:
            return stack.enter_context(Generator([server.target], payload, processes=1))

        with contextlib.ExitStack() as stack:
            cases = {
                str(count): _load(opened(stack, make(metadata, DEFAULT, images_per_request=count)), options, 1)
                for count in COUNTS
            }
            lines += _speeds("images a request, 1 caller", _turns(options.rounds, cases))
        with contextlib.ExitStack() as stack:
            cases = {}
            for side in SIDES:
                files = [photos.jpeg(photos.sized(photo, side)) for photo in photos.packaged()]
                cases[str(side)] = _load(opened(stack, make(metadata, DEFAULT, encoded=files)), options, 4)
            lines += _speeds("longer side of the JPEG in pixels, 4 callers", _turns(options.rounds, cases))
        with Generator([server.target], make(metadata, DEFAULT)) as generator:
            cases = {str(callers): _load(generator, options, callers) for callers in TEAMS}
            lines += _speeds("callers, one image each", _turns(options.rounds, cases))
    with contextlib.ExitStack() as stack:
        cases = {}
        available = sorted(os.sched_getaffinity(0))
        for cores in range(1, len(available) + 1):
            server = stack.enter_context(ServerProcess(base_path, DEFAULT, cores=available[:cores]))
            generator = stack.enter_context(Generator([server.target], make(metadata, DEFAULT)))
            cases[str(cores)] = _load(generator, options, 16)
        lines += _speeds("cores of the server, 16 callers", _turns(options.rounds, cases))
    return lines


def _turns(rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Return each case's figures, round by round: whatever else the machine does falls on all of them."""
    found: dict[str, list[Figures]] = {name: [] for name in cases}
    for turn in range(rounds):
        for name, measure in cases.items():
            found[name].append(measure())
            figures = "  ".join(f"{value:.2f}" for value in found[name][-1])
            say(f"  round {turn + 1} of {rounds}, {name}: {figures}")
    return found


def _medians(rows: Sequence[Figures]) -> Figures:
    return tuple(statistics.median(column) for column in zip(*rows, strict=True))


def _load(generator: Generator, options: argparse.Namespace, callers: int = CALLERS) -> Callable[[], Figures]:
    def once() -> Figures:
        measured = generator.run(Stage(callers=callers, duration_s=options.seconds, timeout_s=120))
        if measured.errors:
            raise LoadError(f"requests failed: {measured.errors}")
        return measured.images_per_s, measured.percentile_ms(50), measured.percentile_ms(99)

    return once


def _speeds(what: str, rows: Mapping[str, Sequence[Figures]]) -> list[str]:
    lines = [f"| {what} | images/s | p50 ms | p99 ms |", "|--:|--:|--:|--:|"]
    for value, found in rows.items():
        lines.append(f"| {value} | " + " | ".join(f"{figure:.1f}" for figure in _medians(found)) + " |")
    return [*lines, ""]


def _closed(
    opener: Callable[[], Callable[[bytes], int]], bodies: Sequence[bytes], seconds: float
) -> Callable[[], Figures]:
    """Measure the bytes of an answer, the p50 of one caller in ms, and the images/s of eight."""

    def call_until(end: float, index: int, times: list[float], sizes: list[int], errors: list[Exception]) -> None:
        try:
            send = opener()
            while (began := time.monotonic()) < end:
                sizes.append(send(bodies[index % len(bodies)]))
                times.append(time.monotonic() - began)
                index += 1
        except Exception as exc:
            errors.append(exc)

    def team(callers: int) -> tuple[list[float], list[int], float]:
        times: list[float] = []
        sizes: list[int] = []
        errors: list[Exception] = []
        began = time.monotonic()
        threads = [
            threading.Thread(target=call_until, args=(began + seconds, index, times, sizes, errors))
            for index in range(callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise LoadError(f"a request failed: {errors[0]}")
        return times, sizes, time.monotonic() - began

    def once() -> Figures:
        opener()(bodies[0])
        times, sizes, _ = team(1)
        many, _, took = team(8)
        return statistics.mean(sizes), 1e3 * statistics.median(times), len(many) / took

    return once


def _poster(rest: str, path: str) -> Callable[[bytes], int]:
    connection = http.client.HTTPConnection(rest, timeout=120)

    def send(body: bytes) -> int:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise LoadError(f"REST answered {answer.status}: {data[:300]!r}")
        return len(data)

    return send


def _floats(server: ServerProcess, signature: str, size: tuple[int, int], count: int) -> Payload:
    metadata = describe(server.target, server.model)
    if signature not in metadata.signatures:
        raise LoadError(f"{server.model} has no {signature}; it has {', '.join(metadata.signatures)}")
    [name] = metadata.signatures[signature].inputs
    images = [image.astype(np.float32) for image in photos.pixels(photos.files(), size)][:8]
    spec = wire_pb2.ModelSpec(name=server.model, signature_name=signature)
    requests = []
    for start in range(len(images)):
        stacked: Any = np.stack([images[(start + offset) % len(images)] for offset in range(count)])
        requests.append(predict_request(spec, {name: tensor_parts(stacked)}, []))
    return Payload(model=server.model, signature=signature, input="float", images_per_request=count, requests=requests)


def _plain(options: argparse.Namespace, model: str) -> Path:
    """Return the versions' directory of the network written by `model.export()`, preprocessing included."""
    base_path: Path = options.model_root / f"{model}_keras" / "plain"
    if not (base_path / "1" / "saved_model.pb").exists():
        say(f"model.export() of {model}")
        weights = "random" if "random" in MODELS[model] else "imagenet"
        command = [sys.executable, "-m", "featserve_load.plain", model, weights, str(base_path / "1")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/load"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, timeout=900).returncode:
            raise LoadError(f"model.export() of {model} failed; its errors are above")
    return base_path


def _exported(options: argparse.Namespace, model: str, name: str | None = None, extra: Sequence[str] = ()) -> Path:
    base_path: Path = options.model_root / (name or model)
    if not (base_path / "1" / "saved_model.pb").exists():
        deployment.export(model, "--model-root", str(options.model_root), "--version", "1", *MODELS[model], *extra)
    return base_path
