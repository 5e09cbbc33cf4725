"""A frozen graph: a Keras model with its preprocessing as plain operations, and its weights beside them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer

from .fold_batchnorm import fold_affine_chains
from .weights import (
    Weights,
    ancestors,
    as_placeholder,
    fold_weights,
    is_large,
    producer,
    take_constants,
    with_constants,
)

INPUT_NAME = "images"
#: Where the backbone may run, by the name of TensorFlow's device; None leaves it to the server.
DEVICES = {"cpu": "/device:CPU:0", "any": None}


@dataclass(frozen=True, kw_only=True)
class FrozenGraph:
    """A graph without variables: `images` float32 `(batch, height, width, 3)` in, one tensor a layer out.

    Attributes:
        graph_def: the nodes; the input is the placeholder `images`, and each weight has a placeholder.
        outputs: layer name to the name of its node, in the order asked for.
        image_size: `(height, width)` in pixels.
        weights: large tensors by the name of their placeholder; treat them as read-only.
    """

    graph_def: graph_pb2.GraphDef
    outputs: dict[str, str]
    image_size: tuple[int, int]
    weights: Weights

    def keep(self, layers: Sequence[str]) -> "FrozenGraph":
        """Cuts the graph down to what `layers` need."""
        outputs = {layer: self.outputs[layer] for layer in layers}
        needed = ancestors(self.graph_def, outputs.values()) | {INPUT_NAME}
        graph_def = graph_pb2.GraphDef(versions=self.graph_def.versions, library=self.graph_def.library)
        graph_def.node.extend(node for node in self.graph_def.node if node.name in needed)
        weights = {name: value for name, value in self.weights.items() if name in needed}
        return replace(self, graph_def=graph_def, outputs=outputs, weights=weights)

    def cheaper_alone(self) -> list["FrozenGraph"]:
        """The graph of each layer that costs less than all layers together."""
        everything = len(ancestors(self.graph_def, self.outputs.values())) - len(self.outputs)
        alone = [self.keep([layer]) for layer in self.outputs] if len(self.outputs) > 1 else []
        return [graph for graph in alone if len(ancestors(graph.graph_def, graph.outputs.values())) - 1 < everything]

    def whole(self) -> graph_pb2.GraphDef:
        """The graph with its weights as constants, which take at most 2 GB."""
        return with_constants(self.graph_def, self.weights)

    def in_bfloat16(self) -> "FrozenGraph":
        """A graph whose convolutions and matrix products compute in bfloat16 (oneDNN)."""
        graph_def = optimize(self.graph_def, list(self.outputs.values()), bfloat16=True)
        weights = dict(self.weights)
        fold_weights(graph_def, weights)
        return replace(self, graph_def=graph_def, weights=weights)

    def with_graph(self, graph_def: graph_pb2.GraphDef, shared: Collection[str]) -> "FrozenGraph":
        """Another graph for the same layers, whose weights are all constants yet.

        Args:
            graph_def: changed in place.
            shared: constants that become weights, however small.
        """
        weights: Weights = {}
        take_constants(graph_def, weights, shared)
        return replace(self, graph_def=graph_def, weights=weights)

    def run_on(self, images: tf.Tensor, weights: Mapping[str, tf.Tensor], device: str) -> list[tf.Tensor]:
        """Imports the graph over `images` and `weights`, and returns the layers in order.

        On `cpu` a server's optimiser fuses biases, activations and sums into the convolutions before them. Inside a
        batched function it does so only where the nodes say so themselves.
        """
        with tf.device(DEVICES[device]):
            return list(
                tf.graph_util.import_graph_def(
                    self.graph_def,
                    input_map={f"{name}:0": tensor for name, tensor in {INPUT_NAME: images, **weights}.items()},
                    return_elements=[f"{node}:0" for node in self.outputs.values()],
                    name="backbone",
                )
            )


def freeze(
    activations: Callable[[tf.Tensor], Sequence[tf.Tensor]], layers: Sequence[str], image_size: tuple[int, int]
) -> FrozenGraph:
    """Traces a network and turns every variable into a constant or a weight.

    Args:
        activations: from RGB float32 0..255 to the float32 tensors of the layers, in order.
        layers: their names.
        image_size: `(height, width)` in pixels.

    Returns:
        The graph with its constants folded and every normalisation merged into the convolution before it.
    """
    nodes = {layer: f"layer_{index}" for index, layer in enumerate(layers)}

    def features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            node: tf.identity(tensor, name=node)
            for node, tensor in zip(nodes.values(), activations(images), strict=True)
        }

    images = tf.TensorSpec((None, *image_size, 3), tf.float32, name=INPUT_NAME)
    function = tf.function(features, input_signature=[images], autograph=False).get_concrete_function()
    graph_def, weights = _without_variables(function)
    graph_def = optimize(graph_def, list(nodes.values()))
    fold_weights(graph_def, weights)
    graph_def = fold_affine_chains(graph_def, weights)
    take_constants(graph_def, weights)
    for node in graph_def.node:
        # The placeholder goes when the graph is imported over other images; nothing has to wait for it.
        while f"^{INPUT_NAME}" in node.input:
            node.input.remove(f"^{INPUT_NAME}")
    return FrozenGraph(graph_def=graph_def, outputs=nodes, image_size=image_size, weights=weights)


def _without_variables(function: Any) -> tuple[graph_pb2.GraphDef, Weights]:
    """Turns a traced function's large variables into placeholders and everything else that it captures into constants.

    Returns:
        The graph, and the placeholders' values, which share the variables' memory.
    """
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    large = {
        placeholder.op.name: variables[id(captured)]
        for captured, placeholder in function.graph.captures
        if id(captured) in variables and is_large(variables[id(captured)].shape, variables[id(captured)].dtype)
    }
    inlined = _inline(function, large)
    # A variable that a loop or a branch reads cannot be fed.
    for name in {
        producer(name) for node in inlined.graph_def.node if node.op != "ReadVariableOp" for name in node.input
    } & large.keys():
        del large[name]
    graph_def, _ = convert_to_constants._replace_variables_by_constants(_inline(function, large))
    weights: Weights = {}
    for node in graph_def.node:
        if node.name in large:
            weights[node.name] = np.asarray(memoryview(large[node.name].value()))
            as_placeholder(node, weights[node.name])
        elif node.op == "ReadVariableOp" and producer(node.input[0]) in large:
            dtype = node.attr["dtype"].type
            node.CopyFrom(node_def_pb2.NodeDef(name=node.name, op="Identity", input=node.input, device=node.device))
            node.attr["T"].type = dtype
    return graph_def, weights


def _inline(function: Any, variables: Collection[str]) -> Any:
    return convert_to_constants._FunctionConverterDataInEager(
        func=function, lower_control_flow=False, aggressive_inlining=False, variable_names_denylist=variables
    )


def optimize(graph_def: graph_pb2.GraphDef, outputs: Sequence[str], *, bfloat16: bool = False) -> graph_pb2.GraphDef:
    """Runs TensorFlow's graph optimiser over a frozen graph.

    Args:
        graph_def: with the placeholder `images`.
        outputs: the nodes to keep.
        bfloat16: whether convolutions and matrix products compute in bfloat16 (oneDNN).

    Returns:
        A graph that computes the same outputs under the same names.
    """
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.min_graph_nodes = -1
    rewrites.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    rewrites.fail_on_optimizer_errors = True
    if bfloat16:
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    else:
        # This optimizer moves a residual sum in front of the shift that is to be folded into the convolution.
        rewrites.arithmetic_optimization = rewriter_config_pb2.RewriterConfig.OFF
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    signature = meta_graph.signature_def["features"]
    for slots, names in ((signature.inputs, [INPUT_NAME]), (signature.outputs, outputs)):
        for name in names:
            tensor = graph.get_tensor_by_name(f"{name}:0")
            slots[name].name = tensor.name
            slots[name].dtype = tensor.dtype.as_datatype_enum
            slots[name].tensor_shape.CopyFrom(tensor.shape.as_proto())
    return tf_optimizer.OptimizeGraph(config, meta_graph)
