"""The precision that the backbone computes in."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .errors import InvalidOptionError
from .graph.freeze import INPUT_NAME, FrozenGraph
from .graph.weights import WeightVariables
from .manifest import Measured
from .progress import Progress
from .proof.closeness import MINIMUM_COSINE, compare
from .proof.golden import Golden
from .quantize import CalibrationPhotos, QuantizationError, computes_eight_bits, kernel_magnitudes, quantize_graph
from .sources.classifier import Classifier

_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
_MEASURED_ROUNDS = 5
_MEASURED_BATCH = 8
_WORTHWHILE = 1.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """A precision and the graphs that compute in it.

    Attributes:
        precision: `float32`, `bfloat16` or `int8`.
        graphs: all layers first, then each layer that is cheaper alone.
        notes: the measurements on the way, for the manifest.
    """

    precision: str
    graphs: Sequence[FrozenGraph]
    notes: Measured


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    flags = {
        flag
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("flags")
        for flag in line.split()
    }
    return bool(flags & _BFLOAT16_FLAGS)


def check_precision(precision: str, calibrate: str | Path | None) -> None:
    """Refuses a precision that this CPU cannot prove, and options that do not go together.

    Raises:
        InvalidOptionError: `bfloat16` without AVX512_BF16 or AMX, `int8` without VNNI or without photos.
    """
    if precision == "bfloat16" and not has_bfloat16_units():
        raise InvalidOptionError(
            "expected a CPU with AVX512_BF16 or AMX for --precision bfloat16, received one without; it would be slower "
            "than float32 there: use --precision float32 or auto"
        )
    if precision == "int8" and not computes_eight_bits():
        raise InvalidOptionError(
            "expected a CPU with VNNI and oneDNN switched on for --precision int8, received one that gets eight-bit "
            "sums wrong: use --precision float32 or auto"
        )
    if precision == "int8" and calibrate is None:
        raise InvalidOptionError(
            "expected --calibrate with --precision int8: a directory or glob of about 64 photos like those to be served"
        )
    if calibrate is not None and precision not in ("int8", "auto"):
        raise InvalidOptionError(f"--calibrate is for --precision int8 or auto, received {precision}")


def choose_precision(
    precision: str,
    graph: FrozenGraph,
    golden: Golden,
    photos: CalibrationPhotos | None,
    classifier: Callable[[], tuple[Classifier | None, str]],
    progress: Progress,
) -> Chosen:
    """Turns a float32 graph into one of the asked for precision; `auto` measures and keeps the fastest.

    Args:
        precision: float32, bfloat16, int8 or auto.
        graph: in float32.
        golden: images and the live model's activations.
        photos: to calibrate int8 with.
        classifier: loads the classifier behind the last layer, or says why there is none.
        progress: called with each stage.

    Raises:
        QuantizationError: `int8` is not close enough, or has no kernel for this network.
    """
    notes: Measured = {}
    candidates = {precision: graph} if precision != "auto" else {"float32": graph}
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16_units()):
        candidates["bfloat16"] = graph.in_bfloat16()
    if photos is not None and (precision == "int8" or computes_eight_bits()):
        try:
            candidates["int8"], notes["quantization"] = _in_int8(graph, photos, classifier, progress)
        except QuantizationError as error:
            if precision == "int8":
                raise
            notes["int8_refused"] = str(error)
    if precision == "auto":
        progress("measuring precisions", 0, 0)
        precision, notes["precision_measured"] = _fastest(candidates, golden, notes)
        if precision != "int8":
            notes.pop("quantization", None)
    chosen = candidates[precision]
    alone = [one.in_bfloat16() for one in graph.cheaper_alone()] if precision == "bfloat16" else chosen.cheaper_alone()
    return Chosen(precision=precision, graphs=(chosen, *alone), notes=notes)


def _in_int8(
    graph: FrozenGraph,
    photos: CalibrationPhotos,
    load_classifier: Callable[[], tuple[Classifier | None, str]],
    progress: Progress,
) -> tuple[FrozenGraph, dict[str, Any]]:
    classify, reason = load_classifier()
    quantized = quantize_graph(
        graph.whole(),
        INPUT_NAME,
        graph.outputs,
        photos.images,
        crops=photos.crops,
        classify=classify,
        progress=progress,
    )
    report = quantized.report.as_dict()
    report["skipped"] = len(photos.skipped)
    report["no_classifier"] = reason
    return graph.with_graph(quantized.graph_def, kernel_magnitudes(quantized.graph_def)), report


def _fastest(candidates: dict[str, FrozenGraph], golden: Golden, notes: Measured) -> tuple[str, dict[str, Any]]:
    graph = candidates["float32"]
    images = np.resize(golden.float_images, (_MEASURED_BATCH, *golden.float_images.shape[1:]))
    seconds: dict[str, list[float]] = {precision: [] for precision in candidates}
    measured: dict[str, Any] = {}
    sessions = {precision: open_session(candidate) for precision, candidate in candidates.items()}
    for precision, session in sessions.items():
        if precision == "int8":
            # Of the photos that calibration held out: the golden images may be of another kind.
            cosine = min(layer["lowest"] for layer in notes["quantization"]["cosine"].values())
        else:
            received = session.run(fetches(graph), {f"{INPUT_NAME}:0": golden.float_images})
            expected = golden.expected["float_images"]
            cosine = min(compare(received[layer], expected[layer]).cosine for layer in graph.outputs)
        measured[precision] = {"cosine": cosine}
    for _ in range(_MEASURED_ROUNDS):
        for precision, session in sessions.items():
            start = time.perf_counter()
            session.run(fetches(graph), {f"{INPUT_NAME}:0": images})
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


def fetches(graph: FrozenGraph) -> dict[str, str]:
    """The tensors that a session of a graph is asked for: each output by its name."""
    return {layer: f"{node}:0" for layer, node in graph.outputs.items()}


def open_session(graph: FrozenGraph) -> tf.compat.v1.Session:
    """A session that runs a graph on this machine's CPU."""
    with tf.Graph().as_default() as tf_graph:
        images = tf.compat.v1.placeholder(tf.float32, (None, *graph.image_size, 3), name=INPUT_NAME)
        variables = WeightVariables()
        weights = {name: variables.read(value) for name, value in graph.weights.items()}
        for node, output in zip(graph.outputs.values(), graph.run_on(images, weights, "cpu"), strict=True):
            tf.identity(output, name=node)
        session = tf.compat.v1.Session(graph=tf_graph)
        variables.load(session)
        return session
