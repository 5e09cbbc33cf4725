"""How large the batches are that a graph executes, counted by the graph itself.

TensorFlow counts them too, in C++, where its Python package cannot read them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..c_api.graph import constant, node
from ..c_api.session import Session
from ..protos.generated import types_pb2

_TABLE = "featserve_executed_batches"
_VALUE = f"{_TABLE}_value:0"
_ZERO = f"{_TABLE}_zero"
#: Larger batches count as this one.
_MAX_SIZE = 1024
_SHAPE = (1, _MAX_SIZE + 1)


def instrument(graph_def: Any) -> bool:
    """Lets every batched function of a graph count its batches; returns whether there is such a function.

    A few operations on scalars are added to the function that `BatchFunction` calls, once per batch and outside Python.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    nodes = list(graph_def.node)
    for function in library.values():
        nodes += function.node_def
    called = {each.attr["f"].func.name for each in nodes if each.op == "BatchFunction"}
    batched = {name for name in called if library[name].signature.input_arg}
    for name in batched:
        _add_counter(library[name])
    if batched:
        _add_table(graph_def)
    return bool(batched)


class Table:
    """The counts of one session, whose graph `instrument` has changed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        session.run({}, (), (_ZERO,))

    def counts(self) -> list[int]:
        """Returns how many batches of each size, from 0 on, were executed."""
        counts: list[int] = self._session.run({}, (_VALUE,))[0].reshape(-1).tolist()
        return counts


def _add_table(graph_def: Any) -> None:
    int64 = {"dtype": types_pb2.DT_INT64}
    handle, zeros = f"{_TABLE}_handle", f"{_TABLE}_zeros"
    graph_def.node.extend(
        [
            node(handle, "VarHandleOp", types=int64, shape=_SHAPE, shared_name=_TABLE.encode()),
            constant(zeros, np.zeros(_SHAPE, np.int64)),
            node(_ZERO, "AssignVariableOp", [handle, zeros], int64),
            node(_VALUE.partition(":")[0], "ReadVariableOp", [handle], int64),
        ]
    )


def _add_counter(function: Any) -> None:
    first = function.signature.input_arg[0]
    dtype = first.type or types_pb2.DT_INVALID
    int64 = types_pb2.DT_INT64
    nodes = (
        node("shape", "Shape", [first.name], {"T": dtype, "out_type": int64}),
        constant("begin", np.array([0], np.int64)),
        constant("one_element", np.array([1], np.int64)),
        node(
            "size",
            "Slice",
            ["shape:output:0", "begin:output:0", "one_element:output:0"],
            {"T": int64, "Index": int64},
        ),
        constant("max_size", np.array([_MAX_SIZE], np.int64)),
        node("index", "Minimum", ["size:output:0", "max_size:output:0"], {"T": int64}),
        constant("depth", np.array(_SHAPE[1], np.int32)),
        constant("on", np.array(1, np.int64)),
        constant("off", np.array(0, np.int64)),
        node(
            "row",
            "OneHot",
            ["index:z:0", "depth:output:0", "on:output:0", "off:output:0"],
            {"T": int64, "TI": int64},
            axis=-1,
        ),
        node("table", "VarHandleOp", types={"dtype": int64}, shape=_SHAPE, shared_name=_TABLE.encode()),
        node("count", "AssignAddVariableOp", ["table:resource:0", "row:output:0"], {"dtype": int64}),
    )
    own = {each.name for each in nodes}
    for each in nodes:
        inputs = [_prefixed(name) if name.split(":")[0] in own else name for name in each.input]
        added = function.node_def.add()
        added.CopyFrom(each)
        added.name, added.input[:] = _prefixed(each.name), inputs
    # Stateful and a control output: nothing else makes the function run it.
    function.control_ret[_prefixed("count")] = _prefixed("count")
    function.signature.control_output.append(_prefixed("count"))
    function.signature.is_stateful = True


def _prefixed(name: str) -> str:
    return f"{_TABLE}_{name}"
