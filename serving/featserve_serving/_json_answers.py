"""Outputs, and errors, as TensorFlow Serving's REST API words them.

Reference: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from . import _errors
from ._json_writer import Writer, quoted
from ._servable import dtype_name


def answer(outputs: Mapping[str, np.ndarray[Any, Any]], by_row: bool) -> bytes:
    """Return the outputs as JSON text.

    Raises:
        InvalidArgument: rows of different number, or a type that JSON has no form for.
    """
    if not outputs:
        raise _errors.InvalidArgument("Cannot convert empty tensor map to JSON")
    writer = Writer()
    writer.start("{")
    if by_row:
        _write_rows(writer, outputs)
    else:
        _write_columns(writer, outputs)
    writer.end("}")
    return writer.text().encode("utf-8", "surrogateescape")


def error(text: str) -> bytes:
    """Return an error's text as JSON."""
    writer = Writer()
    writer.start("{")
    writer.value(quoted("error"))
    writer.value(quoted(text))
    writer.end("}")
    return writer.text().encode("utf-8", "surrogateescape")


def _write_rows(writer: Writer, outputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
    count = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise _errors.InvalidArgument(f"Tensor name: {name} has no shape information ")
        if count not in (-1, len(array)):
            raise _errors.InvalidArgument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}"
            )
        count = len(array)
    texts = {name: _texts(name, array) for name, array in outputs.items()}
    writer.value(quoted("predictions"))
    writer.start("[")
    for row in range(count):
        if len(outputs) > 1:
            writer.start("{")
        writer.single_line = True
        for name, array in outputs.items():
            if len(outputs) > 1:
                writer.value(quoted(name))
            _write_tensor(writer, texts[name], array.shape[1:], row * math.prod(array.shape[1:]))
        writer.single_line = False
        if len(outputs) > 1:
            writer.end("}")
    writer.end("]")


def _write_columns(writer: Writer, outputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
    writer.value(quoted("outputs"))
    if len(outputs) > 1:
        writer.start("{")
    for name, array in outputs.items():
        if len(outputs) > 1:
            writer.value(quoted(name))
        _write_tensor(writer, _texts(name, array), array.shape, 0)
    if len(outputs) > 1:
        writer.end("}")


def _write_tensor(writer: Writer, texts: list[str], shape: tuple[int, ...], start: int) -> None:
    if not shape:
        writer.value(texts[start])
    elif len(shape) == 1:
        writer.row(texts[start : start + shape[0]])
    else:
        writer.start("[")
        stride = math.prod(shape[1:])
        for position in range(shape[0]):
            _write_tensor(writer, texts, shape[1:], start + position * stride)
        writer.end("]")


def _texts(name: str, array: np.ndarray[Any, Any]) -> list[str]:
    """Return each value of an array as JSON."""
    flat = array.reshape(-1)
    kind = array.dtype.kind
    if kind == "O":
        if name.endswith("_bytes"):
            return [_bytes_text(value) for value in flat]
        return [quoted(value.decode("utf-8", "surrogateescape")) for value in flat]
    if array.dtype in (np.float32, np.float64):
        return _decimals(flat)
    if kind == "b":
        return ["true" if value else "false" for value in flat.tolist()]
    if kind in "iu" and array.dtype != np.uint16:
        return [str(value) for value in flat.tolist()]
    raise _errors.InvalidArgument(
        f"Failed to write JSON value for tensor type: {dtype_name(tf.dtypes.as_dtype(array.dtype).as_datatype_enum)}"
    )


def _bytes_text(value: bytes) -> str:
    writer = Writer(single_line=True)
    writer.start("{")
    writer.value(quoted("b64"))
    writer.value(quoted(base64.b64encode(value).decode("ascii")))
    writer.end("}")
    return writer.text()


def _decimals(flat: np.ndarray[Any, Any]) -> list[str]:
    """Return the shorter of six digits and as many as bring the number back."""
    values = flat.tolist()
    texts = [f"{value:g}" for value in values]
    with np.errstate(over="ignore"):
        exact = np.array([float(text) for text in texts], np.float64).astype(flat.dtype) == flat
    digits = 9 if flat.dtype == np.float32 else 17
    for position in np.flatnonzero(~exact):
        texts[position] = f"{values[position]:.{digits}g}"
    for position in np.flatnonzero(~np.isfinite(flat)):
        value = values[position]
        texts[position] = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return [text if set(text) & set(".eNI") else text + ".0" for text in texts]
