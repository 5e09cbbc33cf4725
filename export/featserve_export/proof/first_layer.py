"""The input of a network's first layer: whether pixels are preprocessed once, twice or never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from ..sources.activations import Call, watched_calls
from ..sources.live_model import LiveModel

_KERNEL_LAYERS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
    keras.layers.EinsumDense,
)
# A normalisation was trained on values of its own spread. Photos differ by less, wrong preprocessing by 50 and more.
_MOST_SPREAD = 8.0
_UNSCALED = 200.0


@dataclass(frozen=True, kw_only=True)
class FirstLayer:
    """The input of the first layer that has a kernel.

    Attributes:
        name: the layer's path.
        low: the smallest value over the images.
        high: the largest value.
        warnings: sentences about preprocessing that does not fit the network.
    """

    name: str
    low: float
    high: float
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Names and range as JSON values."""
        return {"name": self.name, "low": self.low, "high": self.high}


def measure_first_layer(live: LiveModel, images: npt.NDArray[Any]) -> FirstLayer | None:
    """Runs the network on photos and looks at what its first layers receive.

    Args:
        live: the network with its preprocessing.
        images: `(batch, height, width, 3)` float32 0..255.

    Returns:
        What was seen, or None where the network has no layer with a kernel.
    """
    kernels: list[tuple[str, npt.NDArray[Any]]] = []
    normalisations: list[tuple[Any, npt.NDArray[Any]]] = []

    def look(call: Call) -> None:
        if isinstance(call.operation, _KERNEL_LAYERS) and not kernels and call.inputs:
            kernels.append((call.path, np.asarray(call.inputs[0], np.float32)))
        if isinstance(call.operation, keras.layers.BatchNormalization) and not normalisations and call.inputs:
            normalisations.append((call.operation, np.asarray(call.inputs[0], np.float32)))

    preprocessed = np.asarray(live.preprocess(live.own_channels(images).copy()), np.float32)
    with watched_calls(look):
        live.run(preprocessed)
    if not kernels:
        return None
    name, values = kernels[0]
    return FirstLayer(
        name=name,
        low=float(values.min()),
        high=float(values.max()),
        warnings=tuple(_warnings(live, name, live.own_channels(images), preprocessed, values, normalisations)),
    )


def _warnings(
    live: LiveModel,
    name: str,
    images: npt.NDArray[Any],
    preprocessed: npt.NDArray[Any],
    values: npt.NDArray[Any],
    normalisations: list[tuple[Any, npt.NDArray[Any]]],
) -> list[str]:
    arrives = f"pixels arrive at {name} as {values.min():.4g}…{values.max():.4g}"
    if normalisations and (spread := _spread(*normalisations[0])) is not None:
        if 1 / _MOST_SPREAD < spread < _MOST_SPREAD:
            return []
        times = f"{spread:.3g} times" if spread > 1 else f"1/{1 / spread:.3g} of"
        return [
            f"{arrives}, and the normalisation {normalisations[0][0].name} receives {times} the spread that it was "
            f"trained with: preprocessing seems to happen {'never' if spread > 1 else 'twice'} with --preprocess "
            f"{live.preprocessing}"
        ]
    if live.family != "own":
        return []
    changed_before = not np.array_equal(preprocessed, images)
    if changed_before and not _same_range(preprocessed, values):
        return [
            f"{arrives}: the network itself rescales what --preprocess has already brought to "
            f"{preprocessed.min():.4g}…{preprocessed.max():.4g}; if it was trained on pixels of 0…255, export it with "
            "--preprocess none"
        ]
    if not changed_before and values.max() > _UNSCALED and _same_range(preprocessed, values):
        return [
            f"{arrives}: nothing rescales them; if the network was trained on preprocessed pixels, name the backbone "
            "whose preprocess_input it was trained with"
        ]
    return []


def _spread(layer: Any, values: npt.NDArray[Any]) -> float | None:
    """How many times its trained spread a normalisation receives; None where it was not trained."""
    mean, variance = (np.asarray(value, np.float64) for value in (layer.moving_mean, layer.moving_variance))
    if not mean.any() and (variance == 1).all():
        return None
    axes = tuple(axis for axis in range(values.ndim) if axis != layer.axis % values.ndim)
    received = values.var(axes, dtype=np.float64)
    kept = variance > 1e-6 * variance.max()
    ratios = np.sqrt((received[kept] + 1e-12) / (variance[kept] + 1e-12))
    return float(np.exp(np.log(ratios).mean())) if kept.any() else None


def _same_range(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether two arrays span the same range, but for zeros that padding adds."""
    low, high = min(float(a.min()), 0.0), max(float(a.max()), 0.0)
    width = (high - low) or 1.0
    return abs(min(float(b.min()), 0.0) - low) < 0.02 * width and abs(max(float(b.max()), 0.0) - high) < 0.02 * width


def degenerate_features(live: LiveModel, expected: dict[str, npt.NDArray[Any]]) -> list[str]:
    """Warns of outputs that say nothing about an image: all but zero, or the same for every image.

    Args:
        live: the network.
        expected: output name to its activations of several images that differ, `(batch, …)`.
    """
    remedy = "; random weights do so: use trained ones" if live.weights["source"] == "random" else ""
    warnings = []
    for layer, values in expected.items():
        largest = float(np.abs(values).max())
        if largest < 1e-6:
            warnings.append(f"the activations of {layer} are blank: the largest is {largest:.1g}{remedy}")
        elif float(np.abs(values - values[:1]).max()) < 1e-6 * largest:
            warnings.append(f"the activations of {layer} are the same for every image{remedy}")
    return warnings
