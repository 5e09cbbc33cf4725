"""The activations of a Keras network: every call of every layer and operation, nested ones included, by name.

The name of an activation is the name of its layer or operation. A layer `inner` of a nested model `outer` is
`outer/inner`, the second call of a layer that is called several times is `layer#2`, and the second of several tensors
that a call returns is `layer:1`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from ..backbones import closest
from ..errors import InvalidOptionError

#: Where a tensor stands in nested dicts and sequences: the keys and indices on the way to it.
Place = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One tensor that a network computes.

    Attributes:
        name: its name in signatures.
        path: the names of the nested models that hold its layer, and of the layer, joined by `/`.
        call: which call of the layer gives it, from 1, in the order in which the graph was written.
        turn: which of these calls it is while the network runs, from 1.
        index: which of the tensors that the call returns, from 0.
        kind: `input`, `layer`, `operation` or `model`.
        parameters: of its layer.
        tensor: in the graph of the innermost model that holds the layer.
        enclosing: the nested models around the layer and the nodes that call them, the outermost first.
    """

    name: str
    path: str
    call: int
    turn: int
    index: int
    kind: str
    parameters: int
    tensor: Any
    enclosing: tuple[tuple[Any, Any], ...] = ()

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Sides without the batch; None where a side depends on the image's size."""
        return tuple(self.tensor.shape[1:])

    def in_outermost_graph(self) -> Any:
        """The same tensor as one of the outermost model's graph, for `keras.Model(inputs, …)`."""
        tensor = self.tensor
        for depth, (graph, node) in reversed(list(enumerate(self.enclosing))):
            name = re.sub(r"[^A-Za-z0-9._-]", "_", f"up_to_{self.name}_{depth}")
            part = keras.Model(graph.inputs, tensor, name=name)
            tensor = part(node.input_tensors[: len(graph.inputs)])
        return tensor


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a layer or an operation while a network runs.

    Attributes:
        path: as of `Activation`.
        number: which call of it, from 1, in the order of running.
        operation: the layer or operation.
        inputs: the tensors that it is called with.
        outputs: the tensors that it returns.
    """

    path: str
    number: int
    operation: Any
    inputs: list[Any]
    outputs: list[Any]


def graph_of(operation: Any) -> Any | None:
    """The graph of calls of a Functional or Sequential model; None for every other operation."""
    graph = getattr(operation, "_functional", operation) if isinstance(operation, keras.Sequential) else operation
    return graph if hasattr(graph, "_nodes_by_depth") else None


def list_activations(model: keras.Model) -> dict[str, Activation]:
    """Every activation by its name, in the order of computing; none of a model whose calls are Python code."""
    graph = graph_of(model)
    return {} if graph is None else {activation.name: activation for activation in _named(list(_walk(graph)))}


def _walk(
    graph: Any,
    prefix: str = "",
    enclosing: tuple[tuple[Any, Any], ...] = (),
    calls: Counter[str] | None = None,
) -> Iterator[Activation]:
    calls = Counter() if calls is None else calls
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            operation = node.operation
            if node.is_input and enclosing:
                continue
            path = f"{prefix}{operation.name}"
            calls[path] += 1
            inner = graph_of(operation)
            if inner is None or len(node.outputs) == 1:
                for index, tensor in enumerate(node.outputs):
                    yield Activation(
                        name=path,
                        path=path,
                        call=0,
                        turn=calls[path],
                        index=index,
                        kind="input" if node.is_input else _kind(operation),
                        parameters=_parameters(operation),
                        tensor=tensor,
                        enclosing=enclosing,
                    )
            if inner is not None:
                yield from _walk(inner, f"{path}/", (*enclosing, (inner, node)), calls)


def _kind(operation: Any) -> str:
    if isinstance(operation, keras.Model):
        return "model"
    return "layer" if isinstance(operation, keras.Layer) else "operation"


def _parameters(operation: Any) -> int:
    return int(operation.count_params()) if isinstance(operation, keras.Layer) and operation.built else 0


def _named(activations: Sequence[Activation]) -> Iterator[Activation]:
    written: dict[str, list[tuple[int, ...]]] = {}
    for activation in activations:
        written.setdefault(activation.path, []).append(_written_at(activation))
    taken: set[str] = set()
    for activation in activations:
        call = sorted(set(written[activation.path])).index(_written_at(activation)) + 1
        name = activation.path
        if call > 1:
            name += f"#{call}"
        if activation.index:
            name += f":{activation.index}"
        while name in taken:
            name += "_"
        taken.add(name)
        yield dataclasses.replace(activation, name=name, call=call)


def _written_at(activation: Activation) -> tuple[int, ...]:
    """Which call of its layer, and of the models around it, an activation is of, by the order of Keras' own records."""
    _, node_index, _ = activation.tensor._keras_history
    calls = [node.operation._inbound_nodes.index(node) for _, node in activation.enclosing]
    return (*calls, node_index)


def find_activations(names: Sequence[str], model: keras.Model) -> tuple[Activation, ...]:
    """Looks activations up by name.

    Raises:
        InvalidOptionError: a name is unknown or stands for several; the choices are given.
    """
    known = list_activations(model)
    if not known:
        raise InvalidOptionError(
            f"expected a model whose layers Keras knows, received {model.name}, a {type(model).__name__} whose calls "
            "are Python code: leave --layers out for its outputs, or build it with keras.Model(inputs, outputs)"
        )
    return tuple(_find(name, known, model) for name in names)


def _find(name: str, known: Mapping[str, Activation], model: keras.Model) -> Activation:
    found = known.get(name) or known.get(name.removesuffix("#1")) or known.get(name.removesuffix(":0"))
    if found is None:
        leaves = {activation.path.rpartition("/")[2]: path for path, activation in reversed(list(known.items()))}
        nested = [path for path, activation in known.items() if activation.path.endswith(f"/{name}")]
        meant = f"did you mean {', '.join(nested[:3])}? " if nested else ""
        meant = meant or closest(name, {path: path for path in known}) or closest(name, leaves)
        raise InvalidOptionError(f"{model.name} has no layer {name!r}; {meant}featserve-export --show-layers lists all")
    siblings = sorted(other.name for other in known.values() if other.path == found.path)
    if len(siblings) > 1 and name == found.path:
        first = (
            f"{found.path}#1"
            if any(other.call > 1 for other in known.values() if other.path == found.path)
            else (f"{found.path}:0")
        )
        choices = ", ".join([first, *siblings[1:]])
        raise InvalidOptionError(
            f"expected one activation, received {name!r}, which {model.name} computes {len(siblings)} of: "
            f"choose from {choices}"
        )
    return found


def output_names(model: keras.Model) -> dict[Place, str]:
    """Names each output of a model, by its place in the structure that the model returns.

    An output's key in a dict is its name, else the name of the layer's or operation's activation.
    """
    graph = graph_of(model)
    if graph is None:
        raise InvalidOptionError(f"expected a model of known calls, received {model.name}")
    by_tensor = {
        (tuple(id(node) for _, node in activation.enclosing), id(activation.tensor)): activation.name
        for activation in list_activations(model).values()
    }
    names: dict[Place, str] = {}
    for place, tensor in flatten(graph._outputs_struct).items():
        keys = "/".join(str(key) for key in place)
        name = keys if any(isinstance(key, str) for key in place) else _name_of(tensor, (), by_tensor)
        while name in names.values():
            name += "_2"
        names[place] = name
    return names


def _name_of(tensor: Any, nodes: tuple[Any, ...], by_tensor: Mapping[Any, str]) -> str:
    name = by_tensor.get((tuple(id(node) for node in nodes), id(tensor)))
    if name is not None:
        return name
    operation, node_index, index = tensor._keras_history
    inner = graph_of(operation)
    if inner is None:
        return str(operation.name)
    return _name_of(inner.outputs[index], (*nodes, operation._inbound_nodes[node_index]), by_tensor)


def flatten(structure: Any, place: Place = ()) -> dict[Place, Any]:
    """The leaves of nested dicts and sequences by their place; a sequence of one, as Keras has it, is its element."""
    if isinstance(structure, dict):
        items = list(structure.items())
    elif isinstance(structure, (list, tuple)):
        if len(structure) == 1 and not place:
            return flatten(structure[0])
        items = list(enumerate(structure))
    else:
        return {place: structure}
    return {found: leaf for key, value in items for found, leaf in flatten(value, (*place, key)).items()}


@contextlib.contextmanager
def watched_calls(on_call: Callable[[Call], None]) -> Iterator[None]:
    """Reports every call of a layer or operation inside the first model that is called meanwhile.

    Args:
        on_call: is given each call when it has returned.
    """
    original = keras.Operation.__call__
    running: list[str] = []
    calls: Counter[str] = Counter()

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        running.append(operation.name)
        path = "/".join(running[1:])
        calls[path] += 1
        number = calls[path]
        try:
            outputs = original(operation, *arguments, **options)
        finally:
            running.pop()
        if path:
            tensors = keras.tree.flatten((arguments, options))
            on_call(
                Call(
                    path=path,
                    number=number,
                    operation=operation,
                    inputs=[tensor for tensor in tensors if hasattr(tensor, "shape")],
                    outputs=keras.tree.flatten(outputs),
                )
            )
        return outputs

    keras.Operation.__call__ = call
    try:
        yield
    finally:
        keras.Operation.__call__ = original
