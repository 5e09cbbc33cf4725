"""How large the batches are that a graph executes, counted by the graph itself.

TensorFlow counts them too, in C++, where its Python package cannot read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, tensor_shape_pb2, types_pb2

_TABLE = "featserve_executed_batches"
#: Larger batches count as this one.
_MAX_SIZE = 1024
_SHAPE = (1, _MAX_SIZE + 1)


def instrument(meta_graph: Any) -> bool:
    """Lets every batched function of a graph count its batches; returns whether there is such a function.

    A few operations on scalars are added to the function that `BatchFunction` calls, once per batch and outside Python.
    """
    library = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    nodes = list(meta_graph.graph_def.node)
    for function in library.values():
        nodes += function.node_def
    called = {node.attr["f"].func.name for node in nodes if node.op == "BatchFunction"}
    batched = {name for name in called if library[name].signature.input_arg}
    for name in batched:
        _add_counter(library[name])
    return bool(batched)


class Table:
    """The counts of one session."""

    def __init__(self, session: Any) -> None:
        with session.graph.as_default(), tf.device("/CPU:0"):
            handle = tf.raw_ops.VarHandleOp(dtype=tf.int64, shape=_SHAPE, shared_name=_TABLE)
            zeros = tf.zeros(_SHAPE, tf.int64)
            session.run(tf.raw_ops.AssignVariableOp(resource=handle, value=zeros))
            value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.int64)
        self._read: Callable[[], Any] = session.make_callable(value)

    def counts(self) -> list[int]:
        """Returns how many batches of each size, from 0 on, were executed."""
        counts: list[int] = np.asarray(self._read()).reshape(-1).tolist()
        return counts


def _add_counter(function: Any) -> None:
    first = function.signature.input_arg[0]
    dtype = first.type or types_pb2.DT_INVALID
    nodes = (
        _node("shape", "Shape", [first.name], T=dtype, out_type=types_pb2.DT_INT64),
        _const("begin", np.array([0], np.int64)),
        _const("one_element", np.array([1], np.int64)),
        _node(
            "size",
            "Slice",
            ["shape:output:0", "begin:output:0", "one_element:output:0"],
            T=types_pb2.DT_INT64,
            Index=types_pb2.DT_INT64,
        ),
        _const("max_size", np.array([_MAX_SIZE], np.int64)),
        _node("index", "Minimum", ["size:output:0", "max_size:output:0"], T=types_pb2.DT_INT64),
        _const("depth", np.array(_SHAPE[1], np.int32)),
        _const("on", np.array(1, np.int64)),
        _const("off", np.array(0, np.int64)),
        _node(
            "row",
            "OneHot",
            ["index:z:0", "depth:output:0", "on:output:0", "off:output:0"],
            T=types_pb2.DT_INT64,
            TI=types_pb2.DT_INT64,
            axis=-1,
        ),
        _node("table", "VarHandleOp", [], dtype=types_pb2.DT_INT64, shape=_SHAPE, shared_name=_TABLE),
        _node("count", "AssignAddVariableOp", ["table:resource:0", "row:output:0"], dtype=types_pb2.DT_INT64),
    )
    own = {node["name"] for node in nodes}
    for node in nodes:
        inputs = [_prefixed(name) if name.split(":")[0] in own else name for name in node["inputs"]]
        added = function.node_def.add(name=_prefixed(node["name"]), op=node["op"], input=inputs, device="/CPU:0")
        for key, value in node["attributes"].items():
            added.attr[key].CopyFrom(_attribute(value))
    # Stateful and a control output: nothing else makes the function run it.
    function.control_ret[_prefixed("count")] = _prefixed("count")
    function.signature.control_output.append(_prefixed("count"))
    function.signature.is_stateful = True


def _node(name: str, op: str, inputs: Iterable[str], **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), "attributes": attributes}


def _const(name: str, value: np.ndarray[Any, Any]) -> dict[str, Any]:
    proto = tf.make_tensor_proto(value)
    return _node(name, "Const", [], dtype=proto.dtype, value=proto)


def _prefixed(name: str) -> str:
    return f"{_TABLE}_{name}"


def _attribute(value: Any) -> Any:
    if isinstance(value, str):
        return attr_value_pb2.AttrValue(s=value.encode())
    if isinstance(value, tuple):
        dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in value]
        return attr_value_pb2.AttrValue(shape=tensor_shape_pb2.TensorShapeProto(dim=dims))
    if isinstance(value, int):
        return attr_value_pb2.AttrValue(i=value) if value == -1 else attr_value_pb2.AttrValue(type=value)
    return attr_value_pb2.AttrValue(tensor=value)
