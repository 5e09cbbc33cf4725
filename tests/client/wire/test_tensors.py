"""numpy arrays to TensorProto and back."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from featserve_client import ResponseError
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire import tensors as tensors
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    predict_pb2,
)

ARRAYS = [
    np.arange(6, dtype=dtype).reshape(2, 3)
    for dtype in ("f4", "f8", "i4", "u1", "i2", "i1", "i8", "u2", "u4", "u8", "f2", "c8", "c16")
]
ARRAYS += [np.array([[True, False]]), np.float32(3), np.empty((0, 4), "f4"), np.arange(6, dtype=">f4")[::2]]


def sent(value: np.ndarray | list[bytes]) -> np.ndarray:
    """What TensorFlow makes of the client's bytes."""
    raw = tensors.encode_predict_request(
        wire.ModelSpec(name="m", signature_name="s"), {"x": tensors.encode_tensor(value)}, ["y"]
    )
    request = predict_pb2.PredictRequest.FromString(raw)
    assert request.model_spec.name == "m" and list(request.output_filter) == ["y"]
    return np.asarray(tf.make_ndarray(request.inputs["x"]))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_arrive_in_tensorflow(array: np.ndarray) -> None:
    got = sent(array)
    assert got.shape == array.shape and got.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(got, array)


def test_strings_arrive_in_tensorflow() -> None:
    assert sent([b"a\xff", b""]).tolist() == [b"a\xff", b""]
    assert sent(np.array([["ü"]])).tolist() == [["ü".encode()]]
    assert sent([b"zeros at the end\0\0", b""]).tolist() == [b"zeros at the end\0\0", b""]
    assert sent(b"\0").tolist() == b"\0"


@pytest.mark.parametrize("value", [object(), np.array([None]), np.zeros(2, "M8[s]")])
def test_what_has_no_dtype_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        tensors.encode_tensor(value)  # type: ignore[arg-type]


def received(tensor: tensor_pb2.TensorProto) -> np.ndarray:
    answer = predict_pb2.PredictResponse()
    answer.outputs["y"].CopyFrom(tensor)
    answer.model_spec.version.value = 7
    version, outputs = tensors.decode_predict_response(answer.SerializeToString())
    assert version == 7
    return outputs["y"]


@pytest.mark.parametrize("content", [True, False], ids=["tensor_content", "values"])
@pytest.mark.parametrize("array", [a for a in ARRAYS if a.flags.c_contiguous], ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_arrive_from_tensorflow(array: np.ndarray, content: bool) -> None:
    proto = tf.make_tensor_proto(array)
    if not content:
        values = tensor_pb2.TensorProto(dtype=proto.dtype, tensor_shape=proto.tensor_shape)
        name, _ = tensors._VALUES[proto.dtype]
        flat = array.ravel()
        if array.dtype == np.float16:
            flat = flat.view(np.uint16)
        elif array.dtype.kind == "c":
            flat = flat.view("f4" if array.dtype == np.complex64 else "f8")
        getattr(values, name).extend(flat.tolist())
        proto = values
    got = received(proto)
    assert got.dtype == array.dtype and got.shape == array.shape
    np.testing.assert_array_equal(got, array)


def test_strings_arrive_from_tensorflow() -> None:
    assert received(tf.make_tensor_proto([b"a\xff", b""])).tolist() == [b"a\xff", b""]


def raw_floats(*chunks: bytes, shape: int) -> bytes:
    """A PredictResponse whose float_val is written as given."""
    head = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    head.tensor_shape.dim.add(size=shape)
    tensor = head.SerializeToString() + b"".join(chunks)
    return b"".join(
        tensors.length_delimited(1, [*tensors.length_delimited(1, [b"y"]), *tensors.length_delimited(2, [tensor])])
    )


def packed(*values: float) -> bytes:
    return b"".join(tensors.length_delimited(5, [struct.pack(f"<{len(values)}f", *values)]))


def single(value: float) -> bytes:
    return bytes([5 << 3 | 5]) + struct.pack("<f", value)


@pytest.mark.parametrize(
    "chunks",
    [
        [packed(1, 2, 3, 4)],
        [packed(1), packed(2, 3), packed(4)],
        [single(1), single(2), single(3), single(4)],
        [packed(1, 2), single(3), packed(4)],
        [single(1), packed(2, 3, 4)],
    ],
    ids=["packed", "chunks", "unpacked", "mixed", "mixed unpacked first"],
)
def test_every_way_to_write_float_val(chunks: list[bytes]) -> None:
    raw = raw_floats(*chunks, shape=4)
    assert list(predict_pb2.PredictResponse.FromString(raw).outputs["y"].float_val) == [1, 2, 3, 4]
    assert tensors.decode_predict_response(raw)[1]["y"].tolist() == [1, 2, 3, 4]


def test_few_values_stand_for_many_as_in_tensorflow() -> None:
    assert tensors.decode_predict_response(raw_floats(packed(7), shape=3))[1]["y"].tolist() == [7, 7, 7]
    assert tensors.decode_predict_response(raw_floats(packed(1, 2), shape=4))[1]["y"].tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize("shape", [0, 1, 5])
def test_a_tensor_that_contradicts_itself(shape: int) -> None:
    raw = raw_floats(b"".join(tensors.length_delimited(4, [bytes(8)])), shape=shape)
    with pytest.raises(ResponseError, match="'y'"):
        tensors.decode_predict_response(raw)


@pytest.mark.parametrize("size", [-1, 2**40])
def test_a_shape_that_no_message_holds(size: int) -> None:
    with pytest.raises(ResponseError, match="'y'"):
        tensors.decode_predict_response(raw_floats(packed(1), shape=size))
