"""Outputs and errors as the JSON of TensorFlow Serving's REST API.

The values are the same; line breaks are not.

Reference: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import rapidjson

from ..core.texts import fit
from ..errors import InvalidArgument
from ..protos import dtypes

#: Powers of ten that float64 holds exactly: a whole number times or by one of them is rounded once, as a text's is.
_TENS = 10.0 ** np.arange(23)
#: The most significant digits that a float32 needs, and the fewest that are tried.
_MOST_DIGITS, _FEWEST_DIGITS = 9, 6
#: Magnitudes whose digits are found with `_TENS`.
_LEAST, _LIMIT = 1e-13, 1e6


def answer(outputs: Mapping[str, np.ndarray[Any, Any]], by_row: bool) -> bytes:
    """Returns the outputs as JSON text.

    Args:
        outputs: arrays by output alias.
        by_row: one object, or one value, for each row, as `instances` are answered; else one array for each output.

    Raises:
        InvalidArgument: the outputs differ in their number of rows, or one has a type that JSON has no form for.
    """
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if by_row:
        _check_rows(outputs)
    values = {alias: _values(alias, array) for alias, array in outputs.items()}
    only = next(iter(values.values())) if len(values) == 1 else None
    if not by_row:
        return _dumps({"outputs": values if only is None else only})
    rows = (
        only
        if only is not None
        else [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    )
    return _dumps({"predictions": rows})


def error(text: str) -> bytes:
    """Returns an error's text as JSON, cut as gRPC's are."""
    return _dumps({"error": fit(text)})


def _check_rows(outputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
    count = None
    for alias, array in outputs.items():
        if not array.ndim:
            raise InvalidArgument(f"Tensor name: {alias} has no shape information ")
        count = len(array) if count is None else count
        if count != len(array):
            raise InvalidArgument(f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {count}")


def _values(alias: str, array: np.ndarray[Any, Any]) -> Any:
    """Returns an array as nested lists of what JSON knows."""
    kind = array.dtype.kind
    if kind == "O":
        as_text = _base64 if alias.endswith("_bytes") else bytes.decode
        try:
            return np.frompyfunc(as_text, 1, 1)(array).tolist() if array.ndim else as_text(array.item())
        except UnicodeDecodeError as exc:
            raise InvalidArgument(
                f"Output {alias} holds bytes that are no UTF-8 text: JSON carries them only where the output's name "
                "ends in _bytes, gRPC always"
            ) from exc
    if array.dtype == np.float32:
        return _shortest(array).tolist()
    if array.dtype == np.float64 or kind == "b" or (kind in "iu" and array.dtype != np.uint16):
        return array.tolist()
    raise InvalidArgument(f"Failed to write JSON value for tensor type: {dtypes.cpp_name(dtypes.of(array))}")


def _shortest(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns the float64 of the shortest text that gives each float32 back: widened, 0.1 reads 0.10000000149011612."""
    wide = array.astype(np.float64)
    size = np.abs(wide)
    common = (size >= _LEAST) & (size < _LIMIT)
    rare = ~common & (size != 0)
    if rare.any():
        wide[rare] = array[rare].astype("S16").astype(np.float64)
    exact, exponents = wide[common], np.floor(np.log10(size[common])).astype(np.intp)
    shortest = exact
    for digits in range(_MOST_DIGITS, _FEWEST_DIGITS - 1, -1):
        scale = _TENS[digits - 1 - exponents]
        rounded = np.rint(exact * scale) / scale
        shortest = np.where(rounded.astype(np.float32) == exact, rounded, shortest)
    wide[common] = shortest
    return wide


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}


def _dumps(value: Any) -> bytes:
    text: str = rapidjson.dumps(
        value,
        ensure_ascii=False,
        number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN,
        write_mode=rapidjson.WM_SINGLE_LINE_ARRAY,
    )
    return text.encode()
