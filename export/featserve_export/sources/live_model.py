"""A live Keras network and what to output of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..errors import InvalidOptionError
from ..manifest import WeightsOrigin
from .activations import Activation, Call, Place, flatten, graph_of, watched_calls


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The input of a network that takes the image.

    Attributes:
        index: which of the network's inputs it is.
        image_size: `(height, width)` in pixels.
        channels: 3 for RGB, 1 for gray.
        channels_first: whether the network wants `(batch, channels, height, width)`.
        others: the shapes, without the batch, of the inputs that are not the image.
    """

    index: int = 0
    image_size: tuple[int, int]
    channels: int = 3
    channels_first: bool = False
    others: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class LiveModel:
    """A Keras network as it was built or loaded, and what to output of it.

    Attributes:
        model: takes what `preprocess` gives.
        outputs: the names of the model's own outputs, by their place in the structure that it returns.
        selection: the activations asked for instead; None for the model's own outputs.
        pooling: `none`, `avg` or `max` over height and width of 4-D outputs.
        name: the backbone's name or the file's stem.
        family: of the backbone, or `own`.
        preprocess: maps `(batch, height, width, channels)` float32 0..255 to the network's range.
        preprocessing: the name of that function, or `none`.
        input: the input that takes the image.
        interpolation: the default resize.
        weights: source, name and sha256 of the weights' values.
    """

    model: keras.Model
    outputs: Mapping[Place, str]
    selection: tuple[Activation, ...] | None
    pooling: str
    name: str
    family: str
    preprocess: Callable[[Any], Any]
    preprocessing: str
    input: ImageInput
    interpolation: str
    weights: WeightsOrigin

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of what is output, in order."""
        return tuple(self.sources())

    @property
    def image_size(self) -> tuple[int, int]:
        """`(height, width)` in pixels."""
        return self.input.image_size

    def sources(self) -> dict[str, str]:
        """Where each output comes from, such as `layer block5_pool`, or `output 0` of the model's own."""
        if self.selection is not None:
            return {activation.name: f"{activation.kind} {activation.name}" for activation in self.selection}
        return {name: f"output {'/'.join(map(str, place)) or 0}" for place, name in self.outputs.items()}

    def activations(self, images: tf.Tensor) -> list[tf.Tensor]:
        """Computes what is output, inside a `tf.function`.

        Args:
            images: `(batch, height, width, 3)` float32 RGB 0..255; three equal channels for a gray network.

        Returns:
            Float32 tensors in the order of `layers`.

        Raises:
            InvalidOptionError: an activation is computed inside a loop or function of its own.
        """
        image, inputs = self._feed(self.preprocess(self.own_channels(images)), tf.transpose, tf.zeros)
        calls: dict[tuple[str, int], list[Any]] = {}

        def keep(call: Call) -> None:
            calls[call.path, call.number] = call.outputs

        with watched_calls(keep):
            own = flatten(self.model(inputs, training=False))
        if self.selection is None:
            tensors = [own[place] for place in self.outputs]
        else:
            tensors = [image if it.kind == "input" else _traced(it, calls) for it in self.selection]
        return [self._pool(tf.cast(tensor, tf.float32), tf.reduce_mean, tf.reduce_max) for tensor in tensors]

    def reference(self, images: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """The outputs by Keras' own `predict`: another way to the values than that of `activations`.

        Args:
            images: `(batch, height, width, 3)` float32 RGB 0..255; three equal channels for a gray network.

        Returns:
            Output name to `(batch, …)`.
        """
        preprocessed = np.asarray(self.preprocess(self.own_channels(images).copy()), np.float32)
        image, inputs = self._feed(preprocessed, np.transpose, np.zeros)
        if self.selection is None:
            own = flatten(self.model.predict(inputs, verbose=0))
            values = [own[place] for place in self.outputs]
        else:
            source = self._graph.inputs[self.input.index]
            # The image itself is no output of a Keras model.
            tensors = [it.in_outermost_graph() for it in self.selection if it.kind != "input"]
            predicted = iter(_predict_each(source, tensors, image))
            values = [image if it.kind == "input" else next(predicted) for it in self.selection]
        return {
            layer: self._pool(np.asarray(value, np.float32), np.mean, np.max)
            for layer, value in zip(self.layers, values, strict=True)
        }

    def own_channels(self, images: Any) -> Any:
        """The network's channels of `(batch, height, width, 3)`: all of them, or the gray."""
        return images[..., : self.input.channels]

    def run(self, preprocessed: npt.NDArray[Any]) -> Any:
        """Calls the network on images of its own range, `(batch, height, width, channels)`."""
        return self.model(self._feed(preprocessed, np.transpose, np.zeros)[1], training=False)

    @property
    def _graph(self) -> Any:
        return graph_of(self.model)

    def _feed(self, image: Any, transpose: Callable[..., Any], zeros: Callable[..., Any]) -> tuple[Any, Any]:
        """The image as the network wants it, and all its inputs: zeros for those that are not the image."""
        if self.input.channels_first:
            image = transpose(image, (0, 3, 1, 2))
        if not self.input.others:
            return image, image
        batch = tf.shape(image)[0] if isinstance(image, tf.Tensor) else len(image)
        values = [zeros((batch, *shape), "float32") for shape in self.input.others]
        values.insert(self.input.index, image)
        return image, keras.tree.pack_sequence_as(self._graph._inputs_struct, values)

    def _pool(self, value: Any, mean: Callable[..., Any], largest: Callable[..., Any]) -> Any:
        if self.pooling == "none" or len(value.shape) != 4:
            return value
        return (mean if self.pooling == "avg" else largest)(value, axis=(1, 2))


def _traced(activation: Activation, calls: Mapping[tuple[str, int], list[Any]]) -> tf.Tensor:
    tensors = calls.get((activation.path, activation.turn))
    tensor = None if tensors is None else tensors[activation.index]
    if tensor is None or tensor.graph is not tf.compat.v1.get_default_graph():
        raise InvalidOptionError(
            f"expected an activation of the network's own graph, received {activation.name}, which is computed in a "
            "loop or a function of its own; choose the layer around it"
        )
    return tensor


def _predict_each(source: Any, tensors: list[Any], image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    if not tensors:
        return []
    predicted = keras.Model(source, tensors).predict(image, verbose=0)
    return list(predicted) if isinstance(predicted, (list, tuple)) else [predicted]


def needs_only(source: Any, tensors: list[Any]) -> bool:
    """Whether tensors of a Keras graph can be computed from one input of it.

    Args:
        source: the input's tensor.
        tensors: in the same graph.
    """
    try:
        keras.Model(source, [tensor for tensor in tensors if tensor is not source] or [keras.ops.identity(source)])
    except ValueError:
        return False
    return True


def weights_hash(model: keras.Model) -> str:
    """The sha256 of the weights' values, in order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
