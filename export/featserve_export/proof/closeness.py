"""How close activations are to the live Keras model's, and how close they must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import VerificationError

MINIMUM_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.99}
# The cosine is blind to a factor. Rounding in another order stays below this.
_MAXIMUM_RELATIVE_DIFFERENCE = {"float32": 1e-3}
# Nor do lower precisions make all activations of an image larger or smaller.
_MAXIMUM_NORM_DIFFERENCE = 0.05
_Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """How far a layer's activations are from the live Keras model's.

    Attributes:
        cosine: the smallest over the golden images, -1..1.
        max_abs_difference: the largest of any activation, in its unit.
        max_relative_difference: the same, divided by the layer's largest activation.
        norm_difference: the largest `||received| / |expected| - 1|` of the golden images.
    """

    cosine: float
    max_abs_difference: float
    max_relative_difference: float
    norm_difference: float


def check(closeness: Closeness, layer: str, signature: str, precision: str) -> None:
    """Refuses activations that are too far away for their precision.

    Raises:
        VerificationError: the cosine, the largest difference or the length is outside the precision's limits.
    """
    if not closeness.cosine >= MINIMUM_COSINE[precision]:
        raise VerificationError(
            f"expected activations of {layer} within cosine {MINIMUM_COSINE[precision]} of Keras for {precision}, "
            f"received {closeness.cosine:.6f} from signature {signature}; "
            "if another precision was asked for, export with --precision float32"
        )
    allowed = _MAXIMUM_RELATIVE_DIFFERENCE.get(precision, float("inf"))
    if closeness.max_relative_difference > allowed:
        raise VerificationError(
            f"expected activations of {layer} within {allowed} of Keras, relative to the largest, for {precision}, "
            f"received {closeness.max_relative_difference:.1e} from signature {signature}"
        )
    if not closeness.norm_difference <= _MAXIMUM_NORM_DIFFERENCE:
        raise VerificationError(
            f"expected activations of {layer} whose length is within {_MAXIMUM_NORM_DIFFERENCE} of Keras', "
            f"received a difference of {closeness.norm_difference:.3f} from signature {signature}; "
            "if another precision was asked for, export with --precision float32"
        )


def compare(received: _Array, expected: _Array) -> Closeness:
    """Compares activations of the same images; both are `(N, …)`."""
    if received.shape != expected.shape:
        raise VerificationError(f"expected activations of shape {expected.shape}, received {received.shape}")
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (received, expected))
    difference = float(np.abs(a - b).max())
    return Closeness(
        # Not `min`, which may pass over a NaN.
        cosine=float(np.min([_cosine(x, y) for x, y in zip(a, b, strict=True)])),
        max_abs_difference=difference,
        max_relative_difference=difference / max(float(np.abs(b).max()), float(np.finfo(np.float32).tiny)),
        norm_difference=float(np.max([_norm_difference(x, y) for x, y in zip(a, b, strict=True)])),
    )


def _cosine(a: _Array, b: _Array) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float(np.array_equal(a, b))


def _norm_difference(a: _Array, b: _Array) -> float:
    expected = float(np.linalg.norm(b))
    received = float(np.linalg.norm(a))
    return abs(received / expected - 1.0) if expected else received


def closeness_report(worst: Mapping[str, Closeness]) -> dict[str, dict[str, float]]:
    """Closeness as JSON values."""
    return {layer: vars(closeness) for layer, closeness in worst.items()}
