"""`TensorProto` and numpy, held against TensorFlow's own conversions."""

import numpy as np
import pytest
import tensorflow as tf
from featserve_serving.errors import InvalidArgument
from featserve_serving.protos import tensors
from featserve_serving.protos.tensors import TensorMap, predict_response_bytes, to_array
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

NUMBERS = [
    tf.float32,
    tf.float64,
    tf.float16,
    tf.bfloat16,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.uint8,
    tf.uint16,
    tf.uint32,
    tf.uint64,
    tf.bool,
    tf.complex64,
    tf.complex128,
]


def example(dtype, shape=(2, 3)):
    return (np.arange(np.prod(shape)).reshape(shape) % 5).astype(dtype.as_numpy_dtype)


def typed(array):
    """Returns the tensor in its typed field."""
    proto = tf.make_tensor_proto(array)
    parsed = predict_pb2.PredictResponse.FromString(predict_response_bytes(b"", {"t": array})).outputs["t"]
    assert not parsed.tensor_content and parsed.tensor_shape == proto.tensor_shape and parsed.dtype == proto.dtype
    return parsed


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4)], ids=str)
def test_numbers_round_trip_in_both_forms(dtype, shape):
    array = example(dtype, shape)
    content = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_content=array.tobytes())
    content.tensor_shape.CopyFrom(tf.make_tensor_proto(array).tensor_shape)
    as_content = predict_pb2.PredictResponse.FromString(
        predict_response_bytes(b"", {"t": array}, as_content=True)
    ).outputs["t"]
    for proto in (content, typed(array), as_content):
        for read in (to_array, tf.make_ndarray):
            result = read(proto)
            assert result.dtype == array.dtype and result.shape == array.shape
            np.testing.assert_array_equal(result, array)


def test_strings_round_trip():
    array = np.array([[b"", b"\x00trailing\x00"], ["ü".encode(), b"x" * 300]], dtype=object)
    assert to_array(typed(array)).tolist() == array.tolist()
    content = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=b"\x02\x00\xac\x02ab" + b"x" * 300)
    content.tensor_shape.dim.add(size=3)
    assert to_array(content).tolist() == [b"ab", b"", b"x" * 300]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], [0, 0, 0]), ([7], [7, 7, 7]), ([1, 2], [1, 2, 2]), ([1, 2, 3, 4], [1, 2, 3])],
)
def test_a_typed_field_of_another_length(values, expected):
    for fields in ({"dtype": 1, "float_val": values}, {"dtype": 4, "int_val": values}):
        proto = tensor_pb2.TensorProto(**fields)
        proto.tensor_shape.dim.add(size=3)
        assert to_array(proto).tolist() == expected


def test_integers_wrap_as_in_tensorflow():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8, int_val=[300, -1])
    proto.tensor_shape.dim.add(size=2)
    assert to_array(proto).tolist() == [44, 255]


def test_field_numbers_are_the_descriptors():
    outputs = predict_pb2.PredictResponse.DESCRIPTOR.fields_by_name
    assert (outputs["outputs"].number, outputs["model_spec"].number) == (1, 2)
    for dtype, field in tensors._VALUE_FIELDS.items():
        assert field in tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name, dtype


def test_the_response_is_the_message():
    spec = model_pb2.ModelSpec(name="m", signature_name="s")
    outputs = {"a": np.ones((2, 300), np.float32), "b": np.array([b"x"], dtype=object)}
    response = predict_pb2.PredictResponse.FromString(predict_response_bytes(spec.SerializeToString(), outputs))
    assert response.model_spec == spec
    assert list(response.outputs["a"].float_val) == [1.0] * 600 and set(response.outputs) == {"a", "b"}


def test_arrays_that_are_not_contiguous():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(tf.make_ndarray(typed(array)), array)


def test_a_map_decodes_only_what_is_asked_for():
    protos = TensorMap({"bad": tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"1")})
    assert list(protos) == ["bad"] and "other" not in protos
    with pytest.raises(InvalidArgument, match="tensor parsing error: bad"):
        protos["bad"]
    with pytest.raises(KeyError):
        protos["other"]


def test_half_a_complex_number_is_passed_over():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_COMPLEX64, scomplex_val=[1.0, 2.0, 3.0])
    proto.tensor_shape.dim.add(size=2)
    expected = tf.raw_ops.ParseTensor(serialized=proto.SerializeToString(), out_type=tf.complex64).numpy()
    np.testing.assert_array_equal(to_array(proto), expected)
