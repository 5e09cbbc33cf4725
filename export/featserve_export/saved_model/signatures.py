"""The served graph: guards, decode and resize per request, then one shared batch for preprocessing and backbone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from ..batching import MAX_REQUEST_IMAGES, Batching
from ..graph.freeze import FrozenGraph
from ..graph.weights import WeightVariables
from ..manifest import layer_sets
from ..pixels.checks import check_request_size
from ..pixels.spec import Pixels
from . import writer as saved_model
from .writer import MANIFEST_NODE, REQUEST_LIMIT_NODE

# A layer's name may hold what the names of TensorFlow's nodes may not.
_NOT_IN_SCOPES = re.compile(r"[^A-Za-z0-9_./-]")
_Features = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def write_saved_model(
    directory: Path,
    graphs: Sequence[FrozenGraph],
    pixels: Pixels,
    batching: Batching,
    manifest: str,
    golden: Mapping[str, npt.NDArray[Any]],
    queue_prefix: str,
    device: str,
) -> None:
    """Writes every signature of a version as one graph.

    Args:
        directory: empty.
        graphs: the first outputs all layers; each of the others serves the layer that it can give cheaper.
        pixels: how images become the network's input.
        batching: the queues' parameters.
        manifest: JSON text that the signature `manifest` answers.
        golden: what the signature `golden` answers, by output.
        queue_prefix: the model's name and version.
        device: where the backbone may run: `cpu` or `any`.
    """
    layers = tuple(graphs[0].outputs)
    served: saved_model.Signatures = {}
    variables = WeightVariables()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        limit = tf.constant(batching.max_request_images, name=REQUEST_LIMIT_NODE)
        for index, graph in enumerate(graphs):
            features = _batched(graph, f"backbone_{index}", variables, device)
            for suffix, wanted in layer_sets(layers).items():
                if _cheapest(graphs, wanted) is graph:
                    served |= _base_signatures(suffix, wanted, features, pixels, limit)
        served["manifest"] = ({}, {"manifest": tf.constant(manifest, name=MANIFEST_NODE)})
        served["golden"] = ({}, {name: tf.constant(value) for name, value in golden.items()})
        variables.load(session)
        saved_model.write(directory, session, served)
    saved_model.rewrite(directory, manifest, batching, queue_prefix)


def _cheapest(graphs: Sequence[FrozenGraph], layers: Sequence[str]) -> FrozenGraph:
    able = [graph for graph in graphs if set(layers) <= set(graph.outputs)]
    return min(able, key=lambda graph: len(graph.outputs))


def _base_signatures(
    suffix: str, layers: Sequence[str], features: _Features, pixels: Pixels, limit: tf.Tensor
) -> saved_model.Signatures:
    height, width = pixels.image_size
    bases = {
        "serving_default": ("images", tf.uint8, (None, None, None, 3), pixels.resize),
        "encoded": ("image_bytes", tf.string, (None,), pixels.decode),
        "float_images": ("images", tf.float32, (None, height, width, 3), pixels.check),
    }
    signatures = {}
    for base, (name, dtype, shape, load) in bases.items():
        with tf.name_scope(_NOT_IN_SCOPES.sub("_", f"{base}{suffix}")):
            request = tf.compat.v1.placeholder(dtype, shape, name=name)
            outputs = features(load(check_request_size(request, limit)))
            signatures[f"{base}{suffix}"] = ({name: request}, {layer: outputs[layer] for layer in layers})
    return signatures


def _batched(graph: FrozenGraph, name: str, variables: WeightVariables, device: str) -> _Features:
    weights = [variables.read(value) for value in graph.weights.values()]

    def backbone(images: tf.Tensor, *values: tf.Tensor) -> list[tf.Tensor]:
        return graph.run_on(images, dict(zip(graph.weights, values, strict=True)), device)

    backbone.__name__ = name
    function = tf.function(backbone, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *graph.image_size, 3), tf.float32, name="images"),
        *(tf.TensorSpec(weight.shape, weight.dtype) for weight in weights),
    )

    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # The queue's parameters are written into the finished graph, as for a graph that is batched anew.
        outputs = tf.raw_ops.BatchFunction(
            in_tensors=[images],
            captured_tensors=weights,
            f=function,
            Tout=[output.dtype for output in function.outputs],
            num_batch_threads=1,
            max_batch_size=MAX_REQUEST_IMAGES,
            batch_timeout_micros=0,
            enable_large_batch_splitting=True,
        )
        for output, traced in zip(outputs, function.outputs, strict=True):
            output.set_shape(traced.shape)
        return dict(zip(graph.outputs, outputs, strict=True))

    return features
