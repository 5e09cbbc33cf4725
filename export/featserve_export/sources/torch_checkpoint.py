"""Reads the tensors of a legacy PyTorch checkpoint without PyTorch and without running anything in it.

The legacy format is five pickles (magic number, protocol, system information, the state dict, the storage keys) and
then, for each storage key, an int64 element count and the raw little-endian values.
Source: `torch.serialization._legacy_load`.
"""

import io
import pickle
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_STORAGE_DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class _StorageType:
    dtype: "np.dtype[Any]"


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: "np.dtype[Any]"
    elements: int


@dataclass(frozen=True)
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_grad: object
) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        raise pickle.UnpicklingError(f"refused to load {module}.{name}: only tensors are read")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _location, elements, *_view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError(
                f"refused to load a persistent object of kind {kind!r}: only storages are read"
            )
        return _Storage(str(key), storage_type.dtype, int(elements))


def read_torch_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Reads every tensor of a legacy `.pth` file.

    Args:
        path: the checkpoint.

    Returns:
        Tensor name to array, float32 or int64, in the file's order.

    Raises:
        WeightsError: the file is not such a checkpoint, is damaged, or refers to anything but tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except _DAMAGE as error:
        raise WeightsError(
            f"cannot read {path}: expected a legacy PyTorch checkpoint of plain tensors, received {error}; "
            "reinstall the package that ships it"
        ) from error


def _read(file: io.BufferedReader) -> dict[str, npt.NDArray[Any]]:
    def unpickle() -> Any:
        return _RestrictedUnpickler(file).load()

    if unpickle() != _MAGIC_NUMBER:
        _refuse("another magic number")
    if unpickle() != _PROTOCOL_VERSION:
        _refuse("another protocol version")
    if not unpickle().get("little_endian", False):
        _refuse("big-endian values")
    views: dict[str, _View] = unpickle()
    storages = {view.storage.key: view.storage for view in views.values()}
    data = {}
    for key in unpickle():
        storage = storages[key]
        (elements,) = np.frombuffer(file.read(8), "<i8")
        if elements != storage.elements:
            _refuse(f"{elements} values where {storage.elements} were announced")
        data[key] = np.frombuffer(file.read(int(elements) * storage.dtype.itemsize), storage.dtype)
        if data[key].size != elements:
            _refuse("a file that ends early")
    return {name: _array(view, data[view.storage.key]) for name, view in views.items()}


def _array(view: _View, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if view.offset < 0 or min(view.shape + view.strides, default=0) < 0 or last >= values.size:
        _refuse("a tensor that lies outside its storage")
    strides = tuple(stride * values.itemsize for stride in view.strides)
    array = np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides, writeable=False)
    return array.astype(values.dtype.newbyteorder("=")) if sys.byteorder == "big" else np.ascontiguousarray(array)


def _refuse(received: str) -> NoReturn:
    raise ValueError(received)
