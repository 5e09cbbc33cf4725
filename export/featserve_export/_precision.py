"""The precision that the backbone computes in."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ._errors import InvalidOptionError
from ._frozen import INPUT_NAME, FrozenGraph, optimize
from ._golden import MINIMUM_COSINE, Golden, compare

PRECISIONS = ("float32", "bfloat16", "auto")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
_MEASURED_ROUNDS = 5
_MEASURED_BATCH = 8
_WORTHWHILE = 1.05


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    flags = {
        flag
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("flags")
        for flag in line.split()
    }
    return bool(flags & _BFLOAT16_FLAGS)


def check_precision(precision: str) -> None:
    """Refuses a precision that this CPU cannot prove.

    Raises:
        InvalidOptionError: `bfloat16` on a CPU without AVX512_BF16 or AMX.
    """
    if precision == "bfloat16" and not has_bfloat16_units():
        raise InvalidOptionError(
            "expected a CPU with AVX512_BF16 or AMX for --precision bfloat16, received one without; it would be slower "
            "than float32 there: use --precision float32 or auto"
        )


def with_precision(graph: FrozenGraph, precision: str) -> FrozenGraph:
    """The same graph computing in `precision`: `float32` leaves it as it is."""
    if precision == "float32":
        return graph
    optimized = optimize(graph.graph_def, list(graph.outputs.values()), bfloat16=True)
    return dataclasses.replace(graph, graph_def=optimized)


def fastest_precision(graph: FrozenGraph, golden: Golden) -> tuple[str, dict[str, Any]]:
    """Measures each precision side by side on this machine.

    Args:
        graph: in float32.
        golden: images and the live model's activations.

    Returns:
        The fastest that is close enough and at least 5 % faster than float32, and images/s and cosine of each.
    """
    candidates = {"float32": graph}
    if has_bfloat16_units():
        candidates["bfloat16"] = with_precision(graph, "bfloat16")
    images = np.resize(golden.float_images, (_MEASURED_BATCH, *golden.float_images.shape[1:]))
    seconds: dict[str, list[float]] = {precision: [] for precision in candidates}
    measured: dict[str, Any] = {}
    sessions = {precision: _session(candidate) for precision, candidate in candidates.items()}
    for precision, session in sessions.items():
        received = session.run(_fetches(graph), {f"{INPUT_NAME}:0": golden.float_images})
        expected = golden.expected["float_images"]
        measured[precision] = {
            "cosine": min(compare(received[layer], expected[layer]).cosine for layer in graph.outputs)
        }
    for _ in range(_MEASURED_ROUNDS):
        for precision, session in sessions.items():
            start = time.perf_counter()
            session.run(_fetches(graph), {f"{INPUT_NAME}:0": images})
            seconds[precision].append(time.perf_counter() - start)
    for precision, session in sessions.items():
        measured[precision]["images_per_s"] = _MEASURED_BATCH / float(np.median(seconds[precision]))
        session.close()
    chosen = "float32"
    for precision, result in measured.items():
        faster = result["images_per_s"] > _WORTHWHILE * measured[chosen]["images_per_s"]
        if faster and result["cosine"] >= MINIMUM_COSINE[precision]:
            chosen = precision
    return chosen, measured


def _fetches(graph: FrozenGraph) -> dict[str, str]:
    return {layer: f"{node}:0" for layer, node in graph.outputs.items()}


def _session(graph: FrozenGraph) -> tf.compat.v1.Session:
    with tf.Graph().as_default() as tf_graph:
        tf.graph_util.import_graph_def(graph.graph_def, name="")
        return tf.compat.v1.Session(graph=tf_graph)
