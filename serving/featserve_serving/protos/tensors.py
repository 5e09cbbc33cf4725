"""`TensorProto` to and from numpy, and the bytes of a `PredictResponse`.

The field numbers are those of `tensor.proto` and `predict.proto`; a test compares them with the descriptors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidArgument
from . import dtypes
from .generated import tensor_pb2, types_pb2

#: The typed field of each data type, as `Tensor::FromProto` reads it.
_VALUE_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_QINT8: "int_val",
    types_pb2.DT_QUINT8: "int_val",
    types_pb2.DT_QINT32: "int_val",
    types_pb2.DT_QINT16: "int_val",
    types_pb2.DT_QUINT16: "int_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
}

#: The type that one number of the field has before it becomes an element.
_FIELD_DTYPES: dict[str, np.dtype[Any]] = {
    "float_val": np.dtype("<f4"),
    "double_val": np.dtype("<f8"),
    "int_val": np.dtype("<i4"),
    "scomplex_val": np.dtype("<f4"),
    "dcomplex_val": np.dtype("<f8"),
    "int64_val": np.dtype("<i8"),
    "bool_val": np.dtype("?"),
    "half_val": np.dtype("<i4"),
    "uint32_val": np.dtype("<u4"),
    "uint64_val": np.dtype("<u8"),
}

#: A shape costs the caller a few bytes: without a bound, one small message could claim any amount of memory.
MAX_EXPANDED_BYTES = 1 << 30


class TensorMap(Mapping[str, np.ndarray[Any, Any]]):
    """The inputs of a request, each decoded when it is asked for.

    A request that fails for another reason (unknown model, wrong name) thus costs no decoding.
    """

    def __init__(self, protos: Mapping[str, tensor_pb2.TensorProto]) -> None:
        self._protos = protos

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        if name not in self._protos:  # a protobuf map would add it
            raise KeyError(name)
        try:
            return to_array(self._protos[name])
        except (ValueError, OverflowError) as exc:
            raise InvalidArgument(f"tensor parsing error: {name}") from exc

    def __contains__(self, name: object) -> bool:
        return name in self._protos

    def __iter__(self) -> Iterator[str]:
        return iter(self._protos)

    def __len__(self) -> int:
        return len(self._protos)


def to_array(proto: tensor_pb2.TensorProto) -> np.ndarray[Any, Any]:
    """Reads a tensor as TensorFlow does: `tensor_content` unless that is empty, else the typed field.

    A typed field that is too short repeats its last element, an empty one means zeros, a longer one is cut.

    Raises:
        ValueError: the data type holds no values, the shape is not fully known, or the content has another size.
    """
    field = _VALUE_FIELDS.get(proto.dtype)
    if field is None:
        raise ValueError(f"no tensor of data type {proto.dtype}")
    shape = _shape(proto)
    count = math.prod(shape)
    dtype = dtypes.NUMPY[proto.dtype]
    content = proto.tensor_content
    if content and count:
        if field == "string_val":
            return _strings(_string_list(content, count), shape)
        return np.frombuffer(content, dtype=dtype).reshape(shape)
    if count * dtype.itemsize > MAX_EXPANDED_BYTES:
        raise ValueError(f"{count} elements are too many for a tensor given by its typed field")
    if field == "string_val":
        values = list(proto.string_val[:count])
        values += [values[-1] if values else b""] * (count - len(values))
        return _strings(values, shape)
    return _from_field(getattr(proto, field), field, dtype, count).reshape(shape)


def _shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape) or len(shape) > 254:
        raise ValueError("the shape is not fully known")
    if math.prod(size for size in shape if size) > np.iinfo(np.int64).max:
        raise ValueError("the shape has more elements than can be counted")
    return shape


def _from_field(values: Any, field: str, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    given: np.ndarray[Any, Any] = np.fromiter(values, _FIELD_DTYPES[field], len(values))
    if field == "half_val":
        given = given.astype(np.uint16).view(dtype)
    elif dtype.kind == "c":
        given = given[: len(given) // 2 * 2].view(dtype)
    else:
        given = given.astype(dtype, copy=False)
    if len(given) >= count:
        return given[:count]
    fill = given[-1] if len(given) else np.zeros((), dtype)
    return np.concatenate([given, np.full(count - len(given), fill, dtype)])


def _strings(values: list[bytes], shape: tuple[int, ...]) -> npt.NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def _string_list(content: bytes, count: int) -> list[bytes]:
    """Reads TensorFlow's string list: all lengths as varints, then all bytes."""
    lengths, position = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise ValueError("the list of lengths is cut short")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError("the strings do not fill the content")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def predict_response_bytes(
    model_spec: bytes, outputs: Mapping[str, np.ndarray[Any, Any]], *, as_content: bool = False
) -> bytes:
    """Serializes a `PredictResponse` with one copy of each array.

    Args:
        model_spec: the serialized `ModelSpec`.
        outputs: arrays by output alias.
        as_content: fill `tensor_content` instead of the typed fields.
    """
    parts: list[Any] = []
    for alias, array in outputs.items():
        value = _tensor_parts(array, as_content)
        key = _delimited(1, alias.encode())
        size = sum(map(len, value))
        head = b"\x12" + _varint(size)
        parts += [b"\x0a", _varint(len(key) + len(head) + size), key, head, *value]
    parts.append(_delimited(2, model_spec))
    return b"".join(parts)


def to_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """Returns an array as a serialized `TensorProto`."""
    return b"".join(_tensor_parts(array, as_content=False))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _delimited(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _tensor_parts(array: np.ndarray[Any, Any], as_content: bool) -> list[Any]:
    """Returns the serialized `TensorProto` in pieces, the values a view of the array where its layout is the wire's."""
    dtype = dtypes.of(array)
    head = tensor_pb2.TensorProto(dtype=dtype)
    head.tensor_shape.SetInParent()
    for size in array.shape:
        head.tensor_shape.dim.add(size=size)
    field = _VALUE_FIELDS[dtype]
    if array.size == 0:
        return [head.SerializeToString()]
    if field == "string_val":
        head.string_val.extend(array.ravel().tolist())
        return [head.SerializeToString()]
    array = np.ascontiguousarray(array)
    if as_content:
        number = tensor_pb2.TensorProto.TENSOR_CONTENT_FIELD_NUMBER
    elif field in ("float_val", "double_val", "bool_val") and array.dtype == _FIELD_DTYPES[field]:
        number = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number
    else:
        getattr(head, field).extend(_numbers(array, field))
        return [head.SerializeToString()]
    values = array.reshape(-1).view(np.uint8).data
    return [head.SerializeToString(), bytes([number << 3 | 2]), _varint(len(values)), values]


def _numbers(array: np.ndarray[Any, Any], field: str) -> list[Any]:
    flat = array.reshape(-1)
    if field == "half_val":
        return list(flat.view(np.uint16).tolist())
    if field in ("scomplex_val", "dcomplex_val"):
        return list(flat.view(_FIELD_DTYPES[field]).tolist())
    return list(flat.tolist())
