"""From a frozen float graph and photos to an eight-bit graph that is proven close, or a refusal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from ..progress import Progress, silent
from .class_agreement import MIN_SAME, ClassCheck
from .errors import QuantizationError
from .graph import Array, FloatGraph
from .layers import Layer, find_layers
from .photos import MIN_PHOTOS, held_out, one_color_warning
from .ranges import METHODS, calibrate
from .report import LayerReport, QuantizationReport, QuantizedGraph
from .rewrite import quantize
from .rounding import Rounder, second_moments
from .sensitivity import cosines, sensitivity

MIN_COSINE = 0.99
# Verification sees other photos than calibration, so the held-out ones must do a little better.
_MARGIN = 0.2
_MEAN_MARGIN = 0.5
_MIN_INT8_SHARE = 0.5
_MAX_FLOAT_SHARE = 0.25
_SENSITIVITY_IMAGES = 4
_BATCH = 4


@dataclass(frozen=True)
class _Trial:
    graph_def: graph_pb2.GraphDef
    cosines: list[Array]
    same_class: float | None

    @property
    def mean(self) -> float:
        """Of the output that differs most."""
        return min(float(cosine.mean()) for cosine in self.cosines)

    @property
    def lowest(self) -> float:
        return min(float(cosine.min()) for cosine in self.cosines)

    def reaches(self, lowest: float, mean: float) -> bool:
        kept = self.same_class is None or self.same_class >= MIN_SAME
        return kept and self.lowest >= lowest and self.mean >= mean


def quantize_graph(
    graph_def: graph_pb2.GraphDef,
    input_name: str,
    outputs: Mapping[str, str],
    images: Array,
    *,
    crops: Array | None = None,
    classify: Callable[[Array], Array] | None = None,
    min_cosine: float = MIN_COSINE,
    progress: Progress = silent,
) -> QuantizedGraph:
    """Quantises a frozen graph after training, statically.

    Three quarters of the photos set ranges and weights, the others choose the method and prove the result. Layers are
    put back to float32, the most sensitive first, until the features are close. The same photos give the same graph.

    Args:
        graph_def: frozen, normalisation folded into the convolutions.
        input_name: the placeholder.
        outputs: layer name to its node.
        images: `(count, height, width, 3)` float32 as the placeholder takes them, at least 8.
        crops: the same of parts of the held-out photos.
        classify: activations of the last output to probabilities `(count, classes)`, where the network has a
            classifier: 97 % of the crops must keep their top class.
        min_cosine: what each held-out photo's features must reach against float32.
        progress: called with the task, steps done and steps in all.

    Raises:
        QuantizationError: too few photos, operations that have no eight-bit kernel, or features that are not close.
    """
    if len(images) < MIN_PHOTOS:
        raise QuantizationError(f"expected at least {MIN_PHOTOS} calibration photos, received {len(images)}")
    graph = FloatGraph(graph_def, list(outputs.values()))
    layers, refused = find_layers(graph)
    _check_share(graph, layers, refused)

    apart = held_out(len(images))
    batches = _batches(images[~apart])
    probes = _batches(images[apart])
    tensors = dict.fromkeys(
        name for layer in layers for name in (layer.input, layer.output, layer.residual) if name is not None
    )
    ranges = calibrate(graph.graph_def, input_name, list(tensors), batches, progress)
    rounder = Rounder(second_moments(graph.graph_def, input_name, layers, batches, progress))
    expected = _run(graph_def, input_name, graph.outputs, probes)

    check = None
    if classify is not None and crops is not None:
        parts = _batches(crops)
        check = ClassCheck(
            classify, lambda rewritten: _run(rewritten, input_name, graph.outputs[-1:], parts)[0], graph_def
        )

    def trial(method: str, keep_float: Sequence[str]) -> _Trial:
        rewritten = quantize(graph, layers, ranges, rounder, method, keep_float)
        received = _run(rewritten, input_name, graph.outputs, probes)
        found = [cosines(a, b) for a, b in zip(expected, received, strict=True)]
        return _Trial(rewritten, found, check.same(rewritten) if check else None)

    alone = sensitivity(
        graph, layers, ranges, rounder, METHODS[-1], input_name, images[apart][:_SENSITIVITY_IMAGES], progress
    )
    worst = sorted(alone, key=lambda name: alone[name])
    most = int(_MAX_FLOAT_SHARE * len(layers))
    # Compared without the worst layers, whose error hides that of the others.
    tried = {}
    for index, name in enumerate(METHODS):
        tried[name] = trial(name, worst[:most])
        progress("methods", index + 1, len(METHODS))
    method = max(METHODS, key=lambda name: (tried[name].same_class or 0, tried[name].mean))
    lowest, mean = (1 - (1 - min_cosine) * (1 - margin) for margin in (_MARGIN, _MEAN_MARGIN))
    step = max(len(layers) // 32, 1)
    keep: list[str] = []
    best = trial(method, keep)
    while not best.reaches(lowest, mean) and len(keep) + step <= most:
        keep = worst[: len(keep) + step]
        best = trial(method, keep)
        progress("precision", len(keep), most)
    if not best.reaches(min_cosine, min_cosine):
        wanted, found = f"{min_cosine}", f"{best.lowest:.4f}"
        if best.same_class is not None:
            wanted += f" and the same top class for {MIN_SAME:.0%} of crops"
            found += f" and {best.same_class:.1%}"
        named = ", ".join(f"{name} ({alone[name]:.4f})" for name in worst[:5])
        raise QuantizationError(
            f"expected features of each held-out photo of cosine {wanted}, received {found} with {len(keep)} of "
            f"{len(layers)} layers in float32; the worst alone: {named}; "
            "calibrate with more photos like those served, or export with --precision float32"
        )
    return QuantizedGraph(
        graph_def=best.graph_def,
        report=QuantizationReport(
            method=method,
            methods={name: each.mean for name, each in tried.items()},
            photos=int((~apart).sum()),
            held_out=int(apart.sum()),
            cosine={
                layer: {"mean": float(cosine.mean()), "lowest": float(cosine.min())}
                for layer, cosine in zip(outputs, best.cosines, strict=True)
            },
            same_class=best.same_class,
            crops=0 if check is None else check.count,
            int8_share=_share(layers, keep),
            layers=_layer_reports(graph, layers, refused, keep, alone),
            warnings=one_color_warning(images),
        ),
    )


def held_out_photos(images: Array) -> Array:
    """The photos of a calibration set that prove the result and set nothing."""
    chosen: Array = images[held_out(len(images))]
    return chosen


def _check_share(graph: FloatGraph, layers: Sequence[Layer], refused: Mapping[str, str]) -> None:
    if not layers or len(layers) < _MIN_INT8_SHARE * (len(layers) + len(refused)):
        named = ", ".join(f"{graph.nodes[name].op} {name}: {reason}" for name, reason in list(refused.items())[:5])
        raise QuantizationError(
            f"expected convolutions that have an eight-bit kernel, received {len(layers)} of "
            f"{len(layers) + len(refused)} ({named or 'no convolution'}); export with --precision bfloat16"
        )


def _layer_reports(
    graph: FloatGraph,
    layers: Sequence[Layer],
    refused: Mapping[str, str],
    keep: Sequence[str],
    alone: Mapping[str, float],
) -> tuple[LayerReport, ...]:
    reports = [
        LayerReport(
            name=layer.name,
            operation=layer.op,
            precision="float32" if layer.name in keep else "int8",
            multiplications=layer.multiplications,
            cosine_alone=alone[layer.name],
            reason="among the layers whose error dominates" if layer.name in keep else "",
        )
        for layer in layers
    ]
    reports += [
        LayerReport(
            name=name,
            operation=graph.nodes[name].op,
            precision="float32",
            multiplications=0,
            cosine_alone=None,
            reason=reason,
        )
        for name, reason in refused.items()
    ]
    return tuple(sorted(reports, key=lambda report: graph.position[report.name]))


def _share(layers: Sequence[Layer], keep: Sequence[str]) -> float:
    total = sum(layer.multiplications for layer in layers)
    return sum(layer.multiplications for layer in layers if layer.name not in keep) / total


def _batches(images: Array) -> list[Array]:
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]


def _run(
    graph_def: graph_pb2.GraphDef, input_name: str, outputs: Sequence[str], batches: Sequence[Array]
) -> list[Array]:
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        rows = [session.run([f"{name}:0" for name in outputs], {f"{input_name}:0": batch}) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]
