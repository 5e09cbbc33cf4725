"""Writes a GraphDef whose layers compute in eight bits.

One representation for every eight-bit tensor: quint8, `round((x + offset) * 255 / limit)`, one `limit` and one
`offset` a channel. Behind a ReLU the offset is zero. A tensor without a ReLU (a linear bottleneck, a shortcut's
projection) is made non-negative by its offset, which goes into the bias of the layer that makes it and is taken out of
the bias of the layer that reads it: both exact, and all eight bits are used. So one kernel serves all layers:

    operations of the float graph                          operation of the eight-bit graph
    Conv2D, MatMul [+ BiasAdd] [+ Relu | Relu6]            _FusedQuantizedConv2D          BiasAdd, Relu, Requantize
    the same + Add of another tensor [+ Relu | Relu6]      _FusedQuantizedConv2D          BiasAdd, Sum, Relu, Requantize
    DepthwiseConv2dNative [+ BiasAdd] [+ Relu | Relu6]     _FusedQuantizedDepthwiseConv2D BiasAdd, Relu, Requantize
    MaxPool, AvgPool, ConcatV2 of eight-bit tensors        QuantizedMaxPool, QuantizedAvgPool, ConcatV2
    Pad of an eight-bit tensor                             Bitcast, Pad of int64, Bitcast

Saturation at 255 is ReLU6's upper bound. The kernels are oneDNN's (tensorflow/core/kernels/mkl/mkl_conv_ops.cc).

The module is long because every operation of the table reads and extends the same map of eight-bit tensors.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from ..graph.weights import producer
from .graph import Array, FloatGraph, tensor_name
from .layers import NO_PADDING, Layer, Padding, spatial_padding
from .ranges import Range
from .rounding import WEIGHT_LEVELS, Rounder
from .vnni_check import add_guard
from .writer import GraphWriter

SWITCH = "int8/switch"
_WORD = 8


@dataclass(frozen=True)
class _Eight:
    """An eight-bit tensor of the new graph."""

    name: str
    offset: Array
    limit: Array


def quantize(
    graph: FloatGraph,
    layers: Sequence[Layer],
    ranges: Mapping[str, Range],
    rounder: Rounder,
    method: str,
    keep_float: Collection[str] = (),
) -> graph_pb2.GraphDef:
    """Rewrites layers to eight bits.

    Args:
        graph: the float graph.
        layers: all of its layers, in execution order.
        ranges: of each layer's input, output and residual.
        rounder: of the weights.
        method: which of the ranges' limits to take.
        keep_float: names of the layers to leave in float32.

    Returns:
        A graph with the same placeholder and outputs, float32 both.
    """
    chosen = [layer for layer in layers if layer.name not in keep_float]
    return _Rewriter(graph, chosen, ranges, rounder, method).run()


def with_switches(
    graph: FloatGraph, layers: Sequence[Layer], ranges: Mapping[str, Range], rounder: Rounder, method: str
) -> graph_pb2.GraphDef:
    """The float graph with the placeholder `SWITCH`, int32: layer number n computes in eight bits where it is n."""
    return _Rewriter(graph, layers, ranges, rounder, method).run_with_switches()


class _Rewriter:
    def __init__(
        self,
        graph: FloatGraph,
        layers: Sequence[Layer],
        ranges: Mapping[str, Range],
        rounder: Rounder,
        method: str,
    ) -> None:
        self._graph = graph
        self._layers = {layer.output: layer for layer in layers}
        self._members = {member for layer in layers for member in layer.members}
        self._ranges = ranges
        self._rounder = rounder
        self._method = method
        self._eight: dict[str, _Eight] = {}
        self._writer = GraphWriter(graph.graph_def)
        self._float: set[str] = set()
        self._names: set[str] = set()

    def run(self) -> graph_pb2.GraphDef:
        for node in self._graph.order:
            if node.name in self._layers:
                self._emit_layer(self._layers[node.name])
            elif node.name not in self._members and not self._emit_eight_bit(node):
                self._copy(node)
        for output in self._graph.outputs:
            self._as_float(output)
        self._order_sums()
        self._guard_sums()
        return tf.compat.v1.graph_util.extract_sub_graph(self._writer.graph_def, self._graph.outputs)

    def run_with_switches(self) -> graph_pb2.GraphDef:
        switch = self._writer.add(SWITCH, "Placeholder", [], dtype=tf.int32)
        for node in self._graph.order:
            self._copy(node)
            if node.name in self._layers:
                self._writer.graph_def.node[-1].name = f"{node.name}/float"
        for number, (output, layer) in enumerate(self._layers.items()):
            self._emit_layer(layer)
            alone = self._dequantize(f"{output}/alone", self._eight.pop(output))
            wanted = self._writer.constant(f"{output}/number", np.array(number), tf.int32)
            chosen = self._writer.add(f"{output}/chosen", "Equal", [switch, wanted], T=tf.int32)
            self._writer.add(output, "SelectV2", [chosen, alone, f"{output}/float"], T=tf.float32)
        self._order_sums()
        return self._writer.graph_def

    def _copy(self, node: node_def_pb2.NodeDef) -> None:
        for name in node.input:
            self._as_float(name)
        self._writer.copy(node, node.name)
        self._float.add(node.name)

    def _as_float(self, name: str) -> None:
        """Makes the float tensor exist under its own name."""
        key = tensor_name(name)
        eight = self._eight.get(key)
        if eight is None or key in self._float:
            return
        self._float.add(key)
        self._dequantize(key, eight)

    def _dequantize(self, name: str, eight: _Eight) -> str:
        shifted = bool(eight.offset.any())
        values = self._writer.add(
            f"{name}/unit",
            "Dequantize",
            [eight.name, *self._writer.bounds()],
            T=tf.quint8,
            mode=b"SCALED",
            dtype=tf.float32,
        )
        limit = self._writer.constant(f"{name}/limit", eight.limit, tf.float32)
        values = self._writer.add(f"{name}/scaled" if shifted else name, "Mul", [values, limit], T=tf.float32)
        if shifted:
            offset = self._writer.constant(f"{name}/offset", eight.offset, tf.float32)
            self._writer.add(name, "Sub", [values, offset], T=tf.float32)
        return name

    def _as_eight(self, name: str, padding: Padding = NO_PADDING) -> _Eight:
        """The eight-bit form of a tensor, quantised here if its producer is in float.

        Padding is zeros of the float tensor, so where there is an offset it must happen before.
        """
        key = tensor_name(name)
        if key in self._eight and padding == NO_PADDING:
            return self._eight[key]
        self._as_float(key)
        stem = (
            f"{key}/quantized"
            if padding == NO_PADDING
            else "/".join([key, "padded", *map(str, padding[0] + padding[1])])
        )
        limit = self._limit(key)
        offset = self._ranges[key].offset(limit)
        if stem not in self._names:
            self._names.add(stem)
            values = name
            if padding != NO_PADDING:
                amounts = self._writer.constant(f"{stem}/amounts", np.array([(0, 0), *padding, (0, 0)]), tf.int32)
                values = self._writer.add(f"{stem}/pad", "Pad", [values, amounts], T=tf.float32, Tpaddings=tf.int32)
            if offset.any():
                shift = self._writer.constant(f"{stem}/offset", offset, tf.float32)
                values = self._writer.add(f"{stem}/shifted", "AddV2", [values, shift], T=tf.float32)
            scale = self._writer.constant(f"{stem}/scale", 1 / limit, tf.float32)
            values = self._writer.add(f"{stem}/unit", "Mul", [values, scale], T=tf.float32)
            self._writer.add(
                stem,
                "QuantizeV2",
                [values, *self._writer.bounds()],
                T=tf.quint8,
                mode=b"SCALED",
                round_mode=b"HALF_TO_EVEN",
            )
        eight = _Eight(stem, offset, limit)
        if padding == NO_PADDING:
            self._eight[key] = eight
            self._float.add(key)
        return eight

    def _emit_layer(self, layer: Layer) -> None:
        eight = self._eight.get(layer.input)
        shifted = self._ranges[layer.input].middle is not None if eight is None else bool(eight.offset.any())
        needs_early_padding = layer.padding != NO_PADDING and shifted
        source = self._as_eight(layer.input, layer.padding if needs_early_padding else NO_PADDING)
        padding = NO_PADDING if needs_early_padding else layer.padding
        limit = self._limit(layer.output)
        if layer.ceiling is not None:
            limit = np.minimum(limit, np.float32(layer.ceiling))
        summand = None if layer.residual is None else self._as_eight(layer.residual)
        if summand is not None:
            # A sum has one factor for all channels.
            limit = summand.limit * (limit / summand.limit).max()
        offset = self._ranges[layer.output].offset(limit)

        profile = source.limit / source.limit.max()
        rounded = self._rounder.round(layer, profile)
        read = rounded.whole * (rounded.magnitude.reshape((1, 1, -1, 1) if layer.depthwise else -1) / WEIGHT_LEVELS)
        shift = read * (source.offset / profile).reshape(1, 1, -1, 1)
        bias = rounded.bias + offset - shift.sum((0, 1, 3) if layer.depthwise else (0, 1, 2))
        if summand is not None:
            bias = bias - summand.offset
        magnitude = rounded.magnitude * source.limit.max() / limit
        data = [source.name]
        if layer.op == "MatMul":
            data = [self._reshape(f"{layer.name}/int8/pixels", data[0], (-1, 1, 1, layer.kernel.shape[2]))]
        data.append(self._writer.constant(f"{layer.name}/int8/kernel", rounded.whole, tf.qint8))
        data.append(self._writer.constant(f"{layer.name}/int8/bias", bias / limit, tf.float32))
        bounds = self._writer.bounds()
        bounds.extend([self._writer.constant(f"{layer.name}/int8/magnitude", magnitude, tf.float32)] * 2)
        if summand is not None:
            data.append(summand.name)
            bounds.extend(self._writer.bounds(float(np.float32(summand.limit[0] / limit[0]))))
        bounds.extend(self._writer.bounds())
        name = self._writer.convolve(
            f"{layer.output}/int8", data, bounds, depthwise=layer.depthwise, strides=layer.strides, padding=padding
        )
        if layer.op == "MatMul":
            name = self._reshape(f"{layer.output}/int8/rows", name, (-1, layer.kernel.shape[3]))
        self._eight[layer.output] = _Eight(name, offset, limit)

    def _limit(self, name: str) -> Array:
        """One limit for all channels: of a convolution's inputs, each counts by its own size."""
        known = self._ranges[tensor_name(name)]
        return np.full(known.channels, known.limits[self._method], np.float32)

    def _reshape(self, name: str, values: str, shape: tuple[int, ...]) -> str:
        sizes = self._writer.constant(f"{name}/shape", np.array(shape), tf.int32)
        return self._writer.add(name, "Reshape", [values, sizes], T=tf.quint8, Tshape=tf.int32)

    def _pad(self, name: str, values: str, node: node_def_pb2.NodeDef) -> None:
        """Pads eight channels as one int64: one by one they take twenty times as long."""
        padding = spatial_padding(self._graph, node) or NO_PADDING
        height, width, channels = self._sides(node)
        wide = self._reshape(f"{name}/eights", values, (-1, height, width, channels // _WORD, _WORD))
        words = self._writer.add(f"{name}/words", "Bitcast", [wide], T=tf.quint8, type=tf.int64)
        amounts = self._writer.constant(f"{name}/amounts", np.array([(0, 0), *padding, (0, 0)]), tf.int32)
        words = self._writer.add(f"{name}/pad", "Pad", [words, amounts], T=tf.int64, Tpaddings=tf.int32)
        wide = self._writer.add(f"{name}/bytes", "Bitcast", [words], T=tf.int64, type=tf.quint8)
        self._reshape(name, wide, (-1, height + sum(padding[0]), width + sum(padding[1]), channels))

    def _sides(self, pad: node_def_pb2.NodeDef) -> tuple[int, ...]:
        """Height, width and channels of what is padded, 0 where they are not fixed."""
        return tuple(side or 0 for side in (self._graph.shape(pad.input[0]) or (0,) * 4)[1:])

    def _emit_eight_bit(self, node: node_def_pb2.NodeDef) -> bool:
        """Keeps pooling, concatenation and padding of eight-bit tensors in eight bits."""
        values = [self._eight.get(tensor_name(name)) for name in _eight_bit_inputs(node)]
        first = values[0] if values else None
        present = [value for value in values if value is not None]
        if first is None or len(present) != len(values) or not self._has_eight_bit_form(node, first):
            return False
        name = f"{node.name}/int8"
        offset, limit = first.offset, first.limit
        if node.op in ("MaxPool", "AvgPool"):
            self._writer.add(
                name,
                f"Quantized{node.op}",
                [first.name, *self._writer.bounds()],
                T=tf.quint8,
                ksize=list(node.attr["ksize"].list.i),
                strides=list(node.attr["strides"].list.i),
                padding=node.attr["padding"].s,
            )
        elif node.op == "Pad":
            self._pad(name, first.name, node)
        else:
            rest = node.input[len(values) :]
            for operand in rest:
                self._as_float(operand)
            joined = self._writer.copy(node, name)
            joined.attr["T"].type = tf.quint8.as_datatype_enum
            joined.input[:] = [*(value.name for value in present), *rest]
            offset = np.concatenate([value.offset for value in present])
            limit = np.concatenate([value.limit for value in present])
        self._eight[node.name] = _Eight(name, offset, limit)
        return True

    def _has_eight_bit_form(self, node: node_def_pb2.NodeDef, first: _Eight) -> bool:
        if node.op == "Pad":
            sides = self._sides(node)
            whole = all(sides) and sides[-1] % _WORD == 0
            return whole and not first.offset.any() and spatial_padding(self._graph, node) is not None
        if node.op == "ConcatV2":
            axis = self._graph.constant(node.input[-1])
            return axis is not None and int(axis) in (3, -1)
        return node.attr["padding"].s in (b"SAME", b"VALID") and node.attr["data_format"].s in (b"", b"NHWC")

    def _guard_sums(self) -> None:
        quantised = [node for node in self._writer.graph_def.node if node.op == "QuantizeV2"]
        if quantised:
            images = next(node.name for node in self._graph.order if node.op == "Placeholder")
            guard = add_guard(self._writer, images)
            for node in quantised:
                node.input.append(f"^{guard}")

    def _order_sums(self) -> None:
        """Makes each sum wait for everybody else who reads the tensor that it overwrites."""
        readers: dict[str, list[str]] = {}
        for node in self._writer.graph_def.node:
            for name in node.input:
                readers.setdefault(producer(name), []).append(node.name)
        for node in self._writer.graph_def.node:
            if "fused_ops" in node.attr and b"Sum" in node.attr["fused_ops"].list.s:
                others = [reader for reader in readers[producer(node.input[3])] if reader != node.name]
                node.input.extend(f"^{reader}" for reader in dict.fromkeys(others))


def _eight_bit_inputs(node: node_def_pb2.NodeDef) -> list[str]:
    if node.op in ("MaxPool", "AvgPool", "Pad"):
        return [node.input[0]]
    return list(node.input[:-1]) if node.op == "ConcatV2" else []
