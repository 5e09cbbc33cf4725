"""A frozen graph: a Keras model with its preprocessing as one float32 GraphDef of constants and plain operations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer

from ._fold import fold_affine_chains, producer

INPUT_NAME = "images"
#: Where the backbone may run, by the name of TensorFlow's device; None leaves it to the server.
DEVICES = {"cpu": "/device:CPU:0", "any": None}
# A server keeps several copies of a graph for each signature, and one of a variable. Convolutions gain from constant
# kernels, which oneDNN rearranges once; dense layers gain nothing.
_LARGE_KERNEL_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class FrozenGraph:
    """A graph without variables: `images` float32 `(batch, height, width, 3)` in, one tensor a layer out.

    Attributes:
        graph_def: the nodes; the input is the placeholder `images`.
        outputs: layer name to the name of its node, in the order asked for.
        image_size: `(height, width)` in pixels.
    """

    graph_def: graph_pb2.GraphDef
    outputs: dict[str, str]
    image_size: tuple[int, int]

    def keep(self, layers: Sequence[str]) -> "FrozenGraph":
        """Cuts the graph down to what `layers` need."""
        outputs = {layer: self.outputs[layer] for layer in layers}
        needed = _ancestors(self.graph_def, outputs.values()) | {INPUT_NAME}
        graph_def = graph_pb2.GraphDef(versions=self.graph_def.versions, library=self.graph_def.library)
        graph_def.node.extend(node for node in self.graph_def.node if node.name in needed)
        return FrozenGraph(graph_def=graph_def, outputs=outputs, image_size=self.image_size)

    def cheaper_alone(self) -> list["FrozenGraph"]:
        """The graph of each layer that costs less than all layers together."""
        everything = len(_ancestors(self.graph_def, self.outputs.values())) - len(self.outputs)
        alone = [self.keep([layer]) for layer in self.outputs] if len(self.outputs) > 1 else []
        return [graph for graph in alone if len(_ancestors(graph.graph_def, graph.outputs.values())) - 1 < everything]

    def large_kernels(self) -> dict[str, npt.NDArray[Any]]:
        """Constants too large to be copied with the graph: kernels of dense layers, by the name of their node."""
        operands = {producer(node.input[1]) for node in self.graph_def.node if node.op == "MatMul"}
        tensors = {
            node.name: node.attr["value"].tensor
            for node in self.graph_def.node
            if node.op == "Const" and node.name in operands
        }
        return {
            name: tf.make_ndarray(tensor) for name, tensor in tensors.items() if tensor.ByteSize() > _LARGE_KERNEL_BYTES
        }

    def run_on(self, images: tf.Tensor, kernels: Mapping[str, tf.Tensor], device: str) -> list[tf.Tensor]:
        """Imports the graph over `images`, with `kernels` in place of constants, and returns the layers in order.

        On `cpu` a server's optimiser fuses biases, activations and sums into the convolutions before them. Inside a
        batched function it does so only where the nodes say so themselves.
        """
        graph_def = graph_pb2.GraphDef(versions=self.graph_def.versions, library=self.graph_def.library)
        graph_def.node.extend(node for node in self.graph_def.node if node.name not in kernels)
        with tf.device(DEVICES[device]):
            return list(
                tf.graph_util.import_graph_def(
                    graph_def,
                    input_map={f"{name}:0": tensor for name, tensor in {INPUT_NAME: images, **kernels}.items()},
                    return_elements=[f"{node}:0" for node in self.outputs.values()],
                    name="backbone",
                )
            )


def _ancestors(graph_def: graph_pb2.GraphDef, names: Iterable[str]) -> set[str]:
    inputs = {node.name: [producer(name) for name in node.input] for node in graph_def.node}
    needed: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += inputs[name]
    return needed


def freeze(
    activations: Callable[[tf.Tensor], Sequence[tf.Tensor]], layers: Sequence[str], image_size: tuple[int, int]
) -> FrozenGraph:
    """Traces a network and turns every variable into a constant.

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
    function = convert_to_constants.convert_variables_to_constants_v2(
        tf.function(features, input_signature=[images], autograph=False).get_concrete_function(),
        lower_control_flow=False,
    )
    graph_def = function.graph.as_graph_def()
    kernels = _take_dense_kernels(graph_def)
    graph_def = optimize(graph_def, list(nodes.values()))
    _put_back(graph_def, kernels)
    for node in graph_def.node:
        # The placeholder goes when the graph is imported over other images; nothing has to wait for it.
        while f"^{INPUT_NAME}" in node.input:
            node.input.remove(f"^{INPUT_NAME}")
    return FrozenGraph(graph_def=fold_affine_chains(graph_def), outputs=nodes, image_size=image_size)


def _take_dense_kernels(graph_def: graph_pb2.GraphDef) -> dict[str, node_def_pb2.NodeDef]:
    """Puts placeholders where large matrices are, of which the optimiser would hold ten copies."""
    taken = {}
    for node in graph_def.node:
        if node.op != "Const":
            continue  # reading an attribute adds it
        value = node.attr["value"].tensor
        if len(value.tensor_shape.dim) == 2 and value.ByteSize() > _LARGE_KERNEL_BYTES:
            taken[node.name] = node_def_pb2.NodeDef()
            taken[node.name].CopyFrom(node)
            node.op = "Placeholder"
            node.attr["shape"].shape.CopyFrom(value.tensor_shape)
            del node.attr["value"]
    return taken


def _put_back(graph_def: graph_pb2.GraphDef, kernels: Mapping[str, node_def_pb2.NodeDef]) -> None:
    for node in graph_def.node:
        if node.name in kernels:
            node.CopyFrom(kernels[node.name])


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
        # It moves a residual sum in front of the shift that is to be folded into the convolution.
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
