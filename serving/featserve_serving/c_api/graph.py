"""Nodes for a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..protos.generated import attr_value_pb2, node_def_pb2, tensor_pb2, tensor_shape_pb2
from ..protos.tensors import to_bytes


def node(
    name: str,
    op: str,
    inputs: Sequence[str] = (),
    types: Mapping[str, int | Sequence[int]] | None = None,
    **attributes: Any,
) -> Any:
    """Returns a `NodeDef` on the CPU.

    Args:
        name: the node's name.
        op: its operation.
        inputs: names of tensors, or of nodes of one output.
        types: attributes that are data types, or lists of them.
        attributes: the others: bytes, a number, a shape as a tuple, a list of shapes, or a `TensorProto`.
    """
    made = node_def_pb2.NodeDef(name=name, op=op, input=inputs, device="/CPU:0")
    for key, dtype in (types or {}).items():
        if isinstance(dtype, int):
            made.attr[key].type = dtype
        else:
            made.attr[key].list.type.extend(dtype)
    for key, value in attributes.items():
        made.attr[key].CopyFrom(_attribute(value))
    return made


def constant(name: str, value: np.ndarray[Any, Any]) -> Any:
    """Returns a `Const` node."""
    tensor = tensor_pb2.TensorProto.FromString(to_bytes(value))
    return node(name, "Const", types={"dtype": tensor.dtype}, value=tensor)


def _attribute(value: Any) -> Any:
    if isinstance(value, bytes):
        return attr_value_pb2.AttrValue(s=value)
    if isinstance(value, int):
        return attr_value_pb2.AttrValue(i=value)
    if isinstance(value, tuple):
        return attr_value_pb2.AttrValue(shape=_shape(value))
    if isinstance(value, list):
        return attr_value_pb2.AttrValue(list=attr_value_pb2.AttrValue.ListValue(shape=map(_shape, value)))
    return attr_value_pb2.AttrValue(tensor=value)


def _shape(sizes: tuple[int, ...]) -> Any:
    return tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in sizes])
