"""TensorFlow's data types, as numpy's and by name."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .generated import types_pb2

#: The element type of each data type that a request or an answer may have.
NUMPY: dict[int, np.dtype[Any]] = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
    types_pb2.DT_HALF: np.dtype(np.float16),
    types_pb2.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_INT16: np.dtype(np.int16),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_UINT16: np.dtype(np.uint16),
    types_pb2.DT_UINT32: np.dtype(np.uint32),
    types_pb2.DT_UINT64: np.dtype(np.uint64),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_COMPLEX64: np.dtype(np.complex64),
    types_pb2.DT_COMPLEX128: np.dtype(np.complex128),
    types_pb2.DT_QINT8: np.dtype([("qint8", np.int8)]),
    types_pb2.DT_QUINT8: np.dtype([("quint8", np.uint8)]),
    types_pb2.DT_QINT16: np.dtype([("qint16", np.int16)]),
    types_pb2.DT_QUINT16: np.dtype([("quint16", np.uint16)]),
    types_pb2.DT_QINT32: np.dtype([("qint32", np.int32)]),
    types_pb2.DT_STRING: np.dtype(object),
}
_OF_NUMPY = {numpy: dtype for dtype, numpy in NUMPY.items()}


def of(array: np.ndarray[Any, Any]) -> int:
    """Returns the data type of an array.

    Raises:
        KeyError: TensorFlow has none.
    """
    return _OF_NUMPY[array.dtype]


def cpp_name(dtype: int) -> str:
    """Returns the name that TensorFlow's C++ messages use, such as `float` for `DT_FLOAT`."""
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()


def python_name(dtype: int) -> str:
    """Returns the name that TensorFlow's Python package uses, such as `float32` for `DT_FLOAT`."""
    numpy = NUMPY.get(dtype)
    return cpp_name(dtype) if numpy is None or numpy.names or numpy.kind == "O" else numpy.name
