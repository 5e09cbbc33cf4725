"""The texts and offsets of RapidJSON 1.1.0, from a program made of its headers and TensorFlow Serving's flags."""

import math

import pytest
from featserve_serving._json_reader import JsonSyntaxError, loads
from featserve_serving._json_requests import _debug

REFUSED = [
    (b" ", "The document is empty.", 1),
    (b"\x00", "The document is empty.", 0),
    (b"{", "Missing a name for object member.", 1),
    (b'{"a":1,}', "Missing a name for object member.", 7),
    (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
    (b'{"a":}', "Invalid value.", 5),
    (b'{"a":1', "Missing a comma or '}' after an object member.", 6),
    (b'{"a":{"b":1]}', "Missing a comma or '}' after an object member.", 11),
    (b'{"a": 01}', "Missing a comma or '}' after an object member.", 7),
    (b"[1 2]", "Missing a comma or ']' after an array element.", 3),
    (b"[1,]", "Invalid value.", 3),
    (b"nulx", "Invalid value.", 3),
    (b"[-]", "Invalid value.", 2),
    (b"[Infinit]", "Invalid value.", 8),
    (b"[1.]", "Miss fraction part in number.", 3),
    (b"[1e]", "Miss exponent in number.", 3),
    (b"[2, 1e400]", "Number too big to be stored in double.", 4),
    (b"[" + b"9" * 400 + b"]", "Number too big to be stored in double.", 1),
    (b'"abc', "Missing a closing quotation mark in string.", 4),
    (b'"a\x00b"', "Missing a closing quotation mark in string.", 2),
    (b'"a\tb"', "Invalid escape character in string.", 2),
    (b'"\\q"', "Invalid escape character in string.", 1),
    (b'"\\u12"', "Incorrect hex digit after \\u escape in string.", 1),
    (b'"\\ud800\\u0041"', "The surrogate pair in string is invalid.", 1),
    (b"\xef\xbb\xbf{x}", "Missing a name for object member.", 4),
]


@pytest.mark.parametrize(("body", "reason", "offset"), REFUSED, ids=lambda value: str(value)[:30])
def test_refusal(body, reason, offset):
    with pytest.raises(JsonSyntaxError) as refusal:
        loads(body)
    assert (refusal.value.reason, refusal.value.offset) == (reason, offset)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'\xef\xbb\xbf {"a": 1} {', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 1}),
        (b'[Inf, -Inf, {"a": []}, {}, "\\ud83d\\ude00"]', [math.inf, -math.inf, {"a": []}, {}, "\U0001f600"]),
        (b"[1e308, -0, 1E-400, 36893488147419103232]", [1e308, 0, 0.0, 2.0**65]),
    ],
)
def test_value(body, value):
    assert loads(body) == value


def test_nesting_is_limited():
    with pytest.raises(JsonSyntaxError, match="depth"):
        loads(b"[" * 100_000)


def test_other_encodings_are_refused():
    with pytest.raises(JsonSyntaxError) as refusal:
        loads(b'\xef\xbb\xbf["\xff"]')
    assert (refusal.value.reason, refusal.value.offset) == ("The text is not UTF-8.", 5)


def test_a_long_text_that_is_no_json_is_refused_fast():
    with pytest.raises(JsonSyntaxError) as refusal:
        loads(b"[" + b"1," * 1_000_000 + b"x]")
    assert refusal.value.offset == 2_000_001


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (-1.25e-7, "-1.25e-7"),
        (1e-6, "0.000001"),
        (-0.0, "-0.0"),
        (2**64, "18446744073709552000.0"),
        ([1, math.nan, 2], "[1, "),
        ("a\x1f\x7f\n", '"a\\u001F\x7f\\n"'),
    ],
)
def test_a_value_in_an_error_text(value, text):
    assert _debug(value) == text
