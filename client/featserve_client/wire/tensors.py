"""numpy arrays to TensorProto and back, in Predict's requests and responses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from ..exceptions import ResponseError
from . import serving_pb2 as wire

Array = npt.NDArray[Any]

DTYPES: dict[wire.DataType, np.dtype[Any]] = {
    wire.DT_FLOAT: np.dtype("<f4"),
    wire.DT_DOUBLE: np.dtype("<f8"),
    wire.DT_INT32: np.dtype("<i4"),
    wire.DT_UINT8: np.dtype("u1"),
    wire.DT_INT16: np.dtype("<i2"),
    wire.DT_INT8: np.dtype("i1"),
    wire.DT_COMPLEX64: np.dtype("<c8"),
    wire.DT_INT64: np.dtype("<i8"),
    wire.DT_BOOL: np.dtype("?"),
    wire.DT_UINT16: np.dtype("<u2"),
    wire.DT_COMPLEX128: np.dtype("<c16"),
    wire.DT_HALF: np.dtype("<f2"),
    wire.DT_UINT32: np.dtype("<u4"),
    wire.DT_UINT64: np.dtype("<u8"),
}
_CODES: dict[np.dtype[Any], wire.DataType] = {dtype: code for code, dtype in DTYPES.items()}

# The repeated field that holds the values when tensor_content does not, and the dtype of that field's items.
_VALUES: dict[wire.DataType, tuple[str, str]] = {
    wire.DT_FLOAT: ("float_val", "<f4"),
    wire.DT_DOUBLE: ("double_val", "<f8"),
    wire.DT_INT32: ("int_val", "<i4"),
    wire.DT_UINT8: ("int_val", "<i4"),
    wire.DT_INT16: ("int_val", "<i4"),
    wire.DT_INT8: ("int_val", "<i4"),
    wire.DT_UINT16: ("int_val", "<i4"),
    wire.DT_INT64: ("int64_val", "<i8"),
    wire.DT_BOOL: ("bool_val", "?"),
    wire.DT_UINT32: ("uint32_val", "<u4"),
    wire.DT_UINT64: ("uint64_val", "<u8"),
    wire.DT_COMPLEX64: ("scomplex_val", "<f4"),
    wire.DT_COMPLEX128: ("dcomplex_val", "<f8"),
    wire.DT_HALF: ("half_val", "<i4"),
}

Buffer = bytes | memoryview


def dtype_name(code: wire.DataType) -> str:
    """Returns a dtype's name as numpy spells it, `string` for bytes."""
    if code == wire.DT_STRING:
        return "string"
    if code in DTYPES:
        return str(DTYPES[code].name)
    return wire.DataType.Name(code) if code in wire.DataType.values() else str(code)


# --- writing ---------------------------------------------------------------------------------------------------------
# A request is assembled from buffers with one copy, in `join`; through the generated classes the same bytes are
# copied three times (tobytes, into the message, out of it).


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(field: int, buffers: Sequence[Buffer]) -> list[Buffer]:
    """Returns a field of the length-delimited wire type: a tag, a length, and the content."""
    return [_varint(field << 3 | 2) + _varint(sum(map(len, buffers))), *buffers]


def encode_tensor(value: npt.ArrayLike) -> list[Buffer]:
    """Returns a TensorProto of an array as buffers to be joined; bytes and str become DT_STRING.

    Raises:
        TypeError: the array is of a dtype that cannot be sent.
    """
    array = np.asarray(value)
    if array.dtype.kind in "SU" and array is not value:
        array = np.asarray(value, dtype=object)  # numpy's own strings lose zeros at their ends
    if array.dtype.kind in "SUO":
        items = [_as_bytes(item) for item in array.ravel().tolist()]
        return encode_strings(items, array.shape)
    array = np.ascontiguousarray(array).reshape(array.shape)
    code = _CODES.get(array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype)
    if code is None:
        known = ", ".join(sorted(dtype.name for dtype in _CODES))
        raise TypeError(f"an array of dtype {array.dtype} cannot be sent; expected one of {known}, bytes or str")
    array = array.astype(DTYPES[code], copy=False)
    head = _head(code, array.shape)
    return [head, *length_delimited(4, [array.reshape(-1).view(np.uint8).data])] if array.size else [head]


def encode_strings(items: Sequence[bytes], shape: Sequence[int]) -> list[Buffer]:
    """Returns a DT_STRING TensorProto of byte strings as buffers to be joined."""
    buffers: list[Buffer] = [_head(wire.DT_STRING, shape)]
    for item in items:
        buffers += length_delimited(8, [item])
    return buffers


def encode_predict_request(
    spec: wire.ModelSpec, inputs: Mapping[str, Sequence[Buffer]], output_filter: Iterable[str] = ()
) -> bytes:
    """Returns a serialized PredictRequest."""
    rest = wire.PredictRequest(model_spec=spec, output_filter=output_filter)
    buffers: list[Buffer] = [rest.SerializeToString()]
    for name, tensor in inputs.items():
        buffers += length_delimited(2, [*length_delimited(1, [name.encode()]), *length_delimited(2, tensor)])
    return b"".join(buffers)


def _head(code: wire.DataType, shape: Sequence[int]) -> bytes:
    dims = [wire.TensorShapeProto.Dim(size=size) for size in shape]
    return wire.TensorProto(dtype=code, tensor_shape=wire.TensorShapeProto(dim=dims)).SerializeToString()


def _as_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise TypeError(
        f"an array with an item of type {type(item).__name__} cannot be sent; expected numbers, bytes or str"
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def decode_predict_response(raw: bytes) -> tuple[int, dict[str, Array]]:
    """Returns the version that answered and its outputs.

    Raises:
        ResponseError: the bytes are not a PredictResponse, or a tensor contradicts itself.
    """
    try:
        answer = wire.PackedPredictResponse.FromString(raw)
    except DecodeError as exc:
        raise ResponseError(f"the server's answer cannot be read: {exc}") from exc
    exact: wire.PredictResponse | None = None
    outputs: dict[str, Array] = {}
    for name, tensor in answer.outputs.items():
        array = _packed(tensor)
        if array is None:
            exact = exact or wire.PredictResponse.FromString(raw)
            array = _unpacked(name, exact.outputs[name])
        outputs[name] = array
    return answer.model_spec.version.value, outputs


def _packed(tensor: wire.PackedTensor) -> Array | None:
    # The fast path: the shape's very number of values in one packed field or in tensor_content. Everything else (other
    # dtypes, senders that do not pack, one value for all) is left to the exact reading.
    if tensor.dtype not in DTYPES or any(dim.size < 0 for dim in tensor.tensor_shape.dim):
        return None
    dtype, shape = DTYPES[tensor.dtype], [dim.size for dim in tensor.tensor_shape.dim]
    wanted = math.prod(shape) * dtype.itemsize
    content: bytes = tensor.tensor_content
    if not content:
        field = {wire.DT_FLOAT: tensor.float_val, wire.DT_DOUBLE: tensor.double_val}.get(tensor.dtype)
        if field is None or not field:
            return None
        content = field[0] if len(field) == 1 else b"".join(field)
    if len(content) != wanted or not content:
        return None
    return np.frombuffer(content, dtype).reshape(shape)


def _unpacked(name: str, tensor: wire.TensorProto) -> Array:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ResponseError(f"output {name!r} has no complete shape: {shape}")
    count = math.prod(shape)
    if count >= 2**31:
        raise ResponseError(f"output {name!r} has shape {shape}, more than any message holds")
    if tensor.dtype == wire.DT_STRING:
        strings = list(tensor.string_val)
        if len(strings) != count:
            raise ResponseError(f"output {name!r} has shape {shape} and {len(strings)} values")
        array = np.empty(count, object)
        array[:] = strings
        return array.reshape(shape)
    if tensor.dtype not in DTYPES:
        raise ResponseError(f"output {name!r} has a dtype the client cannot read: {dtype_name(tensor.dtype)}")
    dtype = DTYPES[tensor.dtype]
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * dtype.itemsize:
            raise ResponseError(f"output {name!r} of shape {shape}, {dtype} has {len(tensor.tensor_content)} bytes")
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    field, item = _VALUES[tensor.dtype]
    values = np.array(getattr(tensor, field), item)
    if dtype.kind == "c":
        values = values.view(dtype)
    elif tensor.dtype == wire.DT_HALF:
        values = values.astype("<u2").view(dtype)
    else:
        values = values.astype(dtype)
    if values.size == 1:  # one value stands for all
        values = np.repeat(values, count)
    elif 1 < values.size < count:  # the last value stands for the rest
        values = np.concatenate([values, np.repeat(values[-1:], count - values.size)])
    if values.size != count:
        raise ResponseError(f"output {name!r} has shape {shape} and {values.size} values")
    return values.reshape(shape)
