"""Input arrays from a JSON document, with the rules and the texts of TensorFlow Serving's REST API.

Reference: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rapidjson

from ..errors import InvalidArgument, RequestError, Unimplemented
from ..protos import dtypes
from ..protos.generated import types_pb2
from .document import JsonRequest, lists, type_name
from .numbers import Numbers

_MAX_SHOWN_CHARS = 256
_STRINGS_HINT = '; base64 is for a signature that takes strings: say "signature_name": "encoded" beside the images'
_INT32 = (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8)
_INT_RANGES = {
    **dict.fromkeys(_INT32, (-(2**31), 2**31 - 1)),
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}
_FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)


def inputs(request: JsonRequest, infos: Mapping[str, Any]) -> tuple[dict[str, np.ndarray[Any, Any]], bool]:
    """Returns the input arrays, and whether they came row by row.

    Args:
        request: the parsed request.
        infos: `TensorInfo` of each input of the signature.
    """
    if not infos:
        raise InvalidArgument(f"Failed to get input map for signature: {request.signature_name or 'DEFAULT'}")
    document = request.document
    if "instances" in document:
        if "inputs" in document:
            raise InvalidArgument("Expecting only one of 'inputs' or 'instances' keys to exist")
        instances = document["instances"]
        if not isinstance(instances, list | Numbers):
            raise InvalidArgument("Expecting 'instances' to be an list/array")
        if not instances:
            raise InvalidArgument("No values in 'instances' array")
        return _numbers(_from_rows, instances, infos), True
    if "inputs" in document:
        return _numbers(_from_columns, document["inputs"], infos), False
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _numbers(
    read: Callable[[Any, Mapping[str, Any]], dict[str, np.ndarray[Any, Any]]], values: Any, infos: Mapping[str, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    try:
        return read(values, infos)
    except (ValueError, OverflowError, RecursionError) as exc:  # too many dimensions, or a number too large
        raise InvalidArgument(f"tensor parsing error: {next(iter(infos))}") from exc


def _from_rows(instances: Any, infos: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    if isinstance(instances, Numbers):
        if len(infos) == 1:
            ((name, info),) = infos.items()
            if instances.name in (None, name) and (array := _numbers_array(instances, info.dtype)) is not None:
                return {name: array}
        instances = lists(instances.text)
    first = instances[0]
    if not isinstance(first, dict) and len(infos) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_object(first):
        ((name, info),) = itertools.islice(infos.items(), 1)
        if (array := _fast_array(instances, info.dtype)) is not None:
            return {name: array}
    values: dict[str, list[Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for position, item in enumerate(instances):
        if _is_object(first):
            if not _is_object(item):
                raise InvalidArgument(f"Expecting object but got list at item {position} of input list")
            for name, value in item.items():
                _add_row(position, name, value, infos, values, shapes, f" key: {name}")
            if set(item) != set(infos):
                raise InvalidArgument(
                    f"Failed to process element: {position} of 'instances' list. JSON object keys must be equal to: "
                    f"{','.join(sorted(infos))}"
                )
        else:
            if _is_object(item):
                raise InvalidArgument(f"Expecting value/list but got object at item {position} of input list")
            _add_row(position, next(iter(infos)), item, infos, values, shapes, "")
    return {name: _as_array(values[name], infos[name].dtype, (len(instances), *shapes[name])) for name in values}


def _add_row(
    position: int,
    name: str,
    item: Any,
    infos: Mapping[str, Any],
    values: dict[str, list[Any]],
    shapes: dict[str, tuple[int, ...]],
    key: str,
) -> None:
    try:
        if name not in infos:
            hint = _STRINGS_HINT if _is_base64(item) else ""
            raise InvalidArgument(f"JSON object: does not have named input: {name[:_MAX_SHOWN_CHARS]}{hint}")
        shape = _dense_shape(item)
        leaves: list[Any] = []
        _collect(item, 0, shape, infos[name].dtype, leaves)
        known = shapes.setdefault(name, shape)
        if known != shape:
            if math.prod(known) != len(leaves):
                raise InvalidArgument(f"Expecting tensor size: {math.prod(known)} but got: {len(leaves)}")
            raise InvalidArgument(f"Expecting shape {_shape_text(known)} but got: {_shape_text(shape)}")
        values.setdefault(name, []).extend(leaves)
    except RequestError as exc:
        raise InvalidArgument(
            f"Failed to process element: {position}{key} of 'instances' list. Error: {exc.status}: {exc}"
        ) from exc


def _from_columns(columns: Any, infos: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    if _is_object(columns):
        arrays = {}
        for name, info in infos.items():
            if name not in columns:
                raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
            arrays[name] = _column(columns[name], info.dtype)
        return arrays
    if len(infos) > 1:
        raise InvalidArgument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map"
        )
    ((name, info),) = infos.items()
    return {name: _column(columns, info.dtype)}


def _column(value: Any, dtype: int) -> np.ndarray[Any, Any]:
    if isinstance(value, Numbers):
        if value.name is None and (array := _numbers_array(value, dtype)) is not None:
            return array
        value = lists(value.text)
    if isinstance(value, list) and (array := _fast_array(value, dtype)) is not None:
        return array
    shape = _dense_shape(value)
    leaves: list[Any] = []
    _collect(value, 0, shape, dtype, leaves)
    return _as_array(leaves, dtype, shape)


def _numbers_array(numbers: Numbers, dtype: int) -> np.ndarray[Any, Any] | None:
    """Returns numbers as an array of the dtype; `None` means that the values need a closer look."""
    if dtype == types_pb2.DT_FLOAT:  # as double, TensorFlow Serving's are not always the nearest to their text
        with np.errstate(over="ignore"):
            return numbers.floats.astype(np.float32).reshape(numbers.shape)
    if dtype not in _INT_RANGES or (values := numbers.integers()) is None:
        return None
    low, high = _INT_RANGES[dtype]
    if values.min() < low or values.max() > high:
        return None
    return values.astype(dtypes.NUMPY[dtype]).reshape(numbers.shape)


def _fast_array(nested: list[Any], dtype: int) -> np.ndarray[Any, Any] | None:
    """Converts evenly nested lists of plain numbers level by level; `None` means that the values need a closer look."""
    if dtype not in _FLOATS and dtype not in _INT_RANGES:
        return None
    shape: list[int] = []
    values: list[Any] = nested
    while True:
        shape.append(len(values) if not shape else len(values) // math.prod(shape))
        kinds = set(map(type, values))
        if kinds != {list}:
            break
        if len(set(map(len, values))) != 1:
            return None
        values = list(itertools.chain.from_iterable(values))
    if not kinds <= ({int, float} if dtype in _FLOATS else {int}) or not values:
        return None
    if dtype in _INT_RANGES:
        low, high = _INT_RANGES[dtype]
        if min(values) < low or max(values) > high:
            return None
    try:
        return _as_array(values, dtype, tuple(shape))
    except OverflowError:
        return None


def _as_array(leaves: list[Any], dtype: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if dtype == types_pb2.DT_STRING:
        strings = np.empty(len(leaves), dtype=object)
        strings[:] = leaves
        return strings.reshape(shape)
    target = dtypes.NUMPY[dtype]
    wide = np.int64 if dtype in _INT32 else target
    with np.errstate(over="ignore"):
        return np.array(leaves, dtype=np.float64 if dtype in _FLOATS else wide).astype(target).reshape(shape)


def _collect(value: Any, level: int, shape: tuple[int, ...], dtype: int, leaves: list[Any]) -> None:
    """Appends the values of a nested list, each checked; all must sit at the depth of the first."""
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidArgument(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        leaves.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        _collect(element, level + 1, shape, dtype, leaves)


def _leaf(value: Any, dtype: int) -> Any:
    if isinstance(value, dict):
        if dtype == types_pb2.DT_STRING:
            return _decode_base64(value)
    elif dtype in _FLOATS:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
    elif dtype in _INT_RANGES:
        low, high = _INT_RANGES[dtype]
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
    elif dtype == types_pb2.DT_STRING:
        if isinstance(value, str):
            return value.encode()
    elif dtype == types_pb2.DT_BOOL:
        if isinstance(value, bool):
            return value
    else:
        raise Unimplemented(f"Conversion of JSON Value: {_shown(value)} to type: {dtypes.cpp_name(dtype)}")
    hint = _STRINGS_HINT if _is_base64(value) else ""
    raise InvalidArgument(
        f"JSON Value: {_shown(value)} Type: {type_name(value)} is not of expected type: {dtypes.cpp_name(dtype)}{hint}"
    )


def _decode_base64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise InvalidArgument(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4) if "=" not in text else text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidArgument("Unable to base64 decode") from exc


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _dense_shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _shown(value: Any) -> str:
    """Returns a value for an error text, cut: callers choose how long it is."""
    if isinstance(value, (dict, list)):
        return "{...}" if isinstance(value, dict) else "[...]"
    text: str = rapidjson.dumps(value[:_MAX_SHOWN_CHARS] if isinstance(value, str) else value, ensure_ascii=False)
    return text[:_MAX_SHOWN_CHARS]
