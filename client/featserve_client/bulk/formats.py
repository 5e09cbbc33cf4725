"""Result files: .npz, .npy, .parquet, .h5, .zarr. Each is written part by part, so memory holds one part at a time."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..durable import sync, write_lines
from ..exceptions import ConfigError, OutputError
from ..extras import require

#: The columns beside each row's activations, and their dtypes.
COLUMNS = {"path": np.str_, "width": np.int32, "height": np.int32, "sha256": np.str_}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows in order: their number, and functions that load their columns and their activations."""

    count: int
    rows: Callable[[], Sequence[Mapping[str, Any]]]
    load: Callable[[str], npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that goes into a file; `parts` can be gone through more than once."""

    job: Mapping[str, Any]
    layers: Mapping[str, tuple[int, ...]]
    parts: Sequence[Part]

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(part.count for part in self.parts)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the columns, named in COLUMNS, of all rows."""
        found: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in COLUMNS}
        for part in self.parts:
            rows = part.rows()
            for name, kind in COLUMNS.items():
                found[name].append(np.array([row[name] for row in rows], kind))
        return {name: np.concatenate(arrays) for name, arrays in found.items()}


def check_output(path: Path) -> None:
    """Refuses a path that cannot become the output, before any work is done.

    Raises:
        ConfigError: The suffix is not that of a known format.
        MissingExtraError: The format's library is not installed.
        OutputError: There is a directory where the file would be.
    """
    if path.suffix not in _FORMATS:
        raise ConfigError(f"{path}: unknown kind of output; expected one of {', '.join(_FORMATS)}")
    module = _FORMATS[path.suffix].module
    if module:
        require(module, "bulk", f"{path.suffix} output")
    if path.is_dir() and path.suffix != ".zarr":
        raise OutputError(f"{path} cannot be written: it is a directory")


def check_layer_count(path: Path, layers: Sequence[str]) -> None:
    """Refuses several layers for a file that holds one.

    Raises:
        OutputError: The file is a .npy, and there are several layers.
    """
    if path.suffix == ".npy" and len(layers) != 1:
        raise OutputError(f"{path}: .npy holds one layer, not {', '.join(layers)}: choose one with --layers, or .npz")


def write(path: Path, results: Results) -> None:
    """Writes a result file, complete or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _remove(temporary)
        _FORMATS[path.suffix].write(temporary, results)
        if path.suffix == ".npy":
            rows = (row for part in results.parts for row in part.rows())
            write_lines(rows_file(path), chain([results.job], rows))
        sync(temporary)
        if temporary.is_dir():
            _remove(path)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as exc:
        _remove(temporary)
        raise OutputError(f"{path} cannot be written: {exc}") from exc


def read_job(path: Path) -> dict[str, Any] | None:
    """Returns the extraction that an existing result file names; None if the file names none."""
    try:
        text = _FORMATS[path.suffix].read_job(path)
        job = json.loads(text) if text else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return job if isinstance(job, dict) else None


def rows_file(path: Path) -> Path:
    """Returns the file that describes the rows of a .npy, which has no room for them: the job, then a row a line."""
    return path.with_name(f"{path.name}.rows.jsonl")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _array(file: IO[bytes], results: Results, layer: str) -> None:
    shape = (results.count, *results.layers[layer])
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in results.parts:
        file.write(np.ascontiguousarray(part.load(layer)).data)


def _write_npz(path: Path, results: Results) -> None:
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        # ZipInfo's own date is fixed, which keeps equal results equal byte for byte.
        for layer in results.layers:
            with archive.open(zipfile.ZipInfo(f"{layer}.npy"), "w", force_zip64=True) as file:
                _array(file, results, layer)
        for name, values in {**results.columns(), "featserve": np.array(json.dumps(results.job))}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _npz_job(path: Path) -> str:
    with np.load(path, allow_pickle=False) as archive:
        return str(archive["featserve"])


def _write_npy(path: Path, results: Results) -> None:
    with open(path, "wb") as file:
        _array(file, results, next(iter(results.layers)))


def _npy_job(path: Path) -> str:
    if not path.exists():
        return ""
    with open(rows_file(path), encoding="utf-8") as file:
        return file.readline()


def _write_parquet(path: Path, results: Results) -> None:
    pyarrow, parquet = require("pyarrow", "bulk", ".parquet"), require("pyarrow.parquet", "bulk", ".parquet")
    tensors = {layer: pyarrow.fixed_shape_tensor(pyarrow.float32(), shape) for layer, shape in results.layers.items()}
    columns = {name: pyarrow.int32() if kind is np.int32 else pyarrow.string() for name, kind in COLUMNS.items()}
    schema = pyarrow.schema(
        [*columns.items(), *tensors.items()], metadata={"featserve": json.dumps(results.job).encode()}
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for part in results.parts:
            if not part.count:
                continue
            rows = part.rows()
            arrays = [pyarrow.array([_utf8(row[name]) for row in rows], kind) for name, kind in columns.items()]
            for layer, kind in tensors.items():
                flat = pyarrow.array(np.ascontiguousarray(part.load(layer)).reshape(-1))
                storage = pyarrow.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size)
                arrays.append(pyarrow.ExtensionArray.from_storage(kind, storage))
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _parquet_job(path: Path) -> str:
    metadata = require("pyarrow.parquet", "bulk", ".parquet").read_schema(path).metadata or {}
    return bytes(metadata.get(b"featserve", b"")).decode()


def _write_h5(path: Path, results: Results) -> None:
    h5py = require("h5py", "bulk", ".h5")
    # HDF5 writes through Python's own file: its own driver ends the process when a disk is full.
    with open(path, "w+b") as target, h5py.File(target, "w", track_order=True) as file:
        file.attrs["featserve"] = json.dumps(results.job)
        for name, values in results.columns().items():
            if values.dtype.kind == "U":
                encoded = [_utf8(value) for value in values.tolist()]
                file.create_dataset(name, data=encoded, shape=(results.count,), dtype=h5py.string_dtype())
            else:
                file.create_dataset(name, data=values)
        for layer, shape in results.layers.items():
            data = file.create_dataset(layer, (results.count, *shape), "<f4")
            for start, array in _slices(results, layer):
                data[start : start + len(array)] = array


def _h5_job(path: Path) -> str:
    with require("h5py", "bulk", ".h5").File(path, "r") as file:
        return str(file.attrs.get("featserve", ""))


def _write_zarr(path: Path, results: Results) -> None:
    zarr = require("zarr", "bulk", ".zarr")
    # Format 2 has fixed-length strings, which format 3 does not, and every reader knows it.
    version = {"zarr_format": 2} if int(zarr.__version__.partition(".")[0]) >= 3 else {}
    group = zarr.open_group(str(path), mode="w", **version)
    create = getattr(group, "create_array", None) or group.create_dataset
    group.attrs["featserve"] = json.dumps(results.job)
    for name, values in results.columns().items():
        create(name, shape=values.shape, chunks=(max(len(values), 1),), dtype=values.dtype)[:] = values
    for layer, shape in results.layers.items():
        rows = max(part.count for part in results.parts)
        data = create(layer, shape=(results.count, *shape), chunks=(rows, *shape), dtype="<f4")
        for start, array in _slices(results, layer):
            data[start : start + len(array)] = array


def _zarr_job(path: Path) -> str:
    return str(require("zarr", "bulk", ".zarr").open_group(str(path), mode="r").attrs.get("featserve", ""))


def _slices(results: Results, layer: str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    start = 0
    for part in results.parts:
        array = part.load(layer)
        if len(array):
            yield start, array
        start += len(array)


def _utf8(value: Any) -> Any:
    # A file name that is no UTF-8 keeps its odd bytes as \udcXX, spelled out.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@dataclass(frozen=True)
class _Format:
    write: Callable[[Path, Results], None]
    read_job: Callable[[Path], str]
    module: str | None = None


_FORMATS = {
    ".npz": _Format(_write_npz, _npz_job),
    ".npy": _Format(_write_npy, _npy_job),
    ".parquet": _Format(_write_parquet, _parquet_job, "pyarrow.parquet"),
    ".h5": _Format(_write_h5, _h5_job, "h5py"),
    ".zarr": _Format(_write_zarr, _zarr_job, "zarr"),
}
