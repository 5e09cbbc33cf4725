"""What a model needs in memory, beside `model.export()`'s."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from .. import photos
from ..deployment import say
from ..errors import LoadError
from ..networks import exported, exported_by_keras, exported_in
from ..server import ROOT
from ..turns import row

_KINDS = {1: "float", 4: "uint8", 7: "encoded"}
#: Images of a request.
SIZES = (1, 2, 4, 8)
_CALLERS = 2
_HOUR = (200, 400, 800, 1200, 1800, 2400, 3600)
_LAYERS = ("block4_pool", "block5_pool")
_BY_SIGNATURE = ("efficientnet_lite0", "vgg16")
Stages = dict[str, dict[str, float]]


def memory(options: argparse.Namespace) -> list[str]:
    """Resident and peak memory of a model, alone in a process."""
    lines = [
        "A process of TensorFlow's C library loads the SavedModel, calls every signature with "
        f"{', '.join(map(str, SIZES))} images, then sends {options.memory_requests} mixed requests from {_CALLERS} "
        "callers; MiB above the process without a model. `model.export()` has two signatures of float pixels, and no "
        "queue. ÷ is this export by model.export() in float32, of the whole process.",
        "",
        "| model | written by | loaded | warm | used | peak | ÷ warm | ÷ used | ÷ peak |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for model in options.memory_models.split(","):
        with row(lines, f"| {model} |", 8):
            theirs = measure(options, [exported_by_keras(options, model) / "1"])
            lines.append(f"| {model} | model.export() | {_above(theirs)} | | | |")
            for precision in options.precisions.split(","):
                with row(lines, f"| {model} | {precision} |", 7):
                    ours = measure(options, [exported_in(options, model, precision)[1] / "1"])
                    lines.append(f"| {model} | this export, {precision} | {_above(ours)} | {_ratios(ours, theirs)} |")
    name = "vgg16_two_layers"
    with row(lines, f"| {name} |", 8):
        flags = ("--layers", ",".join(_LAYERS), "--model-name", name)
        found = measure(options, [exported(options, "vgg16", name, flags) / "1"])
        lines.append(f"| {name} | this export | {_above(found)} | | | |")
    return lines


def hour(options: argparse.Namespace) -> list[str]:
    """Whether memory levels off."""
    counts = [count for count in _HOUR if count <= options.memory_hour]
    lines = [
        "As above: an hour of one request a second, sent as fast as they are answered. Resident after so many "
        "requests.",
        "",
        f"| model | written by | warm | {' | '.join(f'{count:,}' for count in counts)} | peak | ÷ at the end |",
        f"|---|---|{'--:|' * (len(counts) + 3)}",
    ]
    for model in options.memory_models.split(","):
        theirs = None
        for writer, directory in (("model.export()", exported_by_keras), ("this export", exported)):
            with row(lines, f"| {model} | {writer} |", len(counts) + 3):
                found = measure(options, [directory(options, model) / "1"], requests=counts)
                theirs = theirs or found
                stages = ("warm", *(f"{count} requests" for count in counts))
                above = [found[stage]["resident"] - found["baseline"]["resident"] for stage in stages]
                above.append(found["used"]["peak"] - found["baseline"]["resident"])
                ratio = "" if found is theirs else f"{found['used']['resident'] / theirs['used']['resident']:.2f}"
                lines.append(f"| {model} | {writer} | {' | '.join(f'{each:,.0f}' for each in above)} | {ratio} |")
    return lines


def signatures(options: argparse.Namespace) -> list[str]:
    """What a further signature of a model takes."""
    lines = [
        "As above, each row a process that calls these signatures alone. `held` is what the C library counts as in use "
        "when all are warm, `free` what it keeps; `trimmed` is resident after the requests and `malloc_trim`. ÷ is by "
        "the first row of model.export(), of the whole process. A further signature costs its operations and what the "
        "optimiser leaves behind, and no weights in float32; the first file of a format costs its decoder.",
        "",
        "| model | written by | signatures | warm | held | free | used | peak | trimmed | ÷ warm | ÷ used | ÷ peak |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for model in _BY_SIGNATURE:
        theirs = None
        for writer, export, names in (
            ("model.export()", exported_by_keras, ("serving_default", "serve")),
            ("this export", exported, ("float_images", "serving_default", "encoded")),
        ):
            for count in range(1, len(names) + 1):
                begun = f"| {model} | {writer} | {', '.join(names[:count])} |"
                with row(lines, begun, 9):
                    found = measure(options, [export(options, model) / "1"], signatures=names[:count])
                    theirs = theirs or found
                    lines.append(f"{begun} {_by_signature(found)} | {_ratios(found, theirs)} |")
    return lines


def _by_signature(stages: Stages) -> str:
    columns = (
        *(("warm", kind) for kind in ("resident", "held", "free")),
        *(("used", kind) for kind in ("resident", "peak")),
        ("trimmed", "resident"),
    )
    baseline = stages["baseline"]
    return " | ".join(f"{stages[stage][kind] - baseline[kind]:,.0f}" for stage, kind in columns)


def versions(options: argparse.Namespace) -> list[str]:
    """What several versions of a model need, and what comes back when they are unloaded."""
    lines = [
        "Versions of one model in one process, each warmed up, used, then unloaded one by one; MiB above the process "
        "without a model. `CPU` is the CPU time of the requests against that with the C library's allocator.",
        "",
        "| model | allocator | one, warm | three, warm | used | two left | one left | none left | CPU |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for model in options.memory_models.split(","):
        plain = None
        for allocator, environment in _allocators().items():
            with row(lines, f"| {model} | {allocator} |", 7):
                found = measure(options, [exported(options, model) / "1"] * 3, environment)
                plain = plain or found["used"]["cpu_s"]
                stages = ("warm", "3 warm", "used", "2 left", "1 left", "0 left")
                above = (found[stage]["resident"] - found["baseline"]["resident"] for stage in stages)
                figures = " | ".join(f"{each:,.0f}" for each in above)
                lines.append(f"| {model} | {allocator} | {figures} | {found['used']['cpu_s'] / plain:.2f} |")
    return lines


def _allocators() -> dict[str, dict[str, str]]:
    found = {"glibc": {}, "MALLOC_ARENA_MAX=2": {"MALLOC_ARENA_MAX": "2"}}
    if library := find_library("jemalloc"):
        settings = "background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0"
        found["jemalloc"] = {"LD_PRELOAD": library, "MALLOC_CONF": settings}
    return found


def _ratios(ours: Stages, theirs: Stages) -> str:
    stages = (("warm", "resident"), ("used", "resident"), ("used", "peak"))
    return " | ".join(f"{ours[stage][kind] / theirs[stage][kind]:.2f}" for stage, kind in stages)


def measure(
    options: argparse.Namespace,
    directories: Sequence[Path],
    environment: Mapping[str, str] | None = None,
    signatures: Sequence[str] = (),
    requests: Sequence[int] = (),
) -> Stages:
    """Runs a process of its own with a SavedModel, or several of the same kind, and returns what it held.

    Called are the named `signatures`, and what the C library keeps is handed back at the end; without names, all are.
    Looked at is the process after so many `requests`, as many as the options say unless others are named.
    """
    say(f"memory of {directories[0]}{f' x {len(directories)}' if len(directories) > 1 else ''}")
    quiet = {"PYTHONPATH": str(ROOT / "tests/load"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, "-m", "featserve_load.bare"],
        input=json.dumps(_job(directories, requests or [options.memory_requests], signatures)),
        text=True,
        capture_output=True,
        env={**os.environ, **quiet, **(environment or {})},
        timeout=3600,
    )
    if result.returncode:
        raise LoadError(f"{directories[0]} could not be measured: {result.stderr[-1000:]}")
    stages: Stages = json.loads(result.stdout)
    return stages


def _job(directories: Sequence[Path], requests: Sequence[int], signatures: Sequence[str]) -> dict[str, Any]:
    from tensorflow.core.protobuf import saved_model_pb2

    content = (directories[0] / "saved_model.pb").read_bytes()
    found = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].signature_def
    calls, size = [], [1, 1]
    for name in signatures or sorted(found):
        if name.startswith("__") or len(found[name].inputs) != 1:
            continue
        (info,) = found[name].inputs.values()
        kind = _KINDS[info.dtype]
        if kind == "float":
            size = [side.size for side in info.tensor_shape.dim[1:3]]
        fetches = [output.name for output in found[name].outputs.values()]
        calls.append({"feed": info.name, "fetches": fetches, "input": kind})
    return {
        "directories": [str(directory) for directory in directories],
        "calls": calls,
        "size": size,
        "photos": [str(path) for path in photos.paths()],
        "sizes": SIZES,
        "requests": list(requests),
        "callers": _CALLERS,
        "trim": bool(signatures),
    }


def _above(stages: Stages) -> str:
    baseline = stages["baseline"]["resident"]
    figures = [stages[stage]["resident"] for stage in ("loaded", "warm", "used")] + [stages["used"]["peak"]]
    return " | ".join(f"{figure - baseline:,.0f}" for figure in figures)
