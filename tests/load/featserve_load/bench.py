"""Tables for RESULTS.md: ratios within one run, medians of interleaved rounds."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from featserve_client import FeatureClient

from . import deployment, photos
from .errors import LoadError
from .generator import Generator, Stage
from .payload import SIGNATURES, Input, describe, make
from .server import ROOT, ServerProcess

#: Name, and how it is exported.
MODELS: dict[str, list[str]] = {
    "efficientnet_lite0": [],
    "mobilenet": ["--alpha", "0.25", "--weights", "random"],
    "resnet50": ["--weights", "random"],
    "inception_v3": ["--weights", "random"],
    "vgg16": ["--weights", "random"],
}
CALLERS = 32


def main(argv: Sequence[str]) -> int:
    """Measure sections and write them."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--sections", default=",".join(SECTIONS), metavar="A,B", help="(default: %(default)s)")
    parser.add_argument("--models", default=",".join(MODELS), metavar="A,B", help="of `served` (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of a figure (default: %(default)s)")
    parser.add_argument("--model-root", type=Path, default=Path("build/bench"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/load/RESULTS.md", metavar="FILE")
    options = parser.parse_args(argv)
    names = options.sections.split(",")
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"expected sections of {', '.join(SECTIONS)}, received {', '.join(sorted(unknown))}")
    machine = deployment.machine()
    lines = [
        "# Measured",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, shared by server and client; Python {machine['python']}; "
        f"{time.strftime('%Y-%m-%d')}.",
        f"`python tests/load/run.py bench --sections {options.sections} --models {options.models} "
        f"--rounds {options.rounds} --seconds {options.seconds:g}`",
    ]
    for name in names:
        lines += ["", *SECTIONS[name](options)]
        options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


def served(options: argparse.Namespace) -> list[str]:
    """Served against in process, 32 callers of one image each."""
    lines = [
        "## Served against in process",
        "",
        f"{CALLERS} callers, one image a request. In process: {CALLERS} threads call the same signature of the same "
        "SavedModel. `÷, client's cores returned` adds the cores that the generator used to what served.",
        "",
        "| model | input | in process, images/s | served, images/s | ÷ | ÷, client's cores returned |",
        "|---|---|--:|--:|--:|--:|",
    ]
    cores = len(os.sched_getaffinity(0))
    kinds: tuple[Input, ...] = ("encoded", "uint8")
    for model in options.models.split(","):
        base_path = _exported(options, model)
        for kind in kinds:
            command = [sys.executable, "-m", "featserve_load.inprocess", str(base_path / "1"), SIGNATURES[kind]]
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/load"), "TF_CPP_MIN_LOG_LEVEL": "3"}
            with (
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    env=environment,
                ) as local,
                ServerProcess(base_path, model) as server,
                Generator([server.target], make(describe(server.target, model), model, input=kind)) as generator,
            ):
                if local.stdin is None or local.stdout is None or local.stdout.readline().strip() != "ready":
                    raise LoadError(f"{model} does not run in process")
                rows = []
                for turn in range(options.rounds):
                    local.stdin.write(f"{options.seconds}\n")
                    local.stdin.flush()
                    alone = float(local.stdout.readline())
                    over = generator.run(Stage(callers=CALLERS, duration_s=options.seconds, warmup_s=1.0, seed=turn))
                    share = 1 - over.client_cores * over.processes / cores
                    rows.append(
                        (alone, over.images_per_s, over.images_per_s / alone, over.images_per_s / alone / share)
                    )
                local.stdin.close()
            a, b, c, d = (statistics.median(column) for column in zip(*rows, strict=True))
            lines.append(f"| {model} | {kind} | {a:.1f} | {b:.1f} | {c:.2f} | {d:.2f} |")
            deployment.say(lines[-1])
    return lines


def growth(options: argparse.Namespace) -> list[str]:
    """How cost grows with images per request, image side, callers and cores."""
    model = "efficientnet_lite0"
    base_path = _exported(options, model)
    lines = ["## How cost grows (efficientnet_lite0)", ""]
    lines += ["| what | | images/s | p50 ms | p99 ms |", "|---|--:|--:|--:|--:|"]

    def row(what: str, value: object, generator: Generator, callers: int) -> None:
        stage = Stage(callers=callers, duration_s=options.seconds, timeout_s=60)
        parts = [generator.run(stage) for _ in range(options.rounds)]
        found = [
            statistics.median(part)
            for part in zip(*((p.images_per_s, p.percentile_ms(50), p.percentile_ms(99)) for p in parts), strict=True)
        ]
        lines.append(f"| {what} | {value} | {found[0]:.1f} | {found[1]:.1f} | {found[2]:.1f} |")
        deployment.say(lines[-1])

    with ServerProcess(base_path, model) as server:
        metadata = describe(server.target, model)
        for count in (1, 4, 16, 64):
            with Generator([server.target], make(metadata, model, images_per_request=count), processes=1) as generator:
                row("images a request, 1 caller", count, generator, 1)
        for side in (64, 256, 1024, 2048):
            files = [photos.jpeg(photos.sized(photo, side)) for photo in photos.packaged()]
            with Generator([server.target], make(metadata, model, encoded=files), processes=1) as generator:
                row("longer side of the JPEG in pixels, 4 callers", side, generator, 4)
        with Generator([server.target], make(metadata, model)) as generator:
            for callers in (1, 4, 16, 64):
                row("callers, one image each", callers, generator, callers)
    for cores in range(1, len(os.sched_getaffinity(0)) + 1):
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        with (
            ServerProcess(base_path, model, cores=chosen) as server,
            Generator([server.target], make(metadata, model)) as generator,
        ):
            row("cores of the server, 16 callers", cores, generator, 16)
    return lines


def cold(options: argparse.Namespace) -> list[str]:
    """From process start to the first answer."""
    lines = [
        "## Cold start (efficientnet_lite0)",
        "",
        "| | seconds to the first answer |",
        "|---|--:|",
    ]
    base_path = _exported(options, "efficientnet_lite0")
    for what, flags in (("with warm-up", []), ("without", ["--enable_model_warmup=false"])):
        times = []
        for _ in range(options.rounds):
            start = time.monotonic()
            with ServerProcess(base_path, "efficientnet_lite0", flags=flags) as server:
                with FeatureClient(server.target, model="efficientnet_lite0") as client:
                    client.extract(photos.files()[0])
                times.append(time.monotonic() - start)
        lines.append(f"| {what} | {statistics.median(times):.1f} |")
    times = []
    for _ in range(options.rounds):
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, stderr=subprocess.DEVNULL)
        times.append(time.monotonic() - start)
    lines.append(f"| of which importing TensorFlow | {statistics.median(times):.1f} |")
    return lines


def _exported(options: argparse.Namespace, model: str) -> Path:
    base_path: Path = options.model_root / model
    if not (base_path / "1" / "saved_model.pb").exists():
        deployment.export(model, "--model-root", str(options.model_root), "--version", "1", *MODELS[model])
    return base_path


SECTIONS: dict[str, Callable[[argparse.Namespace], list[str]]] = {"served": served, "growth": growth, "cold": cold}
