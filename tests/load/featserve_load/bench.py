"""Tables for RESULTS.md: ratios within one run, medians of interleaved rounds. A run replaces its own sections only."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from . import deployment
from .errors import LoadError
from .networks import MODELS
from .sections import (
    bulk,
    client,
    cold,
    export,
    fleet,
    growth,
    layers,
    memory,
    memory_server,
    native,
    onednn,
    pixels,
    plan,
    served,
    wire,
)
from .server import ROOT
from .turns import Unavailable

SECTIONS: dict[str, tuple[str, Callable[[argparse.Namespace], list[str]]]] = {
    "served": ("Served against in process", served.served),
    "export": ("This export against model.export()", export.export),
    "client": ("This client against tensorflow-serving-api", client.client),
    "bulk": ("Bulk extraction against a Keras loop", bulk.bulk),
    "native": ("Embedded server against tensorflow_model_server", native.native),
    "wire": ("Ways to send an image", wire.wire),
    "onednn": ("oneDNN on and off", onednn.on_and_off),
    "layers": ("One layer of several", layers.layers),
    "memory": ("Memory", memory.memory),
    "memory_hour": ("Memory over an hour of requests", memory.hour),
    "memory_signatures": ("Memory by signature", memory.signatures),
    "memory_versions": ("Memory of several versions", memory.versions),
    "memory_server": ("Memory of the embedded server", memory_server.in_the_server),
    "cold": ("Cold start", cold.cold),
    "growth": ("How cost grows", growth.growth),
    "pixels": ("Decoding and resizing against Pillow", pixels.pixels),
    "pixels_served": ("Served JPEGs against served pixels", pixels.in_the_server),
    "plan": ("Simulation beside measurement", plan.plan),
    "fleet": ("What breaks a budget", fleet.fleet),
}
#: What a section is measured with, beside rounds and seconds.
OPTIONS: dict[str, tuple[str, ...]] = {
    "served": ("models",),
    "export": ("export_models", "precisions"),
    "onednn": ("models",),
    "bulk": ("bulk_models", "bulk_images"),
    "memory": ("memory_models", "precisions", "memory_requests"),
    "memory_hour": ("memory_models", "memory_hour"),
    "memory_signatures": ("memory_requests",),
    "memory_versions": ("memory_models", "memory_requests"),
    "memory_server": ("memory_models", "precisions", "memory_requests"),
    "native": ("native",),
}
INTRODUCTION = (
    "# Measured\n\n"
    "`make bench` measures all of it anew; each section names the command that measures it alone, and its machine. "
    "Server and client share the cores: compare the figures of one table, whose rows took turns, not those of two.\n"
)


def main(argv: Sequence[str]) -> int:
    """Measures sections and writes them; returns 1 if one could not be measured."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--sections", default=",".join(SECTIONS), metavar="A,B", help="(default: %(default)s)")
    parser.add_argument(
        "--models", default=",".join(MODELS), metavar="A,B", help="of `served` and `onednn` (default: %(default)s)"
    )
    parser.add_argument(
        "--export-models",
        default="efficientnet_lite0,resnet50,vgg16",
        metavar="A,B",
        help="of `export` (default: %(default)s)",
    )
    parser.add_argument(
        "--precisions",
        default="float32,bfloat16,int8",
        metavar="A,B",
        help="of `export` and `memory` (default: %(default)s)",
    )
    parser.add_argument(
        "--bulk-models", default="mobilenet,resnet50,vgg16", metavar="A,B", help="of `bulk` (default: %(default)s)"
    )
    parser.add_argument(
        "--memory-models",
        default="efficientnet_lite0,resnet50,inception_v3,vgg16,convnext_base",
        metavar="A,B",
        help="of `memory` (default: %(default)s)",
    )
    parser.add_argument(
        "--memory-requests", type=int, default=200, metavar="N", help="of `memory` (default: %(default)s)"
    )
    parser.add_argument(
        "--memory-hour", type=int, default=3600, metavar="N", help="requests of `memory_hour` (default: %(default)s)"
    )
    parser.add_argument("--bulk-images", type=int, metavar="N", help="at most (default: as bench_bulk.py)")
    parser.add_argument(
        "--native",
        default="",
        metavar="FILE|HOST:PORT",
        help="tensorflow_model_server, or where one serves the default model (default: the one on PATH, if any)",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=3.0,
        metavar="S",
        help="of a figure, longer where requests are slow (default: %(default)s)",
    )
    parser.add_argument("--model-root", type=Path, default=Path("build/bench"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/load/RESULTS.md", metavar="FILE")
    options = parser.parse_args(argv)
    names = options.sections.split(",")
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"expected sections of {', '.join(SECTIONS)}, received {', '.join(sorted(unknown))}")
    for asked, known in (
        (options.models, list(MODELS)),
        (options.export_models, list(MODELS)),
        (options.memory_models, list(MODELS)),
        (options.bulk_models, ["mobilenet", "resnet50", "vgg16"]),
        (options.precisions, ["float32", "winograd", "bfloat16", "int8"]),
    ):
        if unknown := set(asked.split(",")) - set(known):
            parser.error(f"expected some of {', '.join(known)}, received {', '.join(sorted(unknown))}")
    if options.rounds < 1 or not options.seconds > 0:
        parser.error("--rounds is at least 1 and --seconds above 0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # What is measured without a server computes as one does: TensorFlow leaves oneDNN off on CPUs without VNNI.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    failed, absent = [], []
    for name in names:
        heading, measure = SECTIONS[name]
        began = time.monotonic()
        deployment.say(f"== {heading}")
        try:
            lines = measure(options)
        except Unavailable as exc:
            deployment.say(f"{name}: {exc}")
            absent.append(name)
            if f"## {heading}\n" not in _read(options.out):
                options.out.write_text(replaced(_read(options.out), heading, f"Not on this machine: {exc}."))
            continue
        except Exception as exc:  # hours of other sections are not lost to one
            deployment.say(f"{name}: {exc}" if isinstance(exc, LoadError) else traceback.format_exc())
            failed.append(name)
            continue
        if any("not measured" in line for line in lines):
            failed.append(name)
        body = "\n".join([f"`{command(name, options, parser)}`", "", _machine(), "", *lines])
        options.out.write_text(replaced(_read(options.out), heading, body))
        print(f"## {heading}\n\n{body}\n", flush=True)
        deployment.say(f"== {heading}: {(time.monotonic() - began) / 60:.1f} minutes")
    if absent:
        print(f"not on this machine: {', '.join(absent)}")
    if failed:
        print(f"not measured, or not all of it: {', '.join(failed)}")
    return 1 if failed else 0


def command(section: str, options: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Returns the command that renews one section as it was measured."""
    words = ["python", "tests/load/run.py", "bench", "--sections", section]
    for name in (*OPTIONS.get(section, ()), "rounds", "seconds"):
        value = getattr(options, name)
        if value != parser.get_default(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def replaced(text: str, heading: str, body: str) -> str:
    """Returns the document with one section put in or exchanged; the sections are in the order of `SECTIONS`."""
    found = re.findall(r"^## (.+?)\n+(.*?)(?=^## |\Z)", text, re.M | re.S)
    sections = {each: content.strip() for each, content in found} | {heading: body.strip()}
    order = [title for title, _ in SECTIONS.values()]
    ordered = sorted(sections, key=lambda each: order.index(each) if each in order else len(order))
    return "\n".join([INTRODUCTION, *(f"## {each}\n\n{sections[each]}\n" for each in ordered)])


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _machine() -> str:
    machine = deployment.machine()
    return (
        f"{machine['cpu']}, {machine['cores']} cores; TensorFlow "
        f"{metadata.version('tensorflow')}, Python {machine['python']}; {time.strftime('%Y-%m-%d')}."
    )
