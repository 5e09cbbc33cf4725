"""Appends nodes to a GraphDef."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from .layers import NO_PADDING, Padding

_FLOAT = tf.float32.as_datatype_enum
_QUINT8 = tf.quint8.as_datatype_enum
_QINT8 = tf.qint8.as_datatype_enum


class GraphWriter:
    """A GraphDef that grows.

    Args:
        like: whose versions and library it has.
    """

    def __init__(self, like: graph_pb2.GraphDef) -> None:
        self.graph_def = graph_pb2.GraphDef(versions=like.versions, library=like.library)
        self._constants: set[str] = set()

    def copy(self, node: node_def_pb2.NodeDef, name: str) -> node_def_pb2.NodeDef:
        """Adds a copy under another name and returns it."""
        copied = self.graph_def.node.add()
        copied.CopyFrom(node)
        copied.name = name
        return copied

    def add(self, name: str, op: str, inputs: Sequence[str], **attributes: object) -> str:
        """Adds a node and returns its name."""
        node = self.graph_def.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            _set_attribute(node, key, value)
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: tf.DType) -> str:
        """Adds a constant, unless there is one of that name, and returns its name."""
        if name not in self._constants:
            self._constants.add(name)
            proto = tf.make_tensor_proto(np.asarray(value).astype(dtype.as_numpy_dtype), dtype)
            node = self.graph_def.node.add(name=name, op="Const")
            node.attr["dtype"].type = dtype.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(proto)
        return name

    def bounds(self, limit: float = 1.0) -> list[str]:
        """The two scalars that tell a kernel that 0..255 stands for 0..limit."""
        return [self.constant(f"int8/{bound!r}", bound, tf.float32) for bound in (0.0, limit)]

    def convolve(
        self,
        name: str,
        data: Sequence[str],
        bounds: Sequence[str],
        *,
        depthwise: bool = False,
        strides: tuple[int, int] = (1, 1),
        padding: Padding = NO_PADDING,
    ) -> str:
        """Adds the kernel that convolves, adds a bias and a summand, rectifies and rounds.

        Args:
            name: of the node.
            data: input, kernel, bias and, where there is one, summand.
            bounds: lowest and highest value of input, kernel, summand and output. Of a kernel's two, which have a value
                for each output channel, the one farther from zero counts.
            depthwise: whether each channel is convolved alone.
            strides: `(vertical, horizontal)`.
            padding: zeros around the input.
        """
        summed = [b"Sum"] if len(data) == 4 else []
        return self.add(
            name,
            "_FusedQuantizedDepthwiseConv2D" if depthwise else "_FusedQuantizedConv2D",
            [*data, *bounds],
            Tinput=tf.quint8,
            Tfilter=tf.qint8,
            Tbias=tf.float32,
            Tsummand=tf.quint8,
            out_type=tf.quint8,
            Tdevice_inputs=[_QUINT8, _QINT8, _FLOAT, _QUINT8][: len(data)],
            Thost_inputs=[_FLOAT] * len(bounds),
            Tdevice_outputs=[_QUINT8],
            Thost_outputs=[_FLOAT, _FLOAT],
            data_format=b"NHWC",
            strides=[1, *strides, 1],
            padding=b"VALID" if padding == NO_PADDING else b"EXPLICIT",
            explicit_paddings=[] if padding == NO_PADDING else [0, 0, *padding[0], *padding[1], 0, 0],
            dilations=[1, 1, 1, 1],
            is_filter_const=True,
            is_bias_const=True,
            fused_ops=[b"BiasAdd", *summed, b"Relu", b"Requantize"],
        )


def kernel_magnitudes(graph_def: graph_pb2.GraphDef) -> set[str]:
    """Returns the constants that tell what the kernels' whole numbers stand for.

    oneDNN's primitives, 25 KiB each, are kept by the address of this tensor, for every batch size and thread. Where it
    is a variable's, all signatures find the same ones.
    """
    names = set()
    for node in graph_def.node:
        if "Tdevice_inputs" in node.attr:
            first = len(node.attr["Tdevice_inputs"].list.type) + 2
            names.update(node.input[first : first + 2])
    return names


def _set_attribute(node: node_def_pb2.NodeDef, key: str, value: object) -> None:
    attribute = node.attr[key]
    if isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    elif isinstance(value, bytes):
        attribute.s = value
    elif isinstance(value, tf.DType):
        attribute.type = value.as_datatype_enum
    elif isinstance(value, list):
        if key.startswith(("Tdevice", "Thost")) or key == "T":
            attribute.list.type.extend(value)
        elif value and isinstance(value[0], bytes):
            attribute.list.s.extend(value)
        else:
            attribute.list.i.extend(value)
    else:
        raise TypeError(f"expected an attribute value, received {value!r}")
