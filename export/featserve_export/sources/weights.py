"""Weights of a backbone out of a file: weights alone, or a whole model that holds the backbone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import keras

from ..errors import ExportError, WeightsError
from .keras_file import first_sentences, is_whole_model, load_keras_file


def load_weights(path: Path, model: keras.Model, name: str) -> None:
    """Gives a network the weights of a file.

    Args:
        path: a `.weights.h5` or `.h5` file of weights, or a `.keras` or `.h5` file of a whole model: of the network
            itself, or of one that holds it, such as the network with a classifier of the user's own.
        model: the network; unchanged where the file does not fit.
        name: what the network is called in errors.

    Raises:
        WeightsError: the file is missing, damaged or of another architecture.
    """
    if not path.is_file():
        raise WeightsError(f"expected --weights imagenet, random or a file, received {str(path)!r}, which is not there")
    try:
        if is_whole_model(path):
            copy_weights(load_keras_file(path), model)
        else:
            model.load_weights(path)
    # Keras, h5py and zipfile raise whatever they like over a file that is damaged or of another architecture.
    except Exception as error:
        reason = str(error) if isinstance(error, ExportError) else first_sentences(error)
        raise WeightsError(
            f"expected weights of {name} ({model.count_params()} parameters) in {path}, received {reason}; "
            "a file of another architecture or width cannot be used"
        ) from error


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights of the layers of `target` from `source`, or from a model nested in it.

    Raises:
        ValueError: there are no such layers in `source`.
    """
    wanted = _weighted(target)
    for holder in (source, *_models_in(source)):
        found = _by_name(holder, wanted) or _by_order(holder, wanted)
        if found is not None:
            for layer, other in zip(wanted, found, strict=True):
                layer.set_weights(other.get_weights())
            return
    raise ValueError(f"a model of {source.count_params()} parameters without these layers")


def _models_in(model: keras.Model) -> Iterator[keras.Model]:
    return (layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, keras.Model))


def _weighted(model: keras.Model) -> list[keras.Layer]:
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if layer.weights and not list(layer._flatten_layers(include_self=False))
    ]


def _shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _by_name(holder: keras.Model, wanted: list[keras.Layer]) -> list[keras.Layer] | None:
    named: dict[str, list[keras.Layer]] = defaultdict(list)
    for layer in _weighted(holder):
        named[layer.name].append(layer)
    found = []
    for layer in wanted:
        fitting = [other for other in named[layer.name] if _shapes(other) == _shapes(layer)]
        if len(fitting) != 1:
            return None
        found.append(fitting[0])
    return found


def _by_order(holder: keras.Model, wanted: list[keras.Layer]) -> list[keras.Layer] | None:
    """The first layers of a holder, where they are of the same kinds and shapes: Keras numbers unnamed layers anew."""
    found = _weighted(holder)[: len(wanted)]
    alike = [type(layer).__name__ for layer in found] == [type(layer).__name__ for layer in wanted]
    return found if alike and [*map(_shapes, found)] == [*map(_shapes, wanted)] else None
