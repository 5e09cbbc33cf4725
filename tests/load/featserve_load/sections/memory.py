"""What a model needs in memory, beside `model.export()`'s."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import photos
from ..deployment import say
from ..errors import LoadError
from ..networks import exported, exported_by_keras
from ..server import ROOT
from ..turns import row

_KINDS = {1: "float", 4: "uint8", 7: "encoded"}
_SIZES = (1, 2, 4, 8)
_REQUESTS = 100
_CALLERS = 2
_LAYERS = ("block4_pool", "block5_pool")
Stages = dict[str, dict[str, float]]


def memory(options: argparse.Namespace) -> list[str]:
    """Resident and peak memory of a model in a process that holds TensorFlow's C library alone."""
    lines = [
        "A process of TensorFlow's C library loads the SavedModel, calls every signature with "
        f"{', '.join(map(str, _SIZES))} images, then sends {_REQUESTS} mixed requests from {_CALLERS} callers; MiB "
        "above the process without a model. `model.export()` has one signature, float pixels, and no queue. ÷ is this "
        "export by model.export(), of the whole process.",
        "",
        "| model | written by | loaded | warm | used | peak | ÷ warm | ÷ used | ÷ peak |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for model in options.memory_models.split(","):
        with row(lines, f"| {model} |", 8):
            theirs = measure([exported_by_keras(options, model) / "1"])
            ours = measure([exported(options, model) / "1"])
            lines.append(f"| {model} | model.export() | {_above(theirs)} | | | |")
            ratios = (
                ours[stage][kind] / theirs[stage][kind]
                for stage, kind in (("warm", "resident"), ("used", "resident"), ("used", "peak"))
            )
            lines.append(f"| {model} | this export | {_above(ours)} | {' | '.join(f'{each:.2f}' for each in ratios)} |")
    name = "vgg16_two_layers"
    with row(lines, f"| {name} |", 8):
        flags = ("--layers", ",".join(_LAYERS), "--model-name", name)
        lines.append(
            f"| {name} | this export | {_above(measure([exported(options, 'vgg16', name, flags) / '1']))} | | | |"
        )
    lines += [
        "",
        "Versions of one model in one process, each warmed up, then unloaded one by one; MiB above the process without "
        "a model.",
        "",
        "| model | one, warm | three, warm | used | two left | one left | none left |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for model in options.memory_models.split(","):
        with row(lines, f"| {model} |", 6):
            found = measure([exported(options, model) / "1"] * 3)
            stages = ("warm", "3 warm", "used", "2 left", "1 left", "0 left")
            above = (found[stage]["resident"] - found["baseline"]["resident"] for stage in stages)
            lines.append(f"| {model} | {' | '.join(f'{each:,.0f}' for each in above)} |")
    return lines


def measure(directories: Sequence[Path]) -> Stages:
    """Runs a process of its own with a SavedModel, or several of the same kind, and returns what it held."""
    say(f"memory of {directories[0]}{f' x {len(directories)}' if len(directories) > 1 else ''}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/load"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, "-m", "featserve_load.bare"],
        input=json.dumps(_job(directories)),
        text=True,
        capture_output=True,
        env=environment,
        timeout=3600,
    )
    if result.returncode:
        raise LoadError(f"{directories[0]} could not be measured: {result.stderr[-1000:]}")
    stages: Stages = json.loads(result.stdout)
    return stages


def _job(directories: Sequence[Path]) -> dict[str, Any]:
    from tensorflow.core.protobuf import saved_model_pb2

    content = (directories[0] / "saved_model.pb").read_bytes()
    calls, size = [], [1, 1]
    for name, signature in sorted(saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].signature_def.items()):
        if name.startswith("__") or len(signature.inputs) != 1:
            continue
        (info,) = signature.inputs.values()
        kind = _KINDS[info.dtype]
        if kind == "float":
            size = [side.size for side in info.tensor_shape.dim[1:3]]
        fetches = [output.name for output in signature.outputs.values()]
        calls.append({"feed": info.name, "fetches": fetches, "input": kind})
    files = [str(photos.folder() / name) for name in photos.NAMES if (photos.folder() / name).exists()]
    return {
        "directories": [str(directory) for directory in directories],
        "calls": calls,
        "size": size,
        "photos": files,
        "sizes": _SIZES,
        "requests": _REQUESTS,
        "callers": _CALLERS,
    }


def _above(stages: Stages) -> str:
    baseline = stages["baseline"]["resident"]
    figures = [stages[stage]["resident"] for stage in ("loaded", "warm", "used")] + [stages["used"]["peak"]]
    return " | ".join(f"{figure - baseline:,.0f}" for figure in figures)
