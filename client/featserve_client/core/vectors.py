"""One vector per image: activations pooled over space, and brought to length 1."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ..exceptions import ConfigError
from ..model.manifest import Manifest
from ..model.metadata import ModelMetadata

#: How activations become vectors: the mean over height and width alone, or with each vector brought to length 1.
VectorKind = Literal["mean", "mean-l2"]


def to_vectors(features: npt.NDArray[np.float32], kind: VectorKind = "mean-l2") -> npt.NDArray[np.float32]:
    """Returns one vector per row.

    Args:
        features: `(N, h, w, channels)`, which is averaged over height and width, or `(N, ...)`, which is flattened;
            float32.
        kind: whether vectors are brought to length 1; a vector of zeros stays as it is.

    Returns:
        `(N, D)` float32.

    Raises:
        ConfigError: the kind is unknown.
    """
    if kind not in get_args(VectorKind):
        raise ConfigError(f"vectors must be one of {', '.join(get_args(VectorKind))}, not {kind!r}")
    if features.ndim == 4:
        features = features.mean(axis=(1, 2))
    flat = features.reshape(len(features), -1).astype(np.float32, copy=False)
    if kind == "mean":
        return flat
    unit: npt.NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return unit


def vector_shape(shape: tuple[int, ...]) -> tuple[int]:
    """Returns the shape of a layer's vector, from that of its activations, both without the batch."""
    return (shape[-1] if len(shape) == 3 else int(np.prod(shape)),)


def vector_layer(model: ModelMetadata, layer: str | None) -> str:
    """Returns the layer whose activations are taken for vectors: the last one that is no classifier, if None is named.

    Raises:
        ConfigError: the model has no layer, or `layer` is no name.
    """
    if layer is not None:
        if not isinstance(layer, str) or not layer:
            raise ConfigError(f"layer must be the name of one layer, or None; not {layer!r}")
        return layer
    labels = Manifest.parse(model.manifest or {}).labels
    features = [name for name in model.layers if name not in labels] or list(model.layers)
    if not features:
        raise ConfigError(f"model {model.model!r} gives no layers; it has {model.describe_signatures()}")
    return features[-1]
