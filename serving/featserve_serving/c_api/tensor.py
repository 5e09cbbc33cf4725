"""Tensors of TensorFlow to and from numpy."""

from __future__ import annotations

import ctypes
import math
from ctypes import c_char_p, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np

from ..protos import dtypes
from ..protos.generated import types_pb2
from ..protos.tensors import to_bytes
from .library import OpError, checked, library

_STRING_BYTES = 24
_UNIMPLEMENTED = 12


class _Buffer(ctypes.Structure):
    _fields_ = [("data", c_char_p), ("length", c_size_t), ("deallocator", c_void_p)]


class Tensor:
    """A `TF_Tensor`, freed with the last array that shows its memory."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._free = library().TF_DeleteTensor

    def __del__(self) -> None:
        self._free(self.handle)

    @classmethod
    def from_array(cls, array: np.ndarray[Any, Any]) -> Tensor:
        """Copies an array of a data type that is in `dtypes.NUMPY`."""
        dtype = dtypes.of(array)
        if dtype == types_pb2.DT_STRING:
            return cls._from_proto(to_bytes(array))
        shape = (c_int64 * array.ndim)(*array.shape)
        tensor = cls(library().TF_AllocateTensor(dtype, shape, array.ndim, array.nbytes))
        if array.size:
            np.copyto(tensor._view(array.dtype, array.shape), array)
        return tensor

    @classmethod
    def _from_proto(cls, proto: bytes) -> Tensor:
        # TensorFlow itself makes strings, for it is TensorFlow that frees them, whenever it needs them no more.
        c = library()
        tensor = cls(c.TF_AllocateTensor(types_pb2.DT_UINT8, (c_int64 * 1)(0), 1, 0))
        with checked() as status:
            c.TF_TensorFromProto(ctypes.byref(_Buffer(proto, len(proto), None)), tensor.handle, status)
        return tensor

    def array(self) -> np.ndarray[Any, Any]:
        """Returns the values: a view, or for strings a copy.

        Raises:
            OpError: the data type has no values that a message can carry.
        """
        c = library()
        dtype = c.TF_TensorType(self.handle)
        shape = tuple(c.TF_Dim(self.handle, axis) for axis in range(c.TF_NumDims(self.handle)))
        if dtype not in dtypes.NUMPY:
            raise OpError(_UNIMPLEMENTED, f"An output of type {dtypes.cpp_name(dtype)} cannot be sent.")
        if dtype == types_pb2.DT_STRING:
            return self._strings(shape)
        if not math.prod(shape):
            return np.empty(shape, dtypes.NUMPY[dtype])
        return self._view(dtypes.NUMPY[dtype], shape)

    def _view(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return np.asarray(self).view(dtype).reshape(shape)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        c = library()
        size = c.TF_TensorByteSize(self.handle)
        return {"version": 3, "shape": (size,), "typestr": "|u1", "data": (c.TF_TensorData(self.handle), False)}

    def _strings(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        c = library()
        start, count = c.TF_TensorData(self.handle), math.prod(shape)
        strings = np.empty(count, dtype=object)
        for index in range(count):
            string = start + index * _STRING_BYTES
            strings[index] = ctypes.string_at(c.TF_StringGetDataPointer(string), c.TF_StringGetSize(string))
        return strings.reshape(shape)
