"""The rest of a network behind a layer: what class its features stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from ..backbones import find_backbone, is_backbone
from ..errors import ExportError
from .backbone import build_with_classifier

Classifier = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]


def load_classifier(
    backbone: str,
    layer: str,
    pooling: str,
    weights: str,
    alpha: float | None,
    image_size: tuple[int, int],
) -> tuple[Classifier | None, str]:
    """Loads the layers behind `layer`.

    Args:
        backbone: a name of `list_backbones`, or the path of a model.
        layer: whose activations are classified.
        pooling: of the export.
        weights: `imagenet`, `random` or the path of a weights file.
        alpha: width multiplier of the MobileNets.
        image_size: `(height, width)` in pixels.

    Returns:
        A function of activations, `(count, …)`, to probabilities `(count, classes)`; or None and why there is none.
    """
    if not is_backbone(backbone):
        return None, "a model of one's own has no known classifier"
    if weights == "random":
        return None, "random weights know no classes"
    if pooling != "none":
        return None, "the classifier reads the features before pooling"
    try:
        whole = build_with_classifier(find_backbone(backbone), weights, image_size, alpha)
        rest = keras.Model(whole.get_layer(layer).output, whole.output)
    except (ExportError, ValueError) as error:
        return None, str(error).splitlines()[0]
    return lambda features: np.asarray(rest.predict(features, verbose=0), np.float32), ""
