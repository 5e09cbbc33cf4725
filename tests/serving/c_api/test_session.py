"""Values through a session of TensorFlow's C API."""

import ml_dtypes
import numpy as np
import psutil
import pytest
import tensorflow as tf
from featserve_serving.c_api import graph
from featserve_serving.c_api.library import OpError
from featserve_serving.c_api.session import Session
from featserve_serving.protos import dtypes
from featserve_serving.protos.generated import config_pb2, graph_pb2, types_pb2


@pytest.fixture
def identity():
    """Returns a function that sends an array through a graph which does nothing."""
    sessions = []

    def send(array):
        dtype = dtypes.of(array)
        sessions.append(Session(config_pb2.ConfigProto()))
        nodes = [
            graph.node("x", "Placeholder", types={"dtype": dtype}),
            graph.node("y", "Identity", ["x"], {"T": dtype}),
        ]
        sessions[-1].extend(graph_pb2.GraphDef(node=nodes))
        return sessions[-1].run({"x:0": array}, ("y:0",))[0]

    yield send
    for session in sessions:
        session.close()


@pytest.mark.parametrize("dtype", dtypes.NUMPY, ids=types_pb2.DataType.Name)
def test_data_types_are_tensorflows(dtype):
    theirs = tf.dtypes.as_dtype(dtype)
    assert dtypes.NUMPY[dtype] == np.dtype(theirs.as_numpy_dtype) and dtypes.python_name(dtype) == theirs.name


@pytest.mark.parametrize("dtype", set(dtypes.NUMPY) - {types_pb2.DT_STRING}, ids=types_pb2.DataType.Name)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4)], ids=str)
def test_numbers_come_back(identity, dtype, shape):
    count = int(np.prod(shape))
    sent = np.arange(count * dtypes.NUMPY[dtype].itemsize, dtype=np.uint8) % 2
    sent = sent.view(dtypes.NUMPY[dtype]).reshape(shape)
    received = identity(sent)
    assert received.dtype == sent.dtype and received.shape == sent.shape and received.tobytes() == sent.tobytes()


@pytest.mark.parametrize("shape", [(), (3,), (3, 1), (0,)], ids=str)
def test_strings_come_back(identity, shape):
    values = [b"", b"\x00trailing\x00", "ü".encode() * 5000][: int(np.prod(shape))]
    sent = np.empty(len(values), dtype=object)
    sent[:] = values
    received = identity(sent.reshape(shape))
    assert received.shape == shape and received.ravel().tolist() == values


def test_arrays_of_any_layout_come_back(identity):
    sent = np.arange(24, dtype=np.float32).reshape(2, 3, 4).T[::2, :, ::-1]
    np.testing.assert_array_equal(identity(sent), sent)
    half = np.arange(6).astype(ml_dtypes.bfloat16)[::2]
    np.testing.assert_array_equal(identity(half), half)


def test_an_answer_outlives_its_session():
    session = Session(config_pb2.ConfigProto())
    session.extend(graph_pb2.GraphDef(node=[graph.constant("c", np.arange(1000.0))]))
    (answer,) = session.run({}, ("c:0",))
    session.close()
    np.testing.assert_array_equal(answer, np.arange(1000.0))


def test_values_are_freed(identity):
    process, mib = psutil.Process(), 1 << 20
    for sent in (np.zeros(20 * mib, np.uint8), np.array([b"x" * 20 * mib], dtype=object)):
        identity(sent)
        before = process.memory_info().rss
        for _ in range(20):
            identity(sent)
        assert process.memory_info().rss - before < 100 * mib, sent.dtype


def test_an_error_has_tensorflows_code_and_text():
    session = Session(config_pb2.ConfigProto())
    try:
        with pytest.raises(OpError, match="Op type not registered 'OfTomorrow'") as refusal:
            session.extend(graph_pb2.GraphDef(node=[graph.node("x", "OfTomorrow")]))
        assert refusal.value.code == 5
        session.extend(
            graph_pb2.GraphDef(
                node=[
                    graph.constant("bytes", np.array(b"no image", dtype=object)),
                    graph.node("image", "DecodeJpeg", ["bytes"]),
                ]
            )
        )
        with pytest.raises(OpError, match="Unknown image file format") as refusal:
            session.run({}, ("image:0",))
        assert refusal.value.code == 3
    finally:
        session.close()
