"""Arrays of numbers are read at once exactly as they are read one by one."""

import json
import tracemalloc

import numpy as np
import pytest
from featserve_serving.errors import InvalidArgument
from featserve_serving.rest_api import document, json_input, numbers
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

DTYPES = (
    *(types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE, types_pb2.DT_UINT8, types_pb2.DT_INT64, types_pb2.DT_UINT64),
    *(types_pb2.DT_BOOL, types_pb2.DT_STRING),
)
ARRAYS = [
    "[1, 2.5, -3e2]",
    "[[1, -0, 3],\t[4, 5, 6]]\r\n",
    "[[[[0], [255]]]]",
    "[[1], 5]",
    "[[1], []]",
    "[[1, 2], [3]]",
    "[[1, 2], [3, [4]]]",
    "[[], []]",
    "[1, true]",
    '["1"]',
    "[1.0, 256]",
    "[300, -1]",
    "[18446744073709551615]",
    "[-9223372036854775809]",
    "[36893488147419103232]",
    "[1e39, 1E-400]",
    "[1e400]",
    "[0e1000]",
    "[0.0E+400, -0e999]",
    "[0e-1000]",
    "[Inf, -Inf]",
    "[01]",
    "[1,]",
    "[1] 2]",
    "[1]}]",
    "[[1]",
    "[1 2]",
    '[{"x": [1, 2]}, {"x":[3,\t4]} ,{ "x" : [-5, 6]}]',
    '[{"x": 1}, {"x": 2.5}]',
    '[{"y": [1]}, {"y": [2]}]',
    '[{"x": [1]}, {"y": [2]}]',
    '[{"x": [1]}, {"x": [2, 3]}]',
    '[{"x": [1], "x": [2]}]',
    '[{"x": [1], "y": [2]}]',
    '[{"x": [1]}, [2]]',
    '[[{"x": [1]}], [{"x": [2]}]]',
    '[{"x": {"x": [1]}}]',
    '[{"x": [{"x": 1}]}]',
    '[{"x": [1]} {"x": [2]}]',
    '[{"x": [1], }]',
    '[{"x": }, {"x": }]',
    '[{"x": [1]}, {"x": [2]}',
    '[{"x": [1] 2}]',
    '[{"x" 1: [1]}]',
    '[{1 "x": [1]}]',
    '[{"x": [1]} 2, {"x": [3]}]',
    '[{"x": [1]}}, {{"x": [2]}]',
    '[{"x": 1, {"x": 2}}]',
    '[{"x": [1]}, {"x": ["2"]}]',
    '[{"\\u0078": [1]}]',
    '[{"x": [300]}, {"x": [1.5]}]',
    '[{"b64": [1]}]',
    "[" * 9 + "1" + "]" * 9,
    "[" * 70 + "1" + "]" * 70,
]
BODIES = [
    '{"instances": %s}',
    '{"inputs": %s, "signature_name": ""}',
    '{"inputs": {"x": %s}}',
    '{"inputs": {"y": %s}}',
    '{"inputs": {"x": {"b64": %s}}}',
    '{"instances": %s, "instances": 3}',
    '{"signature_name": %s, "instances": 3}',
    '{"a[]": 1, "instances": %s}',
    '\ufeff {"instances": %s} and more',
    '{"instances": %s',
    "%s",
]


def read(body, dtype, *names):
    infos = {name: meta_graph_pb2.TensorInfo(dtype=dtype) for name in names}
    try:
        arrays, by_row = json_input.inputs(document.parse(body), infos)
    except InvalidArgument as exc:
        return str(exc)
    return [(name, array.dtype, array.shape, array.tolist()) for name, array in arrays.items()], by_row


@pytest.mark.parametrize("dtype", DTYPES, ids=types_pb2.DataType.Name)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:20])
def test_arrays_and_refusals_are_the_same(body, dtype, monkeypatch):
    requests = [(body % array).encode() for array in ARRAYS]
    at_once = [(read(request, dtype, "x"), read(request, dtype, "x", "y")) for request in requests]
    monkeypatch.setattr(numbers, "cut", lambda text: None)
    one_by_one = [(read(request, dtype, "x"), read(request, dtype, "x", "y")) for request in requests]
    assert list(map(str, at_once)) == list(map(str, one_by_one))


def test_pixels_are_read_at_once():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3))
    for values in (pixels, pixels / np.float32(1.7)):
        _, found, _ = numbers.cut(json.dumps({"instances": values.tolist()}).encode())
        assert found.shape == pixels.shape
        np.testing.assert_array_equal(found.floats, values.ravel())
    np.testing.assert_array_equal(numbers.cut(json.dumps(pixels.tolist()).encode())[1].integers(), pixels.ravel())
    rows = json.dumps({"instances": [{"images": image.tolist()} for image in pixels]}).encode()
    _, found, _ = numbers.cut(rows)
    assert (found.name, found.shape) == ("images", pixels.shape)
    np.testing.assert_array_equal(found.integers(), pixels.ravel())


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"b64": "' + b"A" * 1_000_000 + b'"}]}',
        b'{"instances": [' + b"true, " * 200_000 + b"true]}",
        b'{"instances": [,' + b"[" * 1_000_000 + b"]]}",
        b'{"instances": [{"x": ' + b"[" * 500_000 + b"}" + b"{" * 500_000 + b"]}",
        b'{"instances": [' + b'{"x": 1, ' * 200_000 + b"]}",
    ],
)
def test_what_is_no_array_of_numbers_costs_no_multiple_of_its_text(body):
    tracemalloc.start()
    assert numbers.cut(body) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * len(body)
