"""The outcome of quantisation, layer by layer, for the manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tensorflow.core.framework import graph_pb2


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """One convolution or matrix product.

    Attributes:
        name: its node.
        operation: its TensorFlow operation.
        precision: `int8` or `float32`.
        multiplications: for one image.
        cosine_alone: of the features when this layer alone is in eight bits; None where it has no kernel.
        reason: why it stays in float32, empty where it does not.
    """

    name: str
    operation: str
    precision: str
    multiplications: int
    cosine_alone: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """The outcome, for the manifest.

    Attributes:
        method: how the ranges were cut: one of min-max, percentile, mean-squared-error.
        methods: each method's mean cosine of the held-out photos, with as many layers in float32 as may be.
        photos: used for ranges and weights.
        held_out: photos the closeness was measured on.
        cosine: output to `{"mean", "lowest"}` of the held-out photos.
        same_class: share of crops of the held-out photos that keep their top class; None where there is no classifier.
        crops: how many were compared.
        int8_share: of all multiplications.
        layers: in execution order.
        warnings: sentences.
    """

    method: str
    methods: dict[str, float]
    photos: int
    held_out: int
    cosine: dict[str, dict[str, float]]
    same_class: float | None
    crops: int
    int8_share: float
    layers: tuple[LayerReport, ...]
    warnings: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class QuantizedGraph:
    """An eight-bit graph with the placeholder and outputs of the float one, and how it came about."""

    graph_def: graph_pb2.GraphDef
    report: QuantizationReport
