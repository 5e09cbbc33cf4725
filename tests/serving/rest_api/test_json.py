"""JSON requests as TensorFlow Serving reads them, and answers as it writes them."""

import json
import math

import numpy as np
import pytest
from featserve_serving.errors import InvalidArgument
from featserve_serving.rest_api import document, json_input, json_output
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2


def loads(body):
    return document.parse(b'{"x": ' + body).document["x"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b" ", "document is empty"),
        (b"\x00", "document is empty"),
        (b"{", "at offset 1: Missing a name for object member."),
        (b'{"a":1,}', "at offset 7: Missing a name for object member."),
        (b'{"a": 01}', "at offset 7: Missing a comma or '}' after an object member."),
        (b"nulx", "at offset 3: Invalid value."),
        (b"[2, 1e400]", "at offset 4: Number too big to be stored in double."),
        (b'"abc', "at offset 4: Missing a closing quotation mark in string."),
        (b'"a\tb"', "at offset 2: Invalid encoding in string."),
        (b'"\\ud800\\u0041"', "The surrogate pair in string is invalid."),
        (b"[" * 100_000, "depth"),
        (b'\xef\xbb\xbf["\xff"]', "The text is not UTF-8."),
        (b"[" + b"1," * 1_000_000 + b"x]", "at offset 2000001: Invalid value."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_json_is_refused(body, text):
    with pytest.raises(InvalidArgument) as refusal:
        document.parse(body)
    assert str(refusal.value).startswith("JSON Parse error") and text in str(refusal.value)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"1}{", 1),
        (b'{"a": 1, "a": 2}} and more', {"a": 1}),
        (b'[Inf, -Inf, {"a": []}, {}, "\\ud83d\\ude00"]}', [math.inf, -math.inf, {"a": []}, {}, "\U0001f600"]),
        (b"[1e308, -0, 1E-400, 36893488147419103232]}", [1e308, 0, 0.0, 2.0**65]),
    ],
)
def test_what_tensorflow_serving_reads_is_read(body, value):
    assert loads(body) == value
    assert document.parse(b'\xef\xbb\xbf {"x": ' + body).document["x"] == value


@pytest.mark.parametrize("value", ["a" * 10_000, 10**300, -1.5, None, True, {"a": ["b"] * 10_000}])
def test_a_value_in_an_error_text_is_short(value):
    assert 0 < len(json_input._shown(value)) <= 256


def answered(outputs, by_row=False):
    return json.loads(json_output.answer(outputs, by_row))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_come_back_as_they_were(dtype):
    numbers = np.random.default_rng(0).standard_normal((7, 3, 5)) * 10.0 ** np.arange(-35, 35, 2).reshape(7, 1, 5)
    array = np.concatenate([numbers.astype(dtype).ravel(), np.array([0.1, -0.0, np.finfo(dtype).max], dtype)])
    np.testing.assert_array_equal(np.array(answered({"y": array})["outputs"], dtype), array)
    assert answered({"y": np.array([0.1], dtype)})["outputs"] == [0.1]
    assert str(answered({"y": np.array([np.nan, np.inf, -np.inf], dtype)})["outputs"]) == "[nan, inf, -inf]"


def test_a_float32_is_written_with_the_fewest_digits_that_give_it_back():
    bits = np.random.default_rng(0).integers(0, 0x7F800000, 20_000, dtype=np.uint32).view(np.float32)
    ordinary = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    powers = np.exp2(np.arange(-126, 128, dtype=np.float32))
    array = np.concatenate([bits, -bits, ordinary, powers, np.float32([0.0, -0.0, 0.1])])
    text = json_output.answer({"y": array}, False)
    expected = array.astype("S16").astype(np.float64)
    found = np.array(json.loads(text)["outputs"])
    np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))


def test_rows_and_columns():
    outputs = {"a": np.array([[1, 2], [3, 4]], np.int64), "b": np.array([True, False])}
    rows = [{"a": [1, 2], "b": True}, {"a": [3, 4], "b": False}]
    assert answered(outputs, by_row=True) == {"predictions": rows}
    assert answered(outputs) == {"outputs": {"a": [[1, 2], [3, 4]], "b": [True, False]}}
    assert answered({"a": outputs["a"]}, by_row=True) == {"predictions": [[1, 2], [3, 4]]}
    assert answered({"b": np.array(7, np.uint64)}) == {"outputs": 7}


def test_strings():
    array = np.array([["é".encode(), b"\x1f"]], object)
    assert answered({"y": array})["outputs"] == [["é", "\x1f"]]
    assert answered({"y_bytes": array})["outputs"] == [[{"b64": "w6k="}, {"b64": "Hw=="}]]
    assert answered({"y": np.array(b"one", object)})["outputs"] == "one"
    with pytest.raises(InvalidArgument, match="Output y holds bytes that are no UTF-8 text"):
        answered({"y": np.array([b"\xff"], object)})


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array(1.0)}, "Tensor name: y has no shape information "),
        ({"a": np.ones(2), "b": np.ones(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.ones(1, np.float16)}, "Failed to write JSON value for tensor type: half"),
    ],
)
def test_what_json_has_no_form_for_is_refused(outputs, text):
    with pytest.raises(InvalidArgument) as refusal:
        answered(outputs, by_row=True)
    assert str(refusal.value) == text


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [%s]}',
        b'{"inputs": %s}',
        b'{"inputs": {"images": [%s]}}',
        b'{"instances": [{"images": %s}]}',
        b'{"instances": [{"image_bytes": %s}]}',
    ],
)
def test_base64_for_numbers_says_which_signature_takes_it_and_is_not_quoted(body):
    body = body % (b'{"b64": "%s"}' % (b"/9j/" * 1_000))
    infos = {"images": meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_UINT8)}
    with pytest.raises(InvalidArgument) as refusal:
        json_input.inputs(document.parse(body), infos)
    assert "/9j/" not in str(refusal.value)
    assert 'say "signature_name": "encoded" beside the images' in str(refusal.value)


def test_an_errors_text_is_cut():
    text = json.loads(json_output.error("é" * 10_000))["error"]
    assert len(text.encode()) < 1_100 and text.endswith("...TRUNCATED")
    assert json.loads(json_output.error("short")) == {"error": "short"}
