"""The measurements behind RESULTS.md, one function a section."""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import importlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from featserve_client import FeatserveError, FeatureClient
from featserve_client import _wire_pb2 as wire_pb2
from featserve_client._tensors import predict_request, tensor_parts

from . import deployment, photos
from .deployment import say
from .errors import LoadError
from .generator import Generator, Stage
from .inprocess import InProcess
from .measurement import Measurement
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
#: Images a call of the callers in process that need no queue: the largest batch of the export.
BATCH = 8
COUNTS = (1, 2, 4, 8, 16, 32, 64)
SIDES = (64, 128, 256, 512, 1024, 2048)
TEAMS = (1, 4, 16, 64, 256)

#: Requests of each caller that a figure is made of, at least.
REQUESTS = 3
RATIO = "÷ is the median of the rounds' ratios, its figures are of that round; `rounds` is their range."

_UNLIMITED = [("grpc.max_receive_message_length", -1)]

Figures = tuple[float, ...]


class Unavailable(LoadError):
    """What a section needs is not on this machine, and need not be."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The round with the median ratio, and the range of all."""

    first: float
    second: float
    lowest: float
    highest: float

    @property
    def ratio(self) -> float:
        """The second by the first."""
        return self.second / self.first

    @property
    def text(self) -> str:
        """Four cells of a table."""
        return f"{self.first:.1f} | {self.second:.1f} | {self.ratio:.2f} | {self.lowest:.2f}–{self.highest:.2f}"


class _Length:
    """How long a closed loop runs: long enough for every caller's requests, however slow the model is."""

    def __init__(self, seconds: float, callers: int, images: int, images_per_s: float) -> None:
        wave_s = callers * images / images_per_s if images_per_s > 0 else seconds
        self.seconds = min(max(seconds, (2 if callers == 1 else 1) * REQUESTS * wave_s), 20 * seconds)
        # Past the first wave, which found the queue empty.
        self.warmup_s = min(max(0.5, wave_s), 5 * seconds)


def served(options: argparse.Namespace) -> list[str]:
    """Served against in process, 32 callers of one image each."""
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"{CALLERS} callers, one image a request; images/s. In process: {CALLERS} threads call the same signature of "
        f"the same SavedModel. {RATIO} `its cores returned` adds the cores that the generator used to what served. The "
        f"last column has {cores} threads, each with {BATCH} images a call: batches that nobody had to wait for.",
        "",
        "| model | input | in process | served | ÷ | rounds | generator, cores | ÷, its cores returned "
        f"| in process, {BATCH} a call |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    kinds: tuple[Input, ...] = ("encoded", "uint8")
    for model in options.models.split(","):
        for kind in kinds:
            with _row(lines, f"| {model} | {kind} |", 7):
                lines.append(f"| {model} | {kind} | {_served(options, model, kind, cores)} |")
    return lines


def _served(options: argparse.Namespace, model: str, kind: Input, cores: int) -> str:
    base_path = _exported(options, model)
    say(f"{model}, {kind}: starting a server and the same model in process")
    with ServerProcess(base_path, model) as server:
        metadata = describe(server.target, model)
        with (
            InProcess(base_path / "1", SIGNATURES[kind], network_size(metadata)) as local,
            Generator([server.target], make(metadata, model, input=kind)) as generator,
        ):
            length = _Length(options.seconds, CALLERS, 1, local.images_per_s(2.0, 1.0))

            def alone(callers: int, images: int) -> Callable[[], Figures]:
                return lambda: (local.images_per_s(length.seconds, length.warmup_s, callers=callers, images=images),)

            rows = _turns(
                options.rounds,
                {
                    "in process": alone(CALLERS, 1),
                    "served": _load(generator, options, CALLERS, length=length),
                    "in process, batches": alone(cores, BATCH),
                },
            )
    pair = _pair(rows, "in process", "served")
    used = statistics.median(row[3] for row in rows["served"])
    batches = f"{_medians(rows['in process, batches'])[0]:.1f}" if "in process, batches" in rows else "–"
    return f"{pair.text} | {used:.2f} | {pair.ratio / max(1 - used / cores, 0.01):.2f} | {batches}"


def export(options: argparse.Namespace) -> list[str]:
    """Our export against `model.export()`: embedded servers, float pixels, taking turns."""
    lines = [
        "Float pixels of the network's size by gRPC, the same weights and preprocessing, each export in an embedded "
        f"server of its own, all of a model taking turns; images/s. {RATIO}",
        "",
        "| model | precision | load | model.export() | this export | ÷ | rounds |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for model in options.export_models.split(","):
        with _row(lines, f"| {model} |", 6):
            _compare_exports(options, model, lines)
    return lines


def _compare_exports(options: argparse.Namespace, model: str, lines: list[str]) -> None:
    plain = _plain(options, model)
    with contextlib.ExitStack() as stack:
        servers: dict[str, ServerProcess] = {}
        rows: dict[str, list[str]] = {}
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
                rows[precision] = [f"| {model} | {precision} | refused by the export | | | | |"]
                continue
            rows[precision] = []
            servers[precision] = stack.enter_context(ServerProcess(base_path, name))
        theirs = stack.enter_context(ServerProcess(plain, "plain"))
        size = network_size(describe(theirs.target, "plain"))
        for callers, count in ((1, 1), (CALLERS, 1), (1, 16)):
            load = f"{_plural(callers, 'caller')}, {_plural(count, 'image')}"
            say(f"{model}, {load}")
            with contextlib.ExitStack() as generators:
                cases: dict[str, Callable[[], Figures]] = {}
                for name, server, signature in (
                    ("model.export()", theirs, "serving_default"),
                    *((precision, server, "float_images") for precision, server in servers.items()),
                ):
                    payload = _floats(server, signature, size, count)
                    generator = generators.enter_context(Generator([server.target], payload, processes=1))
                    cases[name] = _load(generator, options, callers)
                found = _turns_or_none(options.rounds, cases)
            for precision in servers:
                with _row(rows[precision], f"| {model} | {precision} | {load} |", 4):
                    text = _pair(found, "model.export()", precision).text
                    rows[precision].append(f"| {model} | {precision} | {load} | {text} |")
    lines += [row for each in rows.values() for row in each]


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
    lines: list[str] = bench_bulk.table([]).splitlines()
    for model in options.bulk_models.split(","):
        with _row(lines, f"| {model} |", 6):
            images = min(options.bulk_images, bench_bulk.NETWORKS[model].most)
            results = bench_bulk.measure([model], images=images, rounds=options.rounds)
            lines.append(bench_bulk.table(results).splitlines()[-1])
    return lines


def native(options: argparse.Namespace) -> list[str]:
    """The embedded server against `tensorflow_model_server`."""
    base_path = _exported(options, DEFAULT)
    lines = [
        f"{DEFAULT}, the same SavedModel in both, taking turns; images/s. {RATIO}",
        "",
        "| input | load | tensorflow_model_server | embedded | ÷ | rounds |",
        "|---|---|--:|--:|--:|--:|",
    ]
    with _native(options.native, base_path) as target, ServerProcess(base_path, DEFAULT) as embedded:
        kinds: tuple[Input, ...] = ("encoded", "uint8", "float")
        metadata = describe(target, DEFAULT)
        for kind in kinds:
            payload = make(metadata, DEFAULT, input=kind)
            with Generator([target], payload) as real, Generator([embedded.target], payload) as ours:
                for callers in (1, CALLERS):
                    row = f"| {kind} | {_plural(callers, 'caller')} |"
                    with _row(lines, row, 4):
                        cases = {
                            "tensorflow_model_server": _load(real, options, callers),
                            "embedded": _load(ours, options, callers),
                        }
                        found = _turns(options.rounds, cases)
                        lines.append(f"{row} {_pair(found, 'tensorflow_model_server', 'embedded').text} |")
    return lines


@contextlib.contextmanager
def _native(named: str, base_path: Path) -> Iterator[str]:
    """Yield the address of TensorFlow Serving: the one named, or that of one started from a file.

    Raises:
        Unavailable: there is none here.
    """
    if re.fullmatch(r"\S+:\d+", named):
        say(f"TensorFlow Serving at {named}, which is to serve {base_path} as {DEFAULT}")
        yield named
        return
    binary = shutil.which(named or "tensorflow_model_server")
    if binary is None:
        missing = f"{named} is no program" if named else "tensorflow_model_server is not on PATH"
        raise Unavailable(
            f"{missing}; `--native FILE` names one, `--native HOST:PORT` a server of the same export as {DEFAULT}"
        )
    with tempfile.TemporaryDirectory(prefix="featserve-native-") as folder:
        # The launcher takes it from PATH, by its own name.
        (Path(folder) / "tensorflow_model_server").symlink_to(Path(binary).resolve())
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
        try:
            with ServerProcess(base_path, DEFAULT, runtime="native") as server:
                yield server.target
        finally:
            os.environ["PATH"] = before


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
        channel = stack.enter_context(grpc.insecure_channel(server.target, _UNLIMITED))
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
    for what in ways:
        request = round(float(np.mean([len(body) for body in ways[what][1]])))
        if what not in rows:
            lines.append(f"| {what} | {request:,} | not measured | | |")
            continue
        answer, p50, speed = _medians(rows[what])
        lines.append(f"| {what} | {request:,} | {answer:,.0f} | {p50:.1f} | {speed:.1f} |")
    return lines


def layers(options: argparse.Namespace) -> list[str]:
    """What a layer costs alone, and all of them together."""
    names = ("block1_pool", "block5_pool")
    base_path = _exported(
        options, "vgg16", "vgg16_layers", ("--layers", ",".join(names), "--model-name", "vgg16_layers")
    )
    lines = [
        f"vgg16 with {' and '.join(names)}, encoded photos, one a request.",
        "",
        "| asked for | answer, bytes | one caller, p50 ms | 8 callers, images/s |",
        "|---|--:|--:|--:|",
    ]
    with (
        ServerProcess(base_path, "vgg16_layers") as server,
        grpc.insecure_channel(server.target, _UNLIMITED) as channel,
    ):
        call = channel.unary_unary(PREDICT)
        metadata = describe(server.target, "vgg16_layers")
        cases = {
            layer or "both": _closed(
                lambda: lambda body: len(call(body, timeout=120)),
                make(metadata, "vgg16_layers", layer=layer).requests,
                options.seconds,
            )
            for layer in (*names, None)
        }
        found = _turns(options.rounds, cases)
    for what in cases:
        with _row(lines, f"| {what} |", 3):
            if what not in found:
                raise LoadError("its requests failed")
            answer, p50, speed = _medians(found[what])
            lines.append(f"| {what} | {answer:,.0f} | {p50:.1f} | {speed:.1f} |")
    return lines


def cold(options: argparse.Namespace) -> list[str]:
    """From process start to the first answer, and its parts."""
    base_path = _exported(options, DEFAULT)
    data = photos.files()[0]

    def start(*flags: str) -> Callable[[], Figures]:
        def once() -> Figures:
            began = time.monotonic()
            with ServerProcess(base_path, DEFAULT, flags=flags) as server:
                ready = time.monotonic()
                with FeatureClient(server.target, model=DEFAULT, timeout_s=60) as client:
                    client.extract(data)
                answered = time.monotonic()
                told = re.search(r"is available after ([\d.]+) s", server.log())
            if told is None:
                raise LoadError("the server does not tell how long it loaded")
            loading = float(told.group(1))
            return ready - began - loading, loading, answered - ready, answered - began

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
    found = _turns(options.rounds, cases)
    lines = [
        f"{DEFAULT}, seconds. Loading includes the warm-up.",
        "",
        "| | process start until loading | loading | first answer | all |",
        "|---|--:|--:|--:|--:|",
    ]
    for what in ("with warm-up", "without"):
        with _row(lines, f"| {what} |", 4):
            if what not in found:
                raise LoadError("its server failed")
            lines.append(f"| {what} | " + " | ".join(f"{value:.2f}" for value in _medians(found[what])) + " |")
    if "importing TensorFlow" in found:
        lines.append(f"| `import tensorflow` alone | {_medians(found['importing TensorFlow'])[0]:.2f} | | | |")
    return lines


def growth(options: argparse.Namespace) -> list[str]:
    """How cost grows with images per request, image side, callers and cores."""
    base_path = _exported(options, DEFAULT)
    lines = [f"{DEFAULT}, encoded photos. The rows of a group took turns.", ""]
    with ServerProcess(base_path, DEFAULT, flags=(f"--max_queued_requests={max(TEAMS)}",)) as server:
        metadata = describe(server.target, DEFAULT)
        with contextlib.ExitStack() as stack:
            cases = {}
            for count in COUNTS:
                payload = make(metadata, DEFAULT, images_per_request=count)
                generator = stack.enter_context(Generator([server.target], payload, processes=1))
                cases[str(count)] = _load(generator, options, 1)
            lines += _speeds("images a request, 1 caller", options.rounds, cases)
        with contextlib.ExitStack() as stack:
            cases = {}
            for side in SIDES:
                files = [photos.jpeg(photos.sized(photo, side)) for photo in photos.packaged()]
                payload = make(metadata, DEFAULT, encoded=files)
                generator = stack.enter_context(Generator([server.target], payload, processes=1))
                cases[str(side)] = _load(generator, options, 4)
            lines += _speeds("longer side of the JPEG in pixels, 4 callers", options.rounds, cases)
        with Generator([server.target], make(metadata, DEFAULT)) as generator:
            cases = {str(callers): _load(generator, options, callers) for callers in TEAMS}
            lines += _speeds("callers, one image each", options.rounds, cases)
    with contextlib.ExitStack() as stack:
        cases = {}
        available = sorted(os.sched_getaffinity(0))
        for cores in range(1, len(available) + 1):
            server = stack.enter_context(ServerProcess(base_path, DEFAULT, cores=available[:cores]))
            generator = stack.enter_context(Generator([server.target], make(metadata, DEFAULT)))
            cases[str(cores)] = _load(generator, options, 16)
        lines += _speeds("cores of the server, 16 callers", options.rounds, cases)
    return lines


def _turns(rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Return each case's figures, round by round: whatever else the machine does falls on all of them.

    A case that fails is left out, and costs no other.
    """
    found: dict[str, list[Figures]] = {name: [] for name in cases}
    for turn in range(rounds):
        names = list(found)
        for name in reversed(names) if turn % 2 else names:
            try:
                found[name].append(cases[name]())
            except (LoadError, FeatserveError, OSError, subprocess.SubprocessError) as exc:
                say(f"  {name}: {exc}")
                del found[name]
                continue
            figures = "  ".join(f"{value:.2f}" for value in found[name][-1])
            say(f"  round {turn + 1} of {rounds}, {name}: {figures}")
    if not found:
        raise LoadError("none of its figures could be measured")
    return found


def _turns_or_none(rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Return the same, and nothing where all cases failed: each has said why."""
    try:
        return _turns(rounds, cases)
    except LoadError:
        return {}


def _medians(rows: Sequence[Figures]) -> Figures:
    return tuple(statistics.median(column) for column in zip(*rows, strict=True))


def _pair(found: Mapping[str, Sequence[Figures]], one: str, other: str) -> Pair:
    """Return the ratio of two that took turns, by their first figures."""
    if missing := {one, other} - set(found):
        raise LoadError(f"{' and '.join(sorted(missing))} failed")
    first, second = found[one], found[other]
    if not all(row[0] > 0 for row in first):
        raise LoadError("nothing was answered in a round's time: give more --seconds")
    rounds = sorted(((a[0], b[0]) for a, b in zip(first, second, strict=True)), key=lambda pair: pair[1] / pair[0])
    ratios = [b / a for a, b in rounds]
    a, b = rounds[(len(rounds) - 1) // 2]
    return Pair(first=a, second=b, lowest=ratios[0], highest=ratios[-1])


def _load(
    generator: Generator, options: argparse.Namespace, callers: int = CALLERS, *, length: _Length | None = None
) -> Callable[[], Figures]:
    """Return a measurement of a closed loop: images/s, p50 and p99 in ms, cores of the generator."""

    def once() -> Figures:
        nonlocal length
        if length is None:
            images = generator.images_per_request
            probe = _answered(generator, Stage(callers=callers, duration_s=1.5, warmup_s=0, timeout_s=120))
            # Until the last answer: a slow model gives hardly one within the time.
            speed = len(probe.samples) * images / float(probe.samples["done"].max())
            length = _Length(options.seconds, callers, images, speed)
        stage = Stage(callers=callers, duration_s=length.seconds, warmup_s=length.warmup_s, timeout_s=120)
        found = _answered(generator, stage)
        cores = found.client_cores * found.processes
        return found.steady_images_per_s, found.percentile_ms(50), found.percentile_ms(99), cores

    return once


def _answered(generator: Generator, stage: Stage) -> Measurement:
    measured = generator.run(stage)
    if measured.errors or not len(measured.samples):
        raise LoadError(f"requests failed: {measured.errors or 'none was sent'}")
    return measured


@contextlib.contextmanager
def _row(lines: list[str], begun: str, cells: int) -> Iterator[None]:
    """A row that cannot be measured says so, and costs no other."""
    try:
        yield
    except (LoadError, FeatserveError, OSError, subprocess.SubprocessError) as exc:
        say(f"{begun} not measured: {exc}")
        lines.append(f"{begun} not measured |" + " |" * (cells - 1))


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _speeds(what: str, rounds: int, cases: Mapping[str, Callable[[], Figures]]) -> list[str]:
    say(what)
    found = _turns_or_none(rounds, cases)
    lines = [f"| {what} | images/s | p50 ms | p99 ms |", "|--:|--:|--:|--:|"]
    for name in cases:
        cells = [f"{figure:.1f}" for figure in _medians(found[name])[:3]] if name in found else ["not measured", "", ""]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
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
